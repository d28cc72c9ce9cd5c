r"""Dictionary: activations as sums of few directions out of many (a sparse autoencoder or transcoder), as one value.

.. math::  p = W_e (x - b) + b_e, \qquad z = \text{choose}(p), \qquad \hat x = \sum_j z_j d_j + b_o

with :math:`W_e` `encoder`, :math:`d_j` a row of `decoder` of length 1, :math:`b` `bias`, :math:`b_o` `output_bias`.
Without a threshold, `choose` keeps the `k` largest positive entries of a row; with one, entries above it. A
transcoder's output is another tensor than its input, so `d` and `d_out` may differ.

The file says all that is needed to encode: what is chosen, `k`, thresholds; whatever the activations were divided by
while training is inside the weights. It holds some rows with their count of active latents too, and loading encodes
them again: a dictionary that is read as another kind (600 latents instead of 32) does not load.

References: Bricken et al. 2023; Cunningham et al. 2023; Gao et al. 2024 (TopK); Bussmann et al. 2024 (BatchTopK);
Rajamanoharan et al. 2024 (JumpReLU); Bussmann et al. 2025 (Matryoshka); Dunefsky et al. 2024 (transcoders). Cost:
`O(n m d)` to encode, `O(n k d)` to decode. Memory: at most 2^25 pre-activations at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import ArtifactError
from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.code import Code, decoded

VARIANTS = ("topk", "batch_topk", "jump_relu", "matryoshka", "relu")
_TENSORS = ("encoder", "encoder_bias", "decoder", "bias", "output_bias", "threshold", "sample")
_AT_ONCE, _APART, _LONG = 2**25, 0.02, 1e-3


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Directions, and how to find which of them an activation is made of.

    Attributes:
        encoder: reads activations, one row a latent.
        encoder_bias: added to what is read.
        decoder: the directions, rows of length 1.
        bias: taken from an activation before it is read.
        output_bias: added to the sum of directions.
        variant: how it was trained, one of `VARIANTS`.
        k: active latents a row: exactly the most of them without a threshold, the mean aimed at with one.
        threshold: `(m,)` or a scalar, latents above it are on; None keeps the `k` largest.
        prefixes: sizes of the first latents that reconstruct alone; empty where none were trained to.
        site: name of the module whose output (or input) it is for.
        sample: some rows of activations, to check the file with.
        report: what training measured: curves and last values; plain JSON.
        manifest: provenance.

    Raises:
        ValueError: shapes that do not fit, an unknown variant, neither `k` nor threshold, rows not of length 1.
    """

    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m d_out"]
    bias: Float[Tensor, " d"]
    output_bias: Float[Tensor, " d_out"]
    variant: str
    k: int | None
    threshold: Tensor | None = None
    prefixes: tuple[int, ...] = ()
    site: str = ""
    sample: Float[Tensor, "s d"] | None = None
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "dictionary"

    def __post_init__(self) -> None:
        """Check once, so that nothing later has to."""
        m, d = self.encoder.shape
        shapes = [tuple(t.shape) for t in (self.encoder_bias, self.decoder, self.bias, self.output_bias)]
        if shapes != [(m,), (m, self.d_out), (d,), (self.d_out,)]:
            raise ValueError(
                f"got encoder {(m, d)} with encoder_bias, decoder, bias, output_bias of {shapes}; expected (m,), "
                "(m, d_out), (d,), (d_out,)"
            )
        if self.variant not in VARIANTS:
            raise ValueError(f"got variant={self.variant!r}; expected one of {', '.join(VARIANTS)}")
        if self.threshold is None and not (self.k and 0 < self.k <= m):
            raise ValueError(f"got k={self.k} without a threshold; expected 1 to {m}, or a threshold")
        if self.threshold is not None and tuple(self.threshold.shape) not in ((), (m,)):
            raise ValueError(f"got a threshold of shape {tuple(self.threshold.shape)}; expected () or ({m},)")
        if self.threshold is not None and bool((self.threshold < 0).any()):
            raise ValueError("got a negative threshold; expected 0 or more, for latents are on or off, never negative")
        length = self.decoder.double().norm(dim=1)
        if bool(((length - 1).abs() > max(_LONG, 4 * torch.finfo(self.decoder.dtype).eps)).any()):
            raise ValueError(
                f"got decoder rows of length {float(length.min()):.3g} to {float(length.max()):.3g}; expected 1; "
                "divide rows by their length, multiply encoder rows, encoder_bias and threshold by it"
            )

    @property
    def m(self) -> int:
        """How many latents."""
        return self.encoder.shape[0]

    @property
    def d(self) -> int:
        """Width of what it reads."""
        return self.encoder.shape[1]

    @property
    def d_out(self) -> int:
        """Width of what it gives."""
        return self.decoder.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(getattr(self, name).nbytes for name in _TENSORS if getattr(self, name) is not None)

    def pre_activations(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Read activations with the encoder, before any choice.

        Raises:
            ValueError: rows of another width.
            NonFiniteError: NaN or infinity.
        """
        if x.ndim != 2 or x.shape[1] != self.d:  # noqa: PLR2004
            raise ValueError(
                f"got activations {tuple(x.shape)}; expected (n, {self.d}), rows of {self.site or 'its site'}"
            )
        require_finite(x, "activations")
        return torch.addmm(self.encoder_bias, x.to(self.encoder) - self.bias, self.encoder.T)

    def encode(self, x: Float[Tensor, "n d"]) -> Code:
        """Say which latents activations are made of.

        Args:
            x: activations as the network gives them, not scaled; any floating-point type.

        Returns:
            Code, in the type of the dictionary.

        Raises:
            ValueError: rows of another width.
            NonFiniteError: NaN or infinity.
        """
        parts = [self._chosen(self.pre_activations(rows)) for rows in x.split(max(1, _AT_ONCE // self.m))]
        if len(parts) == 1:
            return parts[0]
        wide = max(part.values.shape[1] for part in parts)
        padded = [
            tuple(torch.nn.functional.pad(t, (0, wide - t.shape[1])) for t in (part.values, part.indices))
            for part in parts
        ]
        values, indices = (torch.cat(tensors) for tensors in zip(*padded, strict=True))
        return Code(values, indices, self.m)

    def _chosen(self, p: Tensor) -> Code:
        if self.threshold is None:
            values, indices = p.topk(self.k or 1, dim=1)
            return Code(values.clamp_min(0), indices, self.m)
        return Code.of(torch.where(p > self.threshold, p, 0))

    def decode(self, code: Code) -> Float[Tensor, "n d_out"]:
        """Sum the directions that a code names.

        Raises:
            ValueError: a code over another number of latents.
        """
        if code.width != self.m:
            raise ValueError(
                f"got a code over {code.width} latents; expected {self.m}; use the dictionary that made it"
            )
        return decoded(code, self.decoder) + self.output_bias

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d_out"]:
        """Reconstruct activations `(..., d)`, in their type."""
        return self.decode(self.encode(x.flatten(0, -2))).reshape(*x.shape[:-1], self.d_out).to(x.dtype)

    def to(self, *args: Any) -> "Dictionary":
        """Move or cast all tensors, as `Tensor.to` does."""
        return replace(self, **{n: getattr(self, n).to(*args) for n in _TENSORS if getattr(self, n) is not None})

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None}
        header = {
            "variant": self.variant,
            "k": self.k,
            "prefixes": list(self.prefixes),
            "site": self.site,
            "active": None if self.sample is None else self.encode(self.sample).l0,
            "report": dict(self.report),
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Dictionary":
        """Rebuild from an artifact, and encode its sample again.

        Raises:
            ArtifactError: the sample has another number of active latents than when the file was written.
        """
        header = artifact.header
        found = cls(
            **{name: artifact.tensors.get(name) for name in _TENSORS},  # type: ignore[arg-type]
            variant=header["variant"],
            k=header["k"],
            prefixes=tuple(header["prefixes"]),
            site=header["site"],
            report=header["report"],
            manifest=header["manifest"],
        )
        if found.sample is not None:
            _require_equal(found.encode(found.sample).l0, header["active"])
        return found


def _require_equal(found: float, written: float) -> None:
    if abs(found - written) > _APART * max(written, 1.0):
        raise ArtifactError(
            f"got {found:.4g} active latents a row on the file's own sample; expected {written:.4g}, as when it was "
            "written; the file was changed, or k, threshold and weights are not of one dictionary"
        )

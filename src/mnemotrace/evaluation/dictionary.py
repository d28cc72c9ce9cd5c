r"""What a dictionary costs the network that it is for: run with activations replaced by their reconstruction.

A dictionary may explain most of the variance and lose what the network uses. So the network runs with the site's
activations replaced, and with :math:`L` the mean loss

.. math:: \text{recovered} = \frac{L_\text{zero} - L_\text{spliced}}{L_\text{zero} - L_\text{clean}} ,

1 where nothing is lost, 0 where the reconstruction is worth as little as zeros. Zeros are an easy opponent, because the
network never saw any: beside them stand the mean activation, against which `recovered(over="mean")` is measured, and a
random dictionary of as many latents, as many active, with the best single scale. Positions that the mask leaves out are
never replaced.

References: Cunningham et al. 2023; Gao et al. 2024; Karvonen et al. 2025 (SAEBench). Cost: five passes over the data.
Memory: one batch of codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import module_of, tensor_of
from mnemotrace.adapters.scores import nll
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.evaluation.controls import bootstrap
from mnemotrace.evaluation.splicing import changing
from mnemotrace.localisation.code import decoded
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_metrics import dead, dense
from mnemotrace.stats.collect import Mask, mask_of

Loss = Callable[[nn.Module, Any], Tensor]
Change = Callable[[Tensor], Tensor]
WAYS = ("clean", "spliced", "zero", "mean", "random")
_ROWS, _RANDOM = 2048, "random dictionary"


@dataclass(frozen=True, eq=False)
class DictionaryEvidence:
    """What a dictionary explains, how sparse it is, and what the network loses with it.

    Attributes:
        losses: of each example, one column for each of `WAYS`.
        density: share of positions at which each latent is on.
        l0: active latents a position.
        explained: share of the variance explained, of the dictionary and of a random one.
        site: whose activations were replaced.
        manifest: provenance: network, seed, how many positions.
    """

    losses: Float[Tensor, "n w"]
    density: Float[Tensor, " m"]
    l0: float
    explained: Mapping[str, float]
    site: str
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "dictionary_evidence"

    @property
    def loss(self) -> dict[str, float]:
        """Mean loss by way."""
        return dict(zip(WAYS, self.losses.double().mean(0).tolist(), strict=True))

    @property
    def dead(self) -> float:
        """Share of latents that are never on."""
        return dead(self.density)

    @property
    def dense(self) -> float:
        """Share of latents that are on at more than a tenth of the positions."""
        return dense(self.density)

    def recovered(self, *, way: str = "spliced", over: str = "zero") -> tuple[float, tuple[float, float]]:
        """Return the share of the loss between `over` and the clean network that a way gives back, with 95 % bounds.

        Args:
            way: one of `WAYS`.
            over: what stands for nothing, `zero` or `mean`.

        Raises:
            ValueError: an unknown way, or a network that does not care: `over` costs nothing.
        """
        if way not in WAYS or over not in ("zero", "mean"):
            raise ValueError(f"got way={way!r} over {over!r}; expected one of {', '.join(WAYS)}, over zero or mean")
        if self.loss[over] <= self.loss["clean"]:
            raise ValueError(
                f"got loss {self.loss[over]:.4g} with {over} at {self.site or 'the output'} and "
                f"{self.loss['clean']:.4g} without; expected more; the network does not need this "
                "site on these data, choose another"
            )
        columns = [WAYS.index(name) for name in (over, way, "clean")]
        seed = torch.Generator().manual_seed(0)
        return bootstrap(
            lambda mean: (mean[..., 0] - mean[..., 1]) / (mean[..., 0] - mean[..., 2]),
            self.losses[:, columns],
            generator=seed,
        )

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        shares = {over: self._bounds(over) for over in ("zero", "mean")}
        header = {
            "ways": list(WAYS),
            "l0": self.l0,
            "explained": dict(self.explained),
            "site": self.site,
            "recovered": shares,
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, {"losses": self.losses, "density": self.density})

    def _bounds(self, over: str) -> dict[str, list[float]] | None:
        """Write down what `recovered` says, for pages that are drawn without us."""
        if self.loss[over] <= self.loss["clean"]:
            return None
        found = {way: self.recovered(way=way, over=over) for way in ("spliced", "random")}
        return {way: [value, *bounds] for way, (value, bounds) in found.items()}

    @classmethod
    def unpack(cls, artifact: Artifact) -> "DictionaryEvidence":
        """Rebuild from an artifact."""
        header = artifact.header
        values = {name: header[name] for name in ("l0", "explained", "site", "manifest")}
        return cls(artifact.tensors["losses"], artifact.tensors["density"], **values)


def class_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the cross-entropy of each example of a classifier; the last entry of a batch is its labels."""
    *inputs, labels = batch
    output = forward(model, inputs)
    return nn.functional.cross_entropy(tensor_of(output).float(), labels, reduction="none")


def token_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the mean negative log-probability of each example's scored tokens; batches of `adapters.examples`."""
    return nll(model, [batch])


def dictionary_evidence(
    model: nn.Module,
    dictionary: Dictionary,
    batches: Sequence[Any],
    *,
    loss: Loss = token_loss,
    mask: Mask | None = None,
    site: str | None = None,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> DictionaryEvidence:
    """Measure a dictionary in the network it is for, beside zeros, the mean and a random dictionary.

    Args:
        model: the network; evaluated, and left as it was.
        dictionary: for what a module gives.
        batches: as `loss` takes them; gone through five times, so no iterator.
        loss: `(model, batch) -> (b,)`, low is good. `token_loss` for language models, `class_loss` for `(x, labels)`.
        mask: called with each batch, returns `(b,)` or `(b, t)` bool, which positions count and are replaced; None
            takes the batch's attention mask where there is one.
        site: name of the module; None takes the dictionary's own.
        generator: of the random dictionary; None is one of seed 0.
        progress: called after each pass.

    Raises:
        SelectionError: no such module.
        ValueError: no batch or position, another width, activations without variance.
        NonFiniteError: NaN or infinity in activations or losses.
    """
    name = dictionary.site if site is None else site
    module_of(model, name)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    sums = _Sums(dictionary)
    run = partial(_losses, model, name, batches, loss=loss, mask=mask)
    losses = [run(sums.look)]
    progress(1, len(WAYS), "passes")
    if not sums.n:
        raise ValueError("got no position that counts; expected at least one; look at the mask")
    mean, l0 = sums.mean(), float(sums.counts.sum()) / sums.n
    other = _random_like(dictionary, mean, max(1, round(l0)), sums.sample[0], source)
    control = _Sums(other)
    changes: list[Change] = [
        dictionary.__call__,
        torch.zeros_like,
        lambda rows: mean.to(rows).expand_as(rows),
        control.look_and(other.__call__),
    ]
    for done, change in enumerate(changes, 2):
        losses.append(run(change))
        progress(done, len(WAYS), "passes")
    manifest = {"method": "dictionary evidence", "base": fingerprint(model), "positions": sums.n}
    manifest |= {"seed": source.initial_seed(), "dictionary": dict(dictionary.manifest), "version": library_version()}
    return DictionaryEvidence(
        torch.stack(losses, 1),
        (sums.counts / sums.n).float(),
        l0,
        {"dictionary": sums.explained(), _RANDOM: control.explained()},
        name,
        manifest,
    )


class _Sums:
    """Sums up what a dictionary leaves of rows, and how often each latent is on."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary, self.n = dictionary, 0
        self.counts = torch.zeros(dictionary.m, dtype=torch.float64)
        self.first = torch.zeros(dictionary.d, dtype=torch.float64)
        self.second = self.left = 0.0
        self.sample: list[Tensor] = []

    def look(self, rows: Tensor) -> Tensor:
        """Take rows in and give them back as they are."""
        code = self.dictionary.encode(rows)
        wide = rows.double()
        self.n += len(rows)
        self.counts += code.counts().cpu()
        self.first += wide.sum(0).cpu()
        self.second += float(wide.square().sum())
        self.left += float((wide - self.dictionary.decode(code).double()).square().sum())
        if not self.sample:
            self.sample.append(rows[:_ROWS].clone())
        return rows

    def look_and(self, change: Change) -> Change:
        """Take rows in and give back something else."""
        return lambda rows: change(self.look(rows))

    def mean(self) -> Tensor:
        return self.first / self.n

    def explained(self) -> float:
        total = self.second - self.n * float(self.mean().square().sum())
        if total <= 1e-12 * self.second:
            raise ValueError(f"got {self.n} activations without variance; expected rows that differ; give more data")
        return 1 - self.left / total


def _random_like(dictionary: Dictionary, mean: Tensor, k: int, rows: Tensor, generator: torch.Generator) -> Dictionary:
    """Draw directions at random, as many and as many active; what they say is scaled to leave least of some rows."""
    drawn = torch.randn(dictionary.m, dictionary.d, generator=generator, dtype=torch.float64)
    directions = normalize(drawn, dim=1).to(dictionary.decoder)
    at, none = mean.to(dictionary.bias), torch.zeros_like(dictionary.encoder_bias)
    found = Dictionary(directions, none, directions, at, at, "topk", k, site=dictionary.site)
    said = decoded(found.encode(rows), directions).double()
    scale = float(((rows.double() - mean.to(rows.device)) * said).sum() / said.square().sum().clamp_min(1e-30))
    return replace(found, encoder=directions * max(scale, 0.0))


def _losses(
    model: nn.Module, site: str, batches: Sequence[Any], change: Change, *, loss: Loss, mask: Mask | None
) -> Tensor:
    """Run the loss with rows of a site changed, where the mask is true."""
    found: list[Tensor] = []
    with evaluating(model):
        for batch in batches:
            counts = mask_of(batch, mask)
            with changing(model, site, change, counts):
                found.append(loss(model, batch).detach().cpu().float())
            require_finite(found[-1], f"the losses of batch {len(found)}")
    if not found:
        raise ValueError("got no batch; expected at least one; an iterator may have been used up before")
    return torch.cat(found)

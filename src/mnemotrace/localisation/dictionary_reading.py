r"""What other people's files of dictionaries say, turned into ours: SAELens, dictionary_learning, sparsify.

What is chosen, `k` and thresholds come from the configuration and must be there: a top-k dictionary read as a ReLU
has hundreds of latents on instead of tens. With decoder rows of length :math:`s`, encoder rows, bias and threshold are
multiplied by :math:`s` and rows divided, which changes nothing, except which latents are the `k` largest: then it is
refused, unless the file says that it chooses by :math:`s\,p` anyway. A dictionary trained on activations times `scale`
reads them unscaled after :math:`W_e \leftarrow scale\, W_e`, with biases and rows of the decoder divided by it. A gated
encoder is a JumpReLU one, exactly, with the threshold :math:`b_m - e^r b_g` (Rajamanoharan et al. 2024).

Cost: a copy in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.errors import ArtifactError
from mnemotrace.localisation.dictionary import Dictionary

_UNIT, _NEARLY = 1e-6, 1e-3


@dataclass(frozen=True, eq=False)
class Parts:
    """What a file holds, in our orientation; decoder rows of any length.

    `by_length`: latents are chosen, and thresholds are, for pre-activations times the length of their decoder row.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    bias: Tensor
    output_bias: Tensor
    variant: str
    k: int | None = None
    threshold: Tensor | None = None
    prefixes: tuple[int, ...] = ()
    by_length: bool = False
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])


_TENSORS = ("encoder", "encoder_bias", "decoder", "bias", "output_bias", "threshold")


def unscaled(parts: Parts, scale: float) -> Parts:
    """Take the factor of the activations into the weights."""
    wide = {name: tensor.double() for name in _TENSORS if (tensor := getattr(parts, name)) is not None}
    wide["encoder"] = wide["encoder"] * scale
    for name in ("bias", "output_bias", "decoder"):
        wide[name] = wide[name] / scale
    if parts.by_length and parts.threshold is not None:
        wide["threshold"] = wide["threshold"] / scale
    return replace(parts, **wide)  # type: ignore[arg-type]


def made(parts: Parts) -> Dictionary:
    """Give decoder rows length 1, in float64, and cast once."""
    length = parts.decoder.norm(dim=1)
    if bool((length == 0).any()):
        raise ArtifactError(
            f"got {int((length == 0).sum())} decoder rows of length 0; expected directions; drop these latents"
        )
    unit = bool(((length - 1).abs() <= _UNIT).all())
    if parts.variant == "topk" and not parts.by_length and bool(((length - 1).abs() > _NEARLY).any()):
        raise ArtifactError(
            f"got a top-k dictionary with decoder rows of length {float(length.min()):.3g} to "
            f"{float(length.max()):.3g} that chooses before that length; expected rows of length 1, or a file "
            "that chooses by it (rescale_acts_by_decoder_norm): dividing rows would change which are the k largest"
        )
    if unit or (parts.variant == "topk" and not parts.by_length):
        length = torch.ones_like(length)
    threshold = parts.threshold
    if threshold is not None:
        threshold = (threshold if parts.by_length or unit else threshold * length).clamp_min(0)
    found = Dictionary(
        encoder=parts.encoder * length[:, None],
        encoder_bias=parts.encoder_bias * length,
        decoder=parts.decoder / length[:, None],
        bias=parts.bias,
        output_bias=parts.output_bias,
        variant=parts.variant,
        k=parts.k,
        threshold=threshold,
        prefixes=parts.prefixes,
    )
    return found.to(torch.float32)


def from_saelens(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Parts:
    """Read what SAELens keeps, of versions before 6 too.

    Raises:
        ArtifactError: an architecture that we lack, or a missing value.
    """
    architecture = config.get("architecture", "standard")
    activation = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    options = config.get("activation_fn_kwargs") or {}
    if architecture == "standard" and activation == "topk":  # before version 6
        architecture = "topk"
        config = {**config, "k": options.get("k")}
        activation = "relu"
    known = ("standard", "topk", "jumprelu", "batchtopk", "matryoshka_batchtopk", "gated")
    if architecture not in known or (activation != "relu" and architecture != "topk"):
        raise ArtifactError(
            f"got a SAELens dictionary of architecture {architecture!r}, activation {activation!r}; expected "
            f"{', '.join(known)} with relu"
        )
    if "scaling_factor" in tensors and not bool((tensors["scaling_factor"] == 1).all()):
        raise ArtifactError("got scaling_factor, one factor a latent; expected none; fold it in with SAELens and save")
    encoder, output_bias = _need(tensors, "W_enc").T, _need(tensors, "b_dec")
    places = dict(config.get("metadata") or config)
    manifest = {"architecture": architecture} | {
        k: str(places[k]) for k in ("hook_name", "model_name") if places.get(k)
    }
    parts = Parts(
        encoder,
        tensors.get("b_enc", encoder.new_zeros(len(encoder))),
        _need(tensors, "W_dec"),
        output_bias if config.get("apply_b_dec_to_input", True) else torch.zeros_like(output_bias),
        output_bias,
        "relu",
        threshold=torch.zeros(()),
        by_length=bool(config.get("rescale_acts_by_decoder_norm")),
        manifest=manifest,
    )
    if architecture == "topk":
        return replace(parts, variant="topk", k=int(_need(config, "k")), threshold=None)
    if architecture == "gated":
        return _gated(parts, *(_need(tensors, name) for name in ("r_mag", "b_gate", "b_mag")))
    if architecture == "jumprelu":
        return replace(parts, variant="jump_relu", threshold=_need(tensors, "threshold"))
    if architecture == "standard":
        return parts
    variant = "batch_topk" if architecture == "batchtopk" else "matryoshka"
    prefixes = tuple(config.get("matryoshka_widths") or ())
    threshold = _set(_need(tensors, "topk_threshold"))
    return replace(parts, variant=variant, k=round(_need(config, "k")), threshold=threshold, prefixes=prefixes)


def _gated(parts: Parts, r_mag: Tensor, gate: Tensor, magnitude: Tensor) -> Parts:
    """Write a gate of its own as a threshold: `e^r u + b_m > b_m - e^r b_g` where `u + b_g > 0`."""
    grown = r_mag.double().exp()
    return replace(
        parts,
        variant="jump_relu",
        encoder=parts.encoder * grown[:, None],
        encoder_bias=magnitude,
        threshold=(magnitude - grown * gate).clamp_min(0),
    )


def from_dictionary_learning(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Parts:
    """Read what dictionary_learning keeps; its classes differ in names, orientation and what is taken from the input.

    Raises:
        ArtifactError: an architecture that we lack, or a missing value.
    """
    trainer = _need(config, "trainer")
    name = _need(trainer, "dict_class")
    manifest = {"architecture": name} | {
        key: str(trainer[key]) for key in ("lm_name", "layer", "submodule_name") if trainer.get(key) is not None
    }
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        encoder, bias = _need(tensors, "W_enc").T, _need(tensors, "b_dec")
        first = (encoder, _need(tensors, "b_enc"), _need(tensors, "W_dec"))
    else:
        encoder = _need(tensors, "encoder.weight")
        names = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}
        bias = _need(tensors, names.get(name, "b_dec"))
        reads = tensors.get("encoder.bias", encoder.new_zeros(len(encoder)))
        first = (encoder, reads, _need(tensors, "decoder.weight").T)
    read = torch.zeros_like(bias) if name in ("JumpReluAutoEncoder", "AutoEncoderNew") else bias
    parts = Parts(*first, read, bias, "relu", threshold=torch.zeros(()), manifest=manifest)
    if name in ("AutoEncoder", "AutoEncoderNew"):
        return parts
    if name == "GatedAutoEncoder":
        return _gated(parts, *(_need(tensors, part) for part in ("r_mag", "gate_bias", "mag_bias")))
    if name == "JumpReluAutoEncoder":
        return replace(parts, variant="jump_relu", threshold=_need(tensors, "threshold"))
    variants = {"AutoEncoderTopK": "topk", "BatchTopKSAE": "batch_topk", "MatryoshkaBatchTopKSAE": "matryoshka"}
    if name not in variants:
        raise ArtifactError(
            f"got a dictionary of class {name!r}; expected AutoEncoder, AutoEncoderNew, GatedAutoEncoder, "
            f"JumpReluAutoEncoder, {', '.join(variants)}"
        )
    k = int(tensors["k"]) if "k" in tensors else int(_need(trainer, "k"))
    if trainer.get("k", k) != k:
        raise ArtifactError(f"got k={k} in ae.pt and k={trainer['k']} in config.json; expected one; ask who made it")
    threshold = None if name == "AutoEncoderTopK" else _set(_need(tensors, "threshold"))
    sizes = tensors["group_sizes"].cumsum(0).tolist() if "group_sizes" in tensors else []
    return replace(parts, variant=variants[name], k=k, threshold=threshold, prefixes=tuple(sizes))


def from_sparsify(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Parts:
    """Read what EleutherAI's sparsify keeps.

    Raises:
        ArtifactError: an architecture that we lack, or a missing value.
    """
    lacking = [key for key in ("signed", "skip_connection", "embed_skip", "gram_lookup") if config.get(key)]
    activation = config.get("activation", "topk")
    if lacking or activation != "topk" or "W_skip" in tensors:
        raise ArtifactError(
            f"got a sparsify dictionary with activation {activation!r} and {', '.join(lacking) or 'W_skip'}; expected "
            "topk without a skip connection, unsigned"
        )
    encoder, bias = _need(tensors, "encoder.weight"), _need(tensors, "b_dec")
    read = encoder.new_zeros(encoder.shape[1]) if config.get("transcode") else bias
    return Parts(
        encoder,
        _need(tensors, "encoder.bias"),
        _need(tensors, "W_dec"),
        read,
        bias,
        "topk",
        k=int(_need(config, "k")),
        manifest={"architecture": "topk transcoder" if config.get("transcode") else "topk"},
    )


def _need(values: Mapping[str, Any], name: str) -> Any:
    if values.get(name) is None:
        raise ArtifactError(
            f"got no {name!r} among {', '.join(sorted(values)[:12])}; expected it; the file is not whole"
        )
    return values[name]


def _set(threshold: Tensor) -> Tensor:
    """Refuse a threshold that training never set: with it every positive latent would be on."""
    if float(threshold) < 0:
        raise ArtifactError(
            f"got threshold {float(threshold):g}, which training had not set yet; expected 0 or more; train longer, or "
            "encode some activations and set the smallest value that is kept"
        )
    return threshold

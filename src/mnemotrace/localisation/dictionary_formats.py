r"""Dictionaries in other people's files, read and written: SAELens, dictionary_learning, EleutherAI's sparsify.

| format | files | what it can hold |
|---|---|---|
| `saelens` | `cfg.json`, `sae_weights.safetensors` | relu, topk, jump_relu; batch_topk and matryoshka as jump_relu |
| `dictionary_learning` | `config.json`, `ae.pt` | relu, topk, batch_topk, jump_relu, matryoshka |
| `sparsify` | `cfg.json`, `sae.safetensors` | topk, and transcoders of topk |

What is folded into the weights on the way, and why nothing changes, is in `localisation.dictionary_reading`.

No pickle is run: `ae.pt` is read by torch's weights-only loader. A gap in a configuration is an error. What our own
files hold besides (variant, prefixes, site) stands under `mnemotrace`, which the others ignore. Cost: a copy.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnemotrace.core.artifact import atomic, library_version
from mnemotrace.core.errors import ArtifactError
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_reading import (
    from_dictionary_learning,
    from_saelens,
    from_sparsify,
    made,
    unscaled,
)

FORMATS = ("saelens", "dictionary_learning", "sparsify")
_WEIGHTS = {"saelens": "sae_weights.safetensors", "dictionary_learning": "ae.pt", "sparsify": "sae.safetensors"}
_CONFIG = {"saelens": "cfg.json", "dictionary_learning": "config.json", "sparsify": "cfg.json"}


def read_dictionary(folder: str | Path, *, site: str = "", scale: float | None = None) -> Dictionary:
    """Read a dictionary that SAELens, dictionary_learning or sparsify wrote; the format is told by the files.

    Args:
        folder: with weights and configuration.
        site: name of the module of your network; their own names of places go into the manifest only.
        scale: what activations were multiplied by in training, where the configuration says that they were and the
            factor is in no file; 1 where it is folded in already.

    Returns:
        Dictionary, float32, for activations as the network gives them.

    Raises:
        FileNotFoundError: no weights of a known format, or no configuration beside.
        ArtifactError: an architecture that we lack, a missing value, or a normalisation that cannot be folded in.
    """
    folder = Path(folder)
    kind = next((name for name in FORMATS if (folder / _WEIGHTS[name]).is_file()), None)
    if kind is None or not (folder / _CONFIG[kind]).is_file():
        seen = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        wanted = "; ".join(f"{_CONFIG[name]} and {_WEIGHTS[name]} ({name})" for name in FORMATS)
        raise FileNotFoundError(f"got {folder} with {seen}; expected {wanted}; choose the folder that holds both")
    config = json.loads((folder / _CONFIG[kind]).read_text(encoding="utf-8"))
    if kind == "dictionary_learning":
        tensors = torch.load(folder / _WEIGHTS[kind], map_location="cpu", weights_only=True)
        parts = from_dictionary_learning(config, tensors)
    else:
        tensors = load_file(folder / _WEIGHTS[kind])
        parts = from_saelens(config, tensors) if kind == "saelens" else from_sparsify(config, tensors)
    own = config.get("mnemotrace") or (config.get("metadata") or {}).get("mnemotrace") or {}
    found = made(unscaled(parts, _scale(config, folder, scale)))
    return replace(
        found,
        site=site or own.get("site", ""),
        variant=own.get("variant", found.variant),
        k=own.get("k", found.k),
        prefixes=tuple(own.get("prefixes", found.prefixes)),
        manifest={"method": f"read from {kind}", "version": library_version(), **parts.manifest},
    )


def _scale(config: Mapping[str, Any], folder: Path, scale: float | None) -> float:
    """Return what activations were multiplied by; refuse what is no one number, and a number that is nowhere."""
    how = config.get("normalize_activations", "none")
    if how in (None, False, "none") or scale is not None and how in (True, "expected_average_only_in"):
        return 1.0 if scale is None else scale
    beside = folder / "activation_scaler.json"
    factor = json.loads(beside.read_text(encoding="utf-8")).get("scaling_factor") if beside.is_file() else None
    if how in (True, "expected_average_only_in") and factor is not None:
        return float(factor)
    advice = "scale=, the mean norm it aimed at over the mean norm of activations, or 1 where it is folded in"
    if how not in (True, "expected_average_only_in"):
        advice = "activations as they are, or times one number; fold it in with the library that wrote it"
    raise ArtifactError(f"got activations normalised by {how!r}; expected {advice}")


def write_dictionary(dictionary: Dictionary, folder: str | Path, *, format: str) -> Path:  # noqa: A002
    """Write a dictionary so that another library reads it.

    Args:
        dictionary: as trained here, or read.
        folder: made if need be.
        format: one of `FORMATS`. SAELens knows batch_topk and matryoshka as JumpReLU only, as it writes its own.

    Returns:
        The folder.

    Raises:
        ValueError: an unknown format, or a dictionary that it cannot hold.
    """
    if format not in FORMATS:
        raise ValueError(f"got format={format!r}; expected one of {', '.join(FORMATS)}")
    config, tensors = {"saelens": _to_saelens, "dictionary_learning": _to_learning, "sparsify": _to_sparsify}[format](
        dictionary
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(folder / _WEIGHTS[format]) as temporary:
        if format == "dictionary_learning":
            torch.save(whole, temporary)
        else:
            save_file(whole, temporary)
    with atomic(folder / _CONFIG[format]) as temporary:
        temporary.write_text(json.dumps(config, indent=1, allow_nan=False), encoding="utf-8")
    return folder


def _own(dictionary: Dictionary) -> dict[str, Any]:
    return {
        "variant": dictionary.variant,
        "k": dictionary.k,
        "prefixes": list(dictionary.prefixes),
        "site": dictionary.site,
        "version": library_version(),
    }


def _encoder_bias(dictionary: Dictionary, bias: Tensor) -> Tensor:
    """Return the encoder's bias for another `bias` taken from the input before: nothing changes but rounding."""
    if torch.equal(bias, dictionary.bias):
        return dictionary.encoder_bias
    moved = dictionary.encoder.double() @ (bias.double() - dictionary.bias.double())
    return (dictionary.encoder_bias.double() + moved).to(dictionary.encoder_bias)


def _require_square(dictionary: Dictionary, name: str) -> None:
    if dictionary.d != dictionary.d_out:
        raise ValueError(
            f"got a transcoder from {dictionary.d} to {dictionary.d_out}; expected equal widths for {name}; save it "
            "with mt.save"
        )


def _to_saelens(dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _require_square(dictionary, "SAELens")
    architecture = {"topk": "topk", "relu": "standard"}.get(dictionary.variant, "jumprelu")
    if dictionary.threshold is None:
        architecture = "topk"
    shared = torch.equal(dictionary.bias, dictionary.output_bias)
    read = dictionary.output_bias if shared else torch.zeros_like(dictionary.output_bias)
    tensors = {
        "W_enc": dictionary.encoder.T,
        "b_enc": _encoder_bias(dictionary, read),
        "W_dec": dictionary.decoder,
        "b_dec": dictionary.output_bias,
    }
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": dictionary.d,
        "d_sae": dictionary.m,
        "dtype": str(dictionary.encoder.dtype)[6:],
        "device": "cpu",
        "apply_b_dec_to_input": shared,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.0.0", "hook_name": dictionary.site, "mnemotrace": _own(dictionary)},
    }
    if architecture == "topk":
        config |= {"k": dictionary.k, "rescale_acts_by_decoder_norm": False}
    if architecture == "jumprelu":
        tensors["threshold"] = _threshold(dictionary).expand(dictionary.m)
    return config, tensors


def _threshold(dictionary: Dictionary) -> Tensor:
    if dictionary.threshold is None:
        raise ValueError(f"got variant={dictionary.variant!r} without a threshold; expected one; train it first")
    return dictionary.threshold.to(dictionary.encoder)


def _to_learning(dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _require_square(dictionary, "dictionary_learning")
    names = {"topk": "AutoEncoderTopK", "batch_topk": "BatchTopKSAE", "matryoshka": "MatryoshkaBatchTopKSAE",
             "jump_relu": "JumpReluAutoEncoder", "relu": "AutoEncoder"}  # fmt: skip
    variant, bias = dictionary.variant, dictionary.output_bias
    config = {
        "trainer": {
            "dict_class": names[variant],
            "activation_dim": dictionary.d,
            "dict_size": dictionary.m,
            "submodule_name": dictionary.site,
        },
        "buffer": {},
        "mnemotrace": _own(dictionary),
    }
    tensors: dict[str, Tensor] = {}
    if variant in ("topk", "batch_topk", "matryoshka"):
        if dictionary.k is None:
            raise ValueError(
                f"got {variant} without k; expected it for dictionary_learning; give k, or write jump_relu"
            )
        config["trainer"]["k"] = dictionary.k
        cut = torch.tensor(-1.0) if variant == "topk" else _threshold(dictionary)
        if cut.ndim:
            raise ValueError(f"got {variant} with a threshold a latent; expected one number; write it as jump_relu")
        tensors |= {"k": torch.tensor(dictionary.k, dtype=torch.int), "threshold": cut.float()}
    if variant in ("jump_relu", "matryoshka"):
        read = torch.zeros_like(bias) if variant == "jump_relu" else bias
        tensors |= {"W_enc": dictionary.encoder.T, "W_dec": dictionary.decoder}
        tensors |= {"b_enc": _encoder_bias(dictionary, read), "b_dec": bias}
    else:
        tensors |= {"encoder.weight": dictionary.encoder, "encoder.bias": _encoder_bias(dictionary, bias)}
        tensors |= {"decoder.weight": dictionary.decoder.T, "bias" if variant == "relu" else "b_dec": bias}
    if variant == "jump_relu":
        tensors["threshold"] = _threshold(dictionary).expand(dictionary.m)
    if variant == "matryoshka":
        ends = [*(end for end in dictionary.prefixes if end < dictionary.m), dictionary.m]
        tensors["group_sizes"] = torch.tensor(ends).diff(prepend=torch.tensor([0]))
    return config, tensors


def _to_sparsify(dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if dictionary.threshold is not None:
        raise ValueError(
            f"got variant={dictionary.variant!r}; expected topk, the only one of sparsify; write saelens or "
            "dictionary_learning"
        )
    _require_square(dictionary, "sparsify")
    shared = torch.equal(dictionary.bias, dictionary.output_bias)
    read = dictionary.output_bias if shared else torch.zeros_like(dictionary.bias)
    config = {
        "activation": "topk",
        "expansion_factor": 0,
        "normalize_decoder": True,
        "num_latents": dictionary.m,
        "k": dictionary.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": not shared,
        "d_in": dictionary.d,
        "mnemotrace": _own(dictionary),
    }
    tensors = {
        "encoder.weight": dictionary.encoder,
        "encoder.bias": _encoder_bias(dictionary, read),
        "W_dec": dictionary.decoder,
        "b_dec": dictionary.output_bias,
    }
    return config, tensors

r"""Recollection: run a network backwards from one unit, and see a picture.

The network runs forwards unmodified; every operation that lets something through is given another backward
(`retrieval.rules`), and inputs of maps and pools a normalisation of what comes back. Then

.. math:: \hat x = J^T_{\text{rules, trace}}\, s

is one call of `torch.autograd.grad` at the image, from a source `s`. What was let through comes from the image itself,
from another image's trace, from a learned mean, or from nowhere. Linear maps do not depend on the image, so from a
trace alone the network runs on zeros.

With `rescale_std` the picture does not depend on the source at all; what identifies it are the switches. Hence every
recollection carries its controls: the same recall from no source and from a wrong one, and how alike the pictures are.

Reference: Ben Houidi 2021 and 2024 (recollection); Zeiler and Fergus 2014. Cost: a forward and a backward pass, and a
backward pass more for each control; memory of a training step without weights.
"""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import stop_after
from mnemotrace.adapters.operations import watched
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.core.errors import NumericalWarning, SourceIgnored
from mnemotrace.core.linalg import require_finite
from mnemotrace.retrieval.inputs import Forward, Images, call, input_of, output_of, replaced, what_runs
from mnemotrace.retrieval.recollection import Recollection, correlation
from mnemotrace.retrieval.reversal import Recorder, Reversal
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source

__all__ = ["Recollection", "Rules", "Source", "correlation", "episode", "recollect"]
IGNORED = 0.999


@torch.no_grad()
def episode(model: nn.Module, x: Images, *, forward: Forward | None = None) -> EpisodicTrace:
    """Record what a network lets through for inputs: switches, gates, attention patterns and scales.

    Args:
        model: any network in evaluation mode, which is not changed; samples lie on the first axis.
        x: images `(b, ...)`, or a mapping of keyword arguments with one floating-point tensor to recall.
        forward: `(model, x) -> output`; None calls the network.

    Returns:
        EpisodicTrace. Real numbers in it are kept to 16 bits.

    Raises:
        TypeError: no floating-point input.
        ValueError: no sample, or a layer in training mode.
        NonFiniteError: NaN or infinity in the input.
    """
    name, image = input_of(x)
    recorder = Recorder(len(image))
    with watched(model, recorder):
        call(model, x, forward)
    return EpisodicTrace(tuple(recorder.entries), tuple(image.shape[1:]), _manifest(model, name, image))


def recollect(
    model: nn.Module,
    unit: int | Tensor | Source,
    *,
    trace: Images | EpisodicTrace | None,
    rules: Rules | None = None,
    x: Images | None = None,
    forward: Forward | None = None,
    controls: bool = True,
    generator: torch.Generator | None = None,
) -> Recollection:
    """Recall pictures from a unit, running a network backwards.

    Args:
        model: any network in evaluation mode, which is not changed; samples lie on the first axis.
        unit: index of an output unit, one a sample as `(b,)`, or a `Source`.
        trace: images whose own trace is used, a recorded, donated or mean trace, or None for rules that need none.
        rules: None takes `Rules.headline()`.
        x: images whose activation is the source, where the trace comes from elsewhere; with `trace=None` it gives the
            number and shape of images.
        forward: `(model, x) -> output`; None calls the network.
        controls: also recall from no source and from a wrong one: two backward passes more.
        generator: of the wrong source and of random cells; None is seeded with 0.

    Returns:
        Recollection.

    Raises:
        TypeError: no floating-point input, or a trace of another type.
        ValueError: a trace that does not fit the network, a missing entry, a unit that does not exist, a layer in
            training mode, or an output that does not depend on the input.
        NonFiniteError: NaN or infinity in the input or in the picture.

    Warns:
        SourceIgnored: the picture is the same without the source.
        NumericalWarning: a signal came back through operations without a rule, and there is no image.
    """
    rules = rules or Rules.headline()
    source = unit if isinstance(unit, Source) else Source.unit(unit)
    donor = trace if isinstance(trace, EpisodicTrace) else None
    given = what_runs(model, trace, x)
    name, image = input_of(given)
    own, seen = donor is None and trace is not None, x is not None or donor is None
    if source.looks and not (own or x is not None):
        raise ValueError(f"got {source} and a trace without the image; expected the images as trace=, or as x=")
    activation = _activation(model, source, given, forward) if source.looks and not own else None
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    reversal = Reversal(rules, len(image), trace=donor, own=own, seen=seen, generator=generator)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = image.detach().clone().requires_grad_()
        moving = leaf.clone()  # so that a network may write into its input
        out, channels, whole = _output(model, source, replaced(given, name, moving), forward, reversal)
        if whole:
            reversal.finish()
        _require_path(out, source)
        start = source.start(out if activation is None else activation, channels=channels)
        starts = {"images": start}
        if controls:
            starts |= {"zero": torch.zeros_like(start)}
            starts |= {"wrong": source.other(start, channels=channels, generator=generator)}
        found = {key: _back(out, leaf, s, keep=key != list(starts)[-1]) for key, s in starts.items()}
    pictures = found.pop("images")
    require_finite(pictures, "the picture")
    sensitivity = {key: correlation(pictures, other) for key, other in found.items()}
    _warn(sensitivity, source, () if seen else tuple(reversal.unreversed))
    bits = {kind: value for kind, value in reversal.bits.items() if value} | {"total": sum(reversal.bits.values())}
    manifest = _manifest(model, name, image) | {"trace": "own" if own else "none" if trace is None else "given"}
    return Recollection(pictures, str(source), rules, bits, sensitivity, tuple(reversal.unreversed), found, manifest)


def _until(
    model: nn.Module, site: str | None, given: Images, forward: Forward | None, watching: AbstractContextManager[None]
) -> Tensor:
    """Run a network to its output, or to that of a module inside and no further."""
    if site is None:
        with watching:
            return output_of(call(model, given, forward))
    names = dict(model.named_modules())
    if site not in names:
        listing = ", ".join([n for n in names if n][:20])
        raise ValueError(f"got site={site!r}; expected the name of a module of the network, such as {listing}")
    kept: list[Any] = []
    with stop_after(names[site], kept.append), watching:
        call(model, given, forward)
    if not kept:
        raise ValueError(
            f"got site={site!r}, which did not run in the forward pass; expected one that the network calls; "
            "choose one around it"
        )
    return output_of(kept[0])


def _output(
    model: nn.Module, source: Source, given: Images, forward: Forward | None, reversal: Reversal
) -> tuple[Tensor, bool, bool]:
    out = _until(model, source.site, given, forward, watched(model, reversal))
    convolution = source.site is not None and isinstance(model.get_submodule(source.site), _CONVOLUTIONS)
    return out, convolution or out.ndim > 3, source.site is None  # noqa: PLR2004


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def _activation(model: nn.Module, source: Source, given: Images, forward: Forward | None) -> Tensor:
    return _until(model, source.site, given, forward, nullcontext())


def _back(out: Tensor, leaf: Tensor, start: Tensor, keep: bool) -> Tensor:
    return torch.autograd.grad(out, leaf, start, retain_graph=keep)[0].detach()


def _require_path(out: Tensor, source: Source) -> None:
    if not out.requires_grad:
        raise ValueError(
            f"got {source}, whose output does not depend on the input by any path that goes backwards; expected a "
            "differentiable one; if the network ends in a softmax, start from the layer before: "
            "Source.unit(index, site='name of that layer')"
        )


def _warn(sensitivity: Mapping[str, float], source: Source, blind: tuple[str, ...]) -> None:
    if blind:
        warnings.warn(
            f"no rule for {', '.join(blind)}: their true gradient depends on the image, and only the trace was given, "
            "so it was taken at a blank one; pass the images as x= beside the trace",
            NumericalWarning,
            stacklevel=3,
        )
    if source.kind != "zero" and sensitivity.get("zero", 0.0) >= IGNORED:
        warnings.warn(
            f"source ignored: the picture from no source correlates {sensitivity['zero']:.6f} with the one from "
            f"{source}; what it shows comes from the trace; to let the source matter use Rules.image() or "
            "Rules.guided()",
            SourceIgnored,
            stacklevel=3,
        )


def _manifest(model: nn.Module, name: str, image: Tensor) -> dict[str, Any]:
    return {
        "method": "recollection",
        "base": fingerprint(model),
        "input": name,
        "b": len(image),
        "dtype": str(image.dtype)[6:],
        "version": library_version(),
    }

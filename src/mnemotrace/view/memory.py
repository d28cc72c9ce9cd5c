"""What a file that is a memory says of it: how large it is, what it holds, and the settings it recalls with."""

from collections.abc import Mapping
from math import prod

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.values import NONE, finite, nbytes, number, part, size

Rows = list[tuple[str, ...]]
HEBB = 0.138  # random patterns a feature that Hebb's rule holds at most, Amit, Gutfreund and Sompolinsky 1985
# the tensor whose rows, or which itself, is as wide as a pattern
WIDE = ("values", "couplings", "centre", "means", "pattern", "origin", "points", "f", "cortex.centre", "biases.0")
PARTS = {
    "values": "patterns", "weights": "weights", "couplings": "couplings", "bias": "thresholds", "centre": "centre",
    "means": "centres", "factors": "factors of the covariances", "pattern": "pattern", "origin": "origin",
    "basis": "directions", "points": "points", "f": "features of the core", "xi": "their values",
    "prior.means": "semantic memory, centres", "prior.factors": "semantic memory, factors of the covariances",
    "prior.weights": "semantic memory, weights",
}  # fmt: skip
COUNTED = {"values": "patterns", "points": "points", "means": "components", "xi": "numbers kept"}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how wide a memory is, what it holds and how often each counts, its settings, and its bytes."""
    tensors = artifact.tensors
    found = [("features", number(_width(tensors)))]
    found += [(word, number(len(tensors[name]))) for name, word in COUNTED.items() if name in tensors]
    if artifact.kind == "affine" and "basis" in tensors:
        found.append(("dimensions", number(len(tensors["basis"]))))
    if "values" in tensors and _width(tensors):
        found.append(("patterns a feature", number(len(tensors["values"]) / (_width(tensors) or 1))))
    if artifact.kind == "mixture":
        found.append(("parts", number(len(artifact.header.get("parts") or []))))
    if "weights" in tensors:
        found.append(("weights", _span(tensors["weights"])))
    elif "values" in tensors:
        found.append(("weights", "all alike"))
    return [*found, *_settings(artifact), ("bytes", size(nbytes(artifact)))]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the tensors of a memory, or the parts of a mixture."""
    if artifact.kind == "mixture":
        return _parts(artifact)
    rows: Rows = [
        (PARTS.get(name, name), _shape(tensor), str(tensor.dtype).removeprefix("torch."), size(tensor.nbytes))
        for name, tensor in artifact.tensors.items()
        if name in PARTS or name.startswith(("network.", "weights.", "biases."))
    ]
    return ("what", "shape", "type", "size"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say what a number means that is out of the ordinary."""
    tensors, d = artifact.tensors, _width(artifact.tensors)
    if artifact.kind == "hopfield" and "values" not in tensors:
        return ["Only the couplings are here, the patterns were not kept: nothing can be added or taken away."]
    if (
        artifact.kind == "hopfield"
        and artifact.header.get("rule") == "hebb"
        and d
        and len(tensors["values"]) > HEBB * d
    ):
        return [f"More than {HEBB} patterns a feature are stored: Hebb's rule no longer holds random ones."]
    if artifact.kind == "core" and "f" in tensors:
        kept, whole = tensors["f"].shape
        return [f"{number(kept)} of {number(whole)} dimensions are kept; the others come from the semantic memory."]
    return []


def _settings(artifact: Artifact) -> list[tuple[str, str]]:
    """List what the header sets, in the words of the constructors."""
    header, found = artifact.header, list[tuple[str, str]]()
    for key in ("rule", "order", "separation", "degree", "norms", "form", "radius", "scale", "spread", "relaxation"):
        if header.get(key) is not None:
            found.append((key, number(header[key])))
    if artifact.kind == "affine" and header.get("scale") is None:
        found.append(("scale", "flat"))
    if artifact.kind == "modern_hopfield":
        beta = header.get("beta")
        found.append(("beta", "from the patterns" if beta == "auto" else number(beta)))
    sigma = finite(header.get("sigma"))
    if sigma:
        found += [("sigma", number(sigma)), ("beta, 1 / sigma²", number(1 / sigma**2))]
    if header.get("widths"):
        numbers = sum(t.numel() for name, t in artifact.tensors.items() if name.startswith("network."))
        found += [("hidden layers", number(header["widths"])), ("parameters", number(numbers))]
    return found


def _width(tensors: Mapping[str, Tensor]) -> int | None:
    """Return the features of a pattern; of a mixture those of its first part."""
    first = {name.split(".", 1)[1]: tensor for name, tensor in tensors.items() if name.split(".", 1)[0].isdigit()}
    for name in WIDE:
        found = tensors.get(name, first.get(name))
        if found is not None and found.ndim:
            return found.shape[-1]
    return None


def _span(weights: Tensor) -> str:
    """Say how far weights differ, and how many count in effect."""
    values = weights.double()
    if not values.numel():
        return NONE
    low, high = finite(float(values.min())), finite(float(values.max()))
    if low is None or high is None:
        return NONE
    if low == high:
        return "all alike"
    effect = finite(float(values.sum().square() / values.square().sum()))
    return f"{number(low)} to {number(high)}, {number(effect)} of {number(len(values))} in effect"


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "1"


def _parts(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    weights, rows = artifact.tensors.get("weights"), Rows()
    for index, each in enumerate(artifact.header.get("parts") or []):
        inner = {n.split(".", 1)[1]: t for n, t in artifact.tensors.items() if n.startswith(f"{index}.")}
        one = Artifact(str(each.get("kind")), part(each, "header"), inner)
        weight = None if weights is None or index >= len(weights) else finite(float(weights[index]))
        told = ", ".join(f"{key} {value}" for key, value in summary(one) if key not in ("features", "bytes"))
        held = sum(prod(tensor.shape) for tensor in inner.values())
        rows.append((number(index), one.kind.replace("_", " "), number(weight), told or NONE, number(held)))
    return ("part", "kind", "weight", "what", "numbers"), rows

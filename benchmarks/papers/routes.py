"""From few bits to an image, for `pointer.py`: from a class alone, sparse units, codes of pixels and of layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure
from benchmarks.papers.recalled import Mnist, pictures
from mnemotrace.core.episode import EpisodicTrace, MeanTrace
from mnemotrace.evaluation.recalling import activations
from mnemotrace.evaluation.similarity import likeness
from mnemotrace.retrieval.backward import episode
from mnemotrace.retrieval.prototypes import LinearDecoder
from mnemotrace.retrieval.rules import Rules

POINTER, INSIDE = "relu_fc2", "relu_pool1"
CLASS_BITS = math.log2(10)


@dataclass(frozen=True)
class Point:
    """One route with so many bits stored an image."""

    route: str
    bits: float
    own: float
    same: float
    found: float

    def figures(self) -> list[Figure]:
        note = f"{self.bits:.0f} bits; own r {self.own:.3f}, same {self.same:.3f}"
        return [
            Figure(f"{self.route}, {self.bits:.0f} bits: own less same r", self.own - self.same, "", note),
            Figure(f"{self.route}, {self.bits:.0f} bits: identified", self.found),
        ]


def point(route: str, bits: float, picture: Tensor, data: Mnist) -> Point:
    """Measure recalled probes."""
    found = likeness(picture.float(), data.probes[0], labels=data.probes[1])
    return Point(route, bits, found.correlation.own, found.correlation.same, found.identified.value)


def switches(model: nn.Module, images: Tensor, top: float | None = None) -> EpisodicTrace:
    """Record where maxima were, of all units or of the strongest."""
    return episode(model, images).select(kinds=["switch"], top=top)


def prototypes(nets: dict[str, nn.Module], data: Mnist) -> dict[str, Tensor]:
    """From the class alone, by every route that needs no trace of an episode: one picture a probe."""
    (learnt, classes), (images, _) = data.learn, data.probes
    units = nets["max"](images).argmax(1)
    one = torch.eye(10)
    parts = (switches(nets["max"], part) for part in learnt.split(250))
    mean = MeanTrace.fit(parts, labels=classes)
    found = {"class: ridge decoder": LinearDecoder.fit(one[classes], learnt)(one[units])}
    found["class: mean switches"] = pictures(nets["max"], units, Rules(relu="relu"), mean.trace(units))
    found["class: learnt pools"] = pictures(nets["conv"], units, Rules(), images)
    units = nets["conv"](images).argmax(1)
    within = activations(nets["conv"], learnt, POINTER)
    decoder = LinearDecoder.fit(within, learnt)
    directions = engrams(nets["conv"], data)
    centre, spread = within.mean(0), within.std()
    found["class engram: learnt pools"] = inside(nets["conv"], directions[units], images, POINTER)
    found["class engram: ridge decoder"] = decoder(centre + 3 * spread * directions[units])
    found |= imagined(nets["conv"], data, units)
    return found


def engrams(model: nn.Module, data: Mnist) -> Tensor:
    """Return for each class the direction of the last hidden layer that its engram reads for it, of length 1."""
    images, labels = data.learn
    by = [mt.collect(model, images[labels == c].split(500), sites=mt.sites(model, ["fc3"])) for c in range(10)]
    rows: list[Tensor] = []
    for c in range(10):
        others = [by[i] for i in range(10) if i != c]
        trace = mt.engram(model, target=by[c], reference=reduce(add, others))["fc3"]
        rows.append((trace.left[c] @ trace.right)[:256])
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def imagined(model: nn.Module, data: Mnist, units: Tensor) -> dict[str, Tensor]:
    """Class code to activation of a middle layer by the exact denoiser, expected and drawn; then back to an image."""
    images, labels = data.learn
    within = activations(model, images, "relu_pool2").flatten(1)
    scale = float(within.std())
    memory = mt.DiffusionMemory(torch.cat([torch.eye(10)[labels], within / scale], 1))
    cue = torch.cat([torch.eye(10), torch.zeros(10, within.shape[1])], 1)
    noise = torch.cat([torch.full((10, 10), 0.05), torch.full((10, within.shape[1]), math.inf)], 1)
    mean = memory.expected(cue, sigma=noise)[:, 10:] * scale
    draws = memory.sample(cue[units], sigma=noise[units], count=1, generator=torch.Generator().manual_seed(0))
    drawn = draws.view(len(units), -1)[:, 10:] * scale
    shape = (len(units), 64, -1)
    side = math.isqrt(within.shape[1] // 64)
    return {
        f"class: denoiser at pool2, {name}": inside(
            model, value.reshape(*shape).unflatten(2, (side, side)), data.probes[0], "relu_pool2"
        )
        for name, value in {"expected": mean[units], "a draw": drawn}.items()
    }


def inside(model: nn.Module, signal: Tensor, images: Tensor, site: str) -> Tensor:
    """Run the network with learnt pools back from a signal at a site, one a probe; it needs no trace."""
    return pictures(model, signal, Rules(), None, images=images, site=site)


def sparse(model: nn.Module, data: Mnist, tops: Sequence[float]) -> list[Point]:
    """The strongest units of the first pool, 16 bits each and which; or only which they are."""
    images, _ = data.probes
    within = activations(model, images, INSIDE)
    flat = within.flatten(1)
    n, points = flat.shape[1], list[Point]()
    for top in tops:
        k = max(1, round(top * n))
        which = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
        index = flat.topk(k, 1).indices
        values = torch.zeros_like(flat).scatter_(1, index, flat.gather(1, index))
        points.append(
            point("sparse pool1, values", 16 * k + which, inside(model, values.view_as(within), images, INSIDE), data)
        )
        if top < 1:
            on = (values > 0).to(flat)
            points.append(
                point("sparse pool1, which only", which, inside(model, on.view_as(within), images, INSIDE), data)
            )
    return points


def coded(data: Mnist, units: Tensor) -> list[tuple[float, Tensor]]:
    """Return probes as their class and an optimal linear code of what departs from its mean would bring them back.

    Reverse water-filling: a principal component of variance `v` keeps an error of `min(v, t)` and costs
    `log2(v / t) / 2` bits; principal components and class means are those of other images.
    """
    (learnt, labels), images = data.learn, data.probes[0].flatten(1).double()
    rows = learnt.flatten(1).double()
    means = torch.stack([rows[labels == c].mean(0) for c in range(10)])
    rest = rows - means[labels]
    variance, axes = torch.linalg.eigh(rest.T @ rest / len(rest))
    variance = variance.clamp_min(1e-12)
    part = (images - means[units]) @ axes
    source = torch.Generator().manual_seed(4)
    found: list[tuple[float, Tensor]] = [(CLASS_BITS, means[units])]
    for level in torch.logspace(-0.2, -4, 20, dtype=torch.float64) * variance.max():
        error = variance.clamp_max(level)
        bits = CLASS_BITS + float(0.5 * (variance / error).log2().sum())
        kept = 1 - error / variance
        noise = torch.randn(part.shape, generator=source, dtype=part.dtype) * (error * kept).sqrt()
        found.append((bits, means[units] + (part * kept + noise) @ axes.T))
    return [(bits, picture.view_as(data.probes[0])) for bits, picture in found]


def decoded(model: nn.Module, data: Mnist) -> list[Point]:
    """What a ridge decoder makes of a layer, stored whole at 16 bits a unit."""
    points: list[Point] = []
    for site in ("fc3", "relu_fc2", "relu_fc1", "pool3", "pool2"):
        known, asked = (activations(model, x[0], site).flatten(1) for x in (data.learn, data.probes))
        decoder = LinearDecoder.fit(known, data.learn[0])
        points.append(point("ridge decoder of a layer", 16 * known.shape[1], decoder(asked), data))
    return points

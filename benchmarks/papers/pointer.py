"""Recollection in which the pointer matters: stored traces keyed by pointers, generative routes, and what a bit buys.

(a) `Episodes` keeps the switches of images under the activation of the last hidden layer. A pointer, whole or computed
from a damaged image, finds a trace, and the network runs back through it. The wrong pointer is the control.
(b) From a class, or the direction of its engram, to a prototype without any trace: class-mean switches, a denoiser over
activations, a ridge decoder. From the strongest units of a middle layer to the individual, through a network whose
pools are learnt.
(c) Every route on one axis: bits stored an image, from the class alone to the full trace; beside them ridge decoders of
whole layers, and the class with an optimal linear code of what departs from its mean (Gaussian rate-distortion).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import REPOSITORY, Figure, main
from benchmarks.papers.recollection import Mnist, load, pictures, trained
from mnemotrace.core.episode import EpisodicTrace, MeanTrace
from mnemotrace.evaluation.capacity import wilson
from mnemotrace.evaluation.recalling import activations
from mnemotrace.evaluation.similarity import correlations, identified
from mnemotrace.memories.episodes import Episodes
from mnemotrace.retrieval.backward import episode, recollect
from mnemotrace.retrieval.prototypes import LinearDecoder
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source

PICTURE = REPOSITORY / "docs" / "images" / "recollection_bits.png"
POINTER, INSIDE = "relu_fc2", "relu_pool1"
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
TOPS = (1.0, 0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
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
    images, labels = data.probes
    pairs, rows = correlations(picture, images), torch.arange(len(images))
    same = (labels[:, None] == labels) & ~torch.eye(len(images), dtype=torch.bool)
    return Point(route, bits, float(pairs.diagonal().mean()), float(pairs[same].mean()), identified(pairs, rows))


def switches(model: nn.Module, images: Tensor, top: float | None = None) -> EpisodicTrace:
    """Record where maxima were, of all units or of the strongest."""
    return episode(model, images).select(kinds=["switch"], top=top)


# --- (a)


def cues(images: Tensor) -> dict[str, Tensor]:
    """Damage images."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
    half = images.clone()
    half[:, :, 14:] = 0
    return {
        "the image": images,
        "noise 0.3": images + 0.3 * noise,
        "noise 0.6": images + 0.6 * noise,
        "upper half": half,
    }


def keyed(model: nn.Module, data: Mnist, counts: Sequence[int], shares: Sequence[float]) -> list[Figure]:
    """Pointer to stored trace to image: by the number of episodes, by the cue, by the share of the trace kept."""
    images = data.test[0]
    figures: list[Figure] = []
    for count, share in [*((n, 1.0) for n in counts), *((counts[-1], s) for s in shares if s < 1)]:
        stored = images[:count]
        trace = EpisodicTrace.join([switches(model, part, share) for part in stored.split(250)])
        store = Episodes(activations(model, stored, POINTER), trace)
        asked = torch.arange(min(count, 200))
        given = cues(stored[asked]) if share == 1.0 else {"the image": stored[asked]}
        for cue, seen in given.items():
            figures += _asked(
                model, store, stored, activations(model, seen, POINTER), name=f"{cue}, {count}", share=share
            )
        if share == 1.0:
            wrong = activations(model, stored[asked.roll(1)], POINTER)
            figures += _asked(model, store, stored, wrong, name=f"wrong pointer, {count}", share=share)
    return figures


def _asked(
    model: nn.Module, store: Episodes, stored: Tensor, pointers: Tensor, *, name: str, share: float
) -> list[Figure]:
    asked = torch.arange(len(pointers))
    found = store.lookup(pointers)
    pairs = correlations(recollect_all(model, pointers, found.trace, Rules.image(), site=POINTER), stored)
    looked = float((found.posterior.argmax(1) == asked).double().mean())
    rate = wilson(identified(pairs, asked), len(asked))
    head = f"keyed by {POINTER}, {name} stored" + ("" if share == 1.0 else f", top {100 * share:g} % of switches")
    note = f"{rate.low:.3f} to {rate.high:.3f}; right episode looked up {looked:.3f}; {store.bits()['switch']:.0f} bits"
    return [
        Figure(f"{head}: identified", rate.value, "", note),
        Figure(f"{head}: own r", float(pairs[asked, asked].mean())),
    ]


def recollect_all(
    model: nn.Module, source: Tensor, trace: EpisodicTrace, rules: Rules, *, site: str | None = None
) -> Tensor:
    """Recall from a pointer and a stored trace, a hundred at a time; units are whole numbers."""
    found: list[Tensor] = []
    for rows in torch.arange(len(source)).split(100):
        part = source[rows]
        start = Source.vector(part, site=site) if part.is_floating_point() else Source.unit(part, site=site)
        found.append(recollect(model, start, trace=trace[rows], rules=rules, controls=False).images)
    return torch.cat(found)


# --- (b)


def prototypes(nets: dict[str, nn.Module], data: Mnist) -> dict[str, Tensor]:
    """From the class alone, by every route that needs no trace of an episode: one picture a probe."""
    (learnt, classes), (images, _) = data.learn, data.probes
    units = nets["max"](images).argmax(1)
    one = torch.eye(10)
    parts = (switches(nets["max"], part) for part in learnt.split(250))
    mean = MeanTrace.fit(parts, labels=classes)
    found = {"class: ridge decoder": LinearDecoder.fit(one[classes], learnt)(one[units])}
    found["class: mean switches"] = recollect_all(nets["max"], units, mean.trace(units), Rules(relu="relu"))
    found["class: learnt pools"] = pictures(nets["conv"], units, images, Rules(), images)
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
    found: list[Tensor] = []
    for rows in torch.arange(len(images)).split(100):
        start = Source.vector(signal[rows], site=site)
        found.append(recollect(model, start, trace=None, x=images[rows], rules=Rules(), controls=False).images)
    return torch.cat(found)


# --- (c)


def curve(nets: dict[str, nn.Module], data: Mnist, shares: Sequence[float], tops: Sequence[float]) -> list[Point]:
    """Measure every route at every number of bits."""
    images, _ = data.probes
    model, units = nets["max"], nets["max"](images).argmax(1)
    whole = episode(model, images)
    points = [point("class and linear code of the rest", bits, code, data) for bits, code in coded(data, units)]
    chosen: dict[str, tuple[Rules, Callable[[float], EpisodicTrace]]] = {
        "switches, image rule": (Rules.image(), lambda s: whole.select(kinds=["switch"], top=s)),
        "switches of pool1 only": (Rules.image(), lambda s: whole.select(kinds=["switch"], entries=[0], top=s)),
        "switches and gates, guided": (Rules.guided(), lambda s: whole.select(kinds=["switch", "gate"], top=s)),
    }
    for route, (rules, select) in chosen.items():
        for share in shares:
            trace = select(share)
            bits = CLASS_BITS + trace.bits()["total"]
            points.append(point(route, bits, recollect_all(model, units, trace, rules), data))
    points += decoded(model, data) + sparse(nets["conv"], data, tops)
    points += [point(name, CLASS_BITS, picture, data) for name, picture in prototypes(nets, data).items()]
    return points


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


def fewest(points: Sequence[Point], level: float = 0.9) -> list[Figure]:
    """Fewest bits with which a route identifies nine of ten images."""
    found: list[Figure] = []
    for route in dict.fromkeys(p.route for p in points):
        enough = [p.bits for p in points if p.route == route and p.found >= level]
        if enough:
            found.append(Figure(f"{route}: fewest bits for {level:g} identified", min(enough)))
    return found


LOOKS = {
    "class and linear code of the rest": ("#857f76", ":", None),
    "ridge decoder of a layer": ("#b0243d", "--", "s"),
    "switches, image rule": ("#0f6b7a", "-", "o"),
    "switches of pool1 only": ("#0f6b7a", "--", "^"),
    "switches and gates, guided": ("#6d4fa8", "-", "D"),
    "sparse pool1, values": ("#a85a08", "-", "o"),
    "sparse pool1, which only": ("#a85a08", "--", "^"),
}


def draw(points: Sequence[Point]) -> None:
    """Draw own less same r, and identification, over the bits stored an image."""
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=(11.5, 4.4), layout="constrained")
    reads: list[tuple[str, Callable[[Point], float]]] = [
        ("r with its own image less r with others of its class", lambda p: p.own - p.same),
        ("identified among 200", lambda p: p.found),
    ]
    panels = sheet.subplots(1, 2)
    for axes, (label, read) in zip(panels, reads, strict=True):
        for route, (colour, line, marker) in LOOKS.items():
            line_of = sorted((p.bits, read(p)) for p in points if p.route == route)
            axes.plot(*zip(*line_of, strict=True), color=colour, ls=line, marker=marker, markersize=4.5, label=route)
        alone = [p for p in points if p.route.startswith("class") and p.route not in LOOKS]
        style = {"color": "#22201d", "marker": "x", "ls": "", "markersize": 6, "clip_on": False, "zorder": 5}
        axes.plot([p.bits for p in alone], [read(p) for p in alone], label="class alone, seven routes", **style)
        axes.axvline(math.log2(200), color="#c9c3b8", lw=1)
        axes.set(
            xscale="log", xlabel="bits stored an image", ylabel=label, ylim=(-0.05, 1.03 if label[0] == "i" else None)
        )
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].annotate("bits to tell\n200 apart", (math.log2(200) * 1.08, 0.4), fontsize=8, color="#857f76")
    panels[0].set_title("prototype = 0", loc="left", fontsize=10)
    panels[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """Key, generate, measure the curve, draw."""
    torch.set_num_threads(1)
    data, epochs = load(quick), 1 if quick else 4
    nets: dict[str, nn.Module] = {pool: trained(data, pool, epochs=epochs) for pool in ("max", "conv")}
    return measured(nets, data, quick)


def measured(nets: dict[str, nn.Module], data: Mnist, quick: bool) -> list[Figure]:
    """Measure trained networks."""
    counts, shares, tops = ((50,), (1.0, 0.1), (1.0, 0.01)) if quick else ((20, 200, 2000), SHARES, TOPS)
    figures = keyed(nets["max"], data, counts, shares)
    points = curve(nets, data, shares, tops)
    if not quick:
        draw(points)
    return figures + [figure for p in points for figure in p.figures()] + fewest(points)


if __name__ == "__main__":
    main(run, __doc__)

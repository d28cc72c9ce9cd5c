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

import torch
from torch import Tensor, nn

from benchmarks.figures import REPOSITORY, Figure, main
from benchmarks.papers.recalled import Mnist, load, pictures, trained
from benchmarks.papers.routes import (
    CLASS_BITS,
    POINTER,
    Point,
    coded,
    decoded,
    point,
    prototypes,
    sparse,
    switches,
)  # fmt: skip
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.evaluation.capacity import wilson
from mnemotrace.evaluation.recalling import activations
from mnemotrace.evaluation.similarity import correlations, identified
from mnemotrace.memories.episodes import Episodes
from mnemotrace.retrieval.backward import episode
from mnemotrace.retrieval.rules import Rules

PICTURE = REPOSITORY / "docs" / "images" / "recollection_bits.png"
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
TOPS = (1.0, 0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
KEYS = ("fc3", "relu_fc2", "pool3", "pool1")


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
    """Pointer to stored trace to image: by the number of episodes, by cue and site, by the share of the trace kept."""
    images, middle = data.test[0], sorted(counts)[len(counts) // 2]
    figures: list[Figure] = []
    for count in counts:
        figures += _keyed(model, images[:count], sites=KEYS if count == middle else (POINTER,))
    for share in shares:
        if share < 1:
            figures += _keyed(model, images[: counts[-1]], sites=(POINTER,), share=share)
    return figures


def _keyed(model: nn.Module, stored: Tensor, *, sites: Sequence[str], share: float = 1.0) -> list[Figure]:
    trace = EpisodicTrace.join([switches(model, part, share) for part in stored.split(250)])
    asked = stored[:200]
    given = cues(asked) | {"wrong pointer": asked.roll(1, 0)} if share == 1.0 else {"the image": asked}
    figures: list[Figure] = []
    for site in sites:
        store = Episodes(activations(model, stored, site).flatten(1), trace)
        for cue, seen in given.items():
            figures += _asked(model, store, stored, seen, site=site, name=f"{cue}, {len(stored)} stored", share=share)
    return figures


def _asked(
    model: nn.Module, store: Episodes, stored: Tensor, seen: Tensor, *, site: str, name: str, share: float
) -> list[Figure]:
    """Look up by the activation of one site; recall from that of the last hidden layer, the same for all sites."""
    asked = torch.arange(len(seen))
    found = store.lookup(activations(model, seen, site).flatten(1))
    start = activations(model, seen, POINTER)
    pairs = correlations(pictures(model, start, Rules.image(), found.trace, site=POINTER), stored)
    looked = float((found.posterior.argmax(1) == asked).double().mean())
    rate = wilson(identified(pairs, asked), len(asked))
    head = f"keyed by {site}, {name}" + ("" if share == 1.0 else f", top {100 * share:g} % of switches")
    note = f"{rate.low:.3f} to {rate.high:.3f}; right episode {looked:.3f}; {store.bits()['switch']:.0f} bits"
    own = Figure(f"{head}: own r", float(pairs[asked, asked].mean()))
    return [Figure(f"{head}: identified", rate.value, "", note), own]


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
            points.append(point(route, bits, pictures(model, units, rules, trace), data))
    points += decoded(model, data) + sparse(nets["conv"], data, tops)
    points += [point(name, CLASS_BITS, picture, data) for name, picture in prototypes(nets, data).items()]
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

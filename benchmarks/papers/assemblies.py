"""Overlapping assemblies: completion, association, their limits; and assemblies found in real networks.

Drawn: 2000 neurons, 60 a concept (3 %), covariance couplings unless said. Pairs: 30, so 60 concepts, five draws. A
concept comes up when half of the members fire that it does not share with the cued one. Cues of a tenth are 6 random
members. Gastaldi et al. 2021 predict a least overlap for association, and a largest beyond which concepts that share
with several others are no longer told apart; both are measured (2 draws). Real networks (`found_assemblies`): the
digits of MNIST in both hidden layers of 784-500-100-10, a tenth of the units a concept; and people with their towns in
Funes, 77 of 768 MLP units, in each layer, responses standardised within people and within towns. No layer was chosen by
results. Luke's hub (3 draws) was measured with room for two, three and exactly the union; the gates stand at the union,
which was added after room for three had let strangers into what was left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.figures import OUT, REPOSITORY, Figure, Skipped, main
from benchmarks.papers.found_assemblies import digits, generator, people
from mnemotrace.memories.assemblies import Assemblies, Rule

PICTURE = REPOSITORY / "docs/images/assemblies.png"
OVERLAPS = (0.0, 0.04, 0.08, 0.11, 0.15, 0.25, 0.4, 0.5, 0.6, 0.8, 0.95)
LOADS = (30, 60, 120, 240, 480)
GRID = (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.27, 0.33)
Graph = dict[tuple[Any, Any], float]


def pairs(overlap: float, *, load: int = 60, seed: int = 0, rule: Rule = "covariance") -> Assemblies:
    """Draw `load / 2` pairs; partners are neighbours in the list."""
    graph = {(2 * i, 2 * i + 1): overlap for i in range(load // 2)}
    return Assemblies.from_overlaps(graph, rule=rule, generator=generator(seed))


def graph_of(shape: str, overlap: float, each: int = 5, count: int = 12) -> Graph:
    """Make chains, or hubs, of five concepts."""
    places = [(i if shape == "chain" else 0, i + 1) for i in range(each - 1)]
    return {(f"{c}.{a}", f"{c}.{b}"): overlap for c in range(count) for a, b in places}


def cues_of(found: Assemblies, share: float, seed: int) -> Tensor:
    """Give each concept's own members, a random `share` of them."""
    score = torch.rand(found.members.shape, generator=generator(seed)) * found.members
    chosen = score.topk(round(share * found.size), dim=1).indices
    return torch.zeros_like(found.members).scatter(1, chosen, 1.0)


def completion(found: Assemblies, share: float, seed: int = 0) -> tuple[float, float]:
    """Complete from a share of the members: the share that fires then, and how often no other has more."""
    overlap = found.complete(cues_of(found, share, seed)).overlap
    own = overlap.diagonal()
    others = overlap.clone().fill_diagonal_(0).amax(1)
    return float(own.mean()), float((own > others).float().mean())


def association(found: Assemblies, by: Any = "inhibition", most: int = 60) -> tuple[float, float, float]:
    """Cue concepts of pairs: how often the partner comes up, how often each unrelated one, and how much of it fires."""
    index = torch.arange(min(most, len(found)))
    names = [found.names[i] for i in index]
    activity = found.associate(names, by=by)
    up, partner = found.recruited(activity, names), index ^ 1
    unrelated = torch.ones_like(up)
    unrelated[index, index] = unrelated[index, partner] = False
    share = activity.overlap[unrelated].mean()
    return float(up[index, partner].float().mean()), float(up[unrelated].float().mean()), float(share)


def spread(values: Sequence[float]) -> str:
    """Tell the deviation over draws."""
    return f"deviation over {len(values)} draws {stdev(values):.3f}" if len(values) > 1 else "1 draw"


def basic(draws: int) -> list[Figure]:
    """A1 to A3: completion, association, and what comes up unasked."""
    figures: list[Figure] = []
    done = [completion(pairs(0.1, seed=s), 0.1, s)[0] for s in range(draws)]
    figures.append(Figure("A1 completion from a tenth, overlap .1", mean(done), ">= 0.99", spread(done)))
    for overlap, gate in ((0.04, "<= 0.05"), (0.15, ">= 0.9"), (0.25, ">= 0.95")):
        for by, needed in (("inhibition", gate), ("fatigue", "")):
            found = [association(pairs(overlap, seed=s), by) for s in range(draws)]
            mine, other, fires = (list(column) for column in zip(*found, strict=True))
            figures.append(Figure(f"A2 associate comes up, {overlap:g}, {by}", mean(mine), needed, spread(mine)))
            limit = f"<= {1 / 58 + 0.05:.4f}" if by == "inhibition" else ""
            note = f"chance 1 of 58 is {1 / 58:.4f}; {mean(fires):.3f} of its members fire, room by chance .031"
            figures.append(Figure(f"A3 an unrelated one comes up, {overlap:g}, {by}", mean(other), limit, note))
    for overlap in (0.04, 0.15, 0.25):
        by = {way: association(pairs(overlap, rule="willshaw"), way)[0] for way in ("inhibition", "fatigue")}
        note = f"by fatigue {by['fatigue']:.2f}"
        figures.append(Figure(f"Willshaw: associate comes up, {overlap:g}, inhibition", by["inhibition"], "", note))
    return figures


def thresholds(loads: Sequence[int], draws: int, grid: Sequence[float] = GRID) -> tuple[list[Figure], dict[int, float]]:
    """A4: the least overlap at which half of the associates come up, by load."""
    least: dict[int, float] = {}
    for load in loads:
        rates = [
            mean(association(pairs(c, load=load, seed=s), most=40)[0] for s in range(draws)) for c in grid
        ]  # fmt: skip
        above = next((i for i, rate in enumerate(rates) if rate >= 0.5), None)
        if above is None:
            break
        low, high = (rates[above - 1], rates[above]) if above else (0.0, rates[0])
        start = grid[above - 1] if above else 0.0
        least[load] = start + (grid[above] - start) * (0.5 - low) / (high - low)
    curve = list(least.values())
    rises = float(all(a < b for a, b in zip(curve, curve[1:], strict=False)) and len(curve) > 1)
    note = "; ".join(f"{load} concepts {value:.3f}" for load, value in least.items())
    return [Figure("A4 threshold overlap rises with load", rises, ">= 1", note)], least


def hub(draws: int) -> list[Figure]:
    """A5: Luke shares with Yoda and Vader, these with somebody whom Luke does not know."""
    graph: Graph = {}
    for i in range(12):
        graph |= {(f"Luke{i}", f"Yoda{i}"): 0.25, (f"Luke{i}", f"Vader{i}"): 0.25}
        graph |= {(f"Yoda{i}", f"Dooku{i}"): 0.25, (f"Vader{i}", f"Tarkin{i}"): 0.25}
    figures: list[Figure] = []
    for title, way in {
        "room 2.5": {"room": 2.5},
        "room 2": {},
        "room 3": {"room": 3.0},
        "fatigue": {"by": "fatigue"},
    }.items():
        rates: dict[str, list[float]] = {}
        for seed in range(draws):
            found = Assemblies.from_overlaps(graph, generator=generator(seed))
            cued = [f"Luke{i}" for i in range(12)]
            up = found.recruited(found.associate(cued, **way), cued)
            for who in ("Yoda", "Vader", "Dooku", "Tarkin"):
                place = torch.tensor([found.names.index(f"{who}{i}") for i in range(12)])
                rates.setdefault(who, []).append(float(up[torch.arange(12), place].float().mean()))
        own, others = (mean(mean(rates[who]) for who in two) for two in (("Yoda", "Vader"), ("Dooku", "Tarkin")))
        gated = title == "room 2.5"
        note = "room for the union: 1 + 2 x .75" if gated else ""
        figures.append(Figure(f"A5 Luke's associates come up, {title}", own, ">= 0.9" if gated else "", note))
        figures.append(Figure(f"A5 their unrelated partners, {title}", others, "<= 0.05" if gated else "", note))
    return figures


def limits(
    draws: int, overlaps: Sequence[float] = OVERLAPS
) -> tuple[list[Figure], dict[str, dict[float, tuple[float, float]]]]:
    """A6: no overlap, and too much of it, in pairs, chains and hubs."""
    none = [(completion(pairs(0.0, seed=s), 0.1, s)[0], association(pairs(0.0, seed=s))[0]) for s in range(draws)]
    figures = [
        Figure("A6 overlap 0: completion from a tenth", mean(x for x, _ in none), ">= 0.99"),
        Figure("A6 overlap 0: associate comes up", mean(y for _, y in none), "<= 0.05"),
    ]
    curves: dict[str, dict[float, tuple[float, float]]] = {}
    for shape in ("pair", "chain", "hub"):
        curves[shape] = {}
        for overlap in overlaps:
            graph = graph_of(shape, overlap, 2 if shape == "pair" else 5, 30 if shape == "pair" else 12)
            runs = [
                completion(Assemblies.from_overlaps(graph, generator=generator(s)), 0.5, s) for s in range(draws)
            ]  # fmt: skip
            curves[shape][overlap] = mean(r[0] for r in runs), mean(r[1] for r in runs)
    for shape in ("chain", "hub"):
        for overlap in (0.8, 0.95):
            own, told = curves[shape][overlap]
            note = f"of the own pattern, from half of it; told apart {told:.2f}, by chance .20"
            note += "; merged concepts share .95 as it is" if overlap > 0.9 else ""  # noqa: PLR2004
            figures.append(Figure(f"A6 {shape}, overlap {overlap}: completion", own, "<= 0.9", note))
            figures.append(Figure(f"A6 {shape}, overlap {overlap}: told apart", told, "<= 0.9"))
        largest = max(c for c, (_, told) in curves[shape].items() if told >= 0.9 or c == 0)  # noqa: PLR2004
        note = "; ".join(f"{c:g}: {told:.2f}" for c, (_, told) in curves[shape].items() if c > 0.2)  # noqa: PLR2004
        figures.append(Figure(f"largest overlap told apart in {shape}s (.9)", largest, "", note))
    told = "; ".join(f"{c:g}: {own:.3f}" for c, (own, _) in curves["pair"].items() if c > 0.2)  # noqa: PLR2004
    return [*figures, Figure("pairs, overlap .95: completion", curves["pair"][0.95][0], "", told)], curves


@dataclass(frozen=True)
class Price:
    """Synaesthesia at one overlap: what it gives and what it costs."""

    overlap: float
    colour: float
    itself: float
    confused: float
    kind: float


def synaesthesia(overlap: float, seed: int = 0, numbers: int = 40, colours: int = 8) -> Price:
    """Give each number a colour that it shares neurons with; then ask for both, and show numbers never seen."""
    graph = {(f"colour {i % colours}", f"number {i}"): overlap for i in range(numbers + colours)}
    whole = Assemblies.from_overlaps(graph, generator=generator(seed))
    names = whole.names
    known = [i for i, name in enumerate(names) if not name.startswith("number") or int(name.split()[1]) < numbers]
    new = [names.index(f"number {i}") for i in range(numbers, numbers + colours)]
    found = Assemblies(whole.members[known], names=[names[i] for i in known])
    asked = [f"number {i}" for i in range(numbers)]
    place = torch.tensor([found.names.index(name) for name in asked])
    colour = torch.tensor([found.names.index(f"colour {i % colours}") for i in range(numbers)])
    up = found.recruited(found.associate(asked), asked)[torch.arange(numbers), colour].float().mean()
    best = found.complete(cues_of(found, 0.25, seed)[place]).overlap.argmax(1)
    itself = float((best == place).float().mean())
    mates = torch.eye(len(found)).index_add_(1, place, torch.nn.functional.one_hot(colour, len(found)).float().T)
    kin = float((mates[colour, best] > 0).float().mean())
    kind = found.complete(whole.members[new]).overlap.argmax(1) == colour[:colours]
    return Price(overlap, float(up), itself, kin - itself, float(kind.float().mean()))


def draw(curves: dict[str, Any], least: dict[int, float], prices: Sequence[Price], picture: Any) -> None:
    """Three panels: over the overlap, over the load, and the price of synaesthesia."""
    import matplotlib.figure

    sheet = matplotlib.figure.Figure(figsize=(11, 4.1), layout="constrained")
    overlaps = list(curves["pair"])
    first, second, third = sheet.subplots(1, 3)
    for name, colour, marker in (("inhibition", "#0f6b7a", "o"), ("fatigue", "#a85a08", "s")):
        rates = [association(pairs(c), name)[0] for c in overlaps]
        first.plot(overlaps, rates, color=colour, marker=marker, label=f"associate, {name}")
    for shape, style in (("pair", "-"), ("chain", "--"), ("hub", ":")):
        told = [curves[shape][c][1] for c in overlaps]
        first.plot(overlaps, told, color="#6a665f", linestyle=style, marker="^", ms=4, label=f"told apart, {shape}s")
    first.set(xlabel="overlap", title="association needs overlap, detail is lost by it")
    second.plot(list(least), list(least.values()), color="#0f6b7a", marker="o")
    second.set(xlabel="concepts stored", title="least overlap for association", ylim=(0, None))
    second.axhline(0.03, color="#6a665f", linewidth=1, linestyle=":")
    second.annotate("chance overlap", (max(least), 0.03), ha="right", va="bottom", fontsize=9, color="#6a665f")
    for title, field, colour, marker in (
        ("colour comes up", "colour", "#0f6b7a", "o"),
        ("new number finds its colour", "kind", "#5b3f8c", "D"),
        ("number comes back", "itself", "#6a665f", "^"),
        ("taken for its colour or another of it", "confused", "#b3261e", "X"),
    ):
        third.plot(
            [p.overlap for p in prices], [getattr(p, field) for p in prices], color=colour, marker=marker, label=title
        )
    third.set(xlabel="overlap of a number with its colour", title="synaesthesia and its price")
    for axes in (first, third):
        axes.set_ylim(-0.03, 1.04)
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    picture.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(picture, dpi=100)
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def measure(quick: bool) -> list[Figure]:
    """Measure everything and draw the picture."""
    draws, overlaps = (1, (0.0, 0.8, 0.95)) if quick else (5, OVERLAPS)
    figures = basic(draws)
    by_load, least = thresholds(LOADS[:2] if quick else LOADS, 1 if quick else 2, GRID[1:5:2] if quick else GRID)
    by_shape, curves = limits(1 if quick else 2, overlaps)
    prices = [synaesthesia(c) for c in overlaps]
    figures += [*by_load, *hub(1 if quick else 3), *by_shape]
    for p in prices:
        note = (
            f"number back from a quarter {p.itself:.2f}, taken for kin {p.confused:.2f}, new one finds it {p.kind:.2f}"
        )
        figures.append(Figure(f"synaesthesia, {p.overlap:g}: colour comes up", p.colour, "", note))
    draw(curves, least, prices, OUT / "assemblies.png" if quick else PICTURE)
    figures += people(quick)
    try:
        return figures + digits(quick)
    except Skipped as reason:
        return [*figures, Figure("MNIST", float("nan"), "", str(reason))]


if __name__ == "__main__":
    main(measure, __doc__)

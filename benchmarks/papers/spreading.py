"""Spreading activation on a semantic graph: mass, rest, fan, priming, affect, no sampler, the published rule, time.

Random graphs of 100 nodes and 300 links with weights drawn from .1 to 1.1, unless said. F1: a dense direct solve, and
networkx's PageRank. F2: one hop. F3: 200 graphs. Alone: 400 nodes and 1200 links; a prime, beside a neutral one (all
nodes alike). Beside a cue: the cue two or more hops from the target, and the prime with as much weight as it. Related:
each neighbour of the target (that is not the cue's); unrelated: 20 of those not linked with it. Rank sd is that of the
ranks of all nodes. Alone, against a neutral prime, was added after a first look at five graphs, where the other way
gave .31; over all 200 it gives .07. F4: moods of valence 1; congruent nodes have a valence above .25; 50 graphs;
control: valences shuffled, judged by the real ones. F5: everything that denoises, samples or draws random numbers is
counted, also while a diffusion memory recalls, which shows that the counters count. F7: numbers that the R package
spreadr printed for its own toy networks (below), and a loop over dense matrices. Time: links ten times the nodes, given
without direction; fifteen products by scipy beside.
"""

import io
import math
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from statistics import mean, stdev
from types import FrameType
from typing import Any

import networkx as nx
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.figures import OUT, REPOSITORY, Figure, cpu_seconds, main
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.retrieval.associating import Cue, activation, associate
from mnemotrace.retrieval.diffusion import recall_by_diffusion
from mnemotrace.retrieval.spreading import prime_of, spread, spread_and_decay, transition_matrix, transitions
from mnemotrace.view import plausible_graph
from mnemotrace.view.charts import Line, lines
from mnemotrace.view.figure import CONTROL, SECOND, SERIES, TRACE, save
from mnemotrace.view.figure import Figure as Drawing

# Printed by spreadr (Siew 2019; version 0.3 in R): after 3 steps on five nodes with dead ends, from 20 on node 1 with
# retention 0 (its test of terminal nodes); and on a ring of eight, 100 on node 1 at times 0, 2, 4 and 6, retention .05,
# at times 8 and 16 (its snapshot test).
DEAD_ENDS = [(0, 1), (0, 4), (1, 3), (1, 4), (3, 0), (3, 1), (3, 2)]
DEAD_ENDS_AFTER = [[0, 10, 0, 0, 10], [0, 0, 0, 5, 15], [5 / 3, 5 / 3, 5 / 3, 0, 15]]
RING_AFTER = {
    8: [66.592670, 9.547679, 91.612250, 17.363344, 84.540658, 23.755075, 78.654832, 27.933492],
    16: [51.684539, 33.285650, 70.134930, 36.793695, 66.944129, 39.533482, 63.495298, 38.128277],
}
PICTURE = REPOSITORY / "docs/images/plausible_graph.png"
KAPPAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
FELT = 0.25
SAMPLERS = ("retrieval.sampling", "retrieval.diffusion", "retrieval.dynamics", "memories.denoiser",
            "memories.diffusion", "formation.replay", "formation.night", "formation.score")  # fmt: skip
RANDOM = ("rand", "normal", "uniform", "bernoulli", "multinomial", "exponential")


def drawn(seed: int, n: int = 100, m: int = 300, *, directed: bool = False) -> SemanticGraph:
    """Draw a graph: different pairs, weights from .1 to 1.1, valences from -1 to 1."""
    source = torch.Generator().manual_seed(seed)
    pairs = {tuple(sorted(p)) for p in torch.randint(n, (2 * m, 2), generator=source).tolist() if p[0] != p[1]}
    ends = torch.tensor(sorted(pairs))
    ends = ends[torch.randperm(len(ends), generator=source)[:m]]
    weight = torch.rand(len(ends), generator=source) + 0.1
    graph = SemanticGraph.of([f"n{i}" for i in range(n)], ends[:, 0], ends[:, 1], weight, directed=directed)
    for name, valence in zip(graph.nodes, (2 * torch.rand(n, generator=source) - 1).tolist(), strict=True):
        graph.add(name, valence=valence)
    return graph


def fixed_point(graphs: int) -> list[Figure]:
    """F1: mass, direct solve, and PageRank."""
    mass, solved, ranks = 0.0, 0.0, 0.0
    for seed in range(graphs):
        graph = drawn(seed, directed=seed % 2 == 1)
        start = prime_of(graph, {"n0": 2.0, "n1": 1.0})
        matrix = transition_matrix(*transitions(graph), len(graph)).to_dense()
        matrix[:, matrix.sum(0) == 0] = start[:, None]
        direct = torch.linalg.solve(torch.eye(len(graph)).double() - 0.85 * matrix, 0.15 * start)
        rest = spread(graph, start, tolerance=1e-10)
        solved = max(solved, float((rest - direct).abs().max()))
        mass = max([mass, *(abs(float(spread(graph, start, steps=s).sum()) - 1) for s in (1, 5, 25))])
        known = {"n0": 2, "n1": 1}
        plain = nx.DiGraph()
        plain.add_nodes_from(graph.nodes)
        links = graph.links
        columns = (links.source.tolist(), links.target.tolist(), links.weight.tolist())
        plain.add_weighted_edges_from((graph.nodes[a], graph.nodes[b], w) for a, b, w in zip(*columns, strict=True))
        other = nx.pagerank(plain, 0.85, personalization=known, dangling=known, tol=1e-13, max_iter=2000)
        ranks = max(ranks, *(abs(float(rest[graph.position(k)]) - v) for k, v in other.items()))
    return [
        Figure("F1 mass, largest departure from 1", mass, "<= 1e-6", f"{graphs} graphs, half of them directed"),
        Figure("F1 at rest, from a direct solve", solved, "<= 1e-6"),
        Figure("F1 at rest, from networkx's PageRank", ranks, "<= 1e-6"),
    ]


def fan(strongest: float, k: int) -> float:
    """Return the activation of one of `k` targets of a cue."""
    graph = SemanticGraph.of([str(i) for i in range(k + 1)], torch.zeros(k).long(), torch.arange(k) + 1, directed=True)
    return float(activation(graph, Cue("0"), strongest=strongest)[1])


def fans() -> list[Figure]:
    """F2: what doubling the fan costs."""
    steps = [fan(8.0, k) - fan(8.0, 2 * k) for k in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    off = max(abs(step - torch.tensor(2.0, dtype=torch.float64).log().item()) for step in steps)
    return [
        Figure("F2 doubled fan, departure from ln 2", off, "<= 1e-6", "fans 1 to 512, S_max 8"),
        Figure("F2 same with S_max 2, at fan 8", fan(2.0, 8) - fan(2.0, 16), "", "the floor: fans above 7 all give 0"),
    ]


def rank(values: Tensor, place: int, without: Sequence[int]) -> float:
    """Return how many nodes are less active than one, ties a half, without those that were primed."""
    keep = torch.ones(len(values), dtype=torch.bool)
    keep[[place, *without]] = False
    return float((values[keep] < values[place]).double().sum() + 0.5 * (values[keep] == values[place]).double().sum())


def priming(graphs: int) -> list[Figure]:
    """F3: change of a target's rank by related and by unrelated primes, alone, and beside a cue."""
    alone = [_alone(drawn(1000 + seed, 400, 1200), seed) for seed in range(graphs)]
    beside = [_beside(drawn(1000 + seed), seed) for seed in range(graphs)]
    found: list[Figure] = []
    for name, changes, n, why in (
        ("alone", alone, 400, ""), ("beside a cue", beside, 100, "; it takes half of the attention that the cue had")
    ):  # fmt: skip
        related = [mean(mine) for mine, _ in changes]
        unrelated, sd = [change for _, others in changes for change in others], (n**2 / 12) ** 0.5
        drift, gate = mean(unrelated), ">= 0.9"
        raised = mean(float(change > 0) for change in related)
        note = f"{graphs} graphs, mean {mean(related):+.1f} ranks"
        found.append(Figure(f"F3 related prime {name} raises the rank", raised, gate, note))
        note = f"mean {drift:+.2f} ranks; over the sd of the changes {abs(drift) / stdev(unrelated):.3f}{why}"
        found.append(Figure(f"F3 unrelated prime {name}, |mean| in rank sd", abs(drift) / sd, "<= 0.1", note))
    return found


def _alone(graph: SemanticGraph, seed: int) -> tuple[list[float], list[float]]:
    """Prime alone, beside a neutral prime, which is all nodes alike."""
    source, near = torch.Generator().manual_seed(seed), _near(graph)
    target = next(i for i in torch.randperm(len(graph), generator=source).tolist() if near[i])
    neutral = spread(graph, torch.full((len(graph),), 1 / len(graph), dtype=torch.float64))

    def change(prime: int) -> float:
        primed = spread(graph, {f"n{prime}": 1.0})
        return rank(primed, target, [prime]) - rank(neutral, target, [prime])

    return _changes(change, near[target], _others(near, target, [target], source))


def _beside(graph: SemanticGraph, seed: int) -> tuple[list[float], list[float]]:
    """Prime beside a cue that is two or more hops from the target."""
    source, near = torch.Generator().manual_seed(seed), _near(graph)
    cue = next(i for i in torch.randperm(len(graph), generator=source).tolist() if near[i])
    far = [i for i in range(len(graph)) if i != cue and i not in near[cue] and near[i] - near[cue]]
    target, name = far[int(torch.randint(len(far), (1,), generator=source))], f"n{cue}"
    without = spread(graph, {name: 1.0})

    def change(prime: int) -> float:
        both = spread(graph, {name: 1.0, f"n{prime}": 1.0})
        return rank(both, target, (cue, prime)) - rank(without, target, (cue, prime))

    return _changes(change, near[target] - near[cue], _others(near, target, [cue, target], source))


def _near(graph: SemanticGraph) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in graph.nodes]
    for a, b in zip(graph.links.source.tolist(), graph.links.target.tolist(), strict=True):
        found[a].add(b)
    return found


def _others(near: list[set[int]], target: int, without: Sequence[int], source: torch.Generator) -> list[int]:
    order = torch.randperm(len(near), generator=source).tolist()
    return [i for i in order if i not in without and i not in near[target]][:20]


def _changes(change: Callable[[int], float], related: set[int], others: list[int]) -> tuple[list[float], list[float]]:
    return [change(i) for i in sorted(related)], [change(i) for i in others]


def affect(graphs: int) -> list[Figure]:
    """F4: what moods change, and what they change when kappa is 0."""
    shares, controls, off, rising = [], [], 0.0, []
    for seed in range(graphs):
        graph, other = drawn(2000 + seed), drawn(2000 + seed)
        felt = graph.valence > FELT
        moved = torch.randperm(len(graph), generator=torch.Generator().manual_seed(seed)).tolist()
        other._valence = [graph._valence[i] for i in moved]
        plain = spread(graph, {"n0": 1.0})
        off = max(off, float((spread(graph, {"n0": 1.0}, affect=(1.0, 1.0), kappa=0.0) - plain).abs().max()))
        mine, theirs = (
            [float(spread(g, {"n0": 1.0}, affect=(1.0, 0.0), kappa=k)[felt].sum()) for k in KAPPAS]
            for g in (graph, other)
        )
        shares.append(mine)
        controls.append(theirs)
        rising.append(mine == sorted(mine))
    means, beside = (torch.tensor(x).mean(0).tolist() for x in (shares, controls))
    told = ", ".join(f"{k:g}: {a:.3f} ({b:.3f})" for k, a, b in zip(KAPPAS, means, beside, strict=True))
    steps = [b - a for a, b in zip(means, means[1:], strict=False)]
    return [
        Figure("F4 kappa 0, largest change by affect", off, "<= 0"),
        Figure("F4 congruent share, least rise between kappas", min(steps), ">= 0", f"share (shuffled) {told}"),
        Figure("F4 graphs in which it rises at every step", mean(map(float, rising)), "", f"of {graphs}"),
    ]


class Draws(TorchDispatchMode):
    """Counts operations that draw random numbers."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and run."""
        self.count += any(word in str(func) for word in RANDOM)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(found: dict[str, int]) -> Iterator[None]:
    """Count calls into samplers, denoisers and replay, and random draws."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.removeprefix("mnemotrace.") in SAMPLERS:
            found["calls"] = found.get("calls", 0) + 1

    draws = Draws()
    sys.setprofile(note)
    try:
        with draws:
            yield
    finally:
        sys.setprofile(None)
        found["draws"] = draws.count


def no_sampler() -> list[Figure]:
    """F5: what a recall from the graph calls, beside one that simulates."""
    graph, quiet, loud = drawn(0), dict[str, int](), dict[str, int]()
    with counted(quiet):
        for method in ("spread", "actr"):
            associate(graph, Cue(["n0", "n9"], (0.5, 0.5)), kappa=1.0, method=method, now=3.0)  # type: ignore[arg-type]
    memory = DiffusionMemory(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)))
    with counted(loud):
        recall_by_diffusion(memory, memory.patterns.values[:1], sigma=0.5, sampler="bridge")
    return [
        Figure("F5 calls into denoisers, samplers, replay", quiet.get("calls", 0), "<= 0"),
        Figure("F5 random draws", quiet["draws"], "<= 0"),
        Figure("F5 calls, a diffusion memory recalls", loud.get("calls", 0), "", f"{loud['draws']} random draws"),
    ]


def published() -> list[Figure]:
    """F7: the R package's own numbers, and dense matrices."""
    ends = torch.tensor(DEAD_ENDS)
    five = SemanticGraph.of(list("12345"), ends[:, 0], ends[:, 1], directed=True)
    found = spread_and_decay(five, {"1": 20.0}, retention=0.0, steps=3)
    off = float((found - torch.tensor(DEAD_ENDS_AFTER, dtype=torch.float64)).abs().max())
    places = torch.arange(8)
    ring = SemanticGraph.of([str(i + 1) for i in range(8)], places, (places + 1) % 8, directed=True)
    alone = spread_and_decay(ring, {"1": 100.0}, retention=0.05, steps=16)
    rings = 0.0
    for time, expected in RING_AFTER.items():  # linear: what is added later is the same, later
        total = torch.stack([alone[time - added - 1] for added in (0, 2, 4, 6)]).sum(0)
        rings = max(rings, float((total - torch.tensor(expected, dtype=torch.float64)).abs().max()))
    return [
        Figure("F7 spreadr, five nodes with dead ends", off, "<= 1e-6", "its test, 3 steps"),
        Figure("F7 spreadr, a ring of eight", rings, "<= 1e-6", "printed to 6 decimals by R; times 8 and 16"),
        Figure("F7 dense loop, with decay and suppression", dense(), "<= 1e-6", "20 graphs"),
    ]


def dense() -> float:
    """Return the largest departure from the rule on dense matrices."""
    off = 0.0
    for seed in range(20):
        graph, r, d, s = drawn(seed, directed=seed % 2 == 1), 0.1 * (seed % 10), 0.02 * (seed % 5), 0.01 * (seed % 3)
        matrix = torch.zeros(len(graph), len(graph), dtype=torch.float64)
        matrix[graph.links.source, graph.links.target] = graph.links.weight
        leads, level = matrix.sum(1), torch.zeros(len(graph), dtype=torch.float64)
        level[0] = 20.0
        found = spread_and_decay(graph, {"n0": 20.0}, retention=r, decay=d, suppress=s, steps=10)
        for step in range(10):
            given = torch.where(leads > 0, (1 - r) * level, 0.0)
            level = (level - given + matrix.T @ (given / leads.clamp_min(1e-300))) * (1 - d)
            level[level < s] = 0.0
            off = max(off, float((found[step] - level).abs().max()))
    return off


def timed(sizes: Sequence[int]) -> list[Figure]:
    """Measure CPU seconds against size, and draw them."""
    import scipy.sparse

    curves: dict[str, list[tuple[float, float]]] = {}
    figures: list[Figure] = []
    for n in sizes:
        graph = drawn(0, n, 10 * n)
        joined = cpu_seconds({"join": graph._joined}, 1, warm=False)["join"]
        links, share = transitions(graph)
        columns = (share.numpy(), (links.target.numpy(), links.source.numpy()))
        other, level = scipy.sparse.csr_matrix(columns, shape=(n, n)), prime_of(graph, {"n0": 1.0}).numpy()

        def alone(other: Any = other, level: Any = level) -> None:
            for _ in range(15):
                level = 0.85 * (other @ level)

        runs: dict[str, Callable[[], Any]] = {
            "15 steps": lambda: spread(graph, {"n0": 1.0}, steps=15),  # noqa: B023
            "to rest (1e-6)": lambda: spread(graph, {"n0": 1.0}),  # noqa: B023
            "associate, 12 nodes": lambda: associate(graph, ["n0", "n7"]),  # noqa: B023
            "15 products, scipy": alone,
        }
        spent = {name: 1000 * value for name, value in (cpu_seconds(runs) | {"links joined": joined}).items()}
        for name, value in spent.items():
            curves.setdefault(name, []).append((math.log10(n), value))
        note = "; ".join(f"{name} {value:.1f}" for name, value in spent.items() if name != "15 steps")
        figures.append(Figure(f"ms of 15 steps, {n:,} nodes, {10 * n:,} links", spent["15 steps"], "", f"ms: {note}"))
    OUT.mkdir(parents=True, exist_ok=True)
    draw(curves)
    return figures


def draw(curves: dict[str, list[tuple[float, float]]]) -> None:
    """Save time against size."""
    colours = (TRACE, SECOND, SERIES[2], CONTROL, SERIES[3])
    every = [Line(name, spots, colours[i], "osD^v"[i]) for i, (name, spots) in enumerate(curves.items())]
    rows = tuple((name, *spot) for name, spots in curves.items() for spot in spots)
    columns, title = ("what", "log10 nodes", "ms"), "CPU milliseconds against nodes; ten links a node"

    def paint(width: int) -> Any:
        return lines(width, every, x="nodes, as a power of ten", y="ms", scale="ratios")

    save(Drawing("spreading", title, "time grows with links", columns, rows, paint), OUT / "spreading_time.png")


def picture() -> None:
    """Draw the readings of the example for the documentation."""
    with redirect_stdout(io.StringIO()):
        found = runpy.run_path(str(REPOSITORY / "examples/20_associate.py"))["found"]
    drawing = plausible_graph.figure(found.pack())
    assert drawing is not None
    path, _ = save(drawing, OUT / PICTURE.name)
    Image.open(path).convert("RGB").quantize(256).save(PICTURE, optimize=True)


def measure(quick: bool = False) -> list[Figure]:
    """Measure all; quick takes few graphs."""
    found = [*fixed_point(4 if quick else 40), *fans(), *priming(5 if quick else 200), *affect(3 if quick else 50)]
    sizes = (300, 1000) if quick else (1000, 3000, 10_000, 30_000, 100_000)
    found += [*no_sampler(), *published(), *timed(sizes)]
    if not quick:
        picture()
    return found


if __name__ == "__main__":
    main(measure, __doc__)

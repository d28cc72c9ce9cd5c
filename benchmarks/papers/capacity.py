"""How many random patterns Hopfield networks and dense memories recall, beside what any memory could; their promises.

Cues have each feature flipped with probability 0.1 or erased with probability 0.5; 600 cues of 30 sets of patterns a
count, the same for all memories. A cue is recalled when every feature is right. The ceiling is the nearest stored
pattern.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import REPOSITORY, Figure, main
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.evaluation.capacity import Capacity, Damage, capacity, erase, flip, random_patterns
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.retrieval.dynamics import recall

D = 64
PICTURE = REPOSITORY / "docs/images/capacity.png"
COUNTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
MEMORIES: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "Hebb": (Hopfield, 128),
    "Storkey": (partial(Hopfield, rule="storkey"), 128),
    "pseudo-inverse": (partial(Hopfield, rule="pseudo-inverse"), 32),
    "power 2": (partial(DenseMemory, degree=2), 256),
    "power 3": (partial(DenseMemory, degree=3), 2048),
    "power 4": (partial(DenseMemory, degree=4), 2048),
    "exp": (partial(DenseMemory, separation="exp"), 2048),
    "modern, beta 1": (partial(ModernHopfield, beta=1.0), 8192),
}
PANELS: dict[str, tuple[int, Damage]] = {
    "flipped": (D, partial(flip, rate=0.1)),
    "erased": (D, partial(erase, rate=0.5)),
    "flipped, 16 features": (16, partial(flip, rate=0.1)),
}


# --- promises


def largest_rise(nets: int) -> dict[str, float]:
    """Follow random memories from random states, first feature by feature; returns the largest rise of the energy."""
    generator = torch.Generator().manual_seed(0)

    def net(patterns: Tensor) -> Hopfield:
        d = patterns.shape[1]
        square = torch.randn(d, d, generator=generator, dtype=torch.float64).triu(1)
        return Hopfield(couplings=square + square.T, bias=torch.randn(d, generator=generator, dtype=torch.float64))

    kinds = {name: make for name, (make, _) in MEMORIES.items()} | {"random couplings": net}
    rises = dict.fromkeys(kinds, 0.0)
    for _ in range(nets):
        d = int(torch.randint(6, 33, (), generator=generator))
        patterns = random_patterns(int(torch.randint(1, d // 2, (), generator=generator)), d, generator=generator)
        start = random_patterns(8, d, generator=generator).double()
        start = erase(start, rate=0.2, generator=generator)
        for name, make in kinds.items():
            memory, x = make(patterns.double()), start
            energy = memory.energy(x)
            for known in (*~torch.eye(d, dtype=torch.bool), None, None):
                x = memory.sweep(x, known=known, generator=generator)
                rises[name] = max(rises[name], float((memory.energy(x) - energy).max()))
                energy = memory.energy(x)
    return rises


def synchronous(nets: int) -> tuple[float, float, float]:
    """Update all at once: share of networks that warn, of states in a cycle of two, and of those without an end."""
    generator = torch.Generator().manual_seed(0)
    warned, cycling, endless = 0, 0, 0
    for _ in range(nets):
        patterns = random_patterns(6, D, generator=generator)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            memory = Hopfield(patterns, order="synchronous")
        warned += any(issubclass(warning.category, NumericalWarning) for warning in caught)
        found = recall(memory, random_patterns(100, D, generator=generator), sweeps=500)
        cycling += int((found.cycle == 2).sum())
        endless += int((~found.converged & (found.cycle != 2)).sum())
    return warned / nets, cycling / nets / 100, endless / nets / 100


def removal() -> dict[str, float]:
    """Store, store more, remove that; returns the largest difference of energies and recalled states."""
    found: dict[str, float] = {}
    for name, (make, _) in MEMORIES.items():
        generator = torch.Generator().manual_seed(0)
        patterns = random_patterns(24, D, generator=generator).double()
        cue = flip(patterns[:12], generator=generator)
        memory, never = make(patterns), make(patterns[:12])
        memory.patterns.remove(list(range(12, 24)))
        one, other = recall(memory, cue), recall(never, cue)
        found[name] = max(float((one.state - other.state).abs().max()), float((one.energy - other.energy).abs().max()))
    return found


# --- curves


def curves(counts: tuple[int, ...], draws: int) -> dict[tuple[str, str], Capacity]:
    """Measure every memory on all cues, as far as it is interesting or affordable, and means something."""
    return {
        (kind, name): capacity(
            make,
            d=d,
            counts=[count for count in counts if count <= last and (name != "pseudo-inverse" or count < d)],
            cue=cue,
            draws=draws,
            generator=torch.Generator().manual_seed(0),
        )
        for kind, (d, cue) in PANELS.items()
        for name, (make, last) in MEMORIES.items()
    }


def described(measured: dict[tuple[str, str], Capacity]) -> list[Figure]:
    """Lay curves out: the exact share at each count with its interval and the ceiling, and where half is left."""
    figures: list[Figure] = []
    for (kind, name), curve in measured.items():
        for step in curve.steps:
            note = f"interval {step.exact.low:.2f} to {step.exact.high:.2f}, ceiling {step.ceiling.value:.3f}"
            figures.append(Figure(f"{kind}, {name}, N = {step.count}: recalled", step.exact.value, "", note))
        half = curve.count_at()
        if half is not None:
            figures.append(Figure(f"{kind}, {name}: N at which half is left", half))
    return figures


def gates(measured: dict[tuple[str, str], Capacity]) -> list[Figure]:
    """A5, on flipped cues."""
    at = {(name, s.count): s for (kind, name), curve in measured.items() if kind == "flipped" for s in curve.steps}
    modern = at["modern, beta 1", 8192]
    return [
        Figure("A5 Hebb, N = 8", at["Hebb", 8].exact.value, ">= 0.7"),
        Figure("A5 Hebb, N = 8, not more", at["Hebb", 8].exact.value, "<= 0.95"),
        Figure("A5 Hebb, N = 32", at["Hebb", 32].exact.value, "<= 0.02"),
        Figure("A5 power 3, N = 128", at["power 3", 128].exact.value, ">= 0.97"),
        Figure("A5 modern, N = 8192", modern.exact.value, ">= 0.98"),
        Figure("A5 modern below the ceiling by", modern.ceiling.value - modern.exact.value, "<= 0.03"),
    ]


def draw(measured: dict[tuple[str, str], Capacity]) -> None:
    """Exact recall over the number of patterns, with the ceiling."""
    from matplotlib.figure import Figure as Sheet

    looks = {
        "Hebb": ("#857f76", "o"), "Storkey": ("#857f76", "s"), "pseudo-inverse": ("#857f76", "^"),
        "power 2": ("#a85a08", "o"), "power 3": ("#a85a08", "s"), "power 4": ("#a85a08", "^"),
        "exp": ("#6d4fa8", "D"), "modern, beta 1": ("#0f6b7a", "o"),
    }  # fmt: skip
    sheet = Sheet(figsize=(11.5, 3.7), layout="constrained")
    panels = sheet.subplots(1, 3, sharey=True)
    titles = ("64 features, 10 % flipped", "64 features, 50 % erased", "16 features, 10 % flipped")
    for axes, kind, title in zip(panels, PANELS, titles, strict=True):
        widest = max((c for (k, _), c in measured.items() if k == kind), key=lambda c: len(c.steps))
        ceiling = [(step.count, step.ceiling.value) for step in widest.steps]
        axes.plot(*zip(*ceiling, strict=True), color="#b0243d", ls=":", lw=2.2, zorder=5, label="nearest: the ceiling")
        for name, (colour, marker) in looks.items():
            points = [(step.count, step.exact.value) for step in measured[kind, name].steps]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=name, clip_on=False)
        axes.set(xscale="log", ylim=(0, 1.02), xlabel="patterns stored", title=title)
        axes.set_xticks(COUNTS[1::2], [str(count) for count in COUNTS[1::2]])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("cues recalled, every feature right")
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """Measure promises and curves."""
    torch.set_num_threads(1)
    figures = [
        Figure(f"A1 largest rise of the energy, {name}", rise, "<= 1e-10")
        for name, rise in largest_rise(5 if quick else 1000).items()
    ]
    warned, cycling, endless = synchronous(3 if quick else 50)
    figures += [
        Figure("A2 synchronous networks that warn", warned, ">= 1"),
        Figure("A2 states that end in a cycle of two", cycling, "", "found as such; Hebb, 64 features, 6 patterns"),
        Figure("A2 states that end neither so nor at rest", endless, "<= 0"),
    ]
    figures += [
        Figure(f"A6 removed beside never stored, {name}", difference, "<= 1e-6")
        for name, difference in removal().items()
    ]
    measured = curves((8, 32) if quick else COUNTS, 2 if quick else 30)
    if not quick:
        figures += gates(measured)
        draw(measured)
    return figures + described(measured)


if __name__ == "__main__":
    main(run, __doc__)

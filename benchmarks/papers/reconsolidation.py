"""Reconsolidation: G1 to G6, and a predictive-coding store beside a modern Hopfield network on real digits.

G1 to G4 and G6: 200 memories of 16 features, standard deviation 4, `P = R`, float64 (a network float32). G3: twenty
directions of error at each of 45 lengths, in units of `sqrt(S)` a feature. G5: sixteen features, noise of sd 1, which
is the unit; errors are root mean squares over features. Drift is a random walk of .3 sd a step, with `drift` set to its
square; the switch is between two values that stay, 6 sd apart, twenty observations each. First measured was one feature
with a steady drift of .6 sd a step up to the switch, where the gates are missed (`docs/explain/reconsolidation.md`); a
steady drift is still shown. Control: every observation is told to be mildly surprising (1 nat), so that the memory can
only be updated. Digits: 8 x 8, scaled to [-1, 1], of scikit-learn; 100 stored, three draws of them, 256-256 hidden
units. A cue counts as recalled when the stored pattern nearest to the answer is its own; beside it stands the
stored pattern nearest to the cue, over the features that are known.
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.figures import OUT, REPOSITORY, Figure, Skipped, cpu_seconds, main
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.predictive import PCStore
from mnemotrace.modification.predictive_coding import kalman, relax
from mnemotrace.modification.reconsolidation import Reconsolidation

MILD = 1.0
LENGTHS = [*(0.05 * i for i in range(40)), *range(2, 7)]
PICTURE = REPOSITORY / "docs/images/reconsolidation.png"
N, D = 200, 16
Curve = list[tuple[float, float, float]]


def generator(seed: int) -> torch.Generator:
    """Make a generator."""
    return torch.Generator().manual_seed(seed)


def rows(n: int = N, d: int = D, seed: int = 0) -> Tensor:
    """Draw memories."""
    return 4 * torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def half_way() -> list[Figure]:
    """G1: equal trust meets half way, and the variance halves."""
    worst_mean, worst_variance, count = 0.0, 0.0, 0
    for seed in range(N):
        memory = Reconsolidation(DiffusionMemory(rows()), variance=2.0, noise=2.0)
        memory.retrieve(seed, time=0.0)
        seen = rows()[seed] + 2.2 * torch.randn(D, generator=generator(seed), dtype=torch.float64)
        if memory.observe(seen, time=0.0).regime == "updated":
            middle = (rows()[seed] + seen) / 2
            worst_mean = max(worst_mean, float((memory.patterns.values[seed] - middle).abs().max()))
            worst_variance = max(worst_variance, float((memory.variance(seed) - 1).abs().max()))
            count += 1
    note = f"{count} updates"
    return [
        Figure("G1 distance from half way, at most", worst_mean, "<= 1e-9", note),
        Figure("G1 distance from half the variance, at most", worst_variance, "<= 1e-9", note),
    ]


def relaxation(draws: int) -> list[Figure]:
    """G2: predictive coding rests where Kalman's step ends."""
    worst, steps = 0.0, []
    for seed in range(draws):
        source = generator(seed)
        h, y, o = (torch.randn(*s, generator=source, dtype=torch.float64) for s in ((12, D), (D,), (12,)))
        p, r = (torch.rand(k, generator=source, dtype=torch.float64) + 0.05 for k in (D, 12))
        found = relax(y, p, o, r, lambda x, h=h: h @ x)
        worst = max(worst, float((found.state - kalman(y, p, o, r, h)[0]).abs().max()))
        steps.append(found.steps)
    note = f"{draws} linear problems of {D} and 12; {mean(steps):.0f} steps, at most {max(steps)}"
    return [Figure("G2 relaxation to Kalman, at most", worst, "<= 1e-6", note)]


def inverted_u(directions: int, told: float | None = None) -> Curve:
    """Return for lengths of error: root mean squared error a feature, mean change of the memory, new memories."""
    curve: Curve = []
    for length in LENGTHS:
        changes, new = [], 0
        for seed in range(directions):
            way = torch.randn(D, generator=generator(seed), dtype=torch.float64)
            memory = Reconsolidation(Patterns(rows()))
            memory.retrieve(seed, time=0.0)
            seen = rows()[seed] + way * length * math.sqrt(2 * D) / way.norm()
            memory.observe(seen, time=0.0, surprise=told)
            changes.append(float((memory.patterns.values[seed] - rows()[seed]).norm()) / math.sqrt(D))
            new += len(memory.patterns) - N
        curve.append((length, mean(changes), new / directions))
    return curve


def surprises(curve: Curve, control: Curve) -> list[Figure]:
    """G3: change rises with surprise and ends where a new memory begins."""
    bounds = [math.sqrt(b / D) for b in _bounds()]
    peak = max(curve, key=lambda spot: spot[1])
    inside = float(bounds[0] <= peak[0] <= bounds[1])
    note = f"at {peak[0]:.2f} sd a feature, the quantiles are at {bounds[0]:.2f} and {bounds[1]:.2f}"
    last = control[-1][1] / max(change for _, change, _ in control)
    return [
        Figure("G3 the peak of change lies between the quantiles", inside, ">= 1", note),
        Figure("G3 change at 6 sd, share of the peak", curve[-1][1] / peak[1], "<= 0.05", f"only updating: {last:.2f}"),
        Figure("G3 memories that 6 sd adds", curve[-1][2], ">= 1", "exactly 1; only updating: 0"),
        Figure("G3 memories that 6 sd adds, no more", curve[-1][2], "<= 1"),
    ]


def untouched() -> list[Figure]:
    """G4 and G6: the unretrieved are bit-identical, and all is taken back."""
    source, changed, wrong, logged = generator(3), 0, 0, 0
    for make in (_diffusion, _modern, _hopfield):
        memory = make()
        before = {
            name: getattr(memory.patterns, name).clone() for name in ("values", "weights", "handles", "following")
        }
        labile, calls = set[int](), 0
        for time in range(100):
            if time % 3 == 0:
                labile.add(memory.retrieve(int(torch.randint(N, (), generator=source)), time=time))
            else:
                size = float(torch.rand((), generator=source)) * 4
                at = (
                    int(torch.randint(N, (), generator=source))
                    if time % 7 == 0
                    else max(memory.labile(time - 1) or {0})
                )
                at = at if at < N else 0
                noise = size * torch.randn(D, generator=source, dtype=torch.float64)
                memory.observe(before["values"][at].double() + noise, time=time)
            calls += 1
        kept = torch.tensor([i for i in range(N) if i not in labile])
        changed += int((memory.patterns.values[kept] != before["values"][kept]).sum())
        changed += int((memory.patterns.weights[kept] != 1).sum())
        logged += calls - len(memory.log)
        memory.undo(len(memory.log))
        wrong += sum(not torch.equal(getattr(memory.patterns, name), tensor) for name, tensor in before.items())
    note = "100 retrievals and observations each of a diffusion memory, a modern and a classic Hopfield network"
    return [
        Figure("G4 numbers of unretrieved memories that differ", changed, "<= 0", note),
        Figure("G6 calls that the log lacks", logged, "<= 0"),
        Figure("G6 tensors that differ after undoing all", wrong, "<= 0", "values, weights, handles, next handle"),
    ]


def followed(
    seed: int, *, walk: float, steady: float, jump: float, told: float | None = None, **settings: Any
) -> tuple[float, ...]:
    """Follow a value for twenty steps, then one that is `jump` away for twenty more, in sd of an observation.

    Returns:
        The largest error of the first twenty, the distance of the nearest memory from the value before the switch, that
        from the last value, and the number of memories.
    """
    source = generator(seed)

    def drawn() -> Tensor:
        return torch.randn(D, generator=source, dtype=torch.float64)

    def distance(to: Tensor) -> float:
        return float((memory.patterns.values - to).square().mean(1).sqrt().min())

    memory = Reconsolidation(Patterns(drawn()[None]), window=4.0, **settings)
    signs, way, worst, old = drawn().sign(), drawn().sign(), 0.0, 0.0
    truth = torch.zeros(D, dtype=torch.float64)
    for time in range(40):
        if time < 20:  # noqa: PLR2004
            truth = truth + walk * drawn() + steady * signs
        elif time == 20:  # noqa: PLR2004
            old, before, truth = distance(truth), truth, truth + jump * way
        seen = truth + drawn()
        memory.retrieve(seen, time=time)
        handle = memory.observe(seen, time=time, surprise=told).handle
        if time < 20 and handle is not None:  # noqa: PLR2004
            worst = max(worst, float((memory.content(handle) - truth).square().mean().sqrt()))
    return worst, max(old, distance(before)), distance(truth), float(len(memory.patterns))


def tracking(draws: int) -> list[Figure]:
    """G5: a drift is followed by one memory, a switch makes two."""

    def runs(**settings: Any) -> list[list[float]]:
        every = [followed(seed, **settings) for seed in range(draws)]
        return [sorted(column) for column in zip(*every, strict=True)]

    def two(found: list[list[float]]) -> float:
        return mean(float(count == 2) for count in found[3])  # noqa: PLR2004

    middle = draws // 2
    drift = runs(walk=0.3, steady=0.0, jump=6.0, drift=0.09)
    still = runs(walk=0.3, steady=0.0, jump=6.0)
    steady = runs(walk=0.0, steady=0.1, jump=6.0, drift=0.1)
    switch = runs(walk=0.0, steady=0.0, jump=6.0)
    blunt = runs(walk=0.0, steady=0.0, jump=6.0, told=MILD)
    moving = runs(walk=0.0, steady=0.0, jump=6.0, always=True)
    expected = 0.995**40
    return [
        Figure("G5 drift: largest error of 20 steps, median draw, sd", drift[0][middle], "<= 1.5",
               f"worst of {draws} draws {drift[0][-1]:.2f}; no drift in the model {still[0][middle]:.2f}"),
        Figure("G5 drift, then switch: draws with two memories", two(drift), "",
               f"no drift in the model {two(still):.2f}; steady drift of .1 sd a step {two(steady):.2f}"),
        Figure("G5 switch: memories, median draw", switch[3][middle], ">= 2",
               f"two in {two(switch):.2f} of draws, always=True {two(moving):.2f}; by chance {expected:.2f}"),
        Figure("G5 switch: memories, median draw, no more", switch[3][middle], "<= 2",
               f"only updating: {blunt[3][middle]:.0f}"),
        Figure("G5 switch: distance of a memory from the old value, median, sd", switch[1][middle], "<= 0.3",
               f"always=True {moving[1][middle]:.2f}; only updating {blunt[1][middle]:.2f}"),
        Figure("G5 switch: distance of a memory from the new value, median, sd", switch[2][middle], "<= 0.3",
               f"always=True {moving[2][middle]:.2f}, for half of all ordinary observations move nothing; "
               f"only updating {blunt[2][middle]:.2f}"),
    ]  # fmt: skip


def stored_digits(seed: int, count: int) -> Tensor:
    """Choose digits of scikit-learn to store.

    Raises:
        Skipped: it is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise Skipped("scikit-learn, for its digits, is not installed") from error
    images = torch.tensor(load_digits(return_X_y=True)[0]).float() / 8 - 1
    return images[torch.randperm(len(images), generator=generator(seed))[:count]]


def answers(rows: Tensor, store: PCStore, sigma: float, share: float, seed: int) -> dict[str, Tensor]:
    """Give each store's answers to cues with noise, or with a share of features erased."""
    source = generator(seed + 100)
    if sigma:
        cue = rows + sigma * torch.randn(rows.shape, generator=source)
        hopfield, known = ModernHopfield(rows, beta=sigma**-2), None
        distance = torch.cdist(cue, rows)
        predictive = store.recall(cue, sigma=sigma)
    else:
        known = torch.rand(rows.shape, generator=source) > share
        cue = torch.where(known, rows, 0.0)
        hopfield = ModernHopfield(rows, beta=10.0)
        distance = ((cue[:, None] - rows).square() * known[:, None]).sum(2)
        predictive = store.recall(cue, known=known)
    settled = cue
    for _ in range(20):
        settled = hopfield.sweep(settled, known=known)
    return {
        "predictive": predictive,
        "modern Hopfield": settled,
        "nearest pattern": rows[distance.argmin(1)],
        "cue": cue,
    }


def digits(draws: int, count: int, passes: int) -> tuple[list[Figure], dict[str, Any]]:
    """Compare a predictive-coding store with a modern Hopfield network."""
    settings = [(s, 0.0) for s in (0.2, 0.5, 1.0)] + [(0.0, m) for m in (0.25, 0.5, 0.75)]
    found: dict[tuple[float, float], dict[str, list[tuple[float, float]]]] = {s: {} for s in settings}
    unseen: list[float] = []
    for seed in range(draws):
        rows = stored_digits(seed, 2 * count)
        rows, others = rows[:count], rows[count:]
        store = PCStore.learn(rows, passes=passes, generator=generator(seed))
        unseen.append(float(store.energy(others).mean() / store.energy(rows).mean()))
        for setting in settings:
            for name, made in answers(rows, store, *setting, seed).items():
                right = (torch.cdist(made, rows).argmin(1) == torch.arange(count)).float().mean()
                found[setting].setdefault(name, []).append((float(right), float((made - rows).square().mean())))
    figures: list[Figure] = []
    for (sigma, share), by in found.items():
        title = f"digits, noise {sigma:g}" if sigma else f"digits, {share:.0%} erased"
        rates = {name: mean(r for r, _ in values) for name, values in by.items()}
        errors = {name: mean(e for _, e in values) for name, values in by.items()}
        note = "; ".join(f"{name} {rates[name]:.2f}" for name in list(by)[1:])
        spread = stdev(r for r, _ in by["predictive"]) if draws > 1 else 0.0
        figures.append(Figure(f"{title}: recalled, predictive", rates["predictive"], "", f"sd {spread:.2f}; {note}"))
        note = "; ".join(f"{name} {errors[name]:.3f}" for name in list(by)[1:])
        figures.append(Figure(f"{title}: squared error, predictive", errors["predictive"], "", note))
    figures.append(Figure("digits: energy of unseen ones over stored ones", mean(unseen), "", "1: it cannot tell"))
    return figures, {"settings": settings, "found": found}


def _diffusion() -> Reconsolidation:
    return Reconsolidation(DiffusionMemory(rows()))


def _modern() -> Reconsolidation:
    return Reconsolidation(ModernHopfield(rows().float(), beta=1.0))


def _hopfield() -> Reconsolidation:
    return Reconsolidation(Hopfield(torch.where(rows() < 0, -1.0, 1.0)))


def _bounds() -> tuple[float, float]:
    memory = Reconsolidation(Patterns(rows()))
    bounds = memory.observe(rows()[0], time=0.0).bounds
    assert bounds is not None
    return bounds


def draw(curve: Curve, control: Curve, compared: dict[str, Any], picture: Any) -> None:
    """Two panels: change over surprise; and a predictive store beside a Hopfield network."""
    import matplotlib.figure

    sheet = matplotlib.figure.Figure(figsize=(10, 4.0), layout="constrained")
    first, second = sheet.subplots(1, 2)
    for spots, name, colour, style in (
        (curve, "reconsolidation", "#0f6b7a", "-"),
        (control, "only updating", "#6a665f", ":"),
    ):
        first.plot([x for x, _, _ in spots], [y for _, y, _ in spots], color=colour, linestyle=style, label=name)
    first.plot(
        [x for x, _, _ in curve], [y for _, _, y in curve], color="#b3261e", linestyle="--", label="new memories"
    )
    for bound, name in zip(_bounds(), (".50", ".995"), strict=True):
        first.axvline(math.sqrt(bound / D), color="#6a665f", linewidth=0.8)
        first.annotate(name, (math.sqrt(bound / D) + 0.05, 2.85), fontsize=8, color="#6a665f")
    first.set(xlabel="error of prediction a feature, sd", ylabel="change of the memory a feature", ylim=(-0.1, 3.1))
    first.set_title("what surprise does to a memory")
    names = ["predictive", "modern Hopfield", "nearest pattern"]
    labels = [f"noise\n{s:g}" if s else f"erased\n{m:.0%}" for s, m in compared["settings"]]
    for k, (name, colour) in enumerate(zip(names, ("#0f6b7a", "#a85a08", "#bbb7ae"), strict=True)):
        rates = [mean(r for r, _ in compared["found"][s][name]) for s in compared["settings"]]
        second.bar([i + 0.27 * (k - 1) for i in range(len(rates))], rates, 0.25, color=colour, label=name)
    second.set_xticks(range(len(labels)), labels, fontsize=8)
    second.set(ylabel="digits recalled", ylim=(0, 1.04))
    second.set_title("100 real digits in two stores")
    for axes in (first, second):
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    picture.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(picture, dpi=100)
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def speed(sizes: Sequence[int]) -> list[Figure]:
    """Time a retrieval with an observation beside storing a row, which copies the rows too."""
    figures: list[Figure] = []
    for count in sizes:
        values = torch.randn(count, 64, generator=generator(0))
        memory, store = Reconsolidation(Patterns(values)), Patterns(values)

        def change(memory: Reconsolidation = memory, values: Tensor = values) -> None:
            memory.retrieve(values[1], time=0.0)
            memory.observe(values[1] + 1.3, time=0.0)
            memory.undo(2)

        def add(store: Patterns = store, values: Tensor = values) -> None:
            store.add(values[0])
            store.remove(int(store.handles[-1]))

        variants: dict[str, Callable[[], Any]] = {"change": change, "add": add}
        spent = cpu_seconds(variants, 5)
        note = f"{spent['add'] * 1e3:.2f} ms to store a row and remove it"
        figures.append(Figure(f"{count} memories of 64: retrieve, observe, undo, ms", spent["change"] * 1e3, "", note))
    return figures


def measure(quick: bool) -> list[Figure]:
    """Measure everything and draw the picture."""
    draws, directions = (1, 1) if quick else (21, 20)
    curve, control = inverted_u(directions), inverted_u(directions, MILD)
    figures = [*half_way(), *relaxation(2 if quick else 20), *surprises(curve, control), *untouched(), *tracking(draws)]
    figures += speed((100,) if quick else (1_000, 10_000, 100_000))
    try:
        compared, found = digits(1, 20, 3) if quick else digits(3, 100, 200)
    except Skipped as reason:
        return [*figures, Figure("digits", float("nan"), "", str(reason))]
    draw(curve, control, found, OUT / "reconsolidation.png" if quick else PICTURE)
    return figures + compared


if __name__ == "__main__":
    main(measure, __doc__)

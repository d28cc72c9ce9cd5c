"""Beliefs that revise memories: the study of sixty runs (E3, E4, E6), the best question, and things that fall.

Four binary variables, 0 -> 1 -> 2 and 0 -> 3 <- 2: 1 copies 0 and 2 copies 1 eight times in ten; 3 is 1 with .1, .5 or
.9 for none, one or both of its causes. A run is 80 observations, then 240 rows in which one variable is set: each of
the eight settings in three batches of ten, in random order; 32 updates of ten rows. The study fixes graph and rows, the
chances are ours: with copies right nine times in ten, tried first, 0 and 2 are so alike that one run of sixty ended
below .5 (the truth at .48; median .990).

Questions: after 80 observations, each is four rows with one variable set; asked until the truth has more than .95.
Things that fall (`organisms.falling`): 20 drops in air, 80 without, 80 with a parachute, beside 160 more in air. With
40 in place of 80, which was tried first, the wrong cause was given up in three worlds of four.
"""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks.figures import OUT, REPOSITORY, Figure, main
from benchmarks.papers.denouement_picture import draw, tell
from mnemotrace.core.intervals import wilson
from mnemotrace.modification.beliefs.state import Beliefs
from mnemotrace.organisms import falling

PICTURE = REPOSITORY / "docs/images/denouement.png"
VARIABLES = dict.fromkeys("abcd", ("no", "yes"))
TRUTH = [(0, 1), (1, 2), (0, 3), (2, 3)]
SETTINGS = [(i, state) for i in range(4) for state in range(2)]
RUNS, OBSERVED, BATCH, ASKED, MOST = 60, 80, 10, 4, 60
Batch = tuple[Tensor, tuple[str, ...]]


def rows(n: int, generator: torch.Generator, do: tuple[int, int] | None = None) -> Tensor:
    """Draw rows of the true network, with one variable set."""
    u = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    x = torch.zeros(n, 4, dtype=torch.long)
    for i, chance in (
        (0, lambda: torch.full((n,), 0.5)),
        (1, lambda: 0.2 + 0.6 * x[:, 0]),
        (2, lambda: 0.2 + 0.6 * x[:, 1]),
        (3, lambda: 0.1 + 0.4 * (x[:, 0] + x[:, 2])),
    ):
        x[:, i] = do[1] if do is not None and do[0] == i else (u[:, i] < chance()).long()
    return x


def batches(seed: int) -> list[Batch]:
    """Give the evidence of a run."""
    g = torch.Generator().manual_seed(seed)
    watched: list[Batch] = [(rows(BATCH, g), ()) for _ in range(OBSERVED // BATCH)]
    order = torch.randperm(24, generator=g).tolist()
    return watched + [(rows(BATCH, g, SETTINGS[k % 8]), ("abcd"[k % 8 // 2],)) for k in order]


def lived(seed: int, kappa: float, patience: int) -> tuple[Beliefs, list[float], list[bool]]:
    """Live a run: beliefs, probability of the truth after each update, and whether it is laid aside."""
    beliefs = Beliefs(VARIABLES, kappa=kappa, patience=patience)
    truth, path, aside = beliefs.graphs.index(TRUTH), [], []
    beliefs.remember({"b": "yes", "c": "yes"}, explains={"c": "b"})
    beliefs.remember({"a": "no", "b": "no"}, explains={"a": "b"})
    for values, do in batches(seed):
        beliefs.observe(values, do=do)
        path.append(float(beliefs.posterior[truth]))
        aside.append(bool(beliefs.tombstones.dead[truth]))
    return beliefs, path, aside


def study(runs: int) -> list[Figure]:
    """E3, E4: sixty runs, with three rules of elimination on the same evidence."""
    never = [lived(s, float("inf"), 1) for s in range(runs)]
    careful = [lived(s, 6.0, 2) for s in range(runs)]
    hasty = [lived(s, 3.0, 1) for s in range(runs)]
    truth = never[0][0].graphs.index(TRUTH)
    right = sum(int(b.posterior.argmax()) == truth and p[-1] > 0.5 for b, p, _ in careful)
    final = [p[-1] for _, p, _ in careful]
    figures = [
        Figure("E3 truth is the best graph, p > .5, share of runs", right / runs, ">= 1", f"{runs} runs"),
        Figure("E3 median p(truth)", median(final), ">= 0.98", f"least {min(final):.3f}"),
    ]
    for bound in (1e-2, 1e-3, 1e-4, 1e-6):
        low = sum(min(p) < bound for _, p, _ in never)
        figures.append(Figure(f"p(truth) falls below {bound:g} on the way, share", low / runs, "", told(low, runs)))
    lost = sum(any(a) for _, _, a in careful)
    figures.append(Figure("E4 truth laid aside, kappa 6, two updates", lost, "<= 0", f"of {runs} runs"))
    lost, back = sum(any(a) for _, _, a in hasty), sum(any(a) and not a[-1] for _, _, a in hasty)
    note = f"of {runs} runs; in {back} it came back by itself; deleted, it would have been gone for good"
    figures.append(Figure("E4 truth laid aside, kappa 3, one update", lost, ">= 1", note))
    worst = 0.0
    for (kept, _, _), (pruned, _, _) in zip(never, hasty, strict=True):
        pruned.audit(float("inf"))
        worst = max(worst, float((kept.posterior - pruned.posterior).abs().max()))
    figures.append(Figure("E4 posterior after re-admission, beside never pruning", worst, "<= 1e-12", "all runs"))
    return figures + lived_again([b for b, _, _ in hasty])


def told(count: int, runs: int) -> str:
    """Write a share with its interval."""
    low, high = wilson(torch.tensor(count), runs)
    return f"{count} of {runs}, interval {float(low):.2f} to {float(high):.2f}"


def lived_again(every: list[Beliefs]) -> list[Figure]:
    """E6: live the logs again, and take an act back."""
    same = undone = 0
    for beliefs in every:
        again = Beliefs.replay(beliefs.settings, beliefs.log)
        same += torch.equal(again.posterior, beliefs.posterior) and again.memories == beliefs.memories
        again.restore(1)
        again.undo()
        undone += torch.equal(again.posterior, beliefs.posterior) and again.memories == beliefs.memories
    told_anew = sum(b.memory(1).status == "revised" for b in every)
    note = f"posterior and memories; the wrong memory is told anew in {told_anew}"
    return [
        Figure("E6 log lived again is the same bits, share of runs", same / len(every), ">= 1", note),
        Figure("E6 an act taken back leaves the same bits, share", undone / len(every), ">= 1"),
    ]


def watched(quick: bool) -> list[Figure]:
    """E3: what watching alone leaves."""
    total, kept, shares, seeds = 240 if quick else 1480, 0, [], 1 if quick else 10
    for seed in range(seeds):
        beliefs, g = Beliefs(VARIABLES), torch.Generator().manual_seed(1000 + seed)
        for _ in range(total // 40):
            beliefs.observe(rows(40, g))
        classes = beliefs.graphs.classes()
        members = classes == classes[beliefs.graphs.index(TRUTH)]
        kept += not bool(beliefs.tombstones.dead[members].any())
        shares.append(float(beliefs.posterior[beliefs.graphs.index(TRUTH)]))
    note = f"{total} observations, {seeds} runs; median p(truth) {median(shares):.3f}, at most {max(shares):.3f}"
    return [Figure("E3 watching keeps all three graphs of the class, share", kept / seeds, ">= 1", note)]


def questions_needed(seed: int, choose: Callable[[Beliefs, torch.Generator], tuple[int, int] | None]) -> int:
    """Count questions until the truth has more than .95."""
    g, chance = torch.Generator().manual_seed(2000 + seed), torch.Generator().manual_seed(seed)
    beliefs = Beliefs(VARIABLES)
    beliefs.observe(rows(OBSERVED, g))
    truth = beliefs.graphs.index(TRUTH)
    for asked in range(MOST):
        if float(beliefs.posterior[truth]) > 0.95:
            return asked
        do = choose(beliefs, chance)
        beliefs.observe(rows(ASKED, g, do), do=() if do is None else "abcd"[do[0]])
    return MOST


def best(beliefs: Beliefs, _: torch.Generator) -> tuple[int, int] | None:
    """Ask what is expected to tell most."""
    question = beliefs.next_question()
    if question.variable is None or question.state is None:
        return None
    return beliefs.variables.setting(question.variable, question.state)


def questions(runs: int) -> list[Figure]:
    """Count questions, best, random, and looking only."""
    ways: dict[str, Callable[[Beliefs, torch.Generator], tuple[int, int] | None]] = {
        "best": best,
        "random setting": lambda _, g: SETTINGS[int(torch.randint(8, (1,), generator=g))],
        "looking only": lambda *_: None,
    }
    found = {way: [questions_needed(s, choose) for s in range(runs)] for way, choose in ways.items()}
    figures = []
    for way, counts in found.items():
        low, high = interval([float(c) for c in counts])
        note = f"median {median(counts):g}; mean's interval {low:.1f} to {high:.1f}; {counts.count(MOST)} never"
        figures.append(Figure(f"questions until p(truth) > .95, {way}", sum(counts) / runs, "", note))
    fewer = [float(r - b) for b, r in zip(found["best"], found["random setting"], strict=True)]
    low, high = interval(fewer)
    note = f"paired, interval {low:.1f} to {high:.1f}; {runs} runs, at most {MOST} questions of {ASKED} rows"
    return [*figures, Figure("questions saved, best beside random", sum(fewer) / runs, "", note)]


def interval(values: list[float]) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of a mean."""
    x, g = torch.tensor(values), torch.Generator().manual_seed(0)
    means = x[torch.randint(len(x), (2000, len(x)), generator=g)].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975])).tolist()
    return low, high


def physics(runs: int) -> list[Figure]:
    """Let things fall: who still thinks that mass decides, and what becomes of two memories."""
    figures, final = [], []
    for title, phases in {
        "20 drops in air": [],
        "and 160 more in air": [({}, 160)],
        "and 80 without air": [(falling.NO_AIR, 80)],
        "and 80 without, 80 with a parachute": [(falling.NO_AIR, 80), (falling.PARACHUTE, 80)],
    }.items():
        final = [tell(seed, [({}, 20), *phases], 2 * BATCH)[0] for seed in range(runs)]
        edge = [b.edge("mass", "time") for b in final]
        low = sum(e < 0.05 for e in edge)
        revised = [sum(b.memory(i).status == "revised" for b in final) for i in range(2)]
        note = f"p < .05 in {told(low, runs)}; told anew: the one citing mass {revised[0]}, citing drag {revised[1]}"
        figures.append(Figure(f"median p(mass -> time), {title}", median(edge), "", note))
    right = sum(set(b.best()) == set(falling.TRUTH) for b in final)
    return [*figures, Figure("truth is the best graph at the end, share", right / runs, "", told(right, runs))]


def measure(quick: bool) -> list[Figure]:
    """Run all parts, and draw the picture."""
    runs = 2 if quick else RUNS
    figures = study(runs) + watched(quick) + questions(1 if quick else 30) + physics(runs)
    OUT.mkdir(exist_ok=True)
    draw(OUT / "denouement.png" if quick else PICTURE)
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

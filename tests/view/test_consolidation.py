"""A night of replay on the page: episodes in effect, which were replayed, their traces, and the loss."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.formation.replay import Consolidation
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.patterns import Patterns
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections


def night(counts: list[int], effective: list[float], weights: list[float] | None = None) -> Artifact:
    n = len(counts)
    store = Patterns(torch.arange(3.0 * n).reshape(n, 3), weights=None if weights is None else torch.tensor(weights))
    cortex = TrainedDenoiser(3, widths=(4,), spread=1.5, generator=torch.Generator().manual_seed(0))
    steps = [10.0 * i for i in range(len(effective))]
    history = {"steps": steps, "entropy": steps, "effective": effective, "losses": [1.0, 0.5, 0.25, 0.125]}
    chances = torch.tensor(counts) / max(1, sum(counts))
    return Consolidation(
        cortex, store, torch.tensor(counts), chances, history, {"steps": 40, "priority": "count"}
    ).pack()


EVEN = night([10, 10, 9, 11], [4.0, 4.0, 3.9])
COLLAPSED = night([1, 997, 1, 1, 1], [5.0, 2.0, 1.1], [1.0, 0.25, 1.0, 1.0, 1.0])


def test_the_figures_hold_the_history() -> None:
    effective, replays, loss = figures_of(COLLAPSED)
    assert effective.rows == ((0.0, 5.0), (10.0, 2.0), (20.0, 1.1))
    assert "collapse is below" in effective.svg()
    assert loss.rows == ((10.0, 1.0), (20.0, 0.5), (30.0, 0.25), (40.0, 0.125))  # each at the end of its stretch
    assert loss.label == "The loss falls from 1 to 0.125 in 40 steps."
    assert replays.rows[0][:2] == (1, 997)
    assert [row[3] for row in replays.rows] == [0.25, 1.0, 1.0, 1.0, 1.0]
    assert "left of its trace" in replays.svg()


def test_what_is_the_same_for_all_has_no_bars() -> None:
    replays = figures_of(EVEN)[1]
    assert [row[0] for row in replays.rows] == [3, 0, 1, 2]
    assert "left of its trace" not in replays.svg()


def test_a_collapse_is_warned_of_and_an_even_night_is_not() -> None:
    (section,) = sections([COLLAPSED])
    assert section.title == "Consolidate"
    assert section.remarks == [
        "Collapse: in the end replay is about 1.1 of 5 episodes in effect; the others are forgotten. Lower gamma, to "
        "at most 1 for count, or raise floor.",
        "An episode was replayed 1 to 997 times.",
        "What is left of a trace is between 0.25 and 1.",
    ]
    (even,) = sections([EVEN])
    assert even.remarks == ["An episode was replayed 9 to 11 times."]
    assert (dict(summary(COLLAPSED))["collapsed"], dict(summary(EVEN))["collapsed"]) == ("yes", "no")


def test_the_summary_and_the_table_count() -> None:
    told = dict(summary(EVEN))
    assert (told["episodes"], told["replays"], told["loss"]) == ("4", "40", "1 → 0.125")
    assert table(EVEN)[1][0] == ("3", "11", "0.275", "1")


def test_one_episode_no_history_and_no_tensors_are_drawn_too() -> None:
    single = night([7], [1.0])
    assert [figure.name for figure in figures_of(single)] == ["effective", "replays", "loss"]
    bare = Artifact("consolidation", {})
    assert figures_of(bare) == []
    broken = Artifact("consolidation", {"history": {"steps": [0], "effective": [float("nan")], "losses": [None]}})
    assert figures_of(broken) == []
    render([single, bare, broken, Artifact("consolidation", {}, {"counts": torch.zeros(0).long()})])

"""A recall on the page: who came to rest, the way there, and how sure the answers are."""

import pytest
import torch
from torch import Tensor

import mnemotrace as mt
from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import Recall
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections

SHARES = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625], [0.0, 1.0, 0.0, 0.0, 0.0]])


def recalled(
    b: int = 2, posterior: Tensor | None = SHARES, trajectory: Tensor | None = None, **more: Tensor
) -> Artifact:
    rest = torch.ones(b).bool()
    given = {"converged": rest, "cycle": torch.zeros(b).long(), "energy": torch.arange(b) * 0.5} | more
    return Recall(torch.zeros(b, 3), steps=torch.arange(b) + 2, posterior=posterior, trajectory=trajectory,
                  evaluations=9, **given).pack()  # fmt: skip


def test_the_way_is_how_far_each_step_is_from_the_end() -> None:
    path = torch.tensor([[[4.0, 0, 0], [0, 2.0, 0]], [[2.0, 0, 0], [0, 0, 0]], [[0.0, 0, 0], [0, 0, 0]]])
    way, _ = figures_of(recalled(trajectory=path))
    root = 3**0.5
    assert [row[:2] for row in way.rows] == [(f"cue {cue}", step) for cue in (0, 1) for step in range(3)]
    assert [row[2] for row in way.rows] == pytest.approx([4 / root, 2 / root, 0, 2 / root, 0, 0])


def test_many_cues_are_told_by_their_middle_and_tenths() -> None:
    path = torch.arange(11.0)[None, :, None] * torch.tensor([1.0, 0.0])[:, None, None] * torch.ones(3)
    (way,) = figures_of(recalled(11, None, path))
    assert {row[0]: row[2] for row in way.rows if row[1] == 0} == pytest.approx(
        {"half of the cues are nearer": 5.0, "a tenth are nearer": 1.0, "nine tenths are nearer": 9.0}
    )


def test_the_posterior_is_a_bar_a_cue_that_sums_to_one() -> None:
    (figure,) = figures_of(recalled())
    assert figure.rows == ((0, 0.5, 0.25, 0.125, 0.125), (1, 1.0, 0.0, 0.0, 0.0))
    assert figure.label == "cue 0: pattern 0, 0.5; cue 1: pattern 1, 1"
    assert "all others" in figure.svg()


def test_the_table_has_only_what_is_known() -> None:
    headings, rows = table(recalled())
    assert headings[-3:] == ("likeliest pattern", "its probability", "patterns in effect")
    assert rows[1] == ("1", "3", "yes", "0", "0.5", "1", "1", "1")
    assert float(rows[0][-1]) == pytest.approx(2 ** (15 / 8), abs=0.01)  # two to the entropy in bits
    headings, rows = table(recalled(posterior=None))
    assert headings == ("cue", "steps", "at rest", "cycle", "energy")
    assert ("steps", "2 to 3") in summary(recalled()) and ("at rest", "2 of 2") in summary(recalled())


def test_what_is_not_at_rest_and_what_was_not_kept_is_said() -> None:
    packed = recalled(converged=torch.tensor([True, False]), cycle=torch.tensor([0, 2]))
    (section,) = sections([packed])
    assert section.title == "Recall"
    assert section.remarks == [
        "1 of 2 cues are not at rest, 1 of them in a cycle.",
        "The likeliest pattern has a probability of at least 0.9 for 1 of 2 cues.",
        "The way to rest was not kept; recall with trajectory=True to see it here.",
    ]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_or_no_patterns_are_drawn_too(n: int) -> None:
    packed = recalled(posterior=torch.ones(2, n) / max(n, 1))
    assert len(figures_of(packed)) == (n > 0)
    assert "nan" not in render([packed])


def test_what_is_not_a_number_is_a_dash_and_not_drawn() -> None:
    nan = torch.full((2, 3), float("nan"))
    packed = recalled(posterior=nan, trajectory=nan.expand(3, 2, 3), energy=nan[:, 0])
    assert figures_of(packed) == []
    assert "nan" not in str(table(packed))


def test_a_real_recall_ends_where_the_library_says() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    memory = mt.ModernHopfield(rows, beta=2.0)
    found = mt.recall(memory, rows[:3] + 0.1, trajectory=True)
    way, _ = figures_of(found.pack())
    assert found.trajectory is not None
    first = (found.trajectory[0] - found.state).square().mean(1).sqrt()
    assert [row[2] for row in way.rows if row[1] == 0] == pytest.approx(first.tolist())


def test_a_bare_file_is_shown() -> None:
    render([Artifact("recall", {}), recalled(1, None)])
    assert table(Artifact("recall", {})) == (("cue",), [])

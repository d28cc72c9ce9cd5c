"""The comparison of methods in words, tables and panels; made from a header alone."""

from typing import Any

import pytest

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import figures_of
from mnemotrace.view.figure import NARROW, WIDE
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections
from mnemotrace.view.tables import summary, table
from tests.view.conftest import manifest


def measured(value: float, n: int = 10) -> dict[str, Any]:
    return {"value": value, "interval": [value - 0.05, value + 0.05], "n": n}


def answer(free: float) -> dict[str, Any]:
    return {"probability": measured(free - 0.1), "forced": measured(free + 0.05), "free": measured(free)}


def criterion(value: float, control: float = 0.01) -> dict[str, Any]:
    return {**measured(value), "control": control, "control_interval": [control, control], "meaning": "m"}


def row(name: str, *, writes: bool, free: float, proven: bool = True) -> dict[str, Any]:
    names = ("efficacy", "paraphrase", "neighbourhood", *(["portability"] if writes else []))
    return {
        "name": name,
        "writes": writes,
        "criteria": {n: criterion(free) for n in ("necessity", "specificity")} if proven else {},
        "measures": {measure: answer(free) for measure in names},
        "perplexity": measured(1.02),
        "edits": 1,
        "nbytes": 0 if name == "untouched" else 7200,
        "norm": 0.0 if name == "untouched" else 1.5,
        "seconds": 3.25 if name == "rome" else None,
        "absent": {} if proven else {"criteria": "nothing was edited"},
    }


ROWS = [
    row("untouched", writes=True, free=0.1, proven=False),
    row("rome", writes=True, free=0.9),
    row("weak", writes=True, free=0.14),
    row("random", writes=True, free=0.12, proven=False),
    row("untouched", writes=False, free=0.1, proven=False),
    row("engram", writes=False, free=0.8),
    row("random", writes=False, free=0.1),
]


@pytest.fixture
def both() -> Artifact:
    return Artifact("comparison", {"rows": ROWS, "facts": 10, "draws": 3, "manifest": manifest("compare")})


@pytest.fixture
def erasing(both: Artifact) -> Artifact:
    return Artifact("comparison", {**both.header, "rows": ROWS[4:]})


def test_methods_that_write_and_that_erase_have_a_figure_each(both: Artifact, erasing: Artifact) -> None:
    assert [figure.name for figure in figures_of(both)] == ["writing", "erasing"]
    assert [figure.name for figure in figures_of(erasing)] == ["erasing"]
    assert figures_of(Artifact("comparison", {"rows": []})) == []


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_figure_names_every_method_and_measure_at_every_width(both: Artifact, width: int) -> None:
    drawn = figures_of(both)[0]
    svg = drawn.svg(width)
    for text in (
        "rome",
        "weak",
        "untouched",
        "random",
        "efficacy",
        "portability",
        "necessity",
        "0.90",
        "random control",
    ):
        assert f">{text}</text>" in svg
    assert "sufficiency" not in svg  # it was measured nowhere
    assert "efficacy highest for rome" in drawn.label


def test_the_numbers_behind_the_panels_have_their_intervals_and_controls(both: Artifact) -> None:
    found = {entry[:2]: entry[2:] for entry in figures_of(both)[0].rows}
    assert found["rome", "efficacy"] == pytest.approx((0.9, 0.85, 0.95, None, 0.95, 0.8))
    assert found["rome", "necessity"] == pytest.approx((0.9, 0.85, 0.95, 0.01, None, None))
    assert ("untouched", "necessity") not in found


def test_values_far_outside_stand_at_the_edge() -> None:
    wild = row("wild", writes=True, free=0.5)
    wild["criteria"]["necessity"] = criterion(40.0, control=-30.0)
    figure = figures_of(Artifact("comparison", {"rows": [wild]}))[0]
    assert figure.svg(NARROW)
    assert (40.0, -30.0) in [(entry[2], entry[5]) for entry in figure.rows]


def test_the_table_has_a_row_a_method_in_three_readings_with_costs(both: Artifact) -> None:
    headings, rows = table(both)
    assert headings[:3] == ("method", "", "efficacy")
    assert [entry[:2] for entry in rows][:2] == [("untouched", "writes"), ("rome", "writes")]
    assert rows[1][2] == "0.8 / 0.95 / 0.9"
    assert rows[1][-3:] == ("7.2 kB", "1.5", "3.25")
    assert rows[0][-3:] == ("–", "–", "–")
    assert rows[5][:2] == ("engram", "erases")
    assert rows[5][5] == "–"


def test_the_section_says_what_it_shows_what_it_does_not_prove_and_which_methods_are_no_better_than_chance(
    both: Artifact,
) -> None:
    (section,) = sections([both])
    assert section.title == "Compare"
    assert section.remarks == [
        "Of the methods that write, rome has the highest efficacy: 0.9 by itself.",
        "Not apart from a random edit of the same size: weak.",
        "Of the methods that erase, engram has the highest efficacy: 0.8 by itself.",
    ]
    criteria = section.numbers[1]
    assert criteria.rows[1][0] == "rome"
    assert criteria.rows[1][-2:] == ("0.9 (0.01)", "")
    assert criteria.rows[0][-1] == "nothing was edited"
    assert "do not" not in section.shows
    assert "one network" in section.caveat


def test_the_page_and_the_summary_tell_the_methods(both: Artifact) -> None:
    text = render([both])
    assert "Methods that write, measure by measure" in text
    assert ("rome", "writes, efficacy 0.9") in summary(both)
    assert ("facts", "10") in summary(both)


def test_a_header_without_its_parts_still_makes_a_page() -> None:
    assert render([Artifact("comparison", {})])
    assert render([Artifact("comparison", {"rows": [{"name": "x", "writes": True}]})])


def test_absent_criteria_are_told_with_their_reason() -> None:
    header = {"criteria": {"necessity": criterion(0.9)}, "absent": {"reactivation": "the edit changes no linear map"}}
    (section,) = sections([Artifact("criteria", header)])
    assert section.remarks[-1] == "No reactivation: the edit changes no linear map."

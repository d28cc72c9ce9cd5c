"""A capacity curve on the page: a line a memory, the ceiling beside, and where half is left."""

import math

import pytest

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation.capacity import Capacity, Rate, Stored
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.figure import NARROW
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections

NAN = float("nan")


def curve(name: str | None = None, shares: tuple[float, ...] = (1.0, 0.8, 0.2), top: float = 1.0) -> Capacity:
    steps = [
        Stored(2 * 4**i, 20, Rate(share, share - 0.05, share + 0.05), Rate(top, top, top), 0.9, 0.8, 1.0)
        for i, share in enumerate(shares)
    ]
    return Capacity(16, tuple(steps), {"cue": "flip"} | ({"memory": name} if name else {}))


def test_the_figure_holds_every_number_with_its_interval() -> None:
    packed = curve().pack()
    (figure,) = figures_of(packed)
    assert figure.rows == tuple(
        ("the memory", step["count"], step["exact"]["value"], step["exact"]["low"], step["exact"]["high"], 1.0)
        for step in packed.header["steps"]
    )
    svg = figure.svg()
    assert "patterns stored" in svg
    assert "nearest stored pattern" in svg


def test_the_table_and_the_summary_say_how_much_fits() -> None:
    headings, rows = table(curve().pack())
    assert dict(zip(headings, rows[1], strict=True)) == {
        "memory": "the memory", "patterns": "8", "a feature": "0.5", "recalled": "0.8", "95 % interval": "0.75 to 0.85",
        "nearest stored": "1", "features right": "0.9", "overlap": "0.8", "at rest": "1", "cues": "20",
    }  # fmt: skip
    assert dict(summary(curve().pack()))["the memory, half is left at"] == "16"  # between 8 and 32


def test_half_is_where_the_library_has_it() -> None:
    uneven = curve(shares=(1.0, 0.9, 0.2))
    told = float(dict(summary(uneven.pack()))["the memory, half is left at"])
    assert math.isclose(told, uneven.count_at(0.5) or 0, abs_tol=0.051)


@pytest.mark.parametrize(
    ("shares", "told"), [((1.0, 0.9), "more than 8"), ((0.4, 0.1), "fewer than 2"), ((1.0,), "more than 2"), ((), "–")]
)
def test_a_half_that_was_not_reached_is_not_made_up(shares: tuple[float, ...], told: str) -> None:
    assert dict(summary(curve(shares=shares).pack()))["the memory, half is left at"] == told


def test_memories_share_a_section_and_have_a_line_each() -> None:
    many = [curve("hopfield").pack(), curve("dense", (1.0, 1.0, 1.0)).pack(), curve("hopfield", (0.0,)).pack()]
    (section,) = sections(many)
    assert section.title == "Capacity"
    assert {row[0] for row in section.figures[0].rows} == {"hopfield", "dense", "hopfield (3)"}
    assert section.remarks[:2] == [
        "Hopfield: half is recalled at 16 patterns; below the nearest stored pattern from 8 on.",
        "Dense: half is recalled at more than 32 patterns; nowhere apart from the nearest stored pattern.",
    ]
    assert ("memory", "hopfield; dense; hopfield") in section.made
    assert ("cue", "flip") in section.made


def test_one_ceiling_is_drawn_once_and_others_by_name() -> None:
    (alike,) = sections([curve("a").pack(), curve("b").pack()])
    assert alike.figures[0].svg().count("nearest stored") == 1
    (other,) = sections([curve("a").pack(), curve("b", top=0.9).pack()])
    assert "nearest stored, b" in other.figures[0].svg()


@pytest.mark.parametrize("shares", [(1.0,), (NAN, 0.5), (NAN,), ()])
def test_degenerate_curves_are_drawn_or_left_out(shares: tuple[float, ...]) -> None:
    packed = curve(shares=shares).pack()
    assert len(figures_of(packed)) == any(map(math.isfinite, shares))
    for figure in figures_of(packed):
        assert "nan" not in figure.svg(NARROW)
    assert "nan" not in str(table(packed)) + str(summary(packed))


def test_parts_may_be_missing() -> None:
    render([Artifact("capacity", {}), Artifact("capacity", {"steps": [{}, None], "d": 0})])

"""A census on the page: shares that sum to one, a bar a memory."""

import re

import pytest

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation.capacity import Rate
from mnemotrace.evaluation.census import Census
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections


def counted(*shares: float, chance: float | None = 0.03, **manifest: object) -> Artifact:
    rates = [Rate(share, share / 2, share) for share in shares]
    return Census(*rates, None if chance is None else Rate(chance, 0.0, 0.1), 200, manifest).pack()


def test_the_bars_sum_to_one() -> None:
    (figure,) = figures_of(counted(0.25, 0.125, 0.625))
    assert figure.rows == (("the memory", 0.25, 0.125, 0.625, 0.03, None),)
    svg = figure.svg()
    bars = [[float(x) for x in pair] for pair in re.findall(r'd="M ([\d.]+) [\d.]+\nL ([\d.]+) [^"]*"', svg)[-3:]]
    begin, end = bars[0][0], bars[-1][1]
    ends = [(x - begin) / (end - begin) for pair in bars for x in pair]
    assert ends == pytest.approx([0, 0.25, 0.25, 0.375, 0.375, 1], abs=1e-3)
    assert {"memorised", "spurious", "generalised"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def test_the_table_has_the_chance_level_and_the_remark_the_index() -> None:
    packed = counted(0.75, 0.125, 0.125, memory="funes", funes_index=31.5)
    assert table(packed)[1] == [
        ("funes", "memorised", "0.75", "0.375 to 0.75", "200"),
        ("funes", "spurious", "0.125", "0.0625 to 0.125", "200"),
        ("funes", "generalised", "0.125", "0.0625 to 0.125", "200"),
        ("funes", "memorised, by chance", "0.03", "0 to 0.1", "–"),
    ]
    (section,) = sections([packed])
    assert section.title == "Census"
    assert section.remarks[0] == (
        "Funes: most of it is memorised, 0.75; fresh patterns pass for memorised with 0.03; Funes index 31.5."
    )
    assert section.remarks[1].startswith("The Funes index is")
    assert ("funes, Funes index", "31.5") in summary(packed)


def test_without_chance_and_index_nothing_is_said_of_them() -> None:
    (section,) = sections([counted(0.0, 0.0, 1.0, chance=None)])
    assert section.remarks == ["The memory: most of it is generalised, 1."]


def test_memories_have_a_bar_each_in_one_section() -> None:
    (section,) = sections([counted(1.0, 0.0, 0.0, memory="few"), counted(0.0, 0.0, 1.0, memory="many")])
    assert [row[0] for row in section.figures[0].rows] == ["few", "many"]


def test_a_share_that_is_not_a_number_is_no_bar() -> None:
    broken = counted(float("nan"), 0.5, 0.5)
    assert figures_of(broken) == []
    assert table(broken)[1][0] == ("the memory", "memorised", "–", "–", "200")
    render([broken, Artifact("census", {}), Artifact("census", {"memorised": None})])

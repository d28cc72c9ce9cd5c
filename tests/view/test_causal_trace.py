"""A causal trace on the page: a cell a token and layer, several facts by group, and what was left out."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import mnemotrace as mt
from mnemotrace.core.artifact import Artifact
from mnemotrace.view import causal_trace as view
from mnemotrace.view.figure import NARROW, WIDE, Figure
from mnemotrace.view.figures import figures_of
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections
from mnemotrace.view.tables import summary, table

TOKENS = ["0 Ada *", "1 Marsh *", "2 lives", "3 in"]


def drawn(artifact: Artifact) -> Figure:
    (figure,) = figures_of(artifact)
    return figure


def texts_of(figure: Figure, width: int = WIDE) -> list[tuple[float, float, str]]:
    """Where texts stand in a drawing, and what they say."""
    place = r'x="([-\d.]+)" y="([-\d.]+)"|translate\(([-\d.]+) ([-\d.]+)\)'
    found = re.findall(rf"<text[^>]*?(?:{place})[^>]*>([^<]*)</text>", figure.svg(width))
    return [(float(a or c), float(b or d), text) for a, b, c, d, text in found]


@pytest.fixture
def several(artifacts) -> Artifact:
    return artifacts["causal_trace"]


@pytest.fixture
def single(several: Artifact, changed) -> Artifact:
    return changed(several, records=several.header["records"][:1])


def test_one_fact_has_a_cell_a_token_and_layer_with_stars_on_its_subject(single: Artifact) -> None:
    figure = drawn(single)
    assert "“Ada Marsh lives in”" in figure.title
    assert [(row[1], row[2]) for row in figure.rows] == [(name, layer) for name in TOKENS for layer in range(3)]
    effects = torch.tensor([row[3] for row in figure.rows])
    assert torch.allclose(effects, torch.arange(12) / 20, atol=1e-6)  # 0.1 under noise, restored from 0.1 on
    told = [text for *_, text in texts_of(figure)]
    assert [text for text in told if text in TOKENS] == TOKENS
    assert len([text for text in told if re.fullmatch(r"-?\d\.\d\d", text)]) == 12
    assert "state, up to 0.55" in told


def test_several_facts_are_drawn_by_group_and_groups_without_tokens_are_left_out(several: Artifact) -> None:
    figure = drawn(several)
    assert "2 facts" in figure.title
    assert list(dict.fromkeys(row[1] for row in figure.rows)) == [
        "first subject token",
        "last subject token",
        "last token",
    ]
    assert ("state", "last token", 2, 0.9) in figure.rows
    assert "the largest is of the state at last token, layer 2: 0.9" in figure.label
    assert "further tokens" not in {text for *_, text in texts_of(figure)}


def test_negative_cells_are_framed_and_not_filled(several: Artifact) -> None:
    svg = drawn(several).svg()
    assert len(re.findall("fill: none; stroke: var", svg)) == 1
    assert len(re.findall("fill-opacity", svg)) == 8


def test_the_table_has_the_largest_effect_of_each_group_beside_another_subjects(several: Artifact) -> None:
    headings, rows = table(several)
    assert headings == view.COLUMNS
    assert rows == [
        ("state", "first subject token", "2", "0", "0.1", "0.08 to 0.12", "0.01"),
        ("state", "last subject token", "2", "0", "0.3", "0.28 to 0.32", "0.01"),
        ("state", "last token", "2", "2", "0.9", "0.88 to 0.92", "0.01"),
    ]


def test_one_fact_has_no_interval_and_no_column_for_it(single: Artifact, changed) -> None:
    average = {**single.header["averages"]["restored"]["state"], "facts": [1, 1, 0, 1]}
    headings, rows = table(changed(single, averages={"restored": {"state": average}}))
    assert headings == ("put back", "tokens", "facts", "layer", "effect")
    assert rows[-1] == ("state", "last token", "1", "2", "0.9")


def test_rounding_is_no_effect(several: Artifact, changed) -> None:
    average = {
        "effect": [[0.5, 0.1], [-6e-9, -7e-9]],
        "low": [[0.4, 0.0], [-4e-8, -4e-8]],
        "high": [[0.6, 0.2], [0, 0]],
    }
    artifact = changed(several, averages={"restored": {"state": average}}, groups=["a", "b"])
    assert table(artifact)[1][1][-2:] == ("0", "0 to 0")
    assert "-7e-9" not in {text for *_, text in texts_of(drawn(artifact))}


def test_the_section_says_where_and_beside_what_and_which_facts_were_left_out(several: Artifact) -> None:
    (section,) = sections([several])
    assert section.title == "Trace"
    assert section.remarks == [
        "Putting back the state does most at the last token, layer 2: 0.9; what another subject gives there does 0.01.",
        "Left out, for the network does not know them: Nora Dunn lives in.",
    ]
    told = dict(summary(several))
    assert (told["facts"], told["left out, not known"], told["put back"]) == ("2", "1", "state")
    assert told["probability of the answer"] == "0.98, corrupted 0.1"


def test_what_a_trace_finds_is_what_is_drawn() -> None:
    organism = mt.funes()
    facts = [mt.Fact(f"{who} lives in", who) for who in organism.world.subjects[:2]]
    found = mt.trace(organism.model, organism.tokenizer, facts, kinds=["state", "state_without_mlp"], draws=2)
    figure = drawn(found.pack())
    average = found.average("state")
    row = next(row for row in figure.rows if row[:3] == ("state", "last token", 4))
    assert row[3] == pytest.approx(float(average.effect[-1, 4]))
    one = drawn(replace(found, records=found.records[:1]).pack())
    assert {row[0] for row in one.rows} == {"state", "state (MLP severed)"}
    effect = found.records[0].effect("state")
    cells = [row[3] for row in one.rows if row[0] == "state"]
    assert cells == pytest.approx(effect.flatten().tolist(), abs=1e-7)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_no_label_runs_into_another_with_a_long_prompt_and_all_kinds(width: int, several: Artifact, changed) -> None:
    kinds, tokens, layers = list(view.KINDS), [f" word{i}" for i in range(30)], 24
    record = {**several.header["records"][0], "tokens": tokens, "subject_range": [3, 6]}
    values = torch.linspace(0.01, 0.9, 30 * layers).reshape(1, 30, layers).log()
    tensors = {"0.corrupted": torch.tensor([0.05]).log()} | {f"0.restored.{kind}": values for kind in kinds}
    artifact = replace(changed(several, records=[record], kinds=kinds), tensors=tensors)
    figure = drawn(artifact)
    assert len(figure.rows) == 5 * 30 * layers
    texts = texts_of(figure, width)
    titles = sorted((y, x, text) for x, y, text in texts if "up to" in text)
    assert len(titles) == 5
    assert all(x >= 0 and x + 5.8 * len(text) <= width for _, x, text in titles)
    assert not any("…" in text for *_, text in titles)
    beside = [(a, b) for a, b in pairwise(titles) if a[0] == b[0]]
    assert all(a[1] + 5.8 * len(a[2]) < b[1] for a, b in beside)
    assert len(beside) == (2 if width == WIDE else 0)
    rows = sorted({y for _, y, text in texts if "word" in text})
    assert min(b - a for a, b in pairwise(rows)) >= 12


@pytest.mark.parametrize(
    ("token", "text"), [(" Ada", "Ada"), ("\n", "'\\n'"), (" ", "' '"), ("a\x00", "'a\\x00'"), (".\n\n", ".")]
)
def test_tokens_that_cannot_be_seen_are_written_as_in_a_program(
    token: str, text: str, single: Artifact, changed
) -> None:
    record = {**single.header["records"][0], "tokens": [token, "b", "c", "d"]}
    figure = drawn(changed(single, records=[record]))
    assert figure.rows[0][1] == f"0 {text} *"
    assert figure.svg()


def test_hostile_text_is_shown_and_not_obeyed(single: Artifact, changed) -> None:
    evil = "<script>alert(1)</script>&$x$"
    record = {**single.header["records"][0], "prompt": evil, "tokens": [evil, "b", "c", "d"]}
    page = render([changed(single, records=[record], manifest={"unknown": [evil]})])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "odd",
    [
        {"records": []},
        {"records": [None, 3]},
        {"records": [{}]},
        {"groups": ["one"]},
        {"averages": {"restored": {"state": {}}}},
        {"averages": {"restored": {"state": {"effect": [[float("nan"), None]] * 4}}}},
        {"averages": {"restored": {"state": {"effect": [[0.5]] * 4}}}},
        {"kinds": None},
        {"manifest": None},
    ],
)
def test_an_odd_header_makes_fewer_rows_and_never_wrong_ones(odd: dict, several: Artifact, changed) -> None:
    artifact = changed(several, **odd)
    assert render([artifact])
    assert summary(artifact)
    headings, rows = table(artifact)
    assert all(len(row) == len(headings) for row in rows)
    if "groups" in odd:
        assert rows == []  # names that do not fit the numbers would be guesses
        assert figures_of(artifact) == []


def test_a_fact_whose_numbers_are_missing_is_not_drawn(single: Artifact) -> None:
    assert figures_of(replace(single, tensors={})) == []
    shorter = {**single.tensors, "0.restored.state": torch.zeros(2, 3, 3)}
    assert figures_of(replace(single, tensors=shorter)) == []

"""A suggestion on the page: the scores by layer with their errors, the chosen layers marked."""

import re
from itertools import pairwise

import pytest

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.figures import figures_of
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections
from mnemotrace.view.tables import summary, table


@pytest.fixture
def found(artifacts) -> Artifact:
    return artifacts["suggestion"]


def test_the_table_has_a_row_a_layer_with_errors_and_what_was_chosen(found: Artifact) -> None:
    headings, rows = table(found)
    assert headings == ("layer", "last token of the subject", "last token of the prompt", "chosen")
    assert rows == [
        ("0", "–", "–", ""),
        ("1", "0.01 ± 0.02", "0.3 ± 0.05", "among several"),
        ("2", "0.02 ± 0.01", "0.5 ± 0.06", "one layer, among several"),
        ("3", "-0.01 ± 0.01", "0.1 ± 0.02", ""),
    ]


def test_the_summary_says_what_to_edit_and_how_many_facts_were_left_out(found: Artifact) -> None:
    told = dict(summary(found))
    assert (told["one layer"], told["several layers"], told["key at the end of"]) == ("2", "1, 2", "the prompt")
    assert (told["facts traced"], told["left out, not known"]) == ("16", "1")


def test_the_figure_has_a_curve_a_token_with_bars_and_marks(found: Artifact) -> None:
    (figure,) = figures_of(found)
    assert figure.rows[2] == (2, 0.02, 0.01, 0.5, 0.06)
    assert "chosen: 1, 2, at the end of the prompt" in figure.label
    svg = figure.svg()
    for text in ("last token of the subject", "last token of the prompt", "chosen layers", "layer"):
        assert f">{text}</text>" in svg
    assert ">steps of relearning<" not in svg


def test_layers_stand_evenly_however_many_there_are(found: Artifact, changed) -> None:
    scores = {"prompt": [None, *[0.1] * 47]}
    (figure,) = figures_of(changed(found, scores=scores, errors={}))
    ticks = re.findall(r'x="([\d.]+)" y="[\d.]+"[^>]*>(\d+)</text>', figure.svg())
    places = [(int(layer), float(x)) for x, layer in ticks]
    assert [layer for layer, _ in places] == list(range(0, 48, 3))
    steps = [second[1] - first[1] for first, second in pairwise(places)]
    assert max(steps) - min(steps) < 0.01


def test_a_choice_that_means_little_is_said_to(found: Artifact, changed) -> None:
    (section,) = sections([found])
    assert section.remarks == [
        "Most still hangs on the MLPs from layer 2 on, at the last token of the prompt: 0.5 ± 0.06 of the answer's "
        "probability."
    ]
    (section,) = sections([changed(found, errors={"prompt": [None, 0.3, 0.3, 0.3]})])
    assert "within two standard errors of nothing" in section.remarks[1]


def test_one_fact_has_scores_without_errors(found: Artifact, changed) -> None:
    single = changed(found, errors={name: [None] * 4 for name in ("subject", "prompt")}, facts=1)
    assert table(single)[1][2][2] == "0.5"
    assert figures_of(single)[0].svg()


@pytest.mark.parametrize("odd", [{"scores": {}}, {"scores": {"prompt": None}}, {"layer": None}, {"layers": [9]}])
def test_an_odd_header_is_still_a_page(odd: dict, found: Artifact, changed) -> None:
    assert render([changed(found, **odd)])

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.edit import Dense, Edit, Sparse
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.view import summary, table
from mnemotrace.view.sections import sections
from mnemotrace.view.values import interval, nbytes, number, size

KINDS = [
    "demo", "engram", "criteria", "calibration", "edit", "depth", "statistics", "causal_trace", "suggestion", "verdict",
    "saliency_map",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_rectangles_of_text(kind: str, artifacts) -> None:
    headings, rows = table(artifacts[kind])
    assert rows
    assert all(heading for heading in headings)
    assert all(len(row) == len(headings) and all(isinstance(cell, str) for cell in row) for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_summary_opens_with_the_kind_and_is_text(kind: str, artifacts) -> None:
    entries = summary(artifacts[kind])
    assert entries[0] == ("kind", kind)
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in entries)


def test_a_summary_says_what_matters(artifacts) -> None:
    assert dict(summary(artifacts["engram"]))["largest at"] == "lm_head, 0.77 of the weight's norm"
    assert dict(summary(artifacts["calibration"]))["chosen"] == "mlp, strength 2, selectivity 0.1"
    assert dict(summary(artifacts["criteria"]))["necessity"] == "0.96 (control 0.04)"
    assert dict(summary(artifacts["demo"]))["the memory"] == "1 → 0"


def test_a_real_edit_is_listed_with_what_it_stores() -> None:
    site = Site("a", "a.weight", 8, 6, bias="a.bias")
    changes = (
        LowRank(site, torch.zeros(8, 3), torch.zeros(3, 7)),
        Sparse("b", (4, 4), torch.arange(5), torch.zeros(5)),
        Dense("c", torch.zeros(2, 3)),
    )
    assert table(Edit(changes).pack())[1] == [
        ("a.weight, a.bias", "low rank", "8 × 6", "3", "45", "180 B"),
        ("b", "sparse", "4 × 4", "–", "10", "60 B"),
        ("c", "dense", "2 × 3", "–", "6", "24 B"),
    ]


def test_a_real_engram_is_listed_with_its_evidence() -> None:
    trace = LowRank(Site("h.0.a", "h.0.a.weight", 8, 6), torch.zeros(8, 3), torch.zeros(3, 6))
    packed = Engram({"h.0.a": trace}, {"h.0.a": {"rank": 3, "relative_norm": 0.5}}).pack()
    (row,) = table(packed)[1]
    assert row == ("h.0.a", "8 × 6", "3", "0.5", "–", "–", "–", "–", "–", "– / –")


def test_the_frontier_table_runs_from_the_least_that_is_left(artifacts) -> None:
    headings, rows = table(artifacts["calibration"])
    assert headings[4:6] == ("neighbours", "fluency")
    assert [row[3] for row in rows] == ["1", "0.01", "0.25", "0.817"]  # not the point off the frontier
    assert [row[-1] for row in rows] == ["untouched", "chosen", "", "published"]


def test_criteria_apart_from_their_control_are_told_from_the_others(artifacts) -> None:
    (section,) = sections([artifacts["criteria"]])
    assert section.remarks == [
        "Apart from the random control: reactivation, sufficiency, necessity.",
        "Not apart from it, the intervals overlap: specificity.",
    ]


def test_hidden_is_told_from_gone(artifacts) -> None:
    (section,) = sections([artifacts["depth"]])
    assert section.remarks[1].startswith("At 4 of 7 sites the probe is nearer to the untouched network")
    assert (
        section.remarks[2]
        == "Back at nine tenths of the old score: 4 steps after the edit, 32 steps from never knowing."
    )


def test_a_memory_that_stays_away_is_said_to(artifacts, changed) -> None:
    curves = {"steps": [0, 1], "before": [1.0, 1.0], "after": [0.0, 0.1], "naive": [0.0, 0.95]}
    (section,) = sections([changed(artifacts["depth"], relearning=curves)])
    assert "not within 1 steps after the edit, 1 step from never knowing" in section.remarks[2]


def test_a_calibration_without_a_choice_says_so(artifacts, changed) -> None:
    (section,) = sections([changed(artifacts["calibration"], chosen=None)])
    assert section.remarks[0] == "None of the 4 edits that were tried met the goal within the budget."


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (52310, "52,310"), (0.98667, "0.987"), (1.0, "1"), (12345.6, "12,346"),
     (1e-5, "1e-05"), (float("nan"), "nan"), ([1, 0.5], "1, 0.5"), ("as it is", "as it is")],
)  # fmt: skip
def test_numbers_are_short(value: object, text: str) -> None:
    assert number(value) == text


def test_intervals_and_sizes_are_short() -> None:
    assert interval([0.91, 1.0]) == "0.91 to 1"
    assert interval(None) == "–"
    assert [size(n) for n in (999, 1000, 48213, 307_200, 13_000_000, 2.5e12)] == [
        "999 B",
        "1.0 kB",
        "48.2 kB",
        "307 kB",
        "13.0 MB",
        "2500 GB",
    ]


def test_a_shared_tensor_is_counted_once() -> None:
    shared = torch.zeros(10)
    assert nbytes(Artifact("x", {}, {"a": shared, "b": shared})) == 40

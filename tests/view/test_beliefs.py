"""What the page says of beliefs."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import beliefs


def packed() -> Artifact:
    """Two updates, the second an experiment, and a memory that it changes."""
    versions = [
        {"explains": {"time": ["mass"]}, "time": 2, "support": 0.5, "reason": "remembered"},
        {"explains": {"time": ["drag"]}, "time": 3, "support": 0.9, "reason": "revised"},
    ]
    memory = {"id": 0, "facts": {"time": "long"}, "note": "the feather", "versions": versions}
    found = [
        {"entropy": e, "gain": 0.5, "edges": [[0, 0, p], [0, 0, 1 - p], [0, 0, 0]], "best": [["drag", "time"]]}
        for e, p in ((2.0, 0.6), (0.5, 0.01))
    ]
    log = [
        {"time": t, "name": name, "given": {"do": do}, "found": f}
        for t, name, do, f in (
            (1, "observe", [], found[0]),
            (2, "remember", [], {}),
            (3, "observe", ["drag"], found[1]),
        )
    ]
    header = {"names": ["mass", "drag", "time"], "log": log, "memories": [memory], "graphs": [25, 4]}
    return Artifact("beliefs", header | {"entropy": 0.5, "approximate": False}, {"values": torch.zeros(30, 3)})


def test_a_summary_says_how_sure_and_what_was_told_anew() -> None:
    said = dict(beliefs.summary(packed()))
    assert said["posterior"] == "exact, of 25 graphs"
    assert said["best graph"] == "drag → time"
    assert said["memories told anew"] == "1 of 1"


def test_the_table_sets_the_first_telling_beside_the_present_one() -> None:
    headings, rows = beliefs.table(packed())
    assert rows == [("the feather", "time long", "time ← mass", "time ← drag", "3", "0.9")]
    assert len(headings) == len(rows[0])
    assert beliefs.remarks(packed()) == [
        "“the feather” was told as time ← mass; by the evidence of act 3 it is told as time ← drag."
    ]


def test_figures_hold_the_numbers_and_can_be_drawn() -> None:
    narrow, plot = beliefs.narrowing(packed()), beliefs.resolved(packed())
    assert narrow is not None
    assert narrow.rows[1] == (3, 0.5, 0.5, "drag")
    assert "<svg" in narrow.svg()
    assert plot is not None
    assert ("mass → time", 3, 0.01) in plot.rows
    assert "<svg" in plot.svg()
    assert "<svg" in plot.svg(328)


def test_a_file_without_evidence_has_no_figure() -> None:
    bare = Artifact("beliefs", {**packed().header, "log": [], "memories": []}, packed().tensors)
    assert beliefs.resolved(bare) is None
    assert beliefs.narrowing(bare) is None
    assert dict(beliefs.summary(bare))["best graph"] == "no edge"


def test_a_file_that_lacks_everything_is_told_of_too() -> None:
    bare = Artifact("beliefs", {}, {})
    assert dict(beliefs.summary(bare))["rows of evidence"] == "–"
    assert beliefs.table(bare)[1] == beliefs.remarks(bare) == []
    assert beliefs.resolved(bare) is beliefs.narrowing(bare) is None

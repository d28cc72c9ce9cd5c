"""What the page says of retrieved memories."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.memories.patterns import Patterns
from mnemotrace.modification.reconsolidation import Reconsolidation
from mnemotrace.view import reconsolidation


def packed() -> Artifact:
    """One observation of each kind."""
    memory = Reconsolidation(Patterns(torch.zeros(1, 4)))
    memory.observe(torch.ones(4), time=0.0)
    memory.retrieve(0, time=1.0)
    for time, size in enumerate((0.1, 2.0, 20.0), 2):
        memory.observe(torch.full((4,), size), time=time)
    return memory.pack()


def test_a_summary_counts_what_happened() -> None:
    said = dict(reconsolidation.summary(packed()))
    assert said["memories"] == "2" and said["memory"] == "patterns"
    assert [said[name] for name in ("retrieved", "strengthened", "updated", "stored", "ignored")] == ["1"] * 5


def test_the_table_has_an_entry_each_and_remarks_say_what_had_no_effect() -> None:
    headings, rows = reconsolidation.table(packed())
    assert [row[1] for row in rows] == ["ignored", "retrieved", "strengthened", "updated", "stored"]
    assert all(len(row) == len(headings) for row in rows) and rows[2][5] == "0" and rows[3][3] == "10.6"
    assert len(reconsolidation.remarks(packed())) == 2


def test_the_figure_holds_every_observation_of_a_labile_memory() -> None:
    figure = reconsolidation.surprise(packed())
    assert figure is not None and "<svg" in figure.svg()
    assert [row[-1] for row in figure.rows] == ["strengthened", "updated", "stored"]


def test_a_file_without_a_log_has_no_figure() -> None:
    bare = Artifact("reconsolidation", {}, {})
    assert reconsolidation.surprise(bare) is None and reconsolidation.table(bare)[1] == []
    assert reconsolidation.remarks(bare) == [] and dict(reconsolidation.summary(bare))["memories"]

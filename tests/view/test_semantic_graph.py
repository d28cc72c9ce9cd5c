"""What the page says of semantic graphs."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import semantic_graph


def packed() -> Artifact:
    """Ana with the kitchen, twice, and both ways; Ana to bread; heat causes bread."""
    header = {"nodes": ["Ana", "kitchen", "bread", "heat"], "tags": ["who", "where", "", ""], "manifest": {}}
    tensors = {
        "ends": torch.tensor([[0, 1, 0, 3], [1, 0, 2, 2]]),
        "flags": torch.tensor([[False, False, True, True], [False, False, False, True]]),
        "felt": torch.tensor([2, 0, 0, 0]),
        "counts": torch.tensor([2, 0, 1, 0]),
        "times": torch.tensor([1.0, 5.0, 3.0]),
        "valence": torch.tensor([0.5, 0.0, 0.0, 0.0]),
        "arousal": torch.tensor([0.25, 0.0, 0.0, 0.0]),
    }
    return Artifact("semantic_graph", header, tensors)


def test_a_summary_counts_nodes_links_and_causes() -> None:
    said = dict(semantic_graph.summary(packed()))
    assert said["nodes"] == "4" and said["links given"] == "4" and said["directed"] == "2" and said["causal"] == "1"
    assert said["nodes with affect"] == "1"


def test_the_table_counts_different_neighbours_and_uses() -> None:
    headings, rows = semantic_graph.table(packed())
    assert rows[0] == ("Ana", "who", "2", "2", "5", "0.5", "0.25") and len(headings) == len(rows[0])
    assert [row[:4] for row in rows[1:]] == [
        ("kitchen", "where", "1", "0"),
        ("heat", "–", "1", "0"),
        ("bread", "–", "0", "1"),
    ]


def test_the_figure_tells_which_share_leads_to_so_many() -> None:
    figure = semantic_graph.figure(packed())
    assert figure is not None and figure.rows == ((1.0, 0.75), (2.0, 0.25)) and "<svg" in figure.svg()


def test_a_file_without_links_has_no_figure() -> None:
    bare = Artifact("semantic_graph", {}, {})
    assert semantic_graph.figure(bare) is None and semantic_graph.table(bare)[1] == []
    assert dict(semantic_graph.summary(bare))["nodes"] == "0"

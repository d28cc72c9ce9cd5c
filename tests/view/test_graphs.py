"""What the page says of semantic graphs and of what they bring to mind."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import plausible_graph, semantic_graph


def _graph() -> Artifact:
    header = {"nodes": ["bread", "cheese", "mouse"], "tags": ["food", "food", ""], "belief": [[0, 1, 0.5]]}
    tensors = {
        "ends": torch.tensor([[0, 1], [1, 2]]),
        "numbers": torch.tensor([[2.0, 1.0], [0.0, 0.0]]),
        "flags": torch.tensor([[True, False], [True, False]]),
        "felt": torch.tensor([1, 0, 0]),
        "counts": torch.tensor([3, 0, 0]),
        "valence": torch.tensor([0.5, 0.0, 0.0]),
        "arousal": torch.tensor([0.25, 0.0, 0.0]),
    }
    return Artifact("semantic_graph", header, tensors)


def _found() -> Artifact:
    readings = [
        {"nodes": ["bread", "cheese"], "edges": [["bread", "cheese", 0.5]], "plausibility": -2.0, "without": None},
        {"nodes": ["bread", "mouse"], "edges": [["bread", "mouse", 0.1]], "plausibility": -3.5, "without": "cheese"},
    ]
    numbers = {"bread": 0.5, "cheese": 0.3, "mouse": 0.2}
    manifest = {"cue": {"bread": 1.0}, "method": "spread", "nodes": 3, "sampler_calls": 0}
    header = {"readings": readings, "affect": [0.1, 0.2], "manifest": manifest}
    return Artifact("plausible_graph", header | dict.fromkeys(("activation", "probability", "latency"), numbers))


def test_a_graph_says_what_it_has_and_who_leads_to_most() -> None:
    said = dict(semantic_graph.summary(_graph()))
    assert said["links"] == "2, 1 of them directed"
    assert said["causal links"] == "1, 1 weighed by belief"
    headings, rows = semantic_graph.table(_graph())
    assert rows[0] == ("cheese", "food", "2", "0", "0", "0")
    assert rows[1] == ("bread", "food", "1", "3", "0.5", "0.25")
    assert len(headings) == len(rows[0])


def test_the_drawing_has_every_link_among_its_nodes() -> None:
    figure = semantic_graph.figure(_graph())
    assert figure is not None
    assert figure.rows == (("bread", "cheese", 1.0), ("cheese", "mouse", 0.5))
    assert "<svg" in figure.svg()
    bare = _graph()
    none = Artifact(bare.kind, bare.header, {**bare.tensors, "ends": torch.zeros(2, 0, dtype=torch.long)})
    assert semantic_graph.figure(none) is None


def test_readings_are_drawn_side_by_side_and_the_lead_is_told() -> None:
    said = dict(plausible_graph.summary(_found()))
    assert said["lead over the runner-up"] == "1.5"
    assert said["calls of a sampler"] == "0"
    assert plausible_graph.table(_found())[1][2][-1] == "2"
    figure = plausible_graph.figure(_found())
    assert figure is not None
    assert figure.rows[1] == (2, "bread", "mouse", 0.1)
    assert "without cheese" in figure.label
    assert "<svg" in figure.svg(328)

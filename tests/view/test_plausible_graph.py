"""What the page says of plausible graphs."""

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import plausible_graph


def packed() -> Artifact:
    """Bread and mouse, by cheese or by two others."""
    edges = [["bread", "cheese", 0.6], ["mouse", "cheese", 0.5]]
    other = [["bread", "butter", 0.2], ["butter", "cat", 0.1], ["cat", "mouse", 0.3]]
    readings = [
        {"nodes": ["bread", "cheese", "mouse"], "edges": edges, "plausibility": -1.5, "without": None},
        {"nodes": ["bread", "butter", "cat", "mouse"], "edges": other, "plausibility": -3.5, "without": "cheese"},
    ]
    active = {"bread": 0.3, "cheese": 0.3, "mouse": 0.2, "butter": 0.1, "cat": 0.1}
    manifest = {"cue": {"bread": 1.0, "mouse": 1.0}, "method": "spread", "nodes": 90, "sampler_calls": 0}
    header = {"readings": readings, "activation": active, "affect": [0.25, 0.5], "manifest": manifest}
    return Artifact("plausible_graph", header, {})


def test_a_summary_names_the_cue_and_how_plausible_each_reading_is() -> None:
    said = dict(plausible_graph.summary(packed()))
    assert said["cue"] == "bread, mouse" and said["plausibility"] == "-1.5, -3.5"
    assert said["calls of a sampler"] == "0" and said["valence and arousal"] == "0.25, 0.5"


def test_the_table_sets_the_most_active_first_and_says_in_which_reading_each_is() -> None:
    headings, rows = plausible_graph.table(packed())
    assert [row[0] for row in rows] == ["bread", "cheese", "mouse", "butter", "cat"]
    assert [row[4] for row in rows] == ["1, 2", "1", "1, 2", "2", "2"] and len(headings) == len(rows[0])


def test_the_figure_holds_every_link_and_can_be_drawn() -> None:
    figure = plausible_graph.figure(packed())
    assert figure is not None and "<svg" in figure.svg() and "without cheese" in figure.label
    assert figure.rows[0] == (1, "bread", "cheese", 0.6) and len(figure.rows) == 5


def test_a_tree_is_laid_out_by_hops_with_a_line_for_each_leaf_and_a_forest_below_itself() -> None:
    edges = [("a", "b", 0.1), ("c", "a", 0.1), ("c", "d", 0.1)]
    spots = plausible_graph.layout(["a", "b", "c", "d", "alone"], edges)
    assert spots == {"a": (0, 0.5), "b": (1, 0), "c": (1, 1), "d": (2, 1), "alone": (0, 2)}


def test_a_file_without_readings_has_no_figure() -> None:
    bare = Artifact("plausible_graph", {}, {})
    assert plausible_graph.figure(bare) is None and plausible_graph.table(bare)[1] == []
    assert dict(plausible_graph.summary(bare))["cue"]

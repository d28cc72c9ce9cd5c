"""What the page says of assemblies."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import assemblies


def packed() -> Artifact:
    """Three concepts of four neurons among a hundred; the first two share three."""
    members = torch.zeros(3, 100)
    members[0, :4] = members[1, 1:5] = members[2, 50:54] = 1
    header = {"names": ["Luke", "Yoda", "Borges"], "rule": "covariance", "size": 4, "manifest": {"method": "overlaps"}}
    return Artifact("assemblies", header, {"members": members})


def test_a_summary_sets_the_mean_overlap_beside_chance() -> None:
    said = dict(assemblies.summary(packed()))
    assert said["neurons"] == "100, 4 a concept" and said["concepts"] == "3"
    assert said["mean overlap"] == "0.25; by chance 0.04"


def test_the_table_names_partners_largest_first_and_counts_those_above_chance() -> None:
    headings, rows = assemblies.table(packed())
    assert rows[:2] == [("Luke", "Yoda", "0.75", "0.04", "1"), ("Yoda", "Luke", "0.75", "0.04", "1")]
    assert rows[2][2] == "0" and rows[2][4] == "0" and len(headings) == len(rows[0])


def test_the_figure_holds_every_pair_and_can_be_drawn() -> None:
    figure = assemblies.figure(packed())
    assert figure is not None and "<svg" in figure.svg()
    assert ("Luke", "Yoda", 0.75) in figure.rows and len(figure.rows) == 6


def test_a_file_without_members_or_with_one_concept_has_no_figure() -> None:
    bare = Artifact("assemblies", {}, {})
    assert assemblies.figure(bare) is None and assemblies.table(bare)[1] == []
    assert dict(assemblies.summary(bare))["rule"]
    one = Artifact("assemblies", {"names": ["a"]}, {"members": torch.eye(1, 4)})
    assert assemblies.figure(one) is None and dict(assemblies.summary(one))["mean overlap"] == "one concept only"

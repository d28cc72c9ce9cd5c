"""What the page says of features that share dimensions."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.superposition import figure, summary, table

TENSORS = {
    "norm": torch.tensor([1.0, 2.0, 1.0]),
    "dimensionality": torch.tensor([0.5, 1.0, 0.25]),
    "interference": torch.tensor([0.5, 0.0, 2.0]),
    "partner": torch.tensor([2, 0, 0]),
    "cosine": torch.tensor([-0.75, 0.0, -0.75]),
    "control": torch.tensor([[1.0, 1.5], [2.0, 1.25]]),
    "control_dimensionality": torch.tensor([0.75, 0.5, 0.25]),
}
PACKED = Artifact("superposition", {"names": ["cat", "dog", "cow"], "m": 2, "rank": 2, "expected": 1.5}, TENSORS)


def test_a_summary_stands_beside_random_directions() -> None:
    said = dict(summary(PACKED))
    assert said["features"] == "3" and said["dimensions"] == "2, of which they span 2"
    assert said["sum of dimensionalities"] == "1.75; random 1.38 (1.25 to 1.5)"
    assert said["mean interference"] == "0.833; random 1.5 (1 to 2)"


def test_the_table_begins_with_who_hears_most() -> None:
    rows = table(PACKED)[1]
    assert rows[0] == ("cow", "1", "0.25", "2", "cat", "-0.75") and rows[-1][0] == "dog"


def test_the_figure_ranks_dimensionalities() -> None:
    drawn = figure(PACKED)
    assert drawn is not None and drawn.rows == ((1, 1.0, 0.75), (2, 0.5, 0.5), (3, 0.25, 0.25))
    assert "random directions" in drawn.svg()


def test_what_lacks_its_parts_is_told_all_the_same() -> None:
    bare = Artifact("superposition", {}, {})
    assert figure(bare) is None and table(bare)[1] == [] and dict(summary(bare))["features"] == "–"

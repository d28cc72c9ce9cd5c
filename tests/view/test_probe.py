"""What the page says of a probe."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import probe

SUPPORT = torch.tensor([[True, False, True, True]])
PACKED = Artifact(
    "probe",
    {"accuracy": 0.875, "interval": [0.75, 0.9375], "dense": 0.9, "control": [0.5, 0.6], "capacity": [0.7, 0.7],
     "chance": 0.5, "classes": [3, 8], "curve": [[1, 0.7], [2, 0.875], [4, 0.86]], "chosen": [2], "manifest": {}},
    {"directions": torch.tensor([[0.5, 0.0, -2.0, 1.0]]), "support": SUPPORT,
     "frequency": torch.tensor([[1.0, 0.1, 0.5, 1.0]])},
)  # fmt: skip


def test_a_summary_stands_beside_ceiling_and_controls() -> None:
    said = dict(probe.summary(PACKED))
    assert said["accuracy on unseen families"] == "0.875 (0.75 to 0.938)" and said["all units"] == "0.9"
    assert said["random labels, as many units"] == "0.55; on what they were fitted to 0.7"
    assert said["selectivity"] == "0.325" and said["units used"] == "3 of 4"


def test_the_table_holds_used_units_stable_ones_first() -> None:
    columns, rows = probe.table(PACKED)
    assert rows == [("8 against 3", "3", "1", "1"), ("8 against 3", "0", "0.5", "1"), ("8 against 3", "2", "-2", "0.5")]
    bare = Artifact("probe", {}, {name: PACKED.tensors[name] for name in ("directions", "support")})
    assert [row[1] for row in probe.table(bare)[1]] == ["2", "3", "0"]


def test_the_figure_has_the_curve_and_three_levels() -> None:
    figure = probe.figure(PACKED)
    assert figure is not None and ("k strongest units", 2, 0.875) in figure.rows
    assert [row[0] for row in figure.rows if row[1] == 4] == [
        "k strongest units", "all units", "random labels", "most frequent label"]  # fmt: skip
    assert figure.label.startswith("The best accuracy, 0.875, is reached with 2 units; all units reach 0.9")
    assert "<svg" in figure.svg()


def test_a_probe_without_its_parts_says_so() -> None:
    bare = Artifact("probe", {}, {})
    assert probe.figure(bare) is None and probe.table(bare)[1] == []
    assert ("all units", "–") in probe.summary(bare)

"""What the page says of memories that cost each other."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.interference import figure, summary, table

WEIGHTS = {"cosine": torch.tensor([[1.0, -0.5], [-0.5, 1.0]]), "random_cosine": torch.full((2, 2), 0.125)}
LOSSES = {"loss": torch.tensor([[0.9, 0.25], [0.0, 1.0]]), "control": torch.zeros(2, 2)}
BEHAVIOUR = {"own": [0.95, [0.9, 1.0]], "others": [0.125, [0.1, 0.2]], "control_own": [0.0, [0.0, 0.0]],
             "control_others": [0.0, [0.0, 0.0]], "correlation": 0.5, "permuted": 0.75, "p": 0.25}  # fmt: skip
HEADER = {"names": ["Ada", "Ben"], "sites": ["h.0"]}
PACKED = Artifact("interference", HEADER | {"behaviour": BEHAVIOUR}, WEIGHTS | LOSSES)


def test_a_summary_stands_beside_random_engrams() -> None:
    said = dict(summary(PACKED))
    assert said["cosine of different engrams, root mean square"] == "0.5; random engrams 0.125"
    assert said["loss of another concept"] == "0.125 (0.1 to 0.2); random engrams 0 (0 to 0)"
    assert said["overlap with loss, rank correlation"] == "0.5; 95 % of permutations below 0.75; p 0.25"


def test_the_table_begins_with_the_pair_that_costs_most() -> None:
    assert table(PACKED)[1] == [("Ada", "Ben", "-0.5", "0.125", "0.25", "0"), ("Ben", "Ada", "-0.5", "0.125", "0", "0")]


def test_the_figure_has_a_panel_for_overlap_loss_and_control() -> None:
    drawn = figure(PACKED)
    assert drawn is not None and drawn.columns[2:] == (
        "cosine of engrams",
        "loss when the row is erased",
        "random in its place",
    )
    assert drawn.rows[1] == ("Ada", "Ben", -0.5, 0.25, 0.0) and "Ben" in drawn.svg() and drawn.svg(300)


def test_weights_alone_have_one_panel_and_nothing_has_none() -> None:
    drawn = figure(Artifact("interference", HEADER, WEIGHTS))
    assert drawn is not None and drawn.columns[2:] == ("cosine of engrams",)
    bare = Artifact("interference", {}, {})
    assert figure(bare) is None and table(bare)[1] == [] and dict(summary(bare))["engrams"] == "0"

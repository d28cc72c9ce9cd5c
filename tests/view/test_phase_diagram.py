"""What the page says of a phase diagram."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.phase_diagram import figure, summary, table

PHASES = ["first feature", "second feature", "superposition", "nothing"]
PACKED = Artifact(
    "phase_diagram",
    {"densities": [1.0, 0.01], "ratios": [0.5], "phases": PHASES},
    {
        "weight": torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]),
        "phases": torch.tensor([[0], [1]]),
        "predicted": torch.tensor([[0], [2]]),
        "agrees": torch.tensor([[True], [False]]),
        "losses": torch.ones(2, 1, 3),
    },
)


def test_cells_are_counted_and_compared_with_the_prediction() -> None:
    assert dict(summary(PACKED)) == {
        "cells": "2", "first feature": "1", "second feature": "1", "as predicted": "1 of 2"
    }  # fmt: skip
    assert table(PACKED)[1][1] == ("0.01", "0.5", "second feature", "superposition", "no", "1")


def test_the_grid_shows_phases_and_marks_what_was_not_predicted() -> None:
    drawn = figure(PACKED)
    assert drawn is not None and len(drawn.rows) == 2
    assert all(word in drawn.svg() for word in ("second feature", "superposition", "not as predicted"))


def test_what_lacks_its_parts_has_no_figure() -> None:
    bare = Artifact("phase_diagram", {}, {})
    assert figure(bare) is None and table(bare)[1] == [] and dict(summary(bare))["as predicted"] == "–"

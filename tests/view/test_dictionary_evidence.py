"""What the page says of a dictionary in its network."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation.dictionary import DictionaryEvidence
from mnemotrace.view import dictionary_evidence as view

LOSSES = torch.tensor([[1.0, 1.2, 3.0, 2.0, 2.5], [1.0, 1.2, 3.0, 2.0, 2.5]])
DENSITY = torch.tensor([0.0, 0.002, 0.003, 0.02, 0.5])
PACKED = DictionaryEvidence(
    LOSSES, DENSITY, 0.525, {"dictionary": 0.9, "random dictionary": 0.25}, "h.1", {"method": "dictionary evidence"}
).pack()


def test_a_summary_says_what_is_explained_and_recovered() -> None:
    said = dict(view.summary(PACKED))
    assert said["site"] == "h.1" and said["explained variance"] == "0.9" and said["a random dictionary's"] == "0.25"
    assert said["recovered of the loss"] == "0.9 (0.9 to 0.9)"
    assert said["never on"] == "20.0% of 5 latents" and said["on over a tenth"] == "20.0%"


def test_the_table_holds_every_way_the_least_loss_first() -> None:
    columns, rows = view.table(PACKED)
    assert columns == view.COLUMNS
    assert [row[0] for row in rows] == ["activations as they are", "their reconstruction", "the mean",
                                        "a random dictionary's", "zeros"]  # fmt: skip
    assert rows[1] == ("their reconstruction", "1.2", "0.9 (0.9 to 0.9)", "0.8 (0.8 to 0.8)")
    assert rows[2][2] == "–"


def test_figures_hold_losses_and_how_often_latents_are_on() -> None:
    losses, densities = view.losses(PACKED), view.densities(PACKED)
    assert losses is not None and densities is not None
    assert len(losses.rows) == 5 and "<svg" in losses.svg()
    assert densities.rows == ((-3.0, 2.0), (-2.5, 0.0), (-2.0, 1.0), (-1.5, 0.0), (-1.0, 0.0), (-0.5, 1.0))
    assert densities.label.startswith("1 of 5 latents are never on") and "<svg" in densities.svg()


def test_evidence_without_parts_has_no_figure() -> None:
    bare = Artifact("dictionary_evidence", {}, {})
    assert view.losses(bare) is None and view.densities(bare) is None and view.table(bare)[1] == []
    assert ("explained variance", "–") in view.summary(bare)
    dead = Artifact("dictionary_evidence", {}, {"density": torch.zeros(3)})
    assert view.densities(dead) is None

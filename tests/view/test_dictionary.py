"""What the page says of a dictionary."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.view import dictionary

CURVE = {"step": [1, 10, 20], "unexplained": [0.75, 0.25, 0.125], "active": [4.0, 4.0, 4.0], "dead": [0.0, 0.5, 0.25]}
DENSITY = {"from": -4, "to": 0, "latents": [0, 1, 5, 0]}
REPORT = {"explained": 0.9375, "active": 3.75, "never": 0.25, "rows": 4096, "curve": CURVE, "density": DENSITY}
ROWS = torch.eye(5)[torch.arange(8) % 5]
PACKED = Dictionary(
    torch.ones(8, 4), torch.ones(8), ROWS, torch.ones(4), torch.ones(5), "topk", 4, site="layer2", report=REPORT
).pack()


def test_a_summary_says_what_is_explained_with_how_many_latents() -> None:
    said = dict(dictionary.summary(PACKED))
    assert said["latents"] == "8 of width 4" and said["site"] == "layer2" and said["variant"] == "topk, k 4"
    assert said["variance explained"] == "0.938" and said["latents never on"] == "0.25 over 4,096 rows"


def test_the_table_and_the_figures_hold_the_training_and_the_densities() -> None:
    assert dictionary.table(PACKED)[1][-1] == ("20", "0.125", "4", "0.25") and len(dictionary.table(PACKED)[1]) == 3
    curve, rates = dictionary.training(PACKED), dictionary.density(PACKED)
    assert curve is not None and rates is not None
    assert curve.rows[0] == (1, 0.75, 4.0, 0.0)
    assert "falls from 0.75 to 0.125 in 20 steps; 0.25 of the latents" in curve.label and "<svg" in curve.svg()
    assert rates.rows[2] == (0.01, 0.1, 5) and "Of 6 latents that are ever on, most are in 0.01 to 0.1" in rates.label
    assert "share of rows in which a latent is on" in rates.svg()


def test_a_dictionary_without_a_report_has_no_figures() -> None:
    bare = Artifact("dictionary", {}, {})
    assert dictionary.training(bare) is None and dictionary.density(bare) is None and dictionary.table(bare)[1] == []
    assert ("site", "–") in dictionary.summary(bare)

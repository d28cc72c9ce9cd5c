"""What the page says of concept cells."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import cells


def packed(**header: object) -> Artifact:
    """Three units, two concepts, two views; unit 0 is a cell, unit 1 fails a view, unit 2 does not beat the nulls."""
    tensors = {
        "auroc": torch.tensor([[0.99, 0.3], [0.05, 0.97], [0.96, 0.2]], dtype=torch.float64),
        "beside": torch.tensor([[0.99, 0.97], [0.05, 0.97], [0.96, 0.2]], dtype=torch.float64),
        "preferred": torch.tensor([0, 1, 0]),
        "held": torch.tensor([[0.98, 1.0], [1.0, 0.8], [0.95, 0.97]], dtype=torch.float64),
        "deviations": torch.tensor([[6.0, 0.1], [0.1, 3.0], [2.0, 0.1]], dtype=torch.float64),
        "sparseness": torch.tensor([0.9, 0.5, 0.4], dtype=torch.float64),
        "shuffled": torch.tensor([0.7, 0.8], dtype=torch.float64),
        "untrained": torch.tensor([0.5, 0.965], dtype=torch.float64),
        "rotated": torch.tensor([0.9, 0.96, 0.5], dtype=torch.float64),
    }
    counts = {"units": 3, "selective": 3, "cell": 1, "strict": 1, "untrained selective": 1, "rotated selective": 1}
    values = {"sites": [{"name": "concepts", "active": 0.3}], "names": ["zero", "one"], "auroc": 0.95,
              "invariance": 0.9, "strata": ["image / 0", "image / 1"], "counts": {"concepts": counts}}  # fmt: skip
    return Artifact("cells", values | header, {f"0.{name}": value for name, value in tensors.items()})


def test_a_summary_says_how_many_units_are_cells() -> None:
    said = dict(cells.summary(packed()))
    assert said["cells"] == "1 of 3 units, 1 strict" and said["concepts with a cell"] == "1 of 2"
    assert said["views"] == "image / 0, image / 1" and said["a cell's AUROC"] == "0.95, in each view 0.9"


def test_the_table_holds_what_passes_every_null_and_every_view() -> None:
    headings, rows = cells.table(packed())
    assert rows == [("concepts", "0", "zero", "0.99", "0.98", "6", "0.9", "one")]
    assert len(headings) == len(rows[0])
    assert len(cells.table(packed(invariance=0.8))[1]) == 2 and cells.table(packed(auroc=0.995))[1] == []


def test_remarks_set_the_nulls_beside() -> None:
    (said,) = cells.remarks(packed())
    assert said == (
        "concepts: 3 of 3 units tell a concept, 1 of an untrained network's and 1 of random directions of the layer."
    )
    bare = packed(counts={"": {"units": 3, "selective": 2}})
    assert cells.remarks(bare) == ["The output: 2 of 3 units tell a concept; no network stands beside."]


def test_the_figures_hold_every_number_and_can_be_drawn() -> None:
    figure, nulls = cells.figure(packed()), cells.nulls(packed())
    assert figure is not None and nulls is not None
    assert figure.rows == (("concepts", 0, "zero", 0.99, 0.3, 0.98, 1.0),)
    assert figure.columns == ("site", "unit", "concept", "zero", "one", "image / 0", "image / 1")
    counted = {(of, round(x, 2)): count for of, x, count in nulls.rows}
    assert counted["the network's units", 0.95] == 3 and counted["the network's units", 0.97] == 2
    assert counted["untrained network", 0.95] == 1 and counted["random directions", 0.9] == 2
    assert "<svg" in figure.svg() and "<svg" in nulls.svg()


def test_many_cells_are_spread_over_concepts() -> None:
    n, k = 60, 3
    preferred = torch.arange(n) % k
    preferred[:40] = 0
    auroc = torch.full((n, k), 0.5, dtype=torch.float64)
    auroc[torch.arange(n), preferred] = torch.linspace(0.99, 0.96, n, dtype=torch.float64)
    tensors = {"0.auroc": auroc, "0.preferred": preferred, "0.held": torch.ones(n, 1)}
    figure = cells.figure(Artifact("cells", packed().header | {"names": ["a", "b", "c"], "strata": ["s"]}, tensors))
    assert figure is not None and len(figure.rows) == cells.MOST
    kinds = [row[2] for row in figure.rows]
    assert kinds == sorted(kinds) and min(kinds.count(name) for name in "abc") >= 6


def test_an_artifact_without_cells_has_no_figure() -> None:
    bare = Artifact("cells", {}, {})
    assert cells.figure(bare) is None and cells.nulls(bare) is None and cells.table(bare)[1] == []
    assert dict(cells.summary(bare))["cells"] == "0 of 0 units, 0 strict"

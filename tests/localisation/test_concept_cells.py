"""Cells are listed by criteria that can be read off the tables; a file holds them."""

from pathlib import Path

import pytest
import torch

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import SelectionError
from mnemotrace.localisation.concept_cells import Cells, SiteCells


def _cells() -> Cells:
    """Six units: a cell, a weak one, one that a view loses, one no better than shuffles, a strict cell, a dead one."""
    score = torch.tensor([0.97, 0.80, 0.97, 0.955, 0.99, 0.5], dtype=torch.float64)
    auroc = torch.stack([score, 1 - score, 0.6 - 0.1 * score], 1)
    one = SiteCells(
        auroc=auroc,
        beside=auroc + torch.tensor([[0.0, 0.93, 0.0]]) * torch.eye(6, 3)[:, :1],
        preferred=torch.zeros(6, dtype=torch.long),
        held=torch.stack([score, score - torch.tensor([0.01, 0, 0.2, 0, 0, 0])], 1),
        favourites=torch.tensor([[0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]),
        deviations=torch.tensor([[6.0, 7, 0], [1, 0, 0], [1, 0, 0], [6, 0, 0], [torch.inf, 0, 0], [0, 0, 0]]),
        index=torch.linspace(0, 1, 6),
        sparseness=torch.linspace(0, 1, 6),
        active=0.25,
        shuffled=torch.tensor([0.6, 0.7, 0.65] * 6 + [0.96], dtype=torch.float64),
        top=torch.arange(24).view(2, 6, 2),
        untrained=torch.tensor([0.5, 0.965], dtype=torch.float64),
    )
    return Cells({"fc": one}, ("ada", "bob", "eve"), ("image", "word"), ("image", "word"), 0.95, 0.9, 5.0, {"seed": 0})


def test_each_criterion_takes_away_who_fails_it() -> None:
    found = _cells()
    met = {name: units.nonzero()[:, 0].tolist() for name, units in found.passes("fc").items()}
    assert met["selective"] == [0, 2, 3, 4]
    assert met["invariant"] == [0, 3, 4]
    assert met["above shuffled"] == [0, 2, 4]
    assert met["above untrained"] == [0, 2, 4]
    assert met["cell"] == [0, 4]
    assert met["strict"] == [4]
    assert found.counts()["fc"] == {
        "units": 6, "selective": 4, "invariant": 3, "above shuffled": 3, "above untrained": 3, "cell": 2, "strict": 1,
        "untrained selective": 1,
    }  # fmt: skip
    assert found.sites["fc"].bar == 0.965
    assert found.sites["fc"].p.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 2 / 20, 1 / 20, 1.0])


def test_cells_are_rows_best_first() -> None:
    best, other = _cells().cells()
    assert (best.unit, best.name, best.concepts, best.same, best.partners) == (4, "ada", 1, True, ())
    assert (other.unit, other.concepts, other.same, other.partners) == (0, 2, False, ("bob",))
    assert other.held == pytest.approx({"image": 0.97, "word": 0.96})
    assert other.top == {"image": (0, 1), "word": (12, 13)}
    assert [row["unit"] for row in _cells().table()] == [4, 0]
    assert _cells().table()[1]["partners"] == "bob"


def test_cells_are_chosen_by_concept_and_site() -> None:
    found = _cells()
    assert [cell.unit for cell in found.cells("ada", strict=True)] == [4]
    assert found.cells(1) == found.cells("bob") == []
    assert len(found.cells(0, site="fc")) == 2
    with pytest.raises(SelectionError, match="got concept='tom'; expected one of ada, bob, eve, or its number"):
        found.cells("tom")
    with pytest.raises(SelectionError, match="got concept=3"):
        found.cells(3)
    with pytest.raises(SelectionError, match="got site='conv'; expected one of 'fc', or None"):
        found.cells(site="conv")


def test_a_file_holds_everything(tmp_path: Path) -> None:
    found = _cells()
    back = Cells.unpack(read(write(found.pack(), tmp_path / "c"), "cells"))
    for name in ("names", "strata", "modalities", "auroc", "invariance", "deviations", "manifest"):
        assert getattr(back, name) == getattr(found, name)
    assert back.cells() == found.cells()
    assert back.counts() == found.counts()
    assert back.sites["fc"].rotated is None
    assert back.sites["fc"].active == 0.25

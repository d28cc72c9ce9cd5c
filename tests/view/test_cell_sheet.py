"""A sheet of concept cells has a row a cell, and says what it cannot draw."""

from pathlib import Path

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.view.cell_sheet import CellRow, cell_sheet, write_cell_sheet


def row(**changes: object) -> CellRow:
    values = {"title": "fc2, 7: three", "examples": torch.rand(6, 1, 4, 4), "own": torch.tensor([2.0, 3.0, 4.0]),
              "others": torch.tensor([0.0, 0.5]), "held": {"plain": 0.97, "noisy": 0.4}}  # fmt: skip
    return CellRow(**(values | changes))  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_rows() -> None:
    figure = cell_sheet([row(), row(title="b", held={})])
    assert figure.rows == (("fc2, 7: three", 3.0, 0.0, 0.4), ("b", 3.0, 0.0, None))
    assert "median 3 to its concept, 0 to others" in figure.label


def test_pictures_panels_and_names_are_drawn() -> None:
    figure = cell_sheet([row(wanted=torch.rand(3, 5, 5)), row(examples=torch.rand(2, 16))])
    paper = figure.paint(720)
    assert len(paper.axes) == (5 + 1 + 2) + (2 + 2)
    said = [text.get_text() for axes in paper.axes for text in axes.texts] + [text.get_text() for text in paper.texts]
    assert {"plain  0.97", "noisy  0.40", "what it wants", "fc2, 7: three"} <= set(said)
    assert "what it wants" not in [text.get_text() for text in cell_sheet([row()]).paint(720).texts]


def test_a_sheet_is_written_with_its_numbers(tmp_path: Path) -> None:
    path = write_cell_sheet([row(own=torch.ones(3), others=torch.ones(2))], tmp_path / "sheet.svg")
    assert path.read_text().count("<image") == 5 and (tmp_path / "sheet.csv").read_text().startswith("cell,median")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 rows"):
        cell_sheet([])
    with pytest.raises(ValueError, match=r"\['empty'\] without examples or responses"):
        cell_sheet([row(), row(title="empty", own=torch.empty(0))])
    with pytest.raises(NonFiniteError, match="responses of fc2, 7: three"):
        cell_sheet([row(others=torch.tensor([float("nan")]))])

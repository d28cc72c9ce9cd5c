"""A sheet is a picture and a JSON file that says everything about it."""

import json
from pathlib import Path

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.visualisation import sheet, write_sheet

pytest.importorskip("matplotlib")


def _made(*shape: int, percentile: bool = True, bounds: tuple[float, float] | None = (0.0, 1.0)) -> Artifact:
    generator = torch.Generator().manual_seed(0)
    n = shape[0]
    tensors = {
        "images": torch.rand(shape, generator=generator),
        "activation": torch.arange(1.0, n + 1),
        "curve": torch.ones(4, n),
    }
    if percentile:
        tensors["percentile"] = torch.linspace(50.5, 100, n) if n > 1 else torch.tensor([100.0])
    return Artifact(
        "visualisation", {"objective": "unit 3", "bounds": bounds, "manifest": {"seed": 5, "steps": 4}}, tensors
    )


def test_a_picture_and_everything_about_it_are_written(tmp_path: Path) -> None:
    drawn, told = write_sheet([_made(2, 3, 8, 8), _made(1, 3, 8, 8)], tmp_path / "sheet.png", titles=["cat", "dog"])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    values = json.loads(told.read_text())
    assert [value["title"] for value in values] == ["cat", "dog"]
    assert values[0]["activation"] == [1, 2]
    assert values[0]["percentile"] == [50.5, 100]
    assert values[0]["manifest"] == {"seed": 5, "steps": 4}
    assert values[0]["shape"] == [2, 3, 8, 8]


@pytest.mark.parametrize("shape", [(1, 1, 6, 9), (1, 3, 6, 6), (1, 5, 6, 6), (2, 2, 30)])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_every_kind_of_input_is_drawn(shape: tuple[int, ...], bounds: tuple[float, float] | None) -> None:
    figure = sheet([_made(*shape, percentile=False, bounds=bounds)])
    assert figure.svg(300).startswith("<svg")
    assert figure.rows[0] == ("unit 3", "1")


def test_percentiles_are_said_in_words() -> None:
    figure = sheet([_made(2, 1, 5, 5)])
    assert [row[1] for row in figure.rows] == ["1  ·  above 50 % of data", "2  ·  above all data"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got kinds \[\] and columns=4; expected at least one visualisation"):
        sheet([])
    with pytest.raises(ValueError, match=r"got kinds \['edit'\]"):
        sheet([Artifact("edit", {})])
    with pytest.raises(ValueError, match="got 2 titles for 1 visualisations"):
        sheet([_made(1, 1, 4, 4)], titles=["a", "b"])
    with pytest.raises(ValueError, match="expected a name that ends in"):
        write_sheet(_made(1, 1, 4, 4), tmp_path / "sheet.jpg")

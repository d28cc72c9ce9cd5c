"""What units want to see, and the examples that excite them, on the page."""

import pytest
import torch
from torch import nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.localisation.top_examples import top_examples
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections


def _visualised(*, data: bool = True) -> Artifact:
    tensors = {"images": torch.rand(2, 1, 6, 6), "activation": torch.tensor([4.0, 2.0]),
               "curve": torch.tensor([[0.0, 1.0], [2.0, 2.0], [4.0, 2.0]])}  # fmt: skip
    if data:
        tensors |= {"percentile": torch.tensor([100.0, 40.0]), "dataset": torch.linspace(0, 3, 101)}
    header = {"objective": "unit 3", "bounds": [0.0, 1.0], "manifest": {"method": "visualisation"}}
    return Artifact("visualisation", header, tensors)


def test_a_visualisation_has_its_pictures_and_its_climb_beside_the_best_of_the_data() -> None:
    sheet, climb = figures_of(_visualised())
    assert sheet.svg().count("<image") == 2
    assert climb.rows == (("picture 0", 0, 0.0), ("picture 0", 1, 2.0), ("picture 0", 2, 4.0),
                          ("picture 1", 0, 1.0), ("picture 1", 1, 2.0), ("picture 1", 2, 2.0))  # fmt: skip
    assert "the best of the data" in climb.svg()
    assert table(_visualised())[1] == [("0", "4", "100", "0", "4"), ("1", "2", "40", "1", "2")]
    assert ("best of the data", "3") in summary(_visualised())


def test_where_pictures_stand_among_the_data_is_said_or_that_there_are_none() -> None:
    assert sections([_visualised()])[0].remarks == ["1 of 2 pictures excite the unit more than any of the data."]
    assert "No data stand beside" in sections([_visualised(data=False)])[0].remarks[0]


def test_top_examples_are_values_by_quantile() -> None:
    x = torch.arange(20.0)[:, None] * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 20.0])
    found = top_examples(nn.Identity(), [x], None, k=2, quantiles=(0.5,))
    packed = found.pack()
    headings, rows = table(packed)
    assert headings[-2:] == ("around quantile 0.5", "median")
    assert rows[0] == ("0", "19", "19", "18.5", "9.5", "9.5")
    assert rows[1][:3] == ("1", "20", "0")
    (figure,) = figures_of(packed)
    ends = {row[0]: row[1:] for row in figure.rows}
    assert ends == {"unit 0": (100.0, 19.0), "unit 1": (100.0, 20.0)}


@pytest.mark.parametrize("kind", ["visualisation", "top_examples"])
def test_a_bare_file_is_shown(kind: str) -> None:
    assert figures_of(Artifact(kind, {})) == []
    render([Artifact(kind, {})])

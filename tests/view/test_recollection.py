"""A recollection stands on the page beside its controls, and says when the source is ignored."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation.recollection import examine
from mnemotrace.memories.episodes import Episodes
from mnemotrace.retrieval.backward import Rules, episode, recollect
from mnemotrace.view import figures_of, pictures, summary, table
from mnemotrace.view.figure import save
from mnemotrace.view.page import render
from mnemotrace.view.pictures import Way, scaled
from mnemotrace.view.recollection import sheet
from mnemotrace.view.sections import sections


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
        ).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _recalled(network: nn.Module, images: torch.Tensor, rules: Rules) -> Artifact:
    return recollect(network, 1, trace=images, rules=rules).pack()


def test_a_picture_is_scaled_to_its_own_range() -> None:
    picture = torch.tensor([[[-3.0, 1.0], [5.0, float("nan")]]])
    assert scaled(picture).tolist() == [[0.0, 0.5], [1.0, 0.0]]
    assert torch.equal(scaled(torch.full((1, 2, 2), 7.0)), torch.full((2, 2), 0.5))
    colours = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    shown = scaled(colours)
    assert shown.shape == (4, 5, 3)
    assert torch.allclose(shown, ((colours - colours.min()) / (colours.max() - colours.min())).permute(1, 2, 0))


@pytest.mark.parametrize(("shape", "seen"), [((5, 2, 3), (2, 3)), ((9,), (3, 3)), ((8,), (1, 8)), ((1, 4, 4), (4, 4))])
def test_other_pictures_are_averaged_or_folded(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert scaled(picture).shape == seen
    if len(shape) == 3:
        mean = picture.mean(0)
        assert torch.allclose(scaled(picture), (mean - mean.min()) / (mean.max() - mean.min()))


def test_the_sheet_has_the_recalled_beside_both_controls_and_the_images(network, images, tmp_path: Path) -> None:
    packed = _recalled(network, images, Rules.guided())
    drawn = sheet(packed, beside={"the image": images})
    assert drawn is not None
    names = [row[0] for row in drawn.rows]
    assert names == ["recalled", "from no source", "from a wrong source"]
    assert "scaled to its own range" in drawn.title and "unit 1 of the output" in drawn.title
    for width in (720, 328):
        svg = drawn.svg(width)
        assert svg.count("<image") == 4 * min(len(images), 8 if width == 720 else 4)
        assert "the image" in svg and "from no source" in svg
    assert save(drawn, tmp_path / "sheet.png")[0].read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:source ignored")
def test_a_source_that_is_ignored_is_said_and_one_that_matters_too(network, images) -> None:
    (ignored,) = sections([Artifact("recollection", {"sensitivity": {"zero": 0.99951, "wrong": 1.0}})])
    assert ignored.remarks[0].startswith("The source is ignored: from no source at all comes the same picture (corr")
    assert "0.9995" in ignored.remarks[0] and len(ignored.remarks) == 1
    (matters,) = sections([_recalled(network, images, Rules.guided())])
    assert matters.remarks[0].startswith("The source matters")
    (bare,) = sections([recollect(network, 1, trace=images, controls=False).pack()])
    assert "There are no controls" in bare.remarks[0]
    told = {"sensitivity": {"zero": 0.5}, "unreversed": ["cumsum"]}
    assert "true gradient: cumsum" in sections([Artifact("recollection", told)])[0].remarks[-1]


@pytest.mark.filterwarnings("ignore:source ignored")
def test_the_evidence_has_a_row_a_way_with_its_numbers_beside(network, images) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    found = examine(network, images, labels, generator=torch.Generator().manual_seed(0), shown=2)
    packed = found.pack()
    (figure,) = figures_of(packed)
    assert [row[0] for row in figure.rows] == list(found.rows)
    own = found.rows["own"].cued
    means = own.correlation
    assert figure.rows[0][1:] == (means.own, means.same, means.different, own.identified.value)
    wide = figure.svg(720)
    assert wide.index(">the image<") < wide.index(">recalled<") < wide.index(">zero source<")
    assert wide.count("<image") == 2 * len(found.images)
    assert f"{means.own:.2f}" in wide and "identified" in wide
    headings, rows = table(packed)
    assert headings[:5] == ("way", "correlation", "high-pass", "edges", "SSIM")
    assert [row[0] for row in rows] == [line["name"] for line in found.table()]
    (section,) = sections([packed])
    assert section.remarks[0].startswith("The source is ignored") == found.source_ignored
    assert any("the donor is identified" in text for text in section.remarks)


def test_a_trace_and_a_store_tell_their_bits(network, images) -> None:
    trace = episode(network, images)
    bits = trace.bits()
    told = dict(summary(trace.pack()))
    assert told["bits of a trace"] == f"{round(bits['total']):,}"
    assert told["bits, switch"] == f"{round(bits['switch']):,}"
    _, rows = table(trace.pack())
    assert [row[0] for row in rows] == [entry.operation for entry in trace.entries]
    assert sum(float(row[-1].replace(",", "")) for row in rows) == pytest.approx(bits["total"], abs=len(rows))
    sparse = table(trace.select(top=0.25).pack())[1]
    assert sparse[0][5] == "0.25"
    store = Episodes(images.flatten(1), trace)
    _, rows = table(store.pack())
    assert rows[-1][:2] == ("total", f"{round(store.bits()['total']):,}")
    assert ("episodes", "6") in summary(store.pack())


@pytest.mark.parametrize("kind", ["recollection", "recollection_evidence", "episodic_trace", "episodes"])
def test_a_bare_file_is_shown(kind: str) -> None:
    assert figures_of(Artifact(kind, {})) == []
    assert "nan" not in render([Artifact(kind, {})])


def test_one_picture_each_stands_side_by_side_and_signals_are_lines(network, images) -> None:
    one = pictures.sheet(720, [Way(name, images[:1], ("0.5",)) for name in "abcdef"], ("r",))
    assert one.get_size_inches()[0] * 72 == pytest.approx(720)
    assert len(one.axes) == 6
    assert len({round(axes.get_position().y0, 3) for axes in one.axes}) == 2  # four in a row
    signal = pictures.sheet(720, [Way("signals", torch.rand(2, 3, 20))])
    assert len(signal.axes[0].lines) == 3

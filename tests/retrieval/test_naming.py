"""A name's picture shows what its units look for, where they look; without a background all pictures are one."""

import math

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.formation.naming import name_once
from mnemotrace.memories.spiking import SpikingHierarchy, SpikingLayer
from mnemotrace.retrieval.naming import descend, grey, picture

SHAPE = (36, 48)


@pytest.fixture
def hierarchy() -> SpikingHierarchy:
    """Two filters, a row and a column; each top map looks at one of them, at its own place."""
    layers = (SpikingLayer(2, 5, 3.0, 3.0, pool=3, stride=3, once=True), SpikingLayer(2, 3, math.inf, 2.0))
    made = SpikingHierarchy(layers, shape=SHAPE)
    first, second = torch.zeros(2, 1, 5, 5), torch.zeros(2, 2, 3, 3)
    first[0, 0, 2], first[1, 0, :, 2] = 1.0, 1.0
    second[0, 0, 1, 1] = second[1, 1, 1, 1] = 1.0
    for ours, w in zip(made.weights, (first, second), strict=True):
        ours.copy_(w)
    return made


def _unit(which: int, y: int, x: int) -> torch.Tensor:
    features = torch.zeros(2, 12, 16)
    features[which, y, x] = 1.0
    return features.flatten()


@pytest.mark.parametrize(("which", "place"), [(0, (4, 5)), (1, (8, 10))])
def test_a_units_picture_is_its_filter_at_its_place(
    hierarchy: SpikingHierarchy, which: int, place: tuple[int, int]
) -> None:
    shown = descend(_unit(which, *place), hierarchy, top=1)
    assert shown.shape == SHAPE
    y, x = (3 * p for p in place)
    bright = (shown == shown.max()).nonzero()
    assert bool(((bright - torch.tensor([y + 1, x + 1])).abs() <= 3).all())
    rows, columns = shown.clamp_min(0).sum(1), shown.clamp_min(0).sum(0)
    narrow, wide = (rows, columns) if which == 0 else (columns, rows)
    assert int((narrow > 0).sum()) < int((wide > 0).sum())


def test_a_name_is_seen_by_what_it_has_beyond_the_background_and_a_wrong_name_differs(
    hierarchy: SpikingHierarchy,
) -> None:
    clutter = torch.zeros(2, 12, 16)
    clutter[0, 6:9, 2:6] = 5.0
    clutter = clutter.flatten()
    x = torch.stack([_unit(0, 4, 5), _unit(1, 8, 10)]) + clutter
    namer = name_once(x, ["row", "column"], unlabelled=clutter[None])
    pictures = [picture(namer, hierarchy, name, background=namer.background, top=1) for name in ("row", "column")]
    assert torch.allclose(pictures[0], descend(_unit(0, 4, 5), hierarchy, top=1))
    assert torch.corrcoef(torch.stack(pictures).flatten(1))[0, 1] < 0.5
    cluttered = [picture(namer, hierarchy, name, top=4) for name in ("row", "column")]
    assert torch.corrcoef(torch.stack(cluttered).flatten(1))[0, 1] > 0.99


def test_only_the_strongest_units_are_kept(hierarchy: SpikingHierarchy) -> None:
    both = 2 * _unit(0, 4, 5) + _unit(1, 8, 10)
    assert torch.allclose(descend(both, hierarchy, top=1), 2 * descend(_unit(0, 4, 5), hierarchy, top=1))
    assert not torch.allclose(descend(both, hierarchy, top=2), 2 * descend(_unit(0, 4, 5), hierarchy, top=2))


def test_grey_values_keep_no_contrast_in_the_middle() -> None:
    shown = grey(torch.stack([torch.zeros(3, 3), torch.eye(3), -2 * torch.eye(3)]))
    assert (shown[0] == 128).all()
    assert torch.equal(shown[1].unique(), torch.tensor([128.0, 255.0]))
    assert torch.equal(shown[2].unique(), torch.tensor([1.0, 128.0]))


def test_mistakes_are_refused(hierarchy: SpikingHierarchy) -> None:
    with pytest.raises(
        ValueError, match=r"got features of shape \(7,\) and top=12; expected 384 numbers, 2 maps of 12 x 16"
    ):
        descend(torch.zeros(7), hierarchy)
    with pytest.raises(ValueError, match="and top=0; expected 384 numbers"):
        descend(torch.zeros(384), hierarchy, top=0)
    with pytest.raises(NonFiniteError, match="in the features"):
        descend(torch.full((384,), torch.nan), hierarchy)
    namer = name_once(torch.eye(384)[:2], ["a", "b"])
    with pytest.raises(ValueError, match="got the name 'c'; expected one that was learnt"):
        picture(namer, hierarchy, "c")

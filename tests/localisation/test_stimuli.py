"""Labels are checked where they are given, and say which concept, view or item is at fault."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnemotrace.localisation.stimuli import Labels, Stimuli, modalities

CONCEPTS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
VIEWS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def test_what_is_left_out_is_filled_in() -> None:
    labels = Stimuli([], CONCEPTS).labels
    assert labels.views.tolist() == [0] * 8
    assert labels.items.tolist() == list(range(8))
    assert labels.count == 2


def test_items_are_numbered_and_keyed_by_their_views() -> None:
    items = torch.tensor([10, 20, 11, 21, 10, 20, 12, 22])
    labels = Labels.of(CONCEPTS, VIEWS, items)
    assert labels.items.tolist() == [0, 3, 1, 4, 0, 3, 2, 5]
    assert labels.of_items.tolist() == [0, 0, 0, 1, 1, 1]
    keys = labels.keys.tolist()
    assert keys[0] == keys[3]  # both views
    assert len({keys[0], keys[1], keys[2]}) == 3


def test_rows_are_labels_again() -> None:
    chosen = torch.tensor([True, True, False, True, True, True, False, False])
    part = Labels.of(CONCEPTS, VIEWS).rows(chosen)
    assert part.concepts.tolist() == [0, 1, 1, 0, 1]
    assert part.items.tolist() == [0, 1, 2, 3, 4]
    assert part.count == 2


def test_modalities_share_their_names() -> None:
    one = Stimuli([], CONCEPTS, names=("a", "b"))
    assert list(modalities(one)) == ["stimuli"]
    assert list(modalities({"image": one, "word": one})) == ["image", "word"]
    with pytest.raises(ValueError, match="got 2 modalities with 2 lists of names"):
        modalities({"image": one, "word": Stimuli([], CONCEPTS)})
    with pytest.raises(ValueError, match="got 0 modalities"):
        modalities({})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Stimuli(iter([]), CONCEPTS), ValueError, r"list_iterator; .* give list\(batches\)"),  # type: ignore[arg-type]
        (lambda: Stimuli([], CONCEPTS.float()), TypeError, "got concepts of type torch.float32; expected integers"),
        (lambda: Stimuli([], CONCEPTS == 0), TypeError, "got concepts of type torch.bool"),
        (lambda: Stimuli([], CONCEPTS - 1), ValueError, "the smallest -1; expected one number from 0"),
        (lambda: Stimuli([], torch.zeros(0, dtype=torch.long)), ValueError, "for 0 stimuli"),
        (lambda: Stimuli([], CONCEPTS, VIEWS[:4]), ValueError, r"got views of shape \(4,\) for 8 stimuli"),
        (lambda: Stimuli([], CONCEPTS * 0), ValueError, "got 1 concepts and 0 names"),
        (lambda: Stimuli([], CONCEPTS, names=("a",)), ValueError, "got 2 concepts and 1 names"),
        (lambda: Stimuli([], CONCEPTS * 2), ValueError, "got 0 stimuli of concept 1 in view 0"),
        (lambda: Stimuli([], CONCEPTS, VIEWS.roll(2), names=("a", "b"), items=torch.tensor([0, 1] * 4)), ValueError,
         "got 1 stimuli of concept a in view 0; expected at least 2"),
        (lambda: Stimuli([], CONCEPTS, VIEWS, items=VIEWS), ValueError, "got item 0 with two concepts"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()

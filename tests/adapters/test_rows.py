"""Masks choose rows by position or by token, and refuse what they do not fit."""

import pytest
import torch
from torch import nn

from mnemotrace.adapters.rows import Last, Tokens, first_tensor, masked_rows, patches_of

ROWS = torch.arange(24.0).reshape(2, 4, 3)


def test_without_a_mask_all_rows_are_kept():
    assert masked_rows(ROWS, None, "here").shape == (8, 3)


def test_a_mask_of_tokens_keeps_their_rows():
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1]]).bool()
    assert masked_rows(ROWS, mask, "here")[:, 0].tolist() == [0, 9, 21]


def test_a_mask_of_examples_keeps_all_their_rows():
    assert masked_rows(ROWS, torch.tensor([False, True]), "here")[:, 0].tolist() == [12, 15, 18, 21]


def test_a_mask_of_tokens_fits_flattened_rows():
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1]]).bool()
    assert masked_rows(ROWS.reshape(8, 3), mask, "here")[:, 0].tolist() == [0, 9, 21]


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1]]), [9, 0, 21]),
        (torch.tensor([0, 1]), [21]),
        (torch.tensor([1, 0]), [9, 0]),
        (torch.zeros(2, 4), []),
    ],
)
def test_rows_in_an_order_of_their_own_are_chosen_by_token(mask, kept):
    index = torch.tensor([3, 0, 7])
    chosen = masked_rows(ROWS.reshape(8, 3)[index], mask.bool(), "here", Tokens(index, 8))
    assert chosen[:, 0].tolist() == kept


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 4, 3), (1, 2), (16,)])
def test_a_mask_that_does_not_fit_is_an_error(shape):
    mask = torch.ones(shape, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"got a mask of shape .* at here, .* axes \(2, 4\)"):
        masked_rows(ROWS, mask, "here")
    with pytest.raises(ValueError, match=r"expected the leading axes \(b, 8 / b\)"):
        masked_rows(ROWS.reshape(8, 3)[:3], mask, "here", Tokens(torch.arange(3), 8))


@pytest.mark.parametrize("mask", [torch.ones(2, 4), torch.ones(2, 4, dtype=torch.long), [[True] * 4] * 2])
def test_a_mask_that_is_not_boolean_is_an_error(mask):
    with pytest.raises(TypeError, match=r"expected a bool tensor; write mask\.bool\(\)"):
        masked_rows(ROWS, mask, "here")


def test_last_swaps_a_batch_that_comes_second():
    assert Last(swap=True)(ROWS).shape == (4, 2, 3)
    assert Last()(ROWS) is ROWS


def test_equal_ways_of_unfolding_are_equal_and_hashable():
    first, second = patches_of(nn.Conv2d(3, 4, 3)), patches_of(nn.Conv2d(3, 9, 3))
    assert first == second
    assert hash(first) == hash(second)
    assert first != patches_of(nn.Conv2d(3, 4, 3, padding=1))
    assert Last() == Last()
    assert Last() != Last(swap=True)


def test_the_first_tensor_is_found_by_position_or_keyword():
    assert first_tensor((ROWS,), {}, "here") is ROWS
    assert first_tensor((None,), {"input": ROWS}, "here") is ROWS
    with pytest.raises(TypeError, match="without a tensor"):
        first_tensor((1,), {"input": "x"}, "here")

"""Differences of parameters: what is equal is left out, what is thin says how much it keeps."""

import pytest
import torch
from torch import nn

from mnemotrace.adapters.difference import difference
from mnemotrace.core.edit import Dense
from mnemotrace.core.lowrank import LowRank


def test_equal_parameters_are_left_out_and_nothing_is_all() -> None:
    layer = nn.Linear(3, 2)
    after = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    assert difference(layer, after) == ((), 1.0)
    after["bias"] += 1
    (change,), energy = difference(layer, after)
    assert isinstance(change, Dense) and change.parameter == "bias" and energy == 1.0
    torch.testing.assert_close(change.values, torch.ones(2))


def test_maps_become_thin_and_the_rest_stays_whole() -> None:
    layer = nn.Linear(3, 2).double()
    delta = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64)) @ torch.eye(2, 3, dtype=torch.float64)
    after = {"weight": layer.weight.detach() + delta, "bias": layer.bias.detach() + 5}
    (thin, whole), energy = difference(layer, after, rank=1)
    assert isinstance(thin, LowRank) and isinstance(whole, Dense)
    torch.testing.assert_close(thin.weight(), torch.tensor([[0.0, 0, 0], [0, 4, 0]], dtype=torch.float64))
    assert energy == pytest.approx((16 + 50) / (25 + 50))


def test_low_precision_is_compared_in_float32() -> None:
    layer = nn.Linear(3, 2).bfloat16()
    (change,), _ = difference(layer, {"bias": layer.bias.detach().float() + 1e-4})
    assert isinstance(change, Dense) and change.values.dtype == torch.float32
    torch.testing.assert_close(change.values, torch.full((2,), 1e-4), rtol=1e-2, atol=0)

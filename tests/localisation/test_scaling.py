"""Factors by site: the published ones, as plain functions."""

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.localisation.scaling import count_ratio, product, relative_norm, uniform


@pytest.fixture
def engram() -> mt.Engram:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()
        rows = torch.randn(60, 6).double()
    a, b = (mt.collect(model, [part], dtype=torch.float64) for part in rows.split([15, 45]))
    return mt.engram(model, target=a, reference=b)


def test_uniform_is_the_strength_everywhere(engram: mt.Engram) -> None:
    assert uniform(engram, 0.6) == {"0": 0.6, "2": 0.6}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_count_ratio_is_relative_to_the_published_setting(engram: mt.Engram, power: float) -> None:
    assert count_ratio(engram, power) == pytest.approx({"0": 0.25 ** (power - 1), "2": 0.25 ** (power - 1)})
    assert count_ratio(engram) == {"0": 1.0, "2": 1.0}


def test_the_relative_norm_is_one_at_the_strongest_site(engram: mt.Engram) -> None:
    norms = {name: values["relative_norm"] for name, values in engram.evidence.items()}
    factors = relative_norm(engram, 2.0)
    assert max(factors.values()) == 1.0
    for name in engram:
        assert factors[name] == pytest.approx((norms[name] / max(norms.values())) ** 2)
    assert set(relative_norm(engram, 0.0).values()) == {1.0}


def test_factors_multiply_and_scale_each_site(engram: mt.Engram) -> None:
    factors = product(uniform(engram, 2.0), relative_norm(engram), count_ratio(engram, 2.0))
    scaled = engram.scaled(factors)
    for name, trace in engram.items():
        torch.testing.assert_close(scaled[name].dense(), factors[name] * trace.dense())


@pytest.mark.parametrize("scale", [count_ratio, relative_norm])
def test_an_engram_without_measurements_cannot_be_weighed(engram: mt.Engram, scale) -> None:
    with pytest.raises(
        ValueError, match=r"without measurements at \['0', '2'\]; expected one from mt.engram; scale before"
    ):
        scale(engram + engram)

"""Neurons against a slow loop and against snnTorch; the competition against one step after another."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.neurons import compete, integrate


def _current(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _slow(current: list[float], beta: float, threshold: float, reset: str) -> tuple[list[bool], float]:
    """One neuron, one step after another."""
    v, spikes = 0.0, []
    for now in current:
        v = beta * v + now
        spikes.append(v > threshold)
        if spikes[-1]:
            v = 0.0 if reset == "zero" else v - threshold
    return spikes, v


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0])
def test_neurons_are_those_of_a_slow_loop(beta: float, reset: Literal["zero", "subtract"]) -> None:
    current = _current(30, 4, 5)
    spikes, v = integrate(current, beta=beta, threshold=0.8, reset=reset)
    assert spikes.dtype == torch.bool
    assert 0.05 < spikes.double().mean() < 0.5
    for b in range(4):
        for i in range(5):
            wanted, last = _slow(current[:, b, i].tolist(), beta, 0.8, reset)
            assert spikes[:, b, i].tolist() == wanted
            assert abs(v[b, i] - last) <= 1e-12


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_spikes_equal_those_of_snntorch_under_equal_reset(reset: Literal["zero", "subtract"]) -> None:
    """Reset by subtraction: snnTorch's takes effect a step later unless told otherwise; to zero it is the same.

    Currents stay below the threshold: where more than a threshold is left after a reset, snnTorch subtracts before it
    compares.
    """
    snntorch = pytest.importorskip("snntorch")
    current = _current(60, 8, 32).float().clamp(max=1.0)
    layer = snntorch.Leaky(beta=0.9, threshold=1.0, reset_mechanism=reset, reset_delay=reset == "zero")
    v, theirs = layer.reset_mem(), []
    for now in current:
        fired, v = layer(now, v)
        theirs.append(fired.bool())
    ours, _ = integrate(current, beta=0.9, threshold=1.0, reset=reset)
    assert torch.equal(ours, torch.stack(theirs))
    assert ours.float().mean() > 0.02


def test_the_shape_of_a_layer_does_not_matter() -> None:
    current = _current(10, 3, 2, 4, 5)
    spikes, v = integrate(current, beta=0.9)
    flat, v_flat = integrate(current.flatten(1), beta=0.9)
    assert torch.equal(spikes.flatten(1), flat)
    assert torch.equal(v.flatten(), v_flat)


def test_an_infinite_threshold_only_adds_up() -> None:
    current = _current(10, 6)
    spikes, v = integrate(current, threshold=math.inf)
    assert not spikes.any()
    assert (v - current.sum(0)).abs().max() <= 1e-12


def _slow_competition(sums: torch.Tensor, threshold: float) -> torch.Tensor:
    """One sample as published: neurons are reset, each place keeps whether it is inhibited; (t, m, places) to steps."""
    current = torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1])).tolist()
    steps, maps, places = len(current), sums.shape[1], sums.shape[2]
    v = [[0.0] * places for _ in range(maps)]
    times, inhibited = [[steps] * places for _ in range(maps)], [False] * places
    for t in range(steps):
        for p in range(places):
            for m in range(maps):
                v[m][p] = (0.0 if v[m][p] > threshold else v[m][p]) + current[t][m][p]
            over = [m for m in range(maps) if v[m][p] > threshold]
            if over and not inhibited[p]:
                for m in over:
                    if all(v[m][p] >= v[k][p] for k in over):
                        times[m][p] = t
                inhibited[p] = True
    return torch.tensor(times)


@given(st.integers(0, 1000), st.booleans())
def test_competition_is_that_of_the_published_loop(seed: int, falling: bool) -> None:
    """Also where potentials fall; the currents are whole numbers, so that maps draw."""
    source = torch.Generator().manual_seed(seed)
    current = torch.randint(-2 if falling else 0, 4, (2, 6, 3, 7), generator=source).double()
    times, _ = compete(current.cumsum(1), threshold=3.5)
    for sample, found in zip(current.cumsum(1), times, strict=True):
        assert torch.equal(found.long(), _slow_competition(sample, 3.5))


@given(st.integers(0, 1000), st.integers(1, 4))
def test_a_place_spikes_once_in_its_strongest_maps(seed: int, winners: int) -> None:
    sums = torch.rand(2, 5, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).cumsum(1)
    times, strength = compete(sums, threshold=1.0, winners=winners)
    fired = times < 5
    over = strength > 1.0
    assert torch.equal(fired.sum(1), over.sum(1).clamp(max=winners))
    assert (times.long().where(fired, times.long().amin(1, keepdim=True)) == times.long().amin(1, keepdim=True)).all()
    weakest = strength.where(fired, torch.inf).amin(1)
    assert (strength.where(~fired, -torch.inf).amax(1) <= weakest).all()


def test_competition_works_without_places() -> None:
    times, _ = compete(torch.tensor([[[0.0, 2.0], [5.0, 3.0]]]), threshold=1.0)
    assert times.tolist() == [[2, 0]]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"beta": 1.5}, "got beta=1.5; expected the share"),
        ({"beta": math.nan}, "got beta=nan"),
        ({"threshold": 0.0}, r"got threshold=0.0; expected a number above 0, or math.inf"),
        ({"threshold": math.nan}, "got threshold=nan"),
        ({"reset": "half"}, "got reset='half'; expected 'zero' or 'subtract'"),
    ],
)
def test_wrong_settings_are_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integrate(_current(3, 2), **given_)


def test_a_broken_current_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="the current"):
        integrate(torch.tensor([[math.nan]]))


@pytest.mark.parametrize("winners", [0, 3])
def test_a_wrong_number_of_winners_is_refused(winners: int) -> None:
    with pytest.raises(ValueError, match=f"got winners={winners}; expected between 1 and the number of maps, 2"):
        compete(torch.zeros(1, 3, 2), threshold=1.0, winners=winners)

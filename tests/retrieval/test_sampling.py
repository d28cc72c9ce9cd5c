"""Samplers draw from the exact posterior, or follow the flow to where a finer one ends; partial cues too."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.retrieval.sampling import bridge, ddim, euler_maruyama, heun, noise_grid, overwriting

ALL = [euler_maruyama, bridge, ddim, heun]
RANDOM = [euler_maruyama, bridge]
D = 3


def _covariance() -> Tensor:
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(D, dtype=torch.float64)


class _Gaussian:
    """The exact denoiser of clean states that are N(0, C), for noise by feature."""

    def __init__(self, covariance: Tensor) -> None:
        self.covariance = covariance

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        noise = torch.diag(sigma.expand(1, D)[0].square())
        return x @ torch.linalg.solve(self.covariance + noise, self.covariance)


def _patterns(n: int = 8, d: int = 16, seed: int = 0) -> Tensor:
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values / values.norm(dim=1, keepdim=True)


def _cues(y: Tensor, sigma: float, b: int, seed: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(y), (b,), generator=source)
    return y[rows] + sigma * torch.randn(b, y.shape[1], generator=source, dtype=torch.float64)


# --- the grid


@given(sigma=st.floats(0.1, 50), smallest=st.floats(1e-3, 0.09), steps=st.integers(2, 60), spread=st.floats(0.01, 1))
def test_a_grid_falls_geometrically_and_small_noise_waits(
    sigma: float, smallest: float, steps: int, spread: float
) -> None:
    x = torch.zeros(4, D, dtype=torch.float64)
    own = torch.tensor([sigma, sigma * spread, smallest / 2], dtype=torch.float64)
    levels = noise_grid(own, x, steps=steps, smallest=smallest)
    assert levels.shape == (steps, 1, D)
    assert torch.allclose(levels[0, 0], own)
    ratios = levels[1:, 0, 0] / levels[:-1, 0, 0]
    assert torch.allclose(ratios, ratios[:1].expand_as(ratios), rtol=1e-9)
    assert float(levels[-1, 0, 0]) == pytest.approx(smallest)
    common = levels[:, 0, 0]
    assert torch.equal(levels[:, 0, 1], common.clamp_max(own[1]))
    assert bool((levels[:, 0, 2] == smallest / 2).all())


def test_noise_below_the_last_level_stays_and_states_have_levels_of_their_own() -> None:
    x = torch.zeros(2, D)
    assert torch.allclose(noise_grid(0.001, x, steps=4, smallest=0.1), torch.full((4, 1, 1), 0.001))
    levels = noise_grid(torch.tensor([[1.0], [4.0]]), x, steps=3, smallest=0.25)
    assert torch.allclose(levels[:, :, 0], torch.tensor([[1.0, 4.0], [0.5, 1.0], [0.25, 0.25]]))
    assert noise_grid(2.0, x, steps=1, smallest=0.1).tolist() == [[[2.0]]]


# --- statistics


@pytest.mark.parametrize("sampler", RANDOM)
def test_draws_have_the_mean_and_covariance_of_the_posterior(sampler, generator: torch.Generator) -> None:
    c, sigma = _covariance(), torch.tensor([0.2, 5.0, 1.0], dtype=torch.float64)
    x = torch.tensor([[0.7, -2.0, 1.0]], dtype=torch.float64).expand(20000, -1)
    found = sampler(_Gaussian(c), x, noise_grid(sigma, x, steps=200, smallest=0.01), generator=generator)
    gain = torch.linalg.solve(c + torch.diag(sigma**2), c).T
    posterior = c - gain @ c
    spread = posterior.diagonal().sqrt()
    assert float(((found.mean(0) - gain @ x[0]) / spread).abs().max()) <= 0.05
    assert float((found.T.cov() - posterior).norm() / posterior.norm()) <= 0.06


def test_a_bridge_has_the_noise_of_the_next_level_however_long_the_step(generator: torch.Generator) -> None:
    y, seen = torch.zeros(1, D, dtype=torch.float64), []
    memory, x = DiffusionMemory(y), torch.randn(20000, D, generator=generator, dtype=torch.float64)
    bridge(lambda x, s: (seen.append(x), memory(x, s))[1], x, [1.0, 0.3], generator=generator)
    assert float(seen[1].square().mean()) == pytest.approx(0.09, rel=0.03)


@pytest.mark.parametrize("sampler", ALL)
def test_with_one_pattern_every_sampler_ends_at_it(sampler, generator: torch.Generator) -> None:
    y = _patterns(1)
    found = sampler(
        DiffusionMemory(y), _cues(y, 2.0, 20), noise_grid(2.0, y, steps=8, smallest=0.01), generator=generator
    )
    assert torch.allclose(found, y.expand(20, -1), atol=1e-12)


def test_fifty_steps_draw_stored_patterns_as_often_as_they_are_likely(generator: torch.Generator) -> None:
    y, sigma, count = _patterns(), 0.5, 3000
    memory, cue = DiffusionMemory(y), _cues(y, 0.5, 4)
    chances = memory.posterior(cue, sigma=sigma)
    x = cue.repeat_interleave(count, 0)

    def distance(states: Tensor) -> float:
        ends = torch.cdist(states, y).argmin(1).view(len(cue), count)
        shares = torch.stack([(ends == n).double().mean(1) for n in range(len(y))], 1)
        return float(0.5 * (shares - chances).abs().sum(1).mean())

    exact = memory.sample(cue, sigma=sigma, count=count, generator=generator).transpose(0, 1).reshape(-1, y.shape[1])
    floor = distance(exact)
    assert (
        distance(euler_maruyama(memory, x, noise_grid(sigma, x, steps=50, smallest=0.01), generator=generator))
        <= floor + 0.02
    )
    assert distance(heun(memory, x, noise_grid(sigma, x, steps=50, smallest=0.01))) > floor + 0.1


def test_ten_heun_steps_end_where_four_hundred_do() -> None:
    y = _patterns()
    memory, cue = DiffusionMemory(y), _cues(y, 0.45, 300)
    ends = [
        torch.cdist(heun(memory, cue, noise_grid(0.45, cue, steps=steps, smallest=0.01)), y).argmin(1)
        for steps in (10, 400)
    ]
    assert float((ends[0] == ends[1]).double().mean()) >= 0.99


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2)])
def test_the_flow_of_a_gaussian_is_met_in_its_order(sampler, order: int) -> None:
    """In one dimension the flow is known: x shrinks as the root of variance plus noise."""
    variance, begin, end = 2.0, 3.0, 0.5
    x = torch.tensor([[1.0]], dtype=torch.float64)
    exact = math.sqrt((variance + end**2) / (variance + begin**2))
    wanted = exact * variance / (variance + end**2)
    errors = []
    for steps in (21, 41, 81):
        levels = noise_grid(begin, x, steps=steps, smallest=end)
        errors.append(abs(float(sampler(lambda x, s: x * variance / (variance + s**2), x, levels)) - wanted))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


# --- partial cues


def test_noise_by_feature_conditions_and_overwriting_does_not(generator: torch.Generator) -> None:
    """What is known of one feature, exactly; the others must be drawn from the conditional law."""
    c = _covariance()
    known = torch.tensor([True, False, False])
    cue = torch.tensor([[1.5, 0.0, 0.0]], dtype=torch.float64).expand(6000, -1)
    mean = c[1:, 0] / c[0, 0] * 1.5
    spread = (c[1:, 1:] - torch.outer(c[1:, 0], c[0, 1:]) / c[0, 0]).diagonal().sqrt()
    drawn = 30 * torch.randn(cue.shape, generator=generator, dtype=torch.float64)
    x = torch.where(known, cue, drawn)
    own = torch.where(known, 0.02, 30.0).double()
    ours = euler_maruyama(_Gaussian(c), x, noise_grid(own, x, steps=120, smallest=0.01), generator=generator)
    baseline = overwriting(_Gaussian(c), cue, known=known, generator=generator)
    theirs = euler_maruyama(baseline, drawn, noise_grid(30.0, x, steps=120, smallest=0.01), generator=generator)
    assert float(((ours[:, 1:].mean(0) - mean) / spread).abs().max()) <= 0.08
    assert torch.allclose(ours[:, 0], cue[:, 0], atol=0.1)
    assert torch.equal(theirs[:, 0], cue[:, 0])
    assert float(((theirs[:, 1:].mean(0) - mean) / spread).abs().max()) > 0.8


def test_a_feature_at_the_same_level_does_not_move() -> None:
    y = _patterns()
    x = _cues(y, 0.4, 5)
    levels = torch.tensor([0.4, 0.4, 0.4], dtype=torch.float64)
    for sampler in ALL:
        seen = []
        memory = DiffusionMemory(y)
        sampler(lambda x, s, seen=seen, memory=memory: (seen.append(x), memory(x, s))[1], x, levels)
        assert all(torch.allclose(state, x, atol=1e-14) for state in seen)


# --- randomness and calls


def test_the_same_seed_gives_the_same_and_no_seed_is_seed_0() -> None:
    y = _patterns()
    memory, x = DiffusionMemory(y), _cues(y, 0.6, 40)
    levels = noise_grid(0.6, x, steps=10, smallest=0.01)
    for sampler in RANDOM:
        first, second, other = (
            sampler(memory, x, levels, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
        assert torch.equal(first, sampler(memory, x, levels))
    for sampler in (ddim, heun):
        assert torch.equal(
            sampler(memory, x, levels), sampler(memory, x, levels, generator=torch.Generator().manual_seed(7))
        )


@pytest.mark.parametrize(("sampler", "calls"), [(euler_maruyama, 10), (bridge, 10), (ddim, 10), (heun, 19)])
def test_ten_levels_cost_ten_calls_and_nineteen_for_heun(sampler, calls: int) -> None:
    y, count = _patterns(), []
    memory, x = DiffusionMemory(y), _cues(y, 0.6, 3)
    sampler(lambda x, s: (count.append(s), memory(x, s))[1], x, noise_grid(0.6, x, steps=10, smallest=0.01))
    assert len(count) == calls


@pytest.mark.parametrize("sampler", ALL)
def test_bad_levels_and_states_are_refused(sampler) -> None:
    y = _patterns()
    memory, x = DiffusionMemory(y), _cues(y, 0.6, 3)
    with pytest.raises(ValueError, match=r"of shape \(2, 1, 1\) from 0.1 to 0.2; expected \(s,\), \(s, 16\)"):
        sampler(memory, x, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"got noise levels of shape \(0, 1, 1\); expected"):
        sampler(memory, x, [])
    with pytest.raises(ValueError, match="from inf to 0.2; expected .* positive, finite, none above the one before it"):
        sampler(memory, x, [torch.inf, 0.2])
    with pytest.raises(ValueError, match="from 0.2 to 0; expected"):
        sampler(memory, x, [0.2, 0.0])
    with pytest.raises(ValueError, match=r"got noise levels of shape \(1, 1, 4\); expected"):
        sampler(memory, x, torch.ones(1, 4))
    with pytest.raises(NonFiniteError, match="in the recalled states"):
        sampler(lambda x, s: x * torch.nan, x, [0.2])
    with pytest.raises(NonFiniteError, match="in the states"):
        sampler(memory, x * torch.inf, [0.2])


def test_bad_grids_are_refused() -> None:
    x = torch.zeros(2, D)
    with pytest.raises(ValueError, match="got steps=0, smallest=0.1 and noise up to 1; expected at least 1 step"):
        noise_grid(1.0, x, steps=0, smallest=0.1)
    with pytest.raises(ValueError, match="noise up to inf; .* take ten times its spread"):
        noise_grid(torch.inf, x, steps=3, smallest=0.1)
    with pytest.raises(ValueError, match="smallest=0"):
        noise_grid(1.0, x, steps=3, smallest=0)
    with pytest.raises(TypeError, match="got a mask of torch.float32; expected a boolean tensor"):
        overwriting(_Gaussian(_covariance()), x, known=x)

"""A general forgetting process: exact for quadratic potentials, near the patterns for others, refused without one."""

import math

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.sde import GeneralSDE

D, N, B, RATE = 4, 6, 5, 0.8


def _store(seed: int = 0) -> Patterns:
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(N, D, generator=source, dtype=torch.float64)
    return Patterns(values, weights=torch.rand(N, generator=source, dtype=torch.float64) + 0.2)


def _states(seed: int = 1) -> Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _quartic(x: Tensor) -> Tensor:
    """Coupled, and of no constant curvature."""
    return 0.5 * x.square().sum() - 0.25 * x.pow(4).sum() + 0.3 * x[0] * x[1]


@pytest.mark.parametrize("elapsed", [0.05, 0.7, 3.0])
def test_an_ornstein_uhlenbeck_process_is_variance_preserving_diffusion(elapsed: float) -> None:
    store, x = _store(), _states()
    process = GeneralSDE(store, potential=lambda x: -RATE * x.square().sum() / 4, sigma=math.sqrt(RATE))
    alpha = math.exp(-RATE * elapsed / 2)
    sigma = math.sqrt(1 / alpha**2 - 1)
    wanted = DiffusionMemory(store).score(x, sigma=sigma, coordinates="preserving")
    assert torch.allclose(process.score(x, elapsed=elapsed), wanted, atol=1e-9)
    assert torch.allclose(process.recall_drift(x, elapsed=elapsed), RATE * (wanted + x / 2), atol=1e-9)


def test_without_a_potential_it_is_variance_exploding_diffusion() -> None:
    store, x = _store(), _states()
    process = GeneralSDE(store, drift=torch.zeros_like, sigma=0.6)
    wanted = DiffusionMemory(store).score(x, sigma=0.6 * math.sqrt(1.5))
    assert torch.allclose(process.score(x, elapsed=1.5), wanted, atol=1e-9)


@pytest.mark.parametrize("singular", [False, True])
def test_a_linear_drift_has_the_moments_of_the_block_exponential(singular: bool) -> None:
    """The oracle: Van Loan's block exponential of drift, offset and noise, which knows no eigenvectors."""
    source = torch.Generator().manual_seed(3)
    a = torch.randn(D, D, generator=source, dtype=torch.float64)
    h, g, elapsed, sigma = a + a.T, torch.randn(D, generator=source, dtype=torch.float64), 0.4, 0.9
    h = h.clone()
    if singular:
        h[0], h[:, 0] = 0, 0
    process = GeneralSDE(_store(), potential=lambda x: x @ h @ x / 2 + g @ x, sigma=sigma)
    means, spread = process._moments(elapsed)
    block = torch.zeros(2 * D, 2 * D, dtype=torch.float64)
    block[:D, :D], block[:D, D:], block[D:, D:] = -h, sigma**2 * torch.eye(D), h.T
    whole = torch.matrix_exp(block * elapsed)
    covariance = whole[D:, D:].T @ whole[:D, D:]
    affine = torch.zeros(D + 1, D + 1, dtype=torch.float64)
    affine[:D, :D], affine[:D, D] = h, g
    forward = torch.matrix_exp(affine * elapsed)
    assert torch.allclose(means, process.patterns.values @ forward[:D, :D].T + forward[:D, D], atol=1e-10)
    found = process.vectors @ torch.diag_embed(spread) @ process.vectors.mT
    assert torch.allclose(found, covariance.expand(N, D, D), atol=1e-10)


def _propagated(grid: Tensor, start: float, elapsed: float, sigma: float) -> Tensor:
    """Density of a one-dimensional process by Chapman and Kolmogorov with small steps."""
    steps = 200
    dt = elapsed / steps
    drift = grid - grid**3
    kernel = torch.exp(-(grid[:, None] - grid - drift * dt).square() / (2 * sigma**2 * dt))
    kernel = kernel / kernel.sum(0)
    first = start + (start - start**3) * dt
    density = torch.exp(-(grid - first).square() / (2 * sigma**2 * dt))
    for _ in range(steps - 1):
        density = kernel @ density
    return density / (density.sum() * (grid[1] - grid[0]))


def test_the_linearised_kernel_is_better_the_less_time_has_gone_and_better_than_none() -> None:
    grid = torch.linspace(-2.5, 2.5, 801, dtype=torch.float64)
    start, sigma, errors, plain = 0.6, 0.7, [], []
    store = torch.tensor([[start]], dtype=torch.float64)
    process = GeneralSDE(store, potential=lambda x: (x.square() / 2 - x.pow(4) / 4).sum(), sigma=sigma)
    for elapsed in (0.4, 0.1, 0.05):
        truth = _propagated(grid, start, elapsed, sigma)
        for kept, score in (
            (errors, process.log_kernel(grid[:, None], elapsed=elapsed)[:, 0]),
            (
                plain,
                -(grid - start).square() / (2 * sigma**2 * elapsed)
                - math.log(sigma * math.sqrt(2 * math.pi * elapsed)),
            ),
        ):
            kept.append(float((score.exp() - truth).abs().sum() * (grid[1] - grid[0]) / 2))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 0.01
    assert all(ours < theirs for ours, theirs in zip(errors, plain, strict=True))


def test_printed_equation_19_fails_where_the_corrected_one_holds() -> None:
    """Printed, the step is grad v = H (x - y) near a pattern; it is grad v + H (x - y)."""
    store = _store()
    process = GeneralSDE(store, potential=_quartic, sigma=1.0)
    near = store.values + 1e-3 * _states(5)[:1]
    wanted = torch.func.vmap(process.drift)(near)
    hessian = process.vectors @ torch.diag_embed(process.values) @ process.vectors.mT
    linear = torch.einsum("nij,nj->ni", hessian, near - store.values)
    assert float((process.gradient + linear - wanted).abs().max()) <= 1e-4
    assert float((linear - wanted).abs().max()) > 0.1


def test_score_and_drift_are_gradients_of_density_and_energy() -> None:
    process = GeneralSDE(_store(), potential=_quartic, sigma=0.5)
    x = _states().requires_grad_()
    (slope,) = torch.autograd.grad(process.energy(x, elapsed=0.1).sum(), x)
    assert torch.allclose(-slope, process.recall_drift(x, elapsed=0.1), atol=1e-9)
    by_drift = GeneralSDE(_store(), drift=process.drift, sigma=0.5)
    assert torch.allclose(by_drift.recall_drift(x, elapsed=0.1), -slope, atol=1e-9)


def test_a_kernel_of_the_users_is_used() -> None:
    store, x = _store(), _states()

    def exploding(x: Tensor, y: Tensor, elapsed: float) -> Tensor:
        return -torch.cdist(x, y).square() / (2 * elapsed)

    process = GeneralSDE(store, drift=lambda x: -x, sigma=1.0, kernel=exploding)
    assert torch.allclose(process.score(x, elapsed=0.3), DiffusionMemory(store).score(x, sigma=0.3**0.5), atol=1e-9)


def test_a_drift_that_is_no_gradient_is_refused() -> None:
    turn = torch.eye(D, dtype=torch.float64)
    turn[0, 1], turn[1, 0] = 0.5, -0.5
    with pytest.raises(
        ValueError, match="differs from its transpose by 1, with entries up to 1; expected a gradient field"
    ):
        GeneralSDE(_store(), drift=lambda x: turn @ x, sigma=1.0)
    assert GeneralSDE(_store(), drift=lambda x: (turn + turn.T) @ x, sigma=1.0).d == D


def test_bad_input_is_refused() -> None:
    store, x = _store(), _states()
    with pytest.raises(TypeError, match="got neither of potential and drift"):
        GeneralSDE(store, sigma=1.0)
    with pytest.raises(TypeError, match="got both of potential and drift"):
        GeneralSDE(store, sigma=1.0, potential=_quartic, drift=torch.neg)
    with pytest.raises(ValueError, match="got sigma=0; expected a positive, finite number"):
        GeneralSDE(store, sigma=0, potential=_quartic)
    with pytest.raises(
        ValueError, match=r"got a potential of shape \(4,\) for one state of shape \(4,\); expected \(\)"
    ):
        GeneralSDE(store, sigma=1.0, potential=torch.square)
    with pytest.raises(ValueError, match=r"got a drift of shape \(\) for one state of shape \(4,\); expected \(4,\)"):
        GeneralSDE(store, sigma=1.0, drift=torch.sum)
    with pytest.raises(NonFiniteError, match="in the drift at the patterns"):
        GeneralSDE(store, sigma=1.0, drift=lambda x: x * torch.inf)
    process = GeneralSDE(store, sigma=1.0, drift=torch.neg, kernel=lambda x, y, elapsed: x)
    with pytest.raises(ValueError, match=r"got a kernel of shape \(5, 4\); expected \(5, 6\)"):
        process.score(x, elapsed=0.1)
    with pytest.raises(ValueError, match="got elapsed=0; expected a positive, finite time"):
        process.score(x, elapsed=0)
    with pytest.raises(ValueError, match="got a process given by its drift; expected one given by its potential"):
        process.energy(x, elapsed=0.1)

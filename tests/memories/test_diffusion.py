"""Stored patterns as a diffusion model: identities to machine precision, and printed equations that fail."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Denoiser, Memory
from mnemotrace.memories.diffusion import DiffusionMemory, alpha_of
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.retrieval.dynamics import recall

D, N, B = 6, 9, 5


def _memory(seed: int = 0, *, unit: bool = False, sigma: float = 0.7, weighted: bool = True) -> DiffusionMemory:
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(N, D, generator=source, dtype=torch.float64)
    values = values / values.norm(dim=1, keepdim=True) if unit else values
    weights = torch.rand(N, generator=source, dtype=torch.float64) + 0.1 if weighted else None
    return DiffusionMemory(Patterns(values, weights=weights), sigma=sigma)


def _states(seed: int = 1, b: int = B) -> Tensor:
    return torch.randn(b, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _log_density(memory: DiffusionMemory, x: Tensor, alpha: Tensor | float, s: Tensor | float) -> Tensor:
    """Write the mixture of Gaussians out, pattern by pattern."""
    s = torch.as_tensor(s, dtype=x.dtype).expand(x.shape)
    weights = memory.patterns.weights / memory.patterns.weights.sum()
    logs = []
    for pattern, weight in zip(memory.patterns.values, weights, strict=True):
        quadratic = ((x - alpha * pattern) / s).square() / 2
        logs.append(weight.log() - (quadratic + s.log() + 0.5 * math.log(2 * math.pi)).sum(1))
    return torch.logsumexp(torch.stack(logs, 1), 1)


def _slope(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def _noise(kind: str) -> Tensor:
    source = torch.Generator().manual_seed(5)
    shape = {"number": (), "feature": (D,), "state": (B, 1), "each": (B, D)}[kind]
    return 0.2 + torch.rand(shape, generator=source, dtype=torch.float64)


NOISE = ["number", "feature", "state", "each"]


@pytest.mark.parametrize("kind", NOISE)
def test_the_score_is_the_gradient_of_the_log_density_written_out(kind: str) -> None:
    memory, x, sigma = _memory(), _states(), _noise(kind)
    assert torch.allclose(
        memory.score(x, sigma=sigma), _slope(lambda x: _log_density(memory, x, 1.0, sigma), x), atol=1e-9
    )
    alpha = (1 + sigma**2) ** -0.5
    wanted = _slope(lambda x: _log_density(memory, x, alpha, (1 - alpha**2).sqrt()), x)
    assert torch.allclose(memory.score(x, sigma=sigma, coordinates="preserving"), wanted, atol=1e-9)
    assert torch.allclose(alpha_of(sigma).square() / (1 - alpha_of(sigma).square()), sigma**-2, rtol=1e-12)


@given(seed=st.integers(0, 2**31), sigma=st.floats(0.05, 20))
def test_tweedie_holds_the_denoiser_is_the_state_plus_the_scaled_score(seed: int, sigma: float) -> None:
    memory, x = _memory(seed), _states(seed)
    wanted = x + sigma**2 * _slope(lambda x: _log_density(memory, x, 1.0, sigma), x)
    assert torch.allclose(memory(x, sigma), wanted, atol=1e-9 * (1 + sigma**2))
    assert torch.equal(memory(x, sigma), memory.expected(x, sigma=sigma))


@pytest.mark.parametrize("kind", NOISE)
def test_the_posterior_is_bayes_rule_written_out(kind: str) -> None:
    memory, x, sigma = _memory(), _states(), _noise(kind)
    chances = torch.zeros(B, N, dtype=torch.float64)
    for b in range(B):
        for n in range(N):
            deviation = (x[b] - memory.patterns.values[n]) / sigma.expand(B, D)[b]
            chances[b, n] = memory.patterns.weights[n] * torch.exp(-0.5 * deviation.square().sum())
    wanted = chances / chances.sum(1, keepdim=True)
    assert torch.allclose(memory.posterior(x, sigma=sigma), wanted, atol=1e-12)
    assert torch.allclose(memory(x, sigma), wanted @ memory.patterns.values, atol=1e-12)


@given(seed=st.integers(0, 2**31), beta=st.floats(1, 1e4))
def test_its_energy_is_that_of_a_modern_hopfield_network_at_every_temperature(seed: int, beta: float) -> None:
    memory, x = _memory(seed, unit=True, weighted=False), _states(seed)
    overlap = x @ memory.patterns.values.T
    modern = 0.5 * x.square().sum(1) - torch.logsumexp(beta * overlap, 1) / beta
    difference = memory.energy(x, sigma=beta**-0.5) - modern
    assert float(difference.max() - difference.min()) <= 1e-12
    assert float(difference[0]) == pytest.approx(0.5, abs=1e-12)  # half the patterns' norm; log N is left out
    printed = memory.energy(x, sigma=beta**-0.5) - 0.5 * x.square().sum(1) + beta * x.square().sum(1)
    assert float((printed - modern).max() - (printed - modern).min()) > 1e-3  # eq 13 as printed: |x|^2 / (T - t)^2


def test_energy_and_density_differ_by_a_constant_whatever_the_norms() -> None:
    memory, x = _memory(), _states()
    for sigma in (0.1, 1.0, 10.0):
        difference = memory.energy(x, sigma=sigma) + sigma**2 * _log_density(memory, x, 1.0, sigma)
        assert float(difference.max() - difference.min()) <= 1e-10


@given(seed=st.integers(0, 2**31), sigma=st.floats(0.05, 5))
def test_a_sweep_never_raises_the_energy(seed: int, sigma: float) -> None:
    memory, x = _memory(seed, sigma=sigma), _states(seed)
    for _ in range(5):
        after = memory.sweep(x)
        assert bool((memory.energy(after) <= memory.energy(x) + 1e-10).all())
        x = after


@pytest.mark.parametrize("beta", [1.0, 8.0, 64.0, 256.0])
def test_scores_vanish_where_hopfield_networks_rest_and_the_reversed_drift_elsewhere(beta: float) -> None:
    memory, x = _memory(unit=True, weighted=False), _states(b=200)
    y, sigma = memory.patterns.values, beta**-0.5
    for _ in range(3000):
        x = torch.softmax(beta * x @ y.T, 1) @ y
    assert float((memory.score(x, sigma=sigma) * sigma**2).abs().max()) <= 1e-10
    alpha = math.sqrt(beta / (1 + beta))
    preserving = memory.score(alpha * x, sigma=sigma, coordinates="preserving")
    assert float((preserving * sigma**2 * alpha).abs().max()) <= 1e-10
    drift = 0.5 * alpha * x + preserving
    assert float(drift.abs().max()) > 1e-2
    if beta >= 64:  # where drift vanishes is 1 / 2b away
        z = x.clone()
        for _ in range(200):
            z = torch.softmax(beta * z @ y.T, 1) @ y / (1 - 0.5 / (1 + beta))
        offset = float((z - x).norm(dim=1).max())
        assert offset == pytest.approx(1 / (2 * beta), rel=0.05)
        assert (
            float((0.5 * alpha * z + memory.score(alpha * z, sigma=sigma, coordinates="preserving")).abs().max()) < 1e-8
        )


def test_printed_equations_9_and_10_fail() -> None:
    """Clean data at T: noise has standard deviation sigma sqrt(T - t), and not sigma t or sigma."""
    memory, x, rate, end, t = _memory(), _states(), 1.3, 2.0, 1.7
    spread = rate * math.sqrt(end - t)
    wanted = _slope(lambda x: _log_density(memory, x, 1.0, spread), x)
    best = (x - memory(x, spread)) / spread  # what minimises equation 9: the noise that is expected
    assert float((-best / spread - wanted).abs().max()) <= 1e-12
    assert float((-best / rate - wanted).abs().max()) > 0.1
    printed = (x - memory(x, spread)) / (rate * t)
    assert float((-printed / spread - wanted).abs().max()) > 0.1


def test_at_a_frozen_time_the_reversed_diffusion_rests_at_the_squared_density(generator: torch.Generator) -> None:
    memory = DiffusionMemory(torch.zeros(1, 1, dtype=torch.float64))
    x, sigma, dt = torch.randn(20000, 1, generator=generator, dtype=torch.float64), 1.0, 0.02
    for _ in range(300):
        drawn = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = x + memory.score(x, sigma=sigma) * dt + math.sqrt(dt) * drawn
    assert float(x.var()) == pytest.approx(0.5, abs=0.05)


# --- three questions


def test_expected_map_and_sample_answer_three_questions(generator: torch.Generator) -> None:
    values = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    memory = DiffusionMemory(Patterns(values, weights=torch.tensor([1.0, 3.0], dtype=torch.float64)))
    cue = torch.zeros(1, 2, dtype=torch.float64)
    assert torch.allclose(memory.expected(cue), torch.tensor([[0.5, 0.0]], dtype=torch.float64))
    assert torch.equal(memory.map(cue), values[1:])
    drawn = memory.sample(cue, count=4000, generator=generator)
    assert drawn.shape == (4000, 1, 2)
    assert float((drawn[:, 0, 0] > 0).double().mean()) == pytest.approx(0.75, abs=0.03)
    assert set(drawn[:, 0, 0].tolist()) == {-1.0, 1.0}


def test_map_is_the_nearest_pattern_and_not_that_of_the_largest_product() -> None:
    memory = _memory(weighted=False)
    x = _states(b=500)
    nearest = torch.cdist(x, memory.patterns.values).argmin(1)
    assert torch.equal(memory.map(x, sigma=0.01), memory.patterns.values[nearest])
    assert torch.equal(memory.map(x, sigma=100.0), memory.patterns.values[nearest])
    product = (x @ memory.patterns.values.T).argmax(1)
    assert float((product == nearest).double().mean()) < 0.95


def test_map_is_right_at_least_as_often_as_a_draw(generator: torch.Generator) -> None:
    memory = _memory(unit=True, weighted=False)
    for sigma in (0.2, 0.5, 1.0):
        truth = torch.randint(N, (3000,), generator=generator)
        clean = memory.patterns.values[truth]
        cue = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        right = [
            float((found == clean).all(1).double().mean())
            for found in (memory.map(cue, sigma=sigma), memory.sample(cue, sigma=sigma, generator=generator)[0])
        ]
        assert right[0] >= right[1]


def test_the_same_seed_draws_the_same_and_no_seed_is_seed_0() -> None:
    memory, x = _memory(), _states()
    draws = [memory.sample(x, count=20, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], memory.sample(x, count=20))


# --- noise by feature


def test_infinite_noise_ignores_a_feature_and_no_noise_pins_it() -> None:
    memory, x = _memory(weighted=False), _states()
    sigma = torch.full((D,), 0.5, dtype=torch.float64)
    sigma[0] = torch.inf
    without = DiffusionMemory(memory.patterns.values[:, 1:])
    assert torch.allclose(memory.posterior(x, sigma=sigma), without.posterior(x[:, 1:], sigma=0.5), atol=1e-14)
    sigma[0] = 1e12
    assert torch.allclose(memory.posterior(x, sigma=sigma), without.posterior(x[:, 1:], sigma=0.5), atol=1e-10)
    for pinned in (1e-6, 1e-30, 1e-300):
        sigma[0] = pinned
        nearest = (x[:, :1] - memory.patterns.values[:, 0]).abs().argmin(1)
        assert torch.equal(memory.posterior(x, sigma=sigma).argmax(1), nearest)
        assert torch.equal(memory.map(x, sigma=sigma), memory.patterns.values[nearest])


def test_with_nothing_known_the_mean_of_what_is_stored_is_expected() -> None:
    memory, x = _memory(), _states()
    weights = memory.patterns.weights / memory.patterns.weights.sum()
    assert torch.allclose(memory(x, torch.inf), (weights @ memory.patterns.values).expand(B, -1), atol=1e-14)
    assert torch.allclose(memory.posterior(x, sigma=torch.inf), weights.expand(B, -1), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_noise_stays_finite(dtype: torch.dtype) -> None:
    memory, x = _memory().to(dtype), _states().to(dtype)
    for sigma in (1e-30, 1e-6):
        assert bool(memory(x, sigma).isfinite().all())
        assert torch.allclose(memory.posterior(x, sigma=sigma).sum(1), torch.ones(B, dtype=dtype))


# --- as a memory


def test_it_is_a_memory_and_a_denoiser_and_keeps_what_is_known() -> None:
    memory, x = _memory(), _states()
    assert isinstance(memory, Memory)
    assert isinstance(memory, Denoiser)
    known = torch.zeros(D, dtype=torch.bool)
    known[:2] = True
    after = memory.sweep(x, known=known)
    assert torch.equal(after[:, :2], x[:, :2])
    assert torch.equal(after[:, 2:], memory(x, memory.sigma)[:, 2:])
    assert torch.equal(memory.sweep(x), memory(x, memory.sigma))


def test_a_store_is_shared_and_not_copied() -> None:
    patterns = Patterns(_memory().patterns.values)
    first, second = DiffusionMemory(patterns), DiffusionMemory(patterns, sigma=0.1)
    first.patterns.add(_states()[0])
    assert len(second.patterns) == N + 1
    assert second.patterns is first.patterns


@given(seed=st.integers(0, 2**31), weight=st.floats(0.01, 100))
def test_a_removed_pattern_was_never_there(seed: int, weight: float) -> None:
    memory, x = _memory(seed), _states(seed)
    before = memory.energy(x), memory(x, 0.4), memory.posterior(x)
    handles = memory.patterns.add(_states(seed + 1, 2), weight=weight)
    memory.patterns.reweight(handles, 2 * weight)
    assert not torch.equal(memory.energy(x), before[0])
    memory.patterns.remove(handles)
    for now, then in zip((memory.energy(x), memory(x, 0.4), memory.posterior(x)), before, strict=True):
        assert torch.allclose(now, then, rtol=1e-12, atol=1e-13)


@given(seed=st.integers(0, 2**31), sigma=st.floats(1e-3, 1e3))
def test_a_file_gives_the_same_memory_back(seed: int, sigma: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    memory = _memory(seed, sigma=sigma)
    gone = memory.patterns.add(_states(seed))
    memory.patterns.remove(gone[:2])
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    write(memory.pack(), path)
    again = DiffusionMemory.unpack(read(path, "diffusion_memory"))
    assert again.sigma == sigma
    for name, stored in memory.patterns.named_buffers():
        assert torch.equal(again.patterns.get_buffer(name), stored)
    assert torch.allclose(again.energy(_states()), memory.energy(_states()), rtol=1e-13)
    assert again.patterns.add(_states(b=1)) == memory.patterns.add(_states(b=1))


def test_answers_are_of_the_states_precision_and_patterns_may_be_stored_in_half() -> None:
    memory, x = _memory(), _states()
    half, single, double = torch.float16, torch.float32, torch.float64
    for stored, asked in ((single, double), (half, single), (double, single)):
        other = DiffusionMemory(memory.patterns.values.to(stored), weights=memory.patterns.weights)
        rows = x.to(asked)
        for found, wanted in (
            (other(rows, 0.5), memory(x, 0.5)),
            (other.energy(rows, sigma=0.5), memory.energy(x, sigma=0.5)),
            (other.score(rows, sigma=0.5), memory.score(x, sigma=0.5)),
            (other.sweep(rows), memory(x, 1.0)),
        ):
            assert found.dtype == asked
            assert torch.allclose(found.double(), wanted, atol=1e-2)


def test_a_modern_hopfield_network_on_the_same_store_is_the_same_memory() -> None:
    memory, x = _memory(sigma=0.6), _states()
    hopfield = ModernHopfield(memory.patterns, beta=memory.sigma**-2)
    assert torch.allclose(hopfield.energy(x), memory.energy(x), atol=1e-12)
    assert torch.allclose(hopfield.sweep(x), memory.sweep(x), atol=1e-12)
    assert torch.allclose(hopfield.posterior(x), memory.posterior(x), atol=1e-12)
    again = DiffusionMemory(hopfield.patterns, sigma=hopfield.beta**-0.5)
    hopfield.patterns.add(x[0])
    assert len(again) == len(memory) == N + 1
    assert torch.allclose(hopfield.energy(x), again.energy(x), atol=1e-12)


def test_it_is_recalled_from_by_dynamics() -> None:
    memory = _memory(sigma=0.2)
    found = recall(memory, memory.patterns.values + 0.05)
    assert bool(found.converged.all())
    assert torch.allclose(found.state, memory.patterns.values, atol=1e-3)


# --- errors


def test_bad_input_is_refused() -> None:
    memory, x = _memory(), _states()
    with pytest.raises(ValueError, match="got sigma=0; expected one positive, finite number"):
        DiffusionMemory(x, sigma=0)
    with pytest.raises(ValueError, match="got weights beside a store, which has its own; expected one of them"):
        DiffusionMemory(memory.patterns, weights=torch.ones(N))
    with pytest.raises(ValueError, match=r"got patterns \(6,\); expected a tensor of shape \(n, d\)"):
        DiffusionMemory(x[0])
    with pytest.raises(ValueError, match=r"got states of shape \(5, 4\); expected \(6,\) or \(b, 6\)"):
        memory(x[:, :4], 1.0)
    with pytest.raises(TypeError, match="got a tensor of torch.int64 as states"):
        memory.map(x.long())
    with pytest.raises(ValueError, match="got sigma with values that are not above 0"):
        memory.posterior(x, sigma=0.0)
    with pytest.raises(ValueError, match=r"got sigma with shape \(4,\); expected a positive standard deviation"):
        memory.expected(x, sigma=torch.ones(4))
    with pytest.raises(ValueError, match=r"got sigma of shape \(1, 6\), up to 1; expected finite noise"):
        memory.energy(x, sigma=torch.ones(D))
    with pytest.raises(ValueError, match="up to inf; expected finite noise"):
        memory.energy(x, sigma=torch.inf)
    with pytest.raises(ValueError, match="got coordinates='vp'; expected 'exploding' or 'preserving'"):
        memory.score(x, coordinates="vp")
    with pytest.raises(ValueError, match="got count=0; expected at least 1 draw"):
        memory.sample(x, count=0)
    with pytest.raises(TypeError, match="got a mask of torch.float64; expected a boolean tensor"):
        memory.sweep(x, known=x)
    x[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="1 non-finite of 30 entries in the states"):
        memory(x, 1.0)

"""The corrected energies and the published ones side by side; forgetting; the temperature that is chosen."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.core.memory import Memory
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.separation import separating_beta


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _spread(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Directions with lengths between 0.5 and 2."""
    lengths = 0.5 + 1.5 * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(_normal(n, d, seed=seed), dim=1) * lengths


def _signs(n: int, d: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, (n, d), generator=generator).double() * 2 - 1


def _rest(memory: ModernHopfield, x: torch.Tensor, steps: int = 50, **given: Any) -> torch.Tensor:
    for _ in range(steps):
        x = memory.sweep(x, **given)
    return x


# --- energy and sweep


@pytest.mark.parametrize("beta", [1.0, 4.0, 64.0, 1e4])
@pytest.mark.parametrize(("d", "n"), [(3, 5), (20, 50), (128, 1000)])
def test_the_energy_is_that_of_diffusion_in_units_of_beta(d: int, n: int, beta: float) -> None:
    """A4: `-log p(x) / beta` of Gaussians of variance 1 / beta around the patterns, whatever their norms."""
    x, patterns, weights = _normal(200, d, seed=1), _spread(n, d), _normal(n, seed=2).exp()
    diffusion = -torch.logsumexp(weights.log() - 0.5 * beta * torch.cdist(x, patterns).square(), 1) / beta
    gap = ModernHopfield(patterns, beta=beta, weights=weights).energy(x) - diffusion
    assert gap.max() - gap.min() <= 1e-12


def test_for_unit_norms_the_constant_is_a_half_and_the_published_form_the_same() -> None:
    """Equation 14: the constant is 1/2 + log N / beta; equation 13 as printed is no constant away."""
    n, d, beta = 50, 20, 16.0
    x, patterns = _normal(200, d, seed=1), torch.nn.functional.normalize(_normal(n, d), dim=1)
    squared = torch.cdist(x, patterns).square()
    diffusion = -(torch.logsumexp(-0.5 * beta * squared, 1) - math.log(n)) / beta
    published = ModernHopfield(patterns, beta=beta, norms=False).energy(x)
    assert (diffusion - published - (0.5 + math.log(n) / beta)).abs().max() <= 1e-12
    assert (ModernHopfield(patterns, beta=beta).energy(x) - published - 0.5).abs().max() <= 1e-12
    printed = -torch.logsumexp(beta * x @ patterns.T, 1) / beta + x.square().sum(1) * beta  # (T - t)**-2 for 1/2 tau
    assert (printed - diffusion).max() - (printed - diffusion).min() > 1


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 30),
    d=st.integers(1, 12),
    power=st.floats(-2, 3),
    norms=st.booleans(),
    held=st.booleans(),
)
def test_a_sweep_never_raises_the_energy(*, seed: int, n: int, d: int, power: float, norms: bool, held: bool) -> None:
    """A1, with weights, any norms, and where features are held."""
    weights = _normal(n, seed=seed + 1).exp()
    memory = ModernHopfield(_spread(n, d, seed), beta=10.0**power, weights=weights, norms=norms)
    assert isinstance(memory, Memory)
    x, known = 2 * _normal(6, d, seed=seed + 2), _normal(6, d, seed=seed + 3) > 0 if held else None
    for _ in range(4):
        before, x = memory.energy(x), memory.sweep(x, known=known)
        assert (memory.energy(x) - before).max() <= 1e-10


def test_a_longer_step_does_raise_it() -> None:
    """The test above can fail: three times the step overshoots."""
    memory = ModernHopfield(_spread(10, 4), beta=20.0)
    x = _normal(100, 4, seed=1)
    longer = x + 3 * (memory.sweep(x) - x)
    assert (memory.energy(longer) - memory.energy(x)).max() > 0.1


def test_the_gradient_is_the_state_less_what_it_recalls() -> None:
    """A3: by autograd and by hand."""
    memory = ModernHopfield(_spread(30, 8), beta=7.0, weights=_normal(30).exp())
    x = _normal(20, 8, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(memory.energy(x).sum(), x)
    assert (gradient - (x - memory.sweep(x))).abs().max() <= 1e-10
    assert torch.autograd.gradcheck(memory, (x[:2],))


def test_known_features_are_held_and_help() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = _signs(50, 64, generator)
    memory = ModernHopfield(patterns, beta=1.0)
    known = torch.rand(50, 64, generator=generator) < 0.2
    cue = torch.where(known, patterns, 0.0)
    found = _rest(memory, cue, known=known)
    assert torch.equal(found[known], cue[known])
    assert (found - patterns).abs().amax(1).lt(0.1).double().mean() > 0.9


def test_the_posterior_weighs_the_patterns_of_a_sweep() -> None:
    memory = ModernHopfield(_spread(30, 8), beta=3.0, weights=_normal(30).exp())
    x = _normal(5, 8, seed=1)
    posterior = memory.posterior(x)
    assert torch.allclose(posterior.sum(1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(posterior @ memory.patterns.values, memory.sweep(x), atol=1e-13)


# --- norms


def test_without_noise_the_nearest_pattern_is_recalled_whatever_its_norm() -> None:
    """A7: beta = 1e4, 4000 cues; the published forms fail."""
    lengths = torch.logspace(math.log10(0.2), math.log10(5), 200, dtype=torch.float64)
    patterns = torch.nn.functional.normalize(_normal(200, 10), dim=1) * lengths[:, None]
    cues = _normal(4000, 10, seed=1)
    nearest = torch.cdist(cues, patterns).argmin(1)

    def share(found: torch.Tensor) -> float:
        return float((torch.cdist(found, patterns).argmin(1) == nearest).double().mean())

    assert share(_rest(ModernHopfield(patterns, beta=1e4), cues, 5)) == 1.0
    assert share(_rest(ModernHopfield(patterns, beta=1e4, norms=False), cues, 5)) < 0.2
    printed = cues @ patterns.T + patterns.square().sum(1)
    assert float((printed.argmax(1) == nearest).double().mean()) < 0.1


# --- forgetting


@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), beta=st.sampled_from([0.5, 5.0, "auto"]))
def test_a_removed_pattern_was_never_stored(seed: int, n: int, beta: Any) -> None:
    """A6: in states, energies, posterior and temperature."""
    rows, weights, x = _normal(n, 6, seed=seed), _normal(n, seed=seed + 1).exp(), _normal(4, 6, seed=seed + 2)
    gone = seed % n
    kept = [i for i in range(n) if i != gone]
    memory = ModernHopfield(rows, beta=beta, weights=weights)
    (handle,) = memory.patterns.add(x[0], weight=3.0)
    before = memory.energy(x)
    memory.patterns.remove([gone, handle])
    never = ModernHopfield(rows[kept], beta=beta, weights=weights[kept])
    assert (memory.energy(x) - before).abs().max() > 1e-6
    assert memory.beta == pytest.approx(never.beta, rel=1e-9)
    for what in ("energy", "sweep", "posterior"):
        assert (getattr(memory, what)(x) - getattr(never, what)(x)).abs().max() <= 1e-6
    assert len(memory) == len(never) == n - 1


def test_a_heavier_pattern_draws_more() -> None:
    memory = ModernHopfield(torch.tensor([[1.0, 0], [-1.0, 0]]), beta=1.0)
    x = torch.zeros(1, 2)
    assert memory.sweep(x)[0, 0] == 0
    memory.patterns.reweight(1, 3.0)
    assert float(memory.sweep(x)[0, 0]) == pytest.approx(-0.5)
    assert float(memory.posterior(x)[0, 1]) == pytest.approx(0.75)


# --- temperature


def test_the_chosen_temperature_recalls_what_the_nearest_pattern_does() -> None:
    """A8, smaller: 2048 patterns of 64 signs, half erased; 0.25 recalls about a third of them."""
    generator = torch.Generator().manual_seed(0)
    patterns = _signs(2048, 64, generator)
    wanted = patterns[torch.randint(2048, (200,), generator=generator)]
    cue = torch.where(torch.rand(200, 64, generator=generator) < 0.5, wanted, 0.0)

    def recalled(beta: Any) -> float:
        return float((_rest(ModernHopfield(patterns, beta=beta), cue).sign() == wanted).all(1).double().mean())

    ceiling = float((patterns[(cue @ patterns.T).argmax(1)] == wanted).all(1).double().mean())
    assert recalled("auto") >= 0.95 * ceiling
    assert recalled(0.25) < 0.5


def test_it_is_the_smallest_that_separates() -> None:
    """The rule by brute force: at the chosen temperature the share is met, a hair warmer it is not."""
    patterns = _normal(40, 8)
    weights = _normal(40, seed=1).exp()
    beta = separating_beta(Patterns(patterns, weights=weights), tolerance=0.02, share=1.0)
    weighted = weights[:, None] * patterns
    others = (weighted.sum(0) - weighted) / (weights.sum() - weights)[:, None]
    cues = (patterns + others) / 2
    own = torch.cdist(cues, patterns).argmin(1) == torch.arange(40)

    def share(b: float) -> float:
        posterior = ModernHopfield(patterns, beta=b, weights=weights).posterior(cues).diagonal()
        return float((posterior[own] >= 0.98).double().mean())

    assert own.sum() > 20
    assert share(beta * 1.0001) == 1.0
    assert share(beta * 0.9999) < 1.0


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_it_scales_with_the_units_and_ignores_where_zero_is(seed: int, scale: float) -> None:
    patterns = _normal(20, 16, seed=seed)
    beta = separating_beta(Patterns(patterns))
    assert separating_beta(Patterns(patterns * scale)) == pytest.approx(beta / scale**2, rel=1e-6)
    assert separating_beta(Patterns(patterns + 5)) == pytest.approx(beta, rel=1e-6)


def test_it_falls_with_tolerance_and_follows_the_store() -> None:
    patterns = _normal(100, 16)
    loose, strict = (separating_beta(Patterns(patterns), tolerance=t) for t in (0.1, 0.001))
    assert loose < strict
    memory = ModernHopfield(patterns)
    first = memory.beta
    assert memory.beta == first
    memory.patterns.reweight(list(range(0, 100, 2)), 1e3)
    second = memory.beta
    memory.patterns.add(_normal(400, 16, seed=1))
    third = memory.beta
    memory.patterns.values.mul_(2)
    assert memory.beta == pytest.approx(third / 4)
    assert len({first, second, third}) == 3
    assert ModernHopfield(patterns, beta=3).beta == 3.0


def test_duplicates_do_not_make_it_infinite() -> None:
    patterns = _normal(50, 16)
    doubled = torch.cat([patterns, patterns[:10]])
    assert separating_beta(Patterns(doubled)) < 3 * separating_beta(Patterns(patterns))


def test_where_nothing_can_be_told_apart_it_says_so() -> None:
    assert separating_beta(Patterns(_normal(1, 4))) == 1.0
    with pytest.warns(NumericalWarning, match="none of 3 patterns that were tried is the best answer half-way"):
        assert ModernHopfield(torch.ones(3, 4)).beta == 1.0


def test_half_precision_patterns_and_states_work() -> None:
    patterns = _spread(100, 16).half()
    memory = ModernHopfield(patterns)
    x = patterns[:5]
    assert memory.sweep(x).dtype == memory.energy(x).dtype == torch.float16
    wide = ModernHopfield(patterns.double(), beta=memory.beta)
    assert (memory.sweep(x.float()) - wide.sweep(x.double())).abs().max() < 1e-5


@pytest.mark.parametrize("beta", [1e-6, 1e8])
def test_extreme_temperatures_stay_finite(beta: float) -> None:
    memory = ModernHopfield(torch.cat([_spread(20, 8), _spread(20, 8)]).float(), beta=beta)
    x = _normal(5, 8).float().requires_grad_()
    (gradient,) = torch.autograd.grad(memory.energy(x).sum(), x)
    for found in (memory.energy(x), memory.sweep(x), memory.posterior(x), gradient):
        assert bool(found.isfinite().all())


# --- files and errors


@given(n=st.integers(1, 8), beta=st.sampled_from(["auto", 0.5, 3]), norms=st.booleans())
def test_a_memory_survives_a_round_trip(tmp_path_factory: Any, n: int, beta: Any, norms: bool) -> None:
    memory = ModernHopfield(torch.nn.functional.normalize(_normal(n, 5), dim=1), beta=beta, norms=norms)
    memory.patterns.remove(memory.patterns.add(_normal(2, 5), weight=2.0)[0])
    path = write(memory.pack(), tmp_path_factory.mktemp("memory") / "a.safetensors")
    back = ModernHopfield.unpack(read(path, "modern_hopfield"))
    x = _normal(3, 5, seed=1)
    assert torch.equal(memory.energy(x), back.energy(x))
    assert memory.patterns.add(x[0]) == back.patterns.add(x[0])
    assert memory.norms == back.norms
    assert memory.d == back.d == 5


def test_a_store_may_be_shared() -> None:
    store = Patterns(_normal(5, 3))
    first, second = ModernHopfield(store, beta=1.0), ModernHopfield(store, beta=2.0)
    first.patterns.add(_normal(1, 3))
    assert len(second) == 6
    assert set(first.state_dict()) == {f"patterns.{name}" for name in ("values", "weights", "handles", "following")}


def test_bad_input_is_refused() -> None:
    patterns = _normal(5, 3)
    for beta in (0, -1.0, float("inf"), float("nan"), "cold"):
        with pytest.raises(ValueError, match=r"got beta=.*; expected a positive, finite number, or 'auto'"):
            ModernHopfield(patterns, beta=beta)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got weights beside a store, which has its own"):
        ModernHopfield(Patterns(patterns), weights=torch.ones(5))
    with pytest.raises(ValueError, match=r"tolerance=0.5, share=0.95; expected \(0, 0.5\) and \(0, 1\]"):
        separating_beta(Patterns(patterns), tolerance=0.5)
    with pytest.raises(ValueError, match="share=0;"):
        separating_beta(Patterns(patterns), share=0)
    memory = ModernHopfield(patterns)
    for call in (memory.energy, memory.sweep, memory.posterior, memory):
        with pytest.raises(ValueError, match=r"got states of shape \(2, 4\); expected \(3,\) or \(b, 3\)"):
            call(torch.ones(2, 4))
        with pytest.raises(TypeError, match="got a tensor of torch.int64 as states"):
            call(torch.ones(2, 3, dtype=torch.int64))
        with pytest.raises(NonFiniteError, match="in the states"):
            call(torch.full((1, 3), float("nan")))
    with pytest.raises(TypeError, match="expected a boolean tensor"):
        memory.sweep(torch.ones(2, 3), known=torch.ones(3))

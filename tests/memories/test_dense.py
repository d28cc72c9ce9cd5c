"""Dense memories: each feature goes where the energy is lower; more patterns fit than with Hebb."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.retrieval.dynamics import recall

D = 16
KINDS = {"2": {"degree": 2}, "3": {"degree": 3}, "7": {"degree": 7}, "exp": {"separation": "exp"}}
every = pytest.mark.parametrize("kind", KINDS)


def signs(n: int, d: int = D, seed: int = 0) -> torch.Tensor:
    draw = torch.randint(2, (n, d), generator=torch.Generator().manual_seed(seed))
    return 2 * draw.double() - 1


def sweep_by_energy(memory: DenseMemory, x: torch.Tensor) -> torch.Tensor:
    """Try both values of every feature in turn and keep the one of lower energy."""
    x = x.clone()
    for j in range(x.shape[1]):
        up, down = x.clone(), x.clone()
        up[:, j], down[:, j] = 1, -1
        gap = memory.energy(down) - memory.energy(up)
        x[:, j] = torch.where(gap.abs() <= 1e-12, x[:, j], gap.sign())
    return x


def at_rest(memory: DenseMemory | Hopfield, patterns: torch.Tensor) -> float:
    return float((memory.sweep(patterns) == patterns).all(1).double().mean())


@every
@given(seed=st.integers(0, 2**31), n=st.integers(1, 30))
def test_a_feature_goes_where_the_energy_is_lower(kind: str, seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    memory = DenseMemory(signs(n, seed=seed), weights=weights, **KINDS[kind])
    x = signs(5, seed=seed + 1) * (torch.rand(5, D, generator=generator) > 0.3)
    assert torch.equal(memory.sweep(x), sweep_by_energy(memory, x))


def test_the_energies_are_those_of_the_formulas() -> None:
    patterns, x = signs(4), signs(3, seed=1)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    for i, row in enumerate((x @ patterns.T).tolist()):
        pairs = list(zip(weights.tolist(), row, strict=True))
        cubic = -(D / 3) * sum(w * max(s / D, 0) ** 3 for w, s in pairs)
        exp = -math.log(sum(w * math.exp(s) for w, s in pairs))
        assert DenseMemory(patterns, weights=weights).energy(x)[i].item() == pytest.approx(cubic, abs=1e-12)
        found = DenseMemory(patterns, separation="exp", weights=weights).energy(x)[i].item()
        assert found == pytest.approx(exp, abs=1e-12)


def test_with_an_increasing_outer_function_patterns_would_be_maxima() -> None:
    pattern = signs(1)
    near = pattern.repeat(D, 1)
    near.diagonal().mul_(-1)
    memory = DenseMemory(pattern, degree=2)
    assert (memory.energy(near) > memory.energy(pattern)).all()
    printed = (near @ pattern.T).square().sum(1)
    assert (printed < (pattern @ pattern.T).square().sum()).all()


@every
def test_the_field_of_a_lone_pattern_is_that_pattern(kind: str) -> None:
    pattern = signs(1)
    assert torch.allclose(DenseMemory(pattern, **KINDS[kind]).field(pattern), pattern, rtol=0, atol=1e-12)


def test_the_square_without_its_negative_half_is_hebb() -> None:
    patterns = signs(3)
    memory = DenseMemory(torch.cat([patterns, -patterns]), degree=2)
    x = signs(6, seed=1)
    assert torch.allclose(memory.energy(x), Hopfield(patterns).energy(x) - 3 / 2, rtol=0, atol=1e-12)


def test_more_patterns_are_at_rest_the_faster_the_function_grows() -> None:
    patterns = signs(100, 32)
    kept = [at_rest(Hopfield(patterns), patterns)]
    kept += [at_rest(DenseMemory(patterns, **options), patterns) for options in KINDS.values()]
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert kept[-1] == 1


def test_exponentials_and_high_powers_of_wide_states_stay_finite() -> None:
    patterns = signs(20, 3000).float()
    cue = patterns.clone()
    cue[:, :300] *= -1
    for options in ({"separation": "exp"}, {"degree": 30}):
        memory = DenseMemory(patterns, **options)
        assert memory.energy(patterns).isfinite().all()
        assert torch.equal(recall(memory, cue).state, patterns)


def test_a_heavier_pattern_wins_where_two_are_equally_near() -> None:
    patterns = torch.tensor([[1.0, 1, 1, 1], [1.0, 1, -1, -1]])
    cue = torch.tensor([1.0, 1, 0, 0])
    for heavy in (0, 1):
        memory = DenseMemory(patterns, separation="exp")
        memory.patterns.reweight(heavy, 5.0)
        assert torch.equal(recall(memory, cue).state[0], patterns[heavy])
        once, more = memory.energy(cue[None]), memory.patterns.add(patterns[[heavy]], weight=1.0)
        memory.patterns.remove(more)
        assert torch.equal(memory.energy(cue[None]), once)


def test_a_shared_store_is_edited_for_all_that_share_it_and_half_precision_is_widened() -> None:
    store = Patterns(signs(3).half())
    cubic, exp = DenseMemory(store), DenseMemory(store, separation="exp")
    (handle,) = cubic.patterns.add(signs(1, seed=1))
    assert len(exp) == 4
    exp.patterns.remove(handle)
    assert len(cubic) == 3
    assert cubic.energy(signs(3)).dtype == torch.float32
    assert torch.allclose(cubic.energy(signs(3)).double(), DenseMemory(signs(3)).energy(signs(3)), rtol=1e-6)


def test_what_does_not_make_a_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="got degree=1; expected a whole number from 2"):
        DenseMemory(signs(3), degree=1)
    with pytest.raises(ValueError, match=r"got degree=2.5; expected a whole number from 2"):
        DenseMemory(signs(3), degree=2.5)
    with pytest.raises(ValueError, match="got separation='cubic'; expected 'power' or 'exp'"):
        DenseMemory(signs(3), separation="cubic")
    with pytest.raises(ValueError, match="entries other than -1 and 1, such as 0; expected two values only"):
        DenseMemory(0 * signs(3).abs())
    with pytest.raises(ValueError, match=r"got weights of shape \(2,\)"):
        DenseMemory(signs(3), weights=torch.ones(2))
    with pytest.raises(ValueError, match="got weights beside a store, which has its own; expected one of them"):
        DenseMemory(Patterns(signs(3)), weights=torch.ones(3))
    memory = DenseMemory(signs(3))
    (handle,) = memory.patterns.add(signs(1) * 0.5)
    for use in (memory.energy, memory.field, memory.sweep):
        with pytest.raises(ValueError, match="entries other than -1 and 1"):
            use(signs(1))
    memory.patterns.remove(handle)
    assert memory.energy(signs(1)).isfinite()
    with pytest.raises(ValueError, match=r"got patterns of shape \(1, 15\); expected \(16,\) or \(b, 16\)"):
        memory.patterns.add(signs(1)[:, 1:])
    with pytest.raises(KeyError, match="handle 9, which is not among the 3 stored patterns"):
        memory.patterns.reweight(9, 2.0)
    assert len(memory) == 3

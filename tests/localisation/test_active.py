"""Sums over active latents, beside dense products."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.localisation.active import Active
from mnemotrace.localisation.dictionary_variants import chosen, largest_of_batch


def pre_activations(n: int = 20, m: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(active: Active, weights: torch.Tensor, n: int) -> torch.Tensor:
    return torch.zeros(n, active.width, dtype=weights.dtype).index_put_(
        (active.row, active.column), weights, accumulate=True
    )


@given(n=st.integers(1, 9), m=st.integers(2, 12), k=st.integers(1, 2), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_three_sums_are_dense_products(n: int, m: int, k: int, seed: int) -> None:
    p = pre_activations(n, m, seed)
    g, table = pre_activations(n, 5, seed + 1), pre_activations(m, 5, seed + 2)
    for active in (Active.largest(p, k), largest_of_batch(p, k), Active.of((p > 0.3).view(-1).nonzero()[:, 0], p)):
        code = dense(active, active.values, n)
        torch.testing.assert_close(active.sums(table), code @ table)
        torch.testing.assert_close(active.dots(table, g), (g @ table.T)[active.row, active.column])
        torch.testing.assert_close(active.spread(active.values, g), code.T @ g)
        torch.testing.assert_close(active.total(active.values), code.sum(0))
        low, high = m // 3, 2 * m // 3
        inside = active.within(low, high)
        torch.testing.assert_close(inside.sums(table), code[:, low:high] @ table[low:high])
        assert not inside.values.numel() or low <= int(inside.column.min()) <= int(inside.column.max()) < high


def test_negative_pre_activations_are_chosen_but_off() -> None:
    active = Active.largest(-pre_activations().abs(), 3)
    assert len(active.column) == 60 and not active.on.any() and not active.values.any()


@given(n=st.integers(1, 40), m=st.integers(2, 300), seed=st.integers(0, 99), shift=st.sampled_from([-6.0, 0.0, 2.0]))
@settings(max_examples=12, deadline=None)
def test_the_largest_of_a_batch_are_those_of_a_whole_sort(n: int, m: int, seed: int, shift: float) -> None:
    p, k = pre_activations(n, m, seed) + shift, max(1, m // 9)
    best = p.flatten().sort(descending=True).values[: n * k]
    assert torch.equal(largest_of_batch(p, k).before.sort(descending=True).values, best[best > 0])


def test_a_bound_that_is_too_high_is_lowered_until_enough_is_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemotrace.localisation.dictionary_variants._SAMPLE", 64)
    p = torch.rand(64, 20, generator=torch.Generator().manual_seed(0))
    p.view(-1)[:: p.numel() // 64 | 1] += 1.0  # the sample sees only these
    kept = largest_of_batch(p, 10)
    assert torch.equal(kept.before.sort().values, p.view(-1).sort().values[-640:])


def test_jump_relu_considers_what_is_near_its_threshold_and_turns_on_what_is_above() -> None:
    p, threshold = pre_activations(), torch.full((12,), 0.5, dtype=torch.float64)
    active = chosen(p, "jump_relu", 3, threshold, 0.2)
    assert torch.equal(dense(active, active.values, 20), torch.where(p > 0.5, p, 0))
    assert len(active.column) == int((p > 0.4).sum()) > int(active.on.sum())

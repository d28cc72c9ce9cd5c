"""Thin factors: their algebra is that of the dense matrices which they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site

O, D = 5, 4  # noqa: E741
SITE = Site("s", "s.weight", O, D, "s.bias")

seeds = st.integers(0, 2**31)
ranks = st.integers(0, 7)


def draw(rank: int, seed: int, *, bias: bool = True, site: Site = SITE, dtype: torch.dtype = torch.float64) -> LowRank:
    both = torch.randn(O + D + 1, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return LowRank(site, both[:O], both[O : O + D + bias].T)


def full(matrix: LowRank) -> Tensor:
    """The dense matrix with a bias column, zero where there is none."""
    return torch.nn.functional.pad(matrix.dense(), (0, D + 1 - matrix.right.shape[1]))


@given(ranks, ranks, seeds, st.booleans(), st.booleans())
def test_algebra_is_that_of_the_dense_matrices(r: int, s: int, seed: int, bias: bool, other_bias: bool) -> None:
    a, b = draw(r, seed, bias=bias), draw(s, seed + 1, bias=other_bias)
    torch.testing.assert_close(full(a.plus(b)), full(a) + full(b))
    torch.testing.assert_close(full(a.scaled(-2.5)), -2.5 * full(a))
    assert a.inner(b) == pytest.approx(float((full(a) * full(b)).sum()), abs=1e-10)
    assert a.inner(b) == pytest.approx(b.inner(a))
    assert a.norm() == pytest.approx(float(full(a).norm()), abs=1e-6)


@given(ranks, seeds)
def test_a_sum_never_has_more_than_full_rank(rank: int, seed: int) -> None:
    total = draw(rank, seed).plus(draw(rank, seed + 1)).plus(draw(rank, seed + 2))
    assert total.rank <= max(min(O, D + 1), 0)


def test_weight_and_bias_are_the_parts_of_the_product() -> None:
    absorbed, bare = draw(2, 0), draw(2, 0, bias=False)
    assert absorbed.has_bias
    assert not bare.has_bias
    torch.testing.assert_close(absorbed.weight(), absorbed.dense()[:, :D])
    torch.testing.assert_close(absorbed.bias(), absorbed.dense()[:, D])
    torch.testing.assert_close(bare.weight(), bare.dense())
    assert bare.bias() is None


@given(seeds, st.integers(1, 4), st.floats(0.1, 1.0))
def test_truncation_is_the_best_approximation(seed: int, rank: int, energy: float) -> None:
    matrix = draw(5, seed)
    values = torch.linalg.svdvals(matrix.dense())
    cut = matrix.truncated(rank=rank)
    assert cut.rank == rank
    assert (cut.dense() - matrix.dense()).norm() == pytest.approx(float(values[rank:].norm()), abs=1e-8)
    assert matrix.truncated(energy=energy).norm() ** 2 >= (energy - 1e-9) * matrix.norm() ** 2


def test_a_sum_takes_the_wider_dtype_whichever_comes_first() -> None:
    narrow, wide = draw(1, 0, dtype=torch.float32), draw(1, 1)
    for total in (narrow.plus(wide), wide.plus(narrow)):
        assert total.left.dtype == total.right.dtype == torch.float64
        torch.testing.assert_close(total.dense(), narrow.dense().double() + wide.dense(), rtol=1e-6, atol=1e-6)


def test_casting_and_counting_bytes() -> None:
    matrix = draw(3, 0).to(torch.float32)
    assert matrix.left.dtype == matrix.right.dtype == torch.float32
    assert matrix.nbytes == 4 * 3 * (O + D + 1)


@pytest.mark.parametrize(
    ("left", "right", "site"),
    [
        ((O + 1, 2), (2, D), SITE),
        ((O, 2), (2, D + 2), SITE),
        ((O, 2), (2, D + 1), Site("s", "s.weight", O, D)),
    ],
)
def test_factors_that_do_not_fit_are_refused_when_they_are_made(left, right, site) -> None:
    with pytest.raises(ValueError, match=r"got factors .* for site s; expected \(5, r\) and \(r, 4\)"):
        LowRank(site, torch.zeros(left), torch.zeros(right))


def test_factors_of_two_ranks_are_refused() -> None:
    # Here the shapes in the signature speak first; without them it is the class's own ValueError.
    with pytest.raises((ValueError, TypeError), match="right"):
        LowRank(SITE, torch.zeros(O, 2), torch.zeros(3, D))


def test_a_wider_matrix_is_not_mistaken_for_one_with_a_bias() -> None:
    other = LowRank(Site("s", "s.weight", O, D + 1), torch.zeros(O, 1), torch.zeros(1, D + 1))
    narrow = draw(1, 0, bias=False)
    for combine in (narrow.plus, narrow.inner, draw(1, 0).plus):
        with pytest.raises(ValueError, match=r"got matrices \(5, 4\) at s and \(5, 5\) at s; expected one shape"):
            combine(other)

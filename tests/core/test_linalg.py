"""Linear algebra on second moments and thin factors, against torch's dense routines."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.linalg import (
    compress,
    default_rcond,
    require_finite,
    singular_factors,
    spectrum,
    spectrum_of_rows,
)

SHAPES = st.tuples(st.integers(1, 8), st.integers(0, 6), st.integers(1, 8), st.integers(0, 2**31))


def _draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _factors(o: int, r: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    both = _draw(o + d, r, seed=seed)
    return both[:o], both[o:].T


def test_the_default_cut_does_not_depend_on_the_dtype() -> None:
    assert default_rcond(1024) == 1024 * 2**-23


@pytest.mark.parametrize("n", [3, 8, 20])
def test_truncating_is_the_pseudo_inverse_with_that_cut(n: int) -> None:
    x = _draw(n, 8) * torch.logspace(0, -4, 8, dtype=torch.float64)
    rows, rcond = _draw(5, 8, seed=1), 1e-5
    expected = rows @ torch.linalg.pinv(x.T @ x, rtol=rcond, hermitian=True)

    decomposed = spectrum(x.T @ x)

    torch.testing.assert_close(decomposed.solve(rows, rcond), expected, rtol=1e-9, atol=1e-9 * float(expected.norm()))
    values = torch.linalg.eigvalsh(x.T @ x)
    kept = values[values > rcond * values[-1]]
    assert decomposed.rank(rcond) == len(kept) < 8
    assert decomposed.condition(rcond) == pytest.approx(float(kept[-1] / kept[0]))


def test_the_spectrum_of_rows_is_that_of_their_gram_matrix() -> None:
    x = _draw(4, 9)
    thin, full = spectrum_of_rows(x), spectrum(x.T @ x)
    assert thin.vectors.shape == (9, 4)
    torch.testing.assert_close(thin.values, full.values[:4])
    rows = _draw(3, 9, seed=2)
    torch.testing.assert_close(thin.solve(rows, 1e-9), full.solve(rows, 1e-9))


def test_a_spectrum_is_in_float64_and_never_negative() -> None:
    x = _draw(3, 9, dtype=torch.float32)
    values = spectrum(x.T @ x).values
    assert values.dtype == torch.float64
    assert bool((values >= 0).all())
    assert bool((values.diff() <= 0).all())


@pytest.mark.parametrize("matrix", [torch.zeros(4, 4), torch.zeros(0, 0)])
def test_nothing_is_kept_of_a_zero_matrix(matrix: Tensor) -> None:
    zero = spectrum(matrix)
    assert (zero.rank(1e-7), zero.condition(1e-7)) == (0, 0.0)
    rows = torch.ones(2, len(matrix), dtype=torch.float64)
    assert not zero.solve(rows, 1e-7).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_matrix_is_refused_instead_of_giving_a_silent_zero(bad: float) -> None:
    matrix = torch.eye(4)
    matrix[1, 2] = bad
    with pytest.raises(NonFiniteError, match=r"got 1 non-finite of 16 entries in second moment; expected finite"):
        spectrum(matrix)
    with pytest.raises(NonFiniteError, match="in rows"):
        spectrum_of_rows(matrix)
    with pytest.raises(ValueError, match="in this place.*look for overflow"):
        require_finite(matrix, "this place")


@given(SHAPES)
def test_singular_factors_are_those_of_the_product(shape: tuple[int, int, int, int]) -> None:
    left, right = _factors(*shape)
    u, s, v = singular_factors(left, right)
    torch.testing.assert_close((u * s) @ v, left @ right)
    torch.testing.assert_close(u.T @ u, torch.eye(len(s), dtype=torch.float64))
    torch.testing.assert_close(v @ v.T, torch.eye(len(s), dtype=torch.float64))
    torch.testing.assert_close(s, torch.linalg.svdvals(left @ right)[: len(s)])


@given(SHAPES)
def test_compressing_loses_nothing_but_zero_directions(shape: tuple[int, int, int, int]) -> None:
    left, right = _factors(*shape)
    double = torch.cat([left, left], 1), torch.cat([right, right])
    thin_left, thin_right = compress(*double)
    torch.testing.assert_close(thin_left @ thin_right, 2 * left @ right)
    assert thin_left.shape[1] == torch.linalg.matrix_rank(left @ right)


@given(SHAPES, st.integers(0, 5))
def test_a_rank_is_kept_as_torch_would_truncate_the_dense_svd(shape: tuple[int, int, int, int], rank: int) -> None:
    left, right = _factors(*shape)
    u, s, v = torch.linalg.svd(left @ right, full_matrices=False)
    thin_left, thin_right = compress(left, right, rank=rank)
    assert thin_left.shape[1] == thin_right.shape[0] <= rank
    torch.testing.assert_close(thin_left @ thin_right, (u[:, :rank] * s[:rank]) @ v[:rank])


@given(SHAPES, st.floats(0.01, 0.999))
def test_energy_keeps_the_fewest_directions_that_hold_the_share(
    shape: tuple[int, int, int, int], energy: float
) -> None:
    left, right = _factors(*shape)
    squares = torch.linalg.svdvals(left @ right).square()
    thin_left, thin_right = compress(left, right, energy=energy)
    kept = thin_left.shape[1]
    if kept:
        assert squares[:kept].sum() >= energy * squares.sum()
        assert squares[: kept - 1].sum() < energy * squares.sum()
        torch.testing.assert_close((thin_left @ thin_right).square().sum(), squares[:kept].sum())
    else:
        assert squares.sum() == 0


def test_compressing_gives_the_dtype_back() -> None:
    left, right = compress(torch.ones(4, 2), torch.ones(2, 3))
    assert left.dtype == right.dtype == torch.float32
    assert left.shape == (4, 1)


@pytest.mark.parametrize("bad", [[float("inf"), -float("inf")], [float("nan")], [float("inf")]])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_found_in_every_precision(bad: list[float], dtype: torch.dtype) -> None:
    rows = torch.ones(300, dtype=dtype)
    rows[100 : 100 + len(bad)] = torch.tensor(bad, dtype=dtype)
    with pytest.raises(NonFiniteError, match=f"got {len(bad)} non-finite of 300"):
        require_finite(rows, "rows")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_sum_that_overflows_is_no_fault(dtype: torch.dtype) -> None:
    require_finite(torch.full((9,), torch.finfo(dtype).max, dtype=dtype), "rows")
    require_finite(torch.ones(0, dtype=dtype), "rows")
    require_finite(torch.ones(3, dtype=torch.long), "rows")

"""Accumulators: rows that wait, then only the upper triangle, give the moments of all rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.linalg import default_rcond
from mnemotrace.stats import accumulate
from mnemotrace.stats.accumulate import Accumulator, add_gram
from mnemotrace.stats.moments import Moments


def draw(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 7, accumulate.STRIP, accumulate.STRIP + 1, 2 * accumulate.STRIP + 5])
def test_strips_fill_the_upper_triangle(d: int) -> None:
    rows = draw(3, d)
    total = torch.zeros(d, d, dtype=torch.float64)
    add_gram(total, rows)
    add_gram(total, rows)
    torch.testing.assert_close(total.triu(), (2 * rows.T @ rows).triu())


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 12))
def test_any_sequence_of_batches_gives_the_moments_of_all_rows(parts: list[int], d: int, waiting: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(accumulate, "ROWS", waiting)
        running = Accumulator(torch.float64)
        for seed, n in enumerate(parts):
            running.add(draw(n, d, seed), "here")
        if sum(parts) == 0:
            return
        found = running.moments()
    whole = Moments.of(torch.cat([draw(n, d, seed) for seed, n in enumerate(parts)]))
    assert found.n == whole.n
    assert (found.rows is None) == (whole.rows is None)
    torch.testing.assert_close(found.first, whole.first)
    torch.testing.assert_close(found.matrix(), whole.matrix())


@pytest.mark.parametrize(("d", "dtype"), [(7, torch.float64), (80, torch.float32)])
def test_the_result_is_symmetric_to_the_bit_and_narrow_sums_are_in_float64(d: int, dtype: torch.dtype) -> None:
    running = Accumulator(torch.float32)
    running.add(draw(90, d).float(), "here")
    second = running.moments().second
    assert second.dtype == dtype
    assert torch.equal(second, second.T)


@pytest.mark.parametrize("d", [4, 64])
def test_the_error_of_a_long_sum_stays_below_the_cut_of_eigenvalues(d: int) -> None:
    running, rows = Accumulator(torch.float32), draw(1, d).float()
    for _ in range(100):
        running.add(rows.expand(512, d), "here")
    expected = 51_200 * rows.double().T @ rows.double()
    error = torch.linalg.matrix_norm(running.moments().matrix() - expected, 2) / torch.linalg.matrix_norm(expected, 2)
    assert float(error) < default_rcond(d)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_row_is_refused_by_name(bad: float) -> None:
    rows = draw(4, 3)
    rows[1:3, 0] = bad
    with pytest.raises(NonFiniteError, match="got 2 of 4 rows with NaN or infinity at h.0.mlp; expected finite"):
        Accumulator(torch.float32).add(rows, "h.0.mlp")


def test_infinities_of_both_signs_do_not_cancel() -> None:
    rows = draw(4, 3)
    rows[1, 0], rows[2, 0] = torch.inf, -torch.inf
    with pytest.raises(NonFiniteError, match="got 2 of 4 rows"):
        Accumulator(torch.float32).add(rows, "here")


def test_a_width_that_changes_is_refused() -> None:
    running = Accumulator(torch.float32)
    running.add(draw(4, 3), "here")
    with pytest.raises(ValueError, match="got rows of width 5 at here; expected 3 as before"):
        running.add(draw(4, 5), "here")

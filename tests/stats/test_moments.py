"""Moments: adding is merging, whatever the parts are kept as."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.core.site import Site
from mnemotrace.stats.moments import Moments, Statistics

D = 5


def draw(n: int, seed: int = 0, dtype: torch.dtype = torch.float64, d: int = D) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def measured(n: int, seed: int = 0) -> Moments:
    return Moments.of(draw(n, seed))


sizes = st.lists(st.integers(0, 8), min_size=1, max_size=5)


@given(sizes)
def test_merging_parts_equals_measuring_the_whole(parts: list[int]) -> None:
    rows = [draw(n, seed) for seed, n in enumerate(parts)]
    total = Moments.of(rows[0])
    for part in rows[1:]:
        total = total + Moments.of(part)
    whole = Moments.of(torch.cat(rows))

    assert total.n == whole.n == sum(parts)
    torch.testing.assert_close(total.first, whole.first)
    torch.testing.assert_close(total.matrix(), whole.matrix(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(total.matrix(bias=True), whole.matrix(bias=True), rtol=1e-13, atol=1e-13)


@given(sizes)
def test_rows_are_kept_exactly_while_they_are_fewer_than_the_width(parts: list[int]) -> None:
    rows = [draw(n, seed) for seed, n in enumerate(parts)]
    total = Moments.of(rows[0])
    for part in rows[1:]:
        total = total + Moments.of(part)
    if sum(parts) < D:
        assert total.second is None
        assert torch.equal(total.rows, torch.cat(rows))
    else:
        assert total.rows is None
        assert total.second.shape == (D, D)


@pytest.mark.parametrize("n", [3, 20])
def test_the_border_is_the_second_moment_of_rows_with_a_one(n: int) -> None:
    rows = draw(n)
    bordered = torch.cat([rows, torch.ones(n, 1)], 1)
    torch.testing.assert_close(measured(n).matrix(bias=True), bordered.T @ bordered)
    design = measured(n).design(bias=True)
    assert design is None if n >= D else torch.equal(design, bordered)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_merging_is_associative_and_commutative(a: int, b: int, c: int) -> None:
    x, y, z = measured(a, 0), measured(b, 1), measured(c, 2)
    first, second, third = (x + y) + z, x + (y + z), z + (y + x)
    for other in (second, third):
        assert first.n == other.n
        assert (first.rows is None) == (other.rows is None)
        torch.testing.assert_close(first.matrix(bias=True), other.matrix(bias=True))


def test_sums_of_halves_are_taken_in_float32() -> None:
    rows = 100 * torch.ones(300, 4, dtype=torch.float16)
    moments = Moments.of(rows)
    assert moments.second.dtype == torch.float32
    assert torch.equal(moments.matrix(), torch.full((4, 4), 3e6, dtype=torch.float64))
    assert Moments.of(rows[:2]).matrix().max() == 2e4


def test_the_wider_dtype_wins_whichever_comes_first() -> None:
    narrow, wide = Moments.of(draw(2, 0, torch.float32)), measured(2, 1)
    for total in (narrow + wide, wide + narrow):
        assert total.rows.dtype == torch.float64
        expected = torch.cat([draw(2, 0, torch.float32).double(), draw(2, 1)])
        torch.testing.assert_close(total.matrix(), expected.T @ expected, rtol=1e-14, atol=1e-14)


def test_moments_do_not_change_with_the_rows_that_were_measured() -> None:
    rows = draw(3)
    moments = Moments.of(rows)
    expected = moments.matrix()
    rows.zero_()
    assert torch.equal(moments.matrix(), expected)


def test_no_gradient_is_kept() -> None:
    rows = draw(3).requires_grad_()
    assert not Moments.of(rows).rows.requires_grad
    assert not Moments.of(torch.cat([rows, rows])).second.requires_grad


def test_a_long_running_sum_stays_exact() -> None:
    total = measured(D, 0)
    for seed in range(1, 400):
        total = total + measured(D, seed)
    rows = torch.cat([draw(D, seed) for seed in range(400)])
    torch.testing.assert_close(total.matrix(), rows.T @ rows, rtol=1e-12, atol=1e-10)


def test_moments_of_two_widths_do_not_add() -> None:
    with pytest.raises(ValueError, match="got moments of widths 5 and 3; expected equal widths"):
        measured(3) + Moments.of(draw(3, d=3))


def test_rows_must_be_a_finite_matrix() -> None:
    with pytest.raises(ValueError, match=r"got rows of shape \(2, 3, 4\); expected \(n, d\)"):
        Moments.of(torch.ones(2, 3, 4))
    rows = draw(3)
    rows[1, 2] = torch.nan
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 15 entries in rows"):
        Moments.of(rows)


@pytest.mark.parametrize("n", [3, 20])
def test_a_weight_counts_every_row_that_often(n: int) -> None:
    rows = draw(n)
    torch.testing.assert_close(
        Moments.of(rows).weighted(3).matrix(bias=True), Moments.of(rows.repeat(3, 1)).matrix(bias=True)
    )
    for weight in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"got weight={weight}; expected a positive number"):
            Moments.of(rows).weighted(weight)


def test_bytes_are_those_of_the_smaller_form() -> None:
    assert measured(2).nbytes == 8 * (D + 2 * D)
    assert measured(50).nbytes == 8 * (D + D * D)


# ---------------------------------------------------------------------------------------------- statistics


def collected(seed: int = 0, names: str = "qkvo", base: str = "w", n: int = 9) -> Statistics:
    """Four sites, three of which share their input."""
    shared, own = measured(n, seed), measured(n, seed + 100)
    sites = {name: Site(name, f"{name}.weight", 3, D) for name in names}
    moments = {name: own if name == "o" else shared for name in names}
    return Statistics(moments, sites, {"base": {"weights": base}, "batches": 2})


@pytest.mark.parametrize("n", [2, 9])
def test_adding_statistics_keeps_what_is_shared(n: int) -> None:
    total = collected(0, n=n) + collected(1, n=n)
    assert total["q"] is total["k"] is total["v"]
    assert total["q"] is not total["o"]
    torch.testing.assert_close(total["o"].matrix(), measured(n, 100).matrix() + measured(n, 101).matrix())
    assert total.manifest["batches"] == 4
    assert total.nbytes == total["q"].nbytes + total["o"].nbytes
    twice = total.weighted(2)
    assert twice["q"] is twice["k"]


def test_statistics_of_two_networks_do_not_add() -> None:
    with pytest.raises(ValueError, match="got statistics of two networks, .*'w'.* and .*'x'.*; expected one"):
        collected() + collected(base="x")


def test_statistics_of_other_sites_do_not_add() -> None:
    with pytest.raises(
        ValueError, match=r"got different sites \(\['o'\] in only one\); expected the same; use .select"
    ):
        collected() + collected(names="qkv")
    total = collected().select(["q"]) + collected(names="qkv").select("q")
    assert list(total) == ["q"]


def test_selecting_follows_the_sites() -> None:
    assert list(collected().select("[qk]")) == ["q", "k"]
    with pytest.raises(SelectionError, match="choose among q, k, v, o"):
        collected().select(["absent"])

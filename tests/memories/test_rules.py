"""Learning rules against their definitions, written out in loops; what each promises, and where it ends."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.memories.rules import hebb, pseudo_inverse, storkey

sizes = {"seed": st.integers(0, 2**31), "n": st.integers(1, 6), "d": st.integers(7, 11)}


def signs(n: int, d: int, seed: int = 0) -> torch.Tensor:
    draw = torch.randint(2, (n, d), generator=torch.Generator().manual_seed(seed))
    return 2 * draw.double() - 1


def storkey_in_loops(patterns: torch.Tensor) -> torch.Tensor:
    """Storkey and Valabregue 1999, equation 1, as it is printed."""
    d = patterns.shape[1]
    w = [[0.0] * d for _ in range(d)]
    for row in patterns.tolist():
        field = [[sum(w[i][k] * row[k] for k in range(d) if k not in (i, j)) for j in range(d)] for i in range(d)]
        w = [
            [
                0.0 if i == j else w[i][j] + (row[i] * row[j] - row[i] * field[j][i] - field[i][j] * row[j]) / d
                for j in range(d)
            ]
            for i in range(d)
        ]
    return torch.tensor(w, dtype=torch.float64)


@given(**sizes)
def test_hebb_is_the_sum_of_outer_products_without_the_diagonal(seed: int, n: int, d: int) -> None:
    patterns = signs(n, d, seed)
    rows = patterns.numpy()
    wanted = sum(numpy.outer(row, row) for row in rows) / d
    numpy.fill_diagonal(wanted, 0)
    assert numpy.allclose(hebb(patterns).numpy(), wanted, rtol=0, atol=1e-15)


@given(**sizes)
def test_storkey_is_the_printed_rule(seed: int, n: int, d: int) -> None:
    patterns = signs(n, d, seed)
    assert torch.allclose(storkey(patterns), storkey_in_loops(patterns), rtol=0, atol=1e-13)


@given(**sizes)
def test_the_pseudo_inverse_is_the_projection_without_the_diagonal(seed: int, n: int, d: int) -> None:
    patterns = signs(n, d, seed)
    found, rank = pseudo_inverse(patterns)
    rows = patterns.numpy()
    wanted = numpy.linalg.pinv(rows) @ rows
    numpy.fill_diagonal(wanted, 0)
    assert numpy.allclose(found.numpy(), wanted, rtol=0, atol=1e-12)
    assert rank == numpy.linalg.matrix_rank(rows)


@pytest.mark.parametrize("rule", [hebb, storkey, lambda y: pseudo_inverse(y)[0]])
def test_couplings_are_symmetric_without_diagonal_in_the_dtype_of_the_patterns(rule) -> None:
    for dtype in (torch.float32, torch.float64):
        couplings = rule(signs(5, 20).to(dtype))
        assert couplings.dtype == dtype
        assert torch.equal(couplings, couplings.T)
        assert not couplings.diagonal().any()


@pytest.mark.parametrize("rule", [hebb, storkey, lambda y: pseudo_inverse(y)[0]])
def test_the_field_of_a_lone_pattern_is_that_pattern_but_for_the_diagonal(rule) -> None:
    pattern = signs(1, 20)
    assert torch.allclose(pattern @ rule(pattern), pattern * (1 - 1 / 20), rtol=0, atol=1e-12)


def test_weights_count_as_storing_more_often() -> None:
    patterns = signs(3, 20)
    weighted = hebb(patterns, weights=torch.tensor([1.0, 3.0, 1.0]))
    assert torch.allclose(weighted, hebb(patterns[[0, 1, 1, 1, 2]]), rtol=0, atol=1e-15)


def test_the_order_counts_for_storkey_only() -> None:
    patterns = signs(6, 20)
    turned = patterns.flip(0)
    assert torch.allclose(hebb(patterns), hebb(turned), rtol=0, atol=1e-14)
    assert torch.allclose(pseudo_inverse(patterns)[0], pseudo_inverse(turned)[0], rtol=0, atol=1e-12)
    assert (storkey(patterns) - storkey(turned)).abs().max() > 1e-3


def _at_rest(couplings: torch.Tensor, patterns: torch.Tensor) -> float:
    return float(((patterns @ couplings) * patterns > 0).all(1).double().mean())


def test_patterns_that_are_much_alike_are_at_rest_under_the_pseudo_inverse_and_not_under_hebb() -> None:
    base = signs(1, 60)
    patterns = base * torch.where(torch.rand(40, 60, generator=torch.Generator().manual_seed(1)) < 0.15, -1, 1)
    assert _at_rest(pseudo_inverse(patterns)[0], patterns) == 1
    assert _at_rest(hebb(patterns), patterns) == 0


def test_storkey_holds_more_random_patterns_than_hebb() -> None:
    patterns = signs(32, 160)
    kept = {rule: _at_rest(rule(patterns), patterns) for rule in (hebb, storkey)}
    assert kept[storkey] > 0.9
    assert kept[hebb] < 0.5


def test_a_pattern_that_comes_twice_does_not_raise_the_rank() -> None:
    patterns = signs(4, 20)
    twice, rank = pseudo_inverse(patterns[[0, 1, 1, 2, 3]])
    assert rank == 4
    assert torch.allclose(twice, pseudo_inverse(patterns)[0], rtol=0, atol=1e-12)


def test_patterns_that_span_everything_leave_no_couplings_and_a_warning() -> None:
    with pytest.warns(NumericalWarning, match="64 patterns span all 6 dimensions.* needs patterns of rank below d"):
        couplings, rank = pseudo_inverse(signs(64, 6))
    assert rank == 6
    assert not couplings.any()


@pytest.mark.parametrize("rule", [hebb, storkey, pseudo_inverse])
def test_patterns_that_are_not_binary_are_refused(rule) -> None:
    patterns = signs(3, 5)
    patterns[1, 2] = 0.5
    with pytest.raises(
        ValueError, match=r"got patterns with 1 of 15 entries other than -1 and 1, such as 0.5; expected"
    ):
        rule(patterns)
    with pytest.raises(NonFiniteError, match="in the patterns"):
        rule(patterns * float("nan"))
    with pytest.raises(TypeError, match="got a tensor of torch.int64 as patterns"):
        rule(signs(3, 5).long())
    with pytest.raises(ValueError, match=r"got patterns \(5,\); expected a tensor of shape \(n, d\)"):
        rule(patterns[0])

"""What a dictionary explains, how sparse it is, and what it finds, each against a plain way to compute it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.dictionary_metrics import dead, dense, density, explained_variance, match


def _rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_explained_variance_is_r_squared_weighted_by_variance() -> None:
    x = (_rows(50, 6) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 3).double()
    near = x + 0.3 * _rows(50, 6, 1)
    squared = [1 - float((a - b).square().mean() / a.var(correction=0)) for a, b in zip(x.T, near.T, strict=True)]
    weights = x.var(0)
    expected = sum(float(w) * r for w, r in zip(weights, squared, strict=True)) / float(weights.sum())
    assert explained_variance(x, near) == pytest.approx(expected, abs=1e-9)


def test_the_data_explain_all_and_the_mean_nothing() -> None:
    x = _rows(40, 5) + 100
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.double().mean(0).expand_as(x).float()) == pytest.approx(0, abs=1e-6)
    assert explained_variance(x, torch.zeros_like(x)) < -1000


def test_density_of_codes_and_of_dense_rows_is_one_thing() -> None:
    rows = torch.tensor([[0.0, 2, 0, 1], [0, 3, 0, 0], [0, 1, 0, 5], [0, 1, 0, 0]])
    found = density(rows)
    assert found.tolist() == [0, 1, 0, 0.5]
    assert torch.equal(density(Code.of(rows)), found)
    assert float(found.sum()) == Code.of(rows).l0
    assert (dead(found), dense(found), dense(found, above=0.6)) == (0.5, 0.5, 0.25)


@settings(max_examples=8)
@given(seed=st.integers(0, 99), f=st.integers(1, 6), spare=st.integers(0, 5))
def test_a_mixed_and_stretched_dictionary_is_recovered(seed: int, f: int, spare: int) -> None:
    known = _rows(f, 9, seed)
    order = torch.randperm(f + spare, generator=torch.Generator().manual_seed(seed))
    found = torch.cat([known * 3, _rows(spare, 9, seed + 1000)])[order]
    for one_to_one in (False, True):
        matched = match(known, found, one_to_one=one_to_one)
        assert matched.mmcs == pytest.approx(1, abs=1e-6)
        assert matched.recovered() == 1
        assert torch.equal(order[matched.partners], torch.arange(f))


def test_the_opposite_direction_is_not_found() -> None:
    known = _rows(3, 5)
    assert match(known, -known).mmcs < 0.9
    assert match(known, -known).recovered() == 0


def test_random_directions_recover_nothing() -> None:
    assert match(_rows(20, 64), _rows(200, 64, 1)).recovered() == 0


def test_pairing_lets_no_latent_stand_for_two_and_is_scipys() -> None:
    known = torch.tensor([[1.0, 0], [1, 0.1], [0, 1]])
    found = torch.tensor([[1.0, 0.0], [0, 1]])
    assert match(known, found).partners.tolist() == [0, 0, 1]
    paired = match(known, found, one_to_one=True)
    assert paired.partners.tolist() == [0, -1, 1]
    assert paired.cosines.tolist() == [1, 0, 1]
    assert paired.recovered() == pytest.approx(2 / 3)
    a, b = _rows(7, 4), _rows(9, 4, 1)
    assert match(a, b, one_to_one=True).mmcs <= match(a, b).mmcs


BAD = torch.tensor([[float("nan"), 1.0], [0, 1]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: explained_variance(torch.ones(4, 2), torch.ones(4, 2)), ValueError, "got 4 rows without variance"),
        (lambda: explained_variance(torch.ones(0, 2), torch.ones(0, 2)), ValueError, "got 0 rows without variance"),
        (lambda: explained_variance(_rows(4, 2), _rows(4, 3)), ValueError, r"got \(4, 2\) and \(4, 3\); expected"),
        (lambda: explained_variance(BAD, torch.ones(2, 2)), NonFiniteError, "entries in activations"),
        (lambda: explained_variance(torch.ones(2, 2), BAD), NonFiniteError, "entries in their reconstruction"),
        (lambda: density(torch.zeros(0, 3)), ValueError, "got no row; expected at least one"),
        (lambda: match(_rows(2, 3), _rows(2, 4)), ValueError, r"got known \(2, 3\) and found \(2, 4\)"),
        (lambda: match(_rows(0, 3), _rows(2, 3)), ValueError, r"got known \(0, 3\)"),
        (lambda: match(_rows(2, 2), torch.zeros(1, 2)), ValueError, "got a found direction of length 0"),
        (lambda: match(BAD, _rows(2, 2)), NonFiniteError, "entries in known directions"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

"""Dimensionality and interference against dense loops, closed forms, and random directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.superposition import (
    Superposition,
    feature_dimensionality,
    interference,
    partners,
    random_interference,
    superposition,
)


def rows(f: int, m: int, seed: int = 0) -> Tensor:
    return torch.randn(f, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def polygon(k: int) -> Tensor:
    turn = torch.arange(k, dtype=torch.float64) * 2 * torch.pi / k
    return torch.stack([turn.cos(), turn.sin()], 1)


def test_both_are_what_a_loop_over_pairs_gives() -> None:
    w = rows(7, 3) * torch.arange(1, 8)[:, None]
    for i, one in enumerate(w):
        heard = [float(one / one.norm() @ other) ** 2 for other in w]
        assert float(interference(w)[i]) == pytest.approx(sum(heard) - heard[i], rel=1e-12)
        assert float(feature_dimensionality(w)[i]) == pytest.approx(float(one @ one) / sum(heard), rel=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_a_polygon_shares_two_dimensions_evenly(k: int) -> None:
    w = polygon(k) if k > 2 else torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(feature_dimensionality(w), torch.full((k,), (2 if k > 2 else 1) / k).double())


@settings(max_examples=15)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 1000))
def test_dimensionalities_are_at_most_leverages_and_sum_to_at_most_the_rank(f: int, m: int, seed: int) -> None:
    w = rows(f, m, seed)
    w[seed % f] *= seed % 3  # a row of zeros, sometimes
    leverage = (w @ torch.linalg.pinv(w)).diagonal()
    found = feature_dimensionality(w)
    assert bool((found <= leverage + 1e-9).all()) and bool((found >= 0).all())
    assert float(found.sum()) <= int(torch.linalg.matrix_rank(w)) + 1e-9


def test_orthogonal_rows_hear_nothing_whatever_their_lengths() -> None:
    w = torch.diag(torch.tensor([1e-8, 1.0, 1e8, 0.0]))
    torch.testing.assert_close(interference(w), torch.zeros(4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(feature_dimensionality(w), torch.tensor([1.0, 1.0, 1.0, 0.0]).double())


def test_random_directions_have_the_interference_of_the_closed_form() -> None:
    w = rows(5, 4) * torch.tensor([[1.0], [2.0], [0.5], [3.0], [0.0]])
    drawn = torch.nn.functional.normalize(rows(5 * 1000, 4, 1).view(1000, 5, 4), dim=2) * w.norm(dim=1)[:, None]
    mean = torch.stack([interference(one) for one in drawn]).mean(0)
    torch.testing.assert_close(mean, random_interference(w), rtol=0.08, atol=1e-12)


def test_a_value_holds_the_features_beside_random_directions() -> None:
    w = torch.cat([polygon(5), torch.zeros(5, 2)], 1)
    found = superposition(w, names="abcde", draws=4)
    assert (found.rank, found.m, found.names) == (2, 4, tuple("abcde"))
    assert found.expected == pytest.approx(4 / 4)
    assert found.excess == pytest.approx(1.5)  # all in two of four dimensions: 5/2 - 1 against 1
    assert float(found.dimensionality.sum()) == pytest.approx(2)
    assert float(found.control[:, 1].min()) > 2.5
    assert bool((found.control_dimensionality.diff() <= 0).all())
    again = superposition(w, draws=4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.control, again.control)
    assert not torch.equal(found.control, superposition(w, draws=4, generator=torch.Generator().manual_seed(1)).control)


def test_packing_keeps_everything_and_the_network_is_on_record() -> None:
    model = torch.nn.Linear(3, 6)
    found = superposition(model.weight, draws=2, model=model)
    back = Superposition.unpack(found.pack())
    assert set(found.manifest["base"]) == {"architecture", "weights"}
    assert (back.names, back.rank, back.expected) == (found.names, found.rank, found.expected)
    assert torch.equal(back.partner, found.partner) and torch.equal(back.control, found.control)
    assert not back.norm.requires_grad


def test_partners_are_the_nearest_others_in_strips_too(monkeypatch: pytest.MonkeyPatch) -> None:
    w = rows(9, 3)
    unit = w / w.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).fill_diagonal_(0)
    monkeypatch.setattr("mnemotrace.localisation.superposition.STRIP", 4)
    index, cosine = partners(w)
    assert torch.equal(index, cosines.abs().argmax(1))
    torch.testing.assert_close(cosine, cosines.gather(1, index[:, None])[:, 0])
    alone = superposition(w[:1], draws=1)
    assert alone.excess == 0 and partners(w[:1])[1].tolist() == [0]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got directions \(3,\) of torch.float32; expected a real"):
        interference(torch.ones(3))
    with pytest.raises(ValueError, match=r"got directions \(0, 4\)"):
        feature_dimensionality(torch.ones(0, 4))
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 4 entries in directions"):
        superposition(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="got 0 names for 2 rows, 0 of them not zero, and draws=20"):
        superposition(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="got 1 names for 2 rows, 2 of them not zero, and draws=0"):
        superposition(torch.eye(2), names=["a"], draws=0)

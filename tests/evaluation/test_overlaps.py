"""Overlaps against dense matrices, scipy's principal angles and ranks, and draws of random engrams."""

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.overlaps import overlaps, rank_correlation, spread

SITES = {name: Site(name, f"{name}.weight", o, d, f"{name}.bias") for name, o, d in (("a", 7, 5), ("b", 4, 6))}


def made(seed: int, rank: int = 2, *, bias: bool = False, scale: float = 1.0) -> Engram:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    return Engram({n: LowRank(s, drawn(s.o, rank), drawn(rank, s.d + bias)) for n, s in SITES.items()})


ENGRAMS = {"one": made(0), "two": made(1, 3, scale=10), "three": made(2, 1, bias=True)}


def test_cosines_are_those_of_dense_matrices_and_of_the_engrams() -> None:
    found = overlaps(ENGRAMS)
    for i, one in enumerate(ENGRAMS.values()):
        for j, other in enumerate(ENGRAMS.values()):
            assert float(found.cosine[i, j]) == pytest.approx(one.overlap(other), abs=1e-12)
            for s, name in enumerate(SITES):
                dense = [e[name].dense() for e in (one, other)]
                first, second = (torch.nn.functional.pad(m, (0, SITES[name].d + 1 - m.shape[1])) for m in dense)
                inner = float((first * second).sum() / first.norm() / second.norm())
                assert float(found.by_site[s, i, j]) == pytest.approx(inner, abs=1e-12)
                assert float(found.norms[s, i]) == pytest.approx(float(first.norm()))
    assert found.sizes.tolist() == [[7, 6], [4, 7]]


def test_shared_subspaces_are_mean_squared_cosines_of_principal_angles() -> None:
    scipy = pytest.importorskip("scipy.linalg")
    found = overlaps(ENGRAMS, energy=1.0)
    assert found.ranks.tolist() == [[2, 3, 1], [2, 3, 1]]
    one, other = ENGRAMS["one"]["a"], ENGRAMS["two"]["a"]
    angles = {"left": (one.left, other.left), "right": (one.right.T, other.right.T)}
    for side, (first, second) in angles.items():
        cosines = torch.from_numpy(scipy.subspace_angles(first.numpy(), second.numpy())).cos()
        assert float(getattr(found, side)[0, 0, 1]) == pytest.approx(float(cosines.square().mean()))
    torch.testing.assert_close(found.left.diagonal(dim1=1, dim2=2), torch.ones(2, 3).double())


def test_a_subspace_holds_the_share_of_the_square_that_is_asked_for() -> None:
    values = torch.diag(torch.tensor([3.0, 1.0]))  # squares 9 and 1
    one = Engram({"a": LowRank(SITES["a"], torch.eye(7, 2) @ values, torch.eye(2, 5))})
    other = Engram({"a": LowRank(SITES["a"], torch.eye(7, 1), torch.eye(1, 5))})
    ranks = {energy: overlaps({"x": one, "y": other}, energy=energy).ranks[0, 0] for energy in (0.5, 0.9, 0.91, 1.0)}
    assert [int(rank) for rank in ranks.values()] == [1, 1, 2, 2]


def test_the_closed_form_is_what_random_engrams_have() -> None:
    generator, engrams = torch.Generator().manual_seed(3), {"x": made(0), "y": made(1, 3)}
    drawn = [overlaps({n: random_trace(e, generator) for n, e in engrams.items()}, energy=1.0) for _ in range(60)]
    found = overlaps(engrams, energy=1.0)
    cosine = torch.stack([one.cosine[0, 1] for one in drawn]).square().mean().sqrt()
    assert float(cosine) == pytest.approx(float(found.random_cosine[0, 1]), rel=0.25)
    by_site = torch.stack([one.by_site[:, 0, 1] for one in drawn]).square().mean(0).sqrt()
    torch.testing.assert_close(by_site, found.random_by_site, rtol=0.25, atol=0)
    for place, side in enumerate(("left", "right")):
        mean = torch.stack([getattr(one, side)[:, 0, 1] for one in drawn]).mean(0)
        torch.testing.assert_close(mean, found.random_subspaces[place, :, 0, 1], rtol=0.2, atol=0)


def test_a_silent_site_overlaps_with_nothing() -> None:
    silent = made(5)
    silent = Engram({**silent, "a": silent["a"].scaled(0.0)})
    found = overlaps({"one": made(0), "silent": silent})
    assert float(found.by_site[0, 0, 1]) == 0 and float(found.left[0, 0, 1]) == 0 and int(found.ranks[0, 1]) == 0
    assert float(found.cosine[1, 1]) == pytest.approx(1)


def test_rank_correlation_is_scipys_and_permutations_judge_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(7, 7, generator=generator).double()
    other = (one + torch.randn(7, 7, generator=generator)).round()
    value, edge, p = rank_correlation(one, other, permutations=99, generator=generator)
    assert value == pytest.approx(float(stats.spearmanr(spread(one), spread(other)).statistic))
    assert value > edge and p <= 0.05
    assert rank_correlation(one, one, permutations=9, generator=generator)[0] == pytest.approx(1)
    assert rank_correlation(one, torch.ones(7, 7), permutations=9, generator=generator) == (0.0, 0.0, 1.0)
    unrelated = [
        rank_correlation(one, torch.randn(7, 7, generator=generator), permutations=99, generator=generator)[2]
        for _ in range(8)
    ]
    assert sum(p <= 0.05 for p in unrelated) <= 2


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got 1 engrams and energy=0.9; expected at least two"):
        overlaps({"one": made(0)})
    with pytest.raises(ValueError, match="and energy=0; expected"):
        overlaps(ENGRAMS, energy=0)
    with pytest.raises(SelectionError, match=r"got 'y' at other sites than 'x': b; expected the same sites"):
        overlaps({"x": made(0), "y": made(1).select(["a"])})
    with pytest.raises(ValueError, match="got engrams that are zero: y; expected a trace"):
        overlaps({"x": made(0), "y": made(1) * 0.0})
    broken = made(1)
    broken["a"].left[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 14 entries in y at a"):
        overlaps({"x": made(0), "y": broken})

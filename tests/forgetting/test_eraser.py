"""The theorems of LEACE: no covariance, least change, no linear reader; against scikit-learn and plain formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.forgetting.eraser import Association, encoded, fit, oas, solve

METHODS = pytest.mark.parametrize("method", ["leace", "orth"])
seeds = st.integers(0, 2**31)


def rows(seed: int = 0, n: int = 300, d: int = 8, k: int = 3, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations in which `k` classes can be told apart, of very different spread by direction."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(k, (n,), generator=generator)
    z[:k] = torch.arange(k)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) * torch.logspace(0, -3, d, dtype=torch.float64)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x[:, :k] += 2 * torch.nn.functional.one_hot(z, k)
    return x @ mixing.T + offset, z


def covariance(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    z = encoded(z)
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def moved(before: torch.Tensor, after: torch.Tensor) -> float:
    return float((after - before).square().sum(1).mean())


@METHODS
@pytest.mark.parametrize("shrinkage", [0.0, 0.4, "oas"])
@given(seed=seeds, offset=st.sampled_from([0.0, 1e4]))
def test_nothing_covaries_with_the_concept_any_more(method, shrinkage, seed: int, offset: float) -> None:
    x, z = rows(seed, offset=offset)
    eraser = fit(x, z, method=method, shrinkage=shrinkage)
    before, after = covariance(x, z).abs().max(), covariance(eraser(x), z).abs().max()
    assert after <= 1e-6 * before and before > 0.01
    assert eraser.rank == 2
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=1e-9, atol=1e-9)


@METHODS
def test_numbers_are_erased_as_classes_are(method) -> None:
    x, _ = rows()
    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = x[:, :2] @ torch.tensor([[1.0, 5.0], [2.0, -1.0]], dtype=torch.float64) * 1e3 + noise
    eraser = fit(x, z, method=method)
    assert covariance(eraser(x), z).abs().max() <= 1e-6 * covariance(x, z).abs().max()
    assert eraser.rank == 2


def test_leace_is_the_formula_of_the_paper() -> None:
    x, z = rows()
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    W = vectors @ torch.diag(values**-0.5) @ vectors.T
    inside = W @ covariance(x, z)
    P = inside @ torch.linalg.pinv(inside, rtol=1e-9)
    wanted = x - centred @ (torch.linalg.inv(W) @ P @ W).T
    torch.testing.assert_close(fit(x, z, shrinkage=0.0)(x), wanted, rtol=1e-8, atol=1e-8)


@given(seeds)
def test_no_other_eraser_changes_less(seed: int) -> None:
    """Least against the orthogonal eraser, and against this one followed by any step that stays an eraser."""
    x, z = rows(seed)
    eraser = fit(x, z, shrinkage=0.0)
    least = moved(x, eraser(x))
    assert least <= moved(x, fit(x, z, method="orth")(x)) * (1 + 1e-9)
    assert eraser.evidence["change"] == pytest.approx(least / float((x - x.mean(0)).square().sum(1).mean()), rel=1e-6)
    assert sum(eraser.evidence["variance"]) == pytest.approx(eraser.evidence["change"], rel=1e-6)
    kernel = torch.linalg.svd(covariance(x, z).T)[2][2:]  # what reads nothing of the class means
    step = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ kernel
    other = eraser(x) + 0.05 * (x - x.mean(0)) @ step.T
    assert covariance(other, z).abs().max() <= 1e-6 * covariance(x, z).abs().max()
    assert least <= moved(x, other)


def test_erasing_twice_is_erasing_once() -> None:
    x, z = rows()
    eraser = fit(x, z)
    torch.testing.assert_close(eraser(eraser(x)), eraser(x), rtol=1e-9, atol=1e-9)


def test_variance_never_grows_without_shrinkage_and_by_no_more_than_the_bound_with_it() -> None:
    for seed in range(20):
        x, z = rows(seed, n=30)
        whole = float(x.var(0, correction=0).sum())
        assert float(fit(x, z, shrinkage=0.0)(x).var(0, correction=0).sum()) <= whole * (1 + 1e-12)
        share = 0.5
        grown = float(fit(x, z, shrinkage=share)(x).var(0, correction=0).sum()) - whole
        assert grown <= 2 * share / (1 - share) * whole / 8


def test_a_fresh_probe_reads_nothing_and_read_much_before() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, z = rows(n=1200)
    seen, unseen = slice(0, 600), slice(600, None)
    eraser = fit(x[seen], z[seen])

    def score(values: torch.Tensor, part: slice) -> float:
        values = (values - x[seen].mean(0)) / x[seen].std(0)
        probe = linear_model.LogisticRegression(max_iter=2000, C=1e4).fit(values[seen].numpy(), z[seen].numpy())
        return float(probe.score(values[part].numpy(), z[part].numpy()))

    most_frequent = float(z[seen].bincount().max()) / 600
    assert score(x, unseen) > 0.8
    assert score(eraser(x), seen) <= most_frequent + 0.01
    assert score(eraser(x), unseen) <= most_frequent + 0.05


@METHODS
def test_coordinates_that_hardly_vary_are_erased_to_their_own_last_digits(method) -> None:
    """A reader that standardises would find the concept there."""
    x, z = rows()
    scale = torch.tensor([1.0, 1e-20, 0.0, 1.0, 1e-33, 1.0, 1.0, 1.0], dtype=torch.float64)
    x = x * scale
    for shrinkage in (0.0, "oas"):
        after = fit(x, z, method=method, shrinkage=shrinkage)(x)
        left, before = covariance(after, z).abs().amax(1), covariance(x, z).abs().amax(1)
        assert (left <= 1e-6 * before).all() and (after[:, 2] == 0).all()


# --- sums


@given(seeds, st.lists(st.integers(1, 50), min_size=1, max_size=5), st.sampled_from([0.0, 1e5]))
def test_sums_of_parts_are_the_sum_of_all(seed: int, cuts: list[int], offset: float) -> None:
    x, z = rows(seed, offset=offset)
    sizes = [*cuts, 300 - sum(cuts)]
    first, *more = (Association.of(a, b) for a, b in zip(x.split(sizes), z.split(sizes), strict=True))
    total = first
    for part in more:
        total = total + part
    whole = Association.of(x, z)
    assert total.n == whole.n
    for name in ("mean", "concept_mean", "xx", "xz", "zz"):
        torch.testing.assert_close(getattr(total, name), getattr(whole, name), rtol=1e-9, atol=1e-7)


def test_a_class_that_comes_later_counts_as_never_seen_before() -> None:
    x, _ = rows()
    early, late = torch.zeros(150, dtype=torch.long), torch.full((150,), 2)
    total = Association.of(x[:150], early) + Association.of(x[150:], late)
    whole = Association.of(x, torch.cat([early, late]))
    torch.testing.assert_close(total.xz, whole.xz)
    torch.testing.assert_close(solve(total)(x), solve(whole)(x))


# --- shrinkage


@pytest.mark.parametrize(("n", "d"), [(20, 30), (300, 8), (50, 50)])
def test_the_estimated_shrinkage_is_that_of_scikit_learn(n: int, d: int) -> None:
    covariances = pytest.importorskip("sklearn.covariance")
    x, z = rows(n=n, d=d)
    found = fit(x, z).evidence["shrinkage"]
    assert found == pytest.approx(covariances.OAS().fit(x.numpy()).shrinkage_, rel=1e-9)


def test_shrinkage_of_white_noise_is_whole() -> None:
    assert oas(torch.eye(4, dtype=torch.float64), 10) == 1.0


def test_with_fewer_rows_than_dimensions_other_rows_move_less_when_shrunk() -> None:
    x, z = rows(n=400, d=60)
    few, others = slice(0, 40), slice(40, None)
    shrunk, plain = (fit(x[few], z[few], shrinkage=share) for share in ("oas", 0.0))
    assert moved(x[others], shrunk(x[others])) < moved(x[others], plain(x[others]))
    for eraser in (shrunk, plain):
        assert covariance(eraser(x[few]), z[few]).abs().max() <= 1e-6 * covariance(x[few], z[few]).abs().max()


# --- what is refused


def test_a_concept_that_nothing_tells_is_left_alone_with_a_warning() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    z = torch.tensor([0, 1, 1, 0])
    with pytest.warns(NumericalWarning, match="no direction of 2 tells more than 1e-06 of the concept"):
        eraser = fit(x, z)
    assert eraser.rank == 0 and torch.equal(eraser(x), x)


def test_bad_input_is_refused() -> None:
    x, z = rows()
    with pytest.raises(ValueError, match=r"got activations \(300, 8\) and a concept \(299, 3\); expected \(n, d\)"):
        Association.of(x, z[1:])
    with pytest.raises(ValueError, match="at least one row; a mask may have left none"):
        Association.of(x[:0], z[:0])
    with pytest.raises(ValueError, match="got class -1; expected numbers from 0; leave rows without a class out"):
        fit(x, z - 1)
    with pytest.raises(TypeError, match="got labels of torch.complex64; expected whole numbers as classes"):
        fit(x, z.to(torch.complex64))
    with pytest.raises(NonFiniteError, match="non-finite of 2400 entries in the activations"):
        fit(torch.where(x > 0, x, torch.nan), z)
    with pytest.raises(ValueError, match="got 300 rows with one and the same value of the concept; expected rows that"):
        fit(x, torch.zeros(300, dtype=torch.long))
    with pytest.raises(ValueError, match="one and the same value of the activations"):
        fit(torch.ones(300, 8), z)
    with pytest.raises(ValueError, match="got widths 8 and 5; expected one; join sums of one place"):
        Association.of(x, z) + Association.of(x[:, :5], z)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "best"}, "got method='best'; expected one of leace, orth"),
        ({"shrinkage": 1.0}, 'got shrinkage=1.0; expected a share from 0 to below 1, or "oas"'),
        ({"shrinkage": "more"}, "got shrinkage='more'; expected a share"),
        ({"tolerance": -1.0}, "got tolerance=-1.0; expected a correlation from 0 to below 1, such as 1e-06"),
    ],
)
def test_settings_out_of_range_are_refused(options, message: str) -> None:
    x, z = rows()
    with pytest.raises(ValueError, match=message):
        fit(x, z, **options)

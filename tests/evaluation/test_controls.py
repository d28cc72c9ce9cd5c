"""Random traces differ from an engram in nothing but direction; intervals cover what they should."""

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.core.edit import Change, Dense, Edit, Sparse
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import bootstrap, random_edit, random_trace
from tests.evaluation.organism import Case, draw, seeded

SHAPES = {
    "thin": (20, 3, 30, None),
    "one": (5, 1, 6, None),
    "full": (4, 9, 6, None),
    "with a bias column": (20, 3, 30, "b"),
}


def engram(dtype: torch.dtype = torch.float64) -> Engram:
    traces = {
        name: LowRank(
            Site(name, f"{name}.w", o, d, bias), draw(o, r).to(dtype), draw(r, d + (bias is not None)).to(dtype)
        )
        for name, (o, r, d, bias) in SHAPES.items()
    }
    return Engram(traces)


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("name", SHAPES)
def test_a_random_trace_has_the_rank_norm_and_spectrum_of_its_engram(name: str) -> None:
    mine, other = engram()[name], random_trace(engram(), seeded(0))[name]
    assert other.site == mine.site
    assert other.right.shape[1] == mine.right.shape[1]
    assert other.rank == min(mine.rank, *mine.dense().shape)
    torch.testing.assert_close(torch.linalg.svdvals(other.dense()), torch.linalg.svdvals(mine.dense()))
    assert other.norm() == pytest.approx(mine.norm(), rel=1e-12)


def test_a_random_trace_has_other_directions() -> None:
    found = engram()
    other = random_trace(found, seeded(0))
    for name in ("thin", "with a bias column"):
        assert abs(cosine(found[name].dense(), other[name].dense())) < 0.2
        assert cosine(found[name].dense(), engram()[name].dense()) == pytest.approx(1)


def test_directions_are_uniform_and_lean_nowhere() -> None:
    one = Engram({"x": LowRank(Site("x", "w", 3, 2), torch.tensor([[2.0], [0], [0]]), torch.tensor([[1.0, 0]]))})
    generator = seeded(0)
    drawn = torch.stack([random_trace(one, generator)["x"].dense() for _ in range(2000)])
    assert drawn.mean(0).abs().max() < 0.1
    torch.testing.assert_close(drawn.square().mean(0), torch.full((3, 2), 4 / 6), atol=0.08, rtol=0)


def test_the_bias_column_is_turned_with_the_rest() -> None:
    found = engram()
    other = random_trace(found, seeded(0))["with a bias column"]
    assert other.has_bias
    share = float(other.bias().norm() / other.norm())
    assert 0 < share < 0.6
    assert random_trace(found, seeded(0))["thin"].bias() is None


def test_the_same_seed_draws_the_same_trace_and_the_next_draw_another() -> None:
    generator = seeded(3)
    first, second = random_trace(engram(), generator), random_trace(engram(), generator)
    again = random_trace(engram(), seeded(3))
    for name in SHAPES:
        assert torch.equal(first[name].dense(), again[name].dense())
        assert not torch.equal(first[name].dense(), second[name].dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_random_trace_keeps_the_type_of_its_engram(dtype: torch.dtype) -> None:
    other = random_trace(engram(dtype), seeded(0))
    assert {t.dtype for trace in other.values() for t in (trace.left, trace.right)} == {dtype}
    assert {t.dtype for trace in engram(dtype).values() for t in (trace.left, trace.right)} == {dtype}


def test_a_trace_of_rank_zero_stays_nothing() -> None:
    site = Site("x", "w", 4, 3)
    nothing = random_trace(Engram({"x": LowRank(site, torch.zeros(4, 0), torch.zeros(0, 3))}), seeded(0))
    assert nothing["x"].dense().shape == (4, 3)
    assert nothing["x"].norm() == 0


def test_a_random_trace_of_a_network_is_not_its_engram(threes: Case) -> None:
    other = random_trace(threes.engram, seeded(0))
    assert other.norms() == pytest.approx(threes.engram.norms(), rel=1e-5)
    assert abs(threes.engram.overlap(other)) < 0.1
    assert threes.engram.overlap(threes.engram) == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------- intervals


def mean(means: Tensor) -> Tensor:
    return means[..., 0]


def test_the_interval_covers_a_known_mean_as_often_as_it_says() -> None:
    generator, covered, wrong = seeded(0), 0, 0
    for _ in range(200):
        scores = torch.bernoulli(torch.full((60, 1), 0.7), generator=generator)
        _, (low, high) = bootstrap(mean, scores, resamples=400, generator=generator)
        covered += low <= 0.7 <= high
        wrong += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99
    assert wrong == 0


def test_equal_scores_give_an_interval_of_no_width_and_others_one_that_narrows_with_data() -> None:
    assert bootstrap(mean, torch.full((30, 1), 0.25), generator=seeded(0)) == (0.25, (0.25, 0.25))
    widths = []
    for n in (20, 2000):
        value, (low, high) = bootstrap(mean, draw(n, 1), generator=seeded(0))
        assert low < value < high
        widths.append(high - low)
    assert widths[0] > 5 * widths[1]


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    base = draw(50)
    paired = torch.stack([base, base - 0.3], 1)
    shuffled = torch.stack([base, (base - 0.3)[torch.randperm(50, generator=seeded(1))]], 1)

    def lost(means: Tensor) -> Tensor:
        return means[..., 0] - means[..., 1]

    value, (low, high) = bootstrap(lost, paired, generator=seeded(0))
    assert (low, value, high) == pytest.approx((0.3, 0.3, 0.3))
    other, (low, high) = bootstrap(lost, shuffled, generator=seeded(0))
    assert other == pytest.approx(0.3)
    assert high - low > 0.3


def test_groups_are_resampled_apart() -> None:
    first, second = draw(40, 1), draw(25, 1, seed=1)
    value, (low, high) = bootstrap(lambda a, b: a[..., 0] - b[..., 0], first, second, generator=seeded(0))
    assert value == pytest.approx(float(first.double().mean() - second.double().mean()))
    spread = (first.var(correction=0) / 40 + second.var(correction=0) / 25).sqrt()
    assert (high - low) / 2 == pytest.approx(1.96 * float(spread), rel=0.1)


def test_the_same_generator_gives_the_same_interval() -> None:
    scores = draw(30, 1)
    same = [bootstrap(mean, scores, generator=seeded(seed)) for seed in (0, 0, 1)]
    assert same[0] == same[1]
    assert same[0] != same[2]


def test_a_resample_that_says_nothing_is_left_out() -> None:
    # One example of three is remembered: a third of the resamples hold nothing that could be lost.
    scores = torch.tensor([[1.0, 0.5], [0, 0], [0, 0]])

    def kept(means: Tensor) -> Tensor:
        return means[..., 1] / means[..., 0]

    assert bootstrap(kept, scores, generator=seeded(0)) == (0.5, (0.5, 0.5))
    assert bool(kept(scores).isnan().any())


def test_scores_of_any_type_are_summed_in_float64() -> None:
    half = torch.full((5000, 1), 0.1, dtype=torch.float16)
    assert bootstrap(mean, half, resamples=5, generator=seeded(0))[0] == pytest.approx(float(half[0]), rel=1e-12)
    assert bootstrap(mean, nn.functional.one_hot(torch.arange(4))[:, :1], generator=seeded(0))[0] == 0.25


# ---------------------------------------------------------------------------------------------- edits of any form


def sparse(count: int, size: int = 40) -> Sparse:
    places = torch.randperm(size, generator=seeded(5))[:count]
    return Sparse("s", (4, size // 4), places, draw(count, seed=6))


def magnitudes(values: Tensor) -> Tensor:
    return values.abs().flatten().sort().values


def drawn(change: Change, seed: int = 0) -> Change:
    (other,) = random_edit(Edit((change,)), seeded(seed)).changes
    return other


def test_a_random_edit_of_low_rank_changes_is_the_random_trace_of_their_engram() -> None:
    found = engram()
    other, same = random_edit(Edit(tuple(found.values())), seeded(0)), random_trace(found, seeded(0))
    for change, trace in zip(other.changes, same.values(), strict=True):
        assert torch.equal(change.left, trace.left)
        assert torch.equal(change.right, trace.right)


@pytest.mark.parametrize("shape", [(7, 7), (20, 5), (5, 20), (4, 3, 2, 2)])
def test_a_random_matrix_has_the_spectrum_of_its_edit_and_other_directions(shape: tuple[int, ...]) -> None:
    change = Dense("w", draw(*shape).double())
    other = drawn(change)
    assert other.shape == shape
    spectra = [torch.linalg.svdvals(one.values.flatten(1)) for one in (change, other)]
    torch.testing.assert_close(spectra[0], spectra[1])
    assert abs(cosine(change.values, other.values)) < 0.5


def test_a_random_matrix_too_wide_to_decompose_has_the_norm_of_its_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemotrace.evaluation.controls.WIDEST", 6)
    change = Dense("w", draw(7, 9))
    other = drawn(change, seed=1)
    torch.testing.assert_close(other.values.norm(), change.values.norm())
    assert abs(cosine(change.values, other.values)) < 0.5


@pytest.mark.parametrize("values", [draw(30), torch.tensor(2.0), torch.ones(8)], ids=["vector", "number", "constant"])
def test_a_random_vector_has_the_magnitudes_of_its_edit(values: Tensor) -> None:
    others = [drawn(Dense("b", values), seed) for seed in range(8)]
    for other in others:
        assert other.shape == tuple(values.shape)
        torch.testing.assert_close(magnitudes(other.values), magnitudes(values), rtol=0, atol=0)
    assert any(not torch.equal(other.values, values) for other in others)


@pytest.mark.parametrize("count", [0, 1, 11, 20])
def test_a_random_mask_has_the_magnitudes_of_its_edit_at_other_places(count: int) -> None:
    change = sparse(count)
    other = drawn(change)
    assert set(other.indices.tolist()).isdisjoint(change.indices.tolist())
    assert len(other.indices.unique()) == count
    torch.testing.assert_close(magnitudes(other.values), magnitudes(change.values), rtol=0, atol=0)


def test_a_mask_of_most_of_a_parameter_is_spread_over_all_of_it() -> None:
    other = drawn(sparse(36))
    assert len(other.indices.unique()) == 36
    torch.testing.assert_close(magnitudes(other.values), magnitudes(sparse(36).values), rtol=0, atol=0)


def test_a_random_edit_keeps_forms_parameters_and_base_and_the_seed_decides() -> None:
    edit = Edit((engram()["thin"], sparse(5), Dense("b", draw(6))), {"method": "x", "base": {"weights": "1"}})
    first, again, other = (random_edit(edit, seeded(seed)) for seed in (0, 0, 1))
    assert first.manifest == {"method": "random", "base": {"weights": "1"}}
    assert first.norms() == pytest.approx(edit.norms())
    assert first.overlap(again) == pytest.approx(1)
    assert abs(first.overlap(other)) < 0.9

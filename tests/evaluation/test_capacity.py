"""Capacity curves: a perfect memory lies on the ceiling, none beats it, and the intervals are the published ones."""

import json
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.memory import Recall
from mnemotrace.evaluation.capacity import Capacity, Stored, capacity, erase, flip, nearest, random_patterns, wilson
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.hopfield import Hopfield


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Perfect:
    """Goes to the nearest stored pattern at once."""

    def __init__(self, patterns: torch.Tensor) -> None:
        self.patterns, self.d = patterns, patterns.shape[1]

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        return -(x @ self.patterns.T).amax(1)

    def sweep(self, x: torch.Tensor, *, known: object = None, generator: object = None) -> torch.Tensor:
        return self.patterns[(x @ self.patterns.T).argmax(1)]


class Lost(Perfect):
    def sweep(self, x: torch.Tensor, *, known: object = None, generator: object = None) -> torch.Tensor:
        return torch.ones_like(x)


# --- the ceiling


@given(seed=st.integers(0, 2**31), n=st.integers(1, 30))
def test_the_ceiling_is_the_mean_over_all_ways_to_break_ties(seed: int, n: int) -> None:
    generator = source(seed)
    patterns = random_patterns(n, 5, generator=generator)
    truth = patterns[torch.randint(n, (8,), generator=generator)]
    cues = erase(flip(truth, generator=generator), generator=generator)
    wanted = []
    for cue, true in zip(cues, truth, strict=True):
        agreeing = [int((cue == pattern).sum()) for pattern in patterns]
        best = [pattern for pattern, count in zip(patterns, agreeing, strict=True) if count == max(agreeing)]
        wanted.append(sum(torch.equal(pattern, true) for pattern in best) / len(best))
    assert nearest(cues, patterns, truth).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("cue", [flip, erase, partial(flip, rate=0.3)])
def test_a_perfect_memory_lies_on_the_ceiling(cue) -> None:
    found = capacity(Perfect, d=12, counts=[4, 64, 512], cue=cue, generator=source())
    for step in found.steps:
        assert step.exact.low <= step.ceiling.value <= step.exact.high
    assert found.steps[-1].ceiling.value < 0.7


def test_a_memory_that_has_forgotten_is_at_zero_below_a_ceiling_of_one() -> None:
    (step,) = capacity(Lost, d=40, counts=[4], generator=source()).steps
    assert step.exact.value == 0
    assert step.ceiling.value == 1
    assert step.bits == pytest.approx(0.5, abs=0.15)
    assert step.overlap == pytest.approx(2 * step.bits - 1)


# --- the curve


def test_hebb_falls_where_a_cubic_memory_does_not() -> None:
    counts = [4, 8, 16, 32]
    hebb, cubic = (
        capacity(make, d=40, counts=counts, draws=10, generator=source()) for make in (Hopfield, DenseMemory)
    )
    assert [step.count for step in hebb.steps] == counts
    assert hebb.steps[0].exact.value > 0.8
    assert hebb.steps[-1].exact.value < 0.1
    assert cubic.steps[-1].exact.value > 0.95
    assert [step.ceiling for step in hebb.steps] == [step.ceiling for step in cubic.steps]
    assert 4 < hebb.count_at() < 32
    assert cubic.count_at() is None
    assert all(step.cues == 200 and step.converged == 1 for step in hebb.steps)


def test_the_count_at_a_level_is_read_off_on_a_logarithmic_scale() -> None:
    def step(count: int, exact: float) -> Stored:
        return Stored(count, 10, wilson(exact, 10), wilson(1.0, 10), exact, exact, 1.0)

    curve = Capacity(8, (step(4, 1.0), step(16, 0.0), step(64, 0.0)))
    assert curve.count_at() == pytest.approx(8)
    assert curve.count_at(0.25) == pytest.approx(4 * 4**0.75)
    assert Capacity(8, (step(4, 0.4),)).count_at() is None


def test_another_way_to_recall_may_be_given() -> None:
    def give_cue_back(memory: Perfect, cue: torch.Tensor) -> Recall:
        zeros = torch.zeros(len(cue), dtype=torch.long)
        return Recall(cue, None, zeros, zeros > 0, zeros)

    (step,) = capacity(Perfect, d=200, counts=[3], cue=erase, recall=give_cue_back, generator=source()).steps
    assert step.exact.value == 0
    assert step.converged == 0
    assert step.bits == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_curve_and_says_how_it_was_made(tmp_path) -> None:
    make = partial(capacity, Hopfield, d=20, counts=[2, 9], cue=partial(flip, rate=0.2), cues=20)
    first, second, third = (make(generator=source(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first.steps != third.steps
    assert first.manifest["cue"] == "flip"
    assert first.manifest["settings"] == {"rate": 0.2}
    assert first.manifest["seed"] == 1
    again = Capacity.unpack(read(write(first.pack(), tmp_path / "x"), "capacity"))
    assert again == first
    assert json.dumps(dict(again.pack().header)) == json.dumps(dict(first.pack().header))


def test_the_order_of_updates_follows_the_seed() -> None:
    seen: list[int] = []

    class Listens(Perfect):
        def sweep(self, x: torch.Tensor, *, known: object = None, generator: torch.Generator) -> torch.Tensor:
            seen.append(generator.initial_seed())
            return x

    for seed in (1, 1, 2):
        capacity(Listens, d=8, counts=[1], cues=2, draws=1, generator=source(seed))
    assert seen[0] == seen[1] != seen[2]


def test_progress_counts_sets_of_patterns() -> None:
    seen: list[tuple[int, int | None]] = []
    capacity(
        Hopfield,
        d=8,
        counts=[1, 2],
        cues=2,
        draws=2,
        generator=source(),
        progress=lambda done, total, what: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- cues and intervals


def test_cues_are_damaged_at_the_rate_and_nowhere_else() -> None:
    patterns = random_patterns(200, 100, generator=source())
    turned, erased = flip(patterns, generator=source()), erase(patterns, generator=source())
    assert float((turned != patterns).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert set(turned.unique().tolist()) == {-1.0, 1.0}
    assert float((erased == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(erased[erased != 0], patterns[erased != 0])
    assert torch.equal(flip(patterns, rate=1.0, generator=source()), -patterns)
    assert torch.equal(erase(patterns, rate=0.0, generator=source()), patterns)
    assert float(patterns.mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_newcombe_1998(hits: int, count: int, low: float, high: float) -> None:
    rate = wilson(hits / count, count)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_is_wider_where_cues_of_one_set_share_its_luck() -> None:
    class AllOrNothing(Perfect):
        def sweep(self, x: torch.Tensor, *, known: object = None, generator: object = None) -> torch.Tensor:
            return super().sweep(x) if self.patterns[0, 0] > 0 else torch.ones_like(x)

    (lucky,) = capacity(AllOrNothing, d=40, counts=[4], generator=source()).steps
    share = lucky.exact.value
    assert lucky.exact == wilson(share, 30)
    (fair,) = capacity(Perfect, d=10, counts=[100], generator=source()).steps
    assert fair.exact.high - fair.exact.low < 0.6 * (lucky.exact.high - lucky.exact.low)


def test_intervals_hold_the_value_of_a_much_longer_run() -> None:
    (long,) = capacity(Hopfield, d=16, counts=[4], draws=300, cues=5, generator=source(99)).steps
    short = [capacity(Hopfield, d=16, counts=[4], draws=12, cues=10, generator=source(i)).steps[0] for i in range(12)]
    assert sum(step.exact.low <= long.exact.value <= step.exact.high for step in short) >= 10


def test_mistakes_are_named() -> None:
    patterns = random_patterns(2, 4, generator=source())
    with pytest.raises(ValueError, match=r"got d=4, counts=\[4, 2\], cues=20, draws=30; expected .* counts that rise"):
        capacity(Hopfield, d=4, counts=[4, 2], generator=source())
    for options in ({"counts": []}, {"counts": [0, 1]}, {"counts": [1], "draws": 0}, {"counts": [1], "cues": 0}):
        with pytest.raises(ValueError, match="expected at least 1 each, and counts that rise"):
            capacity(Hopfield, d=4, generator=source(), **options)
    with pytest.raises(ValueError, match=r"got rate=1.5; expected a probability, from 0 to 1"):
        flip(patterns, rate=1.5, generator=source())
    with pytest.raises(ValueError, match="got rate=-1; expected a probability"):
        erase(patterns, rate=-1, generator=source())
    with pytest.raises(ValueError, match=r"got a share of 0.5 of 0 trials; expected one in \[0, 1\] of at least 1"):
        wilson(0.5, 0)

"""Bounded weights, one winner a map, a planted pattern that is learned from bars and not from noise; reward."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.formation.reward import decide, fit_rewarded
from mnemotrace.formation.stdp import PUBLISHED, Rates, Traces, fit_stdp, stdp, unsettled
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.memories.spiking_layers import SpikingLayer

FAST = Rates(0.05, 0.0375, winners=1, radius=5, doubling=100)
TWO = (SpikingLayer(2, 5, 4.0, 3.0, pool=3, stride=3, once=True), SpikingLayer(3, 3, math.inf, 2.0))


def _hierarchy(*layers: SpikingLayer, seed: int = 1) -> SpikingHierarchy:
    return SpikingHierarchy(layers, shape=(32, 32), steps=8, generator=torch.Generator().manual_seed(seed))


def _bars(n: int, seed: int, *, both: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright vertical bars in faint noise, every second one horizontal if `both`; label 1 for horizontal."""
    source = torch.Generator().manual_seed(seed)
    images, labels = 20 * torch.rand(n, 32, 32, generator=source), torch.zeros(n, dtype=torch.long)
    for i in range(n):
        at = int(torch.randint(8, 24, (), generator=source))
        labels[i] = int(both and i % 2)
        (images[i].T if labels[i] == 0 else images[i])[at] += 200
    return images, labels


def _dots(n: int, seed: int) -> torch.Tensor:
    """As many bright pixels as a bar has, anywhere."""
    source = torch.Generator().manual_seed(seed)
    images = 20 * torch.rand(n, 32, 32, generator=source)
    for image in images:
        image.view(-1)[torch.randperm(1024, generator=source)[:32]] += 200
    return images


def _seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the rule


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_the_rule_is_the_formula_and_keeps_weights_in_range(values: list[float], plus: float, minus: float) -> None:
    weight = torch.tensor([values], dtype=torch.float64)
    before = torch.tensor([[True, False, True, False]])
    found = stdp(weight, before, plus=plus, minus=minus)
    for w, b, new in zip(values, before[0].tolist(), found[0].tolist(), strict=True):
        assert abs(new - min(1, max(0, w + (plus if b else -minus) * w * (1 - w)))) <= 1e-15
    assert found.min() >= 0
    assert found.max() <= 1


def test_extreme_rates_are_clamped() -> None:
    found = stdp(torch.full((1, 2), 0.5), torch.tensor([[True, False]]), plus=50.0, minus=50.0)
    assert found.tolist() == [[1.0, 0.0]]


def test_rates_double_up_to_the_largest_and_keep_their_ratio() -> None:
    rates = Rates(0.004, 0.003)
    assert rates.at(0) == (0.004, 0.003)
    assert rates.at(499) == rates.at(0)
    assert rates.at(1000) == pytest.approx((0.016, 0.012))
    assert rates.at(10**9) == pytest.approx((0.15, 0.1125))
    assert [r.winners for r in PUBLISHED] == [10, 4, 2]


def test_settled_weights_are_at_zero_or_one() -> None:
    assert unsettled(torch.tensor([0.0, 1.0])) == 0
    assert unsettled(torch.tensor([0.5])) == 0.25


# --- who learns


def _slow_winners(post: torch.Tensor, strength: torch.Tensor, steps: int, most: int, radius: int) -> list[Any]:
    """Step after step, the strongest left, until the step has had its share."""
    m, h, w = post.shape
    chosen: list[tuple[int, int, int, int]] = []
    for step in range(steps):
        for _ in range(most):
            left = [
                (float(strength[a, y, x]), a, y, x)
                for a in range(m)
                for y in range(h)
                for x in range(w)
                if post[a, y, x] == step
                and all(a != b and max(abs(y - v), abs(x - u)) > radius for b, v, u, _ in chosen)
            ]
            if left:
                _, a, y, x = max(left)
                chosen.append((a, y, x, step))
    return chosen


@given(st.integers(0, 500), st.integers(1, 3), st.integers(0, 2))
def test_winners_are_those_of_a_slow_loop(seed: int, most: int, radius: int) -> None:
    source = _seed(seed)
    post = torch.randint(0, 5, (4, 5, 6), generator=source)
    strength = torch.rand(4, 5, 6, generator=source)
    traces = Traces(torch.zeros(4, 1, 5, 6, dtype=torch.bool), post, strength)
    assert traces.winners(most=most, radius=radius) == _slow_winners(post, strength, 4, most, radius)


def test_a_trace_holds_what_spiked_up_to_the_step_of_the_winner() -> None:
    spikes = torch.zeros(1, 3, 1, 4, 4, dtype=torch.bool)
    spikes[0, 0, 0, 1, 1], spikes[0, 2, 0, 1, 2] = True, True
    made = SpikingHierarchy((SpikingLayer(1, 3, 9.0, 9.0),), shape=(11, 11), steps=5)
    traces = Traces.of(made, 0, spikes)
    early, late = traces.before([(0, 0, 0, 1), (0, 1, 1, 2)], 3)
    assert early[0].int().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]  # the corner sees the padding
    assert late[0].int().tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]


# --- learning


def _barness(weights: torch.Tensor) -> float:
    """Share of a filter's weight that lies in its best column, at least over filters; 0.2 is chance."""
    return float((weights.sum(-2).amax(-1) / weights.sum((-2, -1))).min())


def test_a_planted_bar_is_learned_and_noise_teaches_none() -> None:
    """The control has as many bright pixels at random; a filter of 5 columns then has no single one."""
    start = _hierarchy(TWO[0])
    settings: dict[str, Any] = {"iterations": 250, "rates": FAST}
    learned = fit_stdp(start, _bars(60, 0)[0], generator=_seed(2), **settings)
    control = fit_stdp(start, _dots(60, 0), generator=_seed(2), **settings)
    assert _barness(learned.weights[0][:, 0]) >= 0.85
    assert _barness(control.weights[0][:, 0]) <= 0.65
    assert unsettled(learned.weights[0]) < 0.05 < unsettled(start.weights[0])


def test_learning_changes_a_copy_the_same_way_for_the_same_seed() -> None:
    start, images = _hierarchy(*TWO), _bars(12, 3, both=True)[0]
    before, state = [w.clone() for w in start.weights], torch.random.get_rng_state()
    first, second, other = (fit_stdp(start, images, iterations=20, rates=FAST, generator=_seed(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, start.weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert not torch.equal(first.weights[0], other.weights[0])
    assert all(not torch.equal(a, b) for a, b in zip(before, first.weights, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


@given(st.integers(0, 100), st.floats(0.01, 1), st.floats(0, 1))
def test_weights_stay_in_range_at_any_rate(seed: int, plus: float, minus: float) -> None:
    images = _bars(2, seed)[0]
    rates = Rates(plus, minus, doubling=1, largest=1.0)
    for weight in fit_stdp(_hierarchy(*TWO), images, iterations=3, rates=rates).weights:
        assert weight.min() >= 0
        assert weight.max() <= 1
        assert torch.isfinite(weight).all()


def test_only_the_given_layers_learn() -> None:
    start, images = _hierarchy(*TWO), _bars(6, 0)[0]
    learned = fit_stdp(start, images, layers=[1], iterations=6, rates=FAST)
    assert torch.equal(learned.weights[0], start.weights[0])
    assert not torch.equal(learned.weights[1], start.weights[1])


def test_layers_above_learn_from_what_those_below_pass_while_learning() -> None:
    """A layer that is silent when images are read still passes spikes by its threshold of learning."""
    start = _hierarchy(SpikingLayer(2, 5, math.inf, 3.0), TWO[1])
    learned = fit_stdp(start, _bars(6, 0)[0], layers=[1], iterations=6, rates=FAST)
    assert not torch.equal(learned.weights[1], start.weights[1])


def test_stages_learned_apart_equal_those_learned_together() -> None:
    start, images = _hierarchy(*TWO), _bars(6, 0)[0]
    source = _seed(5)
    apart = fit_stdp(start, images, layers=[0], iterations=6, rates=FAST, generator=source)
    apart = fit_stdp(apart, images, layers=[1], iterations=9, rates=FAST, generator=source)
    together = fit_stdp(start, images, iterations=(6, 9), rates=FAST, generator=_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(apart.weights, together.weights, strict=True))


def test_progress_tells_every_image_and_how_far_a_layer_is() -> None:
    told: list[tuple[int, int | None, str]] = []

    def tell(done: int, total: int | None, what: str) -> None:
        told.append((done, total, what))

    fit_stdp(_hierarchy(*TWO), _bars(2, 0)[0], iterations=3, rates=FAST, progress=tell)
    assert [t[:2] for t in told] == [(1, 3), (2, 3), (3, 3)] * 2
    assert told[0][2].startswith("layer 0, settled to 0.")


def test_black_images_teach_nothing() -> None:
    start = _hierarchy(*TWO)
    learned = fit_stdp(start, torch.zeros(2, 32, 32), iterations=4, rates=FAST)
    assert all(torch.equal(a, b) for a, b in zip(start.weights, learned.weights, strict=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iterations": 0}, "got iterations=0 .*expected at least one iteration each"),
        ({"iterations": (3,)}, "one number or one a layer"),
        ({"rates": (FAST,)}, "1 rates for 2 layers"),
        ({"layers": []}, r"got layers=\[\]; expected indices from 0 to 1"),
        ({"layers": [2]}, "expected indices from 0 to 1"),
        ({"layers": [-1]}, "expected indices from 0 to 1"),
        ({"images": torch.zeros(2, 31, 32)}, r"got images of shape \(2, 31, 32\)"),
        ({"images": torch.full((1, 32, 32), math.inf)}, "the images"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], message: str) -> None:
    images = given.pop("images", torch.zeros(2, 32, 32))
    with pytest.raises(ValueError, match=message):
        fit_stdp(_hierarchy(*TWO), images, **({"iterations": 2, "rates": FAST} | given))


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_weights_outside_their_range_are_refused(value: float) -> None:
    start = _hierarchy(*TWO)
    start.weights[1][0, 0, 0, 0] = value
    with pytest.raises(NonFiniteError if math.isnan(value) else ValueError, match="weights"):
        fit_stdp(start, torch.zeros(2, 32, 32), iterations=1, rates=FAST)


@pytest.mark.parametrize(
    "given", [{"plus": 0.0}, {"plus": 1.5}, {"minus": -0.1}, {"winners": 0}, {"radius": -1}, {"doubling": 0}]
)
def test_wrong_rates_are_refused(given: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"plus": 0.1, "minus": 0.1} | given
    with pytest.raises(ValueError, match="expected rates between 0 and 1, and at least 1 winner"):
        Rates(**settings)


# --- reward


def test_reward_teaches_decisions_and_shuffled_rewards_do_not() -> None:
    start = _hierarchy(SpikingLayer(4, 5, 4.0, 3.0))
    images, labels = _bars(60, 0, both=True)
    others, wanted = _bars(40, 9, both=True)
    steady = Rates(0.05, 0.04, doubling=10**9)
    learned = fit_rewarded(start, images, labels, iterations=300, rates=steady)
    mixed = labels[torch.randperm(60, generator=_seed(5))]
    control = fit_rewarded(start, images, mixed, iterations=300, rates=steady)
    assert (decide(learned, others, 2) == wanted).float().mean() >= 0.95
    assert (decide(control, others, 2) == wanted).float().mean() <= 0.75
    assert all(float(w.min()) >= 0 and float(w.max()) <= 1 for w in learned.weights)


def test_reward_changes_the_top_layer_of_a_copy_only() -> None:
    start = _hierarchy(*TWO)
    before = [w.clone() for w in start.weights]
    told: list[str] = []

    def tell(done: int, total: int | None, what: str) -> None:  # noqa: ARG001
        told.append(what)

    images, labels = _bars(8, 0, both=True)
    learned = fit_rewarded(start, images, labels, iterations=16, progress=tell)
    assert all(torch.equal(a, b) for a, b in zip(before, start.weights, strict=True))
    assert torch.equal(learned.weights[0], start.weights[0])
    assert not torch.equal(learned.weights[1], start.weights[1])
    assert len(told) == 16
    assert told[-1].endswith("right")


def test_nothing_seen_is_no_decision() -> None:
    assert decide(_hierarchy(*TWO), torch.zeros(2, 32, 32), 2).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("labels", "given", "error", "message"),
    [
        (torch.tensor([0, 1]), {"iterations": 0}, ValueError, "got iterations=0; expected at least 1"),
        (torch.tensor([0]), {}, ValueError, r"got labels of shape \(1,\) .*one an image"),
        (torch.tensor([0, 0]), {}, ValueError, "at least two classes"),
        (torch.tensor([0, 3]), {}, ValueError, "no more classes than maps"),
        (torch.tensor([-1, 1]), {}, ValueError, "from -1 to 1"),
        (torch.tensor([0.0, 1.0]), {}, TypeError, r"got a tensor of torch.float32 as labels.*\.long\(\)"),
        ([0, 1], {}, TypeError, "got a list as labels"),
    ],
)
def test_wrong_labels_are_refused(labels: Any, given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit_rewarded(_hierarchy(*TWO), torch.zeros(2, 32, 32), labels, **given)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="got classes=1; expected at least 2"):
        decide(_hierarchy(*TWO), torch.zeros(1, 32, 32), 1)

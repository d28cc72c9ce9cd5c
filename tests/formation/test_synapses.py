"""The published rule, event by event, with its defect and without; log-odds and regression against plain algebra."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.formation.synapses import born, events, log_odds, potentiate, regression

D = 12


def _events(seed: int) -> torch.Tensor:
    return torch.randint(0, 6, (D,), generator=torch.Generator().manual_seed(seed)).double()


def _by_hand(maps: torch.Tensor, said: int, counts: torch.Tensor, gain: float, fixed: bool) -> torch.Tensor:
    """The published loop: a synapse, an event, a name at a time; nothing is clamped."""
    maps = maps.clone()
    for f in range(D):
        for _ in range(int(counts[f])):
            for name in range(len(maps)):
                rate = 0.007 * gain if name == said else -0.003 * gain
                row = name if name == said or fixed else said
                maps[row, f] += rate * maps[row, f] * (1 - maps[row, f])
    return maps


@pytest.mark.parametrize("fixed", [False, True])
@given(seed=st.integers(0, 1000), gain=st.floats(0.1, 30))
def test_within_bounds_it_is_the_published_loop(fixed: bool, seed: int, gain: float) -> None:
    maps = torch.rand(2, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.6 + 0.2
    got = potentiate(maps, 0, _events(seed), gain=gain, fixed=fixed)
    assert torch.allclose(got, _by_hand(maps, 0, _events(seed), gain, fixed), atol=1e-12)


def test_the_published_defect_never_depresses_another_name_and_the_fixed_rule_does() -> None:
    maps = torch.full((3, D), 0.5, dtype=torch.float64)
    counts = _events(0)
    published = potentiate(maps, 1, counts, gain=10, fixed=False)
    fixed = potentiate(maps, 1, counts, gain=10, fixed=True)
    assert torch.equal(published[[0, 2]], maps[[0, 2]])
    assert (fixed[[0, 2]][:, counts > 0] < 0.5).all()
    assert (published[1] < fixed[1])[counts > 0].all()
    assert torch.equal(fixed[:, counts == 0], maps[:, counts == 0])


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("gain", [1, 65, 500, 1e4, 1e30])
def test_no_gain_diverges_though_the_published_loop_does(gain: float, fixed: bool) -> None:
    maps = born(D, torch.zeros(1), torch.Generator().manual_seed(0)).repeat(2, 1)
    counts = torch.full((D,), 15.0)
    for said in (0, 1) * 20:
        maps = potentiate(maps, said, counts, gain=gain, fixed=fixed)
    assert ((maps >= 0) & (maps <= 1)).all()
    loop = _by_hand(torch.full((2, D), 0.575, dtype=torch.float64), 0, counts, 500, False)
    assert not ((loop >= 0) & (loop <= 1)).all()


def test_new_synapses_are_alike_without_a_generator_and_spread_with_one(generator: torch.Generator) -> None:
    assert (born(D, torch.zeros(1), None) == 0.575).all()
    drawn = born(20_000, torch.zeros(1), generator)
    assert float(drawn.mean()) == pytest.approx(0.575, abs=2e-3)
    assert float(drawn.std()) == pytest.approx(0.05, abs=2e-3)


def test_log_odds_are_those_of_counts() -> None:
    active = torch.tensor([[3.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    count = torch.tensor([3.0, 1.0], dtype=torch.float64)
    wanted = torch.tensor([[4 / 5, 1 / 5], [2 / 3, 2 / 3]]).double().log() - torch.tensor([5 / 6, 2 / 6]).double().log()
    assert torch.allclose(log_odds(active, count), wanted)


def test_a_regression_solves_the_weighted_ridge(generator: torch.Generator) -> None:
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    names, weight = torch.tensor([0, 1, 2, 0, 1, 2]), torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    got = regression(x, names, weight, 3)
    scaled = weight.sqrt()[:, None] * x
    ridge = 0.1 * scaled.square().sum(1).mean()
    wanted = torch.nn.functional.one_hot(names, 3).double()
    pull = x.T @ (weight[:, None] * (wanted - x @ got.T))
    assert torch.allclose(pull, ridge * got.T, atol=1e-10)


def test_events_are_steps_at_or_above_the_threshold() -> None:
    potentials = torch.tensor([0.0, 9.9, 10.0, 11.0]).view(1, 4, 1, 1, 1).expand(2, 4, 3, 1, 1)
    assert torch.equal(events(potentials), torch.full((2, 3), 2.0))
    with pytest.raises(ValueError, match=r"got potentials \(4, 2\); expected \(b, t, ...\)"):
        events(torch.zeros(4, 2))

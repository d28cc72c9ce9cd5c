"""Chronicles: nothing of a training is disturbed, events are told from scores, and numbers equal those of the parts."""

import copy

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation.chronicle import Chronicle, turns
from mnemotrace.evaluation.chronicler import Chronicler, Watched


def right(model, data):
    return (model(data[0]).argmax(1) == data[1]).float()


def learn(model, optimiser, data, steps, generator):
    x, y = data
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()


class World:
    """Three clusters in 12 dimensions and a small network with dropout that learns them."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        centres = 3 * torch.randn(3, 12, generator=g)
        self.y = torch.arange(3).repeat(200)
        self.x = centres[self.y] + torch.randn(600, 12, generator=g)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 3))
        self.optimiser = torch.optim.Adam(self.model.parameters(), 3e-3)
        self.generator = torch.Generator().manual_seed(1)

    def watched(self):
        found = {}
        for c in range(3):
            x = self.x[self.y == c]
            found[str(c)] = Watched(x[:100].split(25), (x[100:], torch.full((100,), c)))
        return found

    def train(self, classes, steps):
        rows = torch.isin(self.y, torch.tensor(classes))
        learn(self.model, self.optimiser, (self.x[rows], self.y[rows]), steps, self.generator)


@pytest.fixture(scope="module")
def life():
    """Classes 0 and 1 are learnt, then 2 alone."""
    world = World()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        follow = Chronicler(world.model, world.watched(), score=right, rank=4)
        follow(0)
        for step in (20, 40, 60):
            world.train([0, 1], 20)
            follow(step)
        for step in (80, 100, 120, 140):
            world.train([2], 60)
            follow(step)
    return world, follow, follow.chronicle()


def test_who_is_taught_forms_and_who_is_taught_no_more_is_overwritten(life):
    _, _, told = life
    happened = {(event.concept, event.what): event.step for event in told.events()}
    assert happened["0", "formed"] <= 40 and happened["0", "overwritten"] >= 80
    assert happened["2", "formed"] >= 80
    assert ("2", "overwritten") not in happened
    assert bool(told.proved[0, 1:4].all()) and bool(told.proved[2, -1])


def test_overlaps_are_cosines_with_ones_on_the_diagonal(life):
    _, _, told = life
    for table in told.overlap:
        assert torch.allclose(table, table.T)
        assert torch.allclose(table.diagonal(), torch.ones(len(told.steps), dtype=torch.float64), atol=1e-6)
    assert tuple(told.drift.shape) == (3, len(told.steps) - 1)
    assert float(told.drift[0, 0]) == pytest.approx(1 - float(told.overlap[0, 0, 1]))


def test_the_last_measurement_equals_the_parts_done_by_hand(life):
    world, _, told = life
    model, watched = world.model, world.watched()
    statistics = {name: mt.collect(model, one.stimuli) for name, one in watched.items()}
    reference = statistics["0"] + statistics["1"]
    trace = mt.engram(model, target=statistics["2"], reference=reference, solver="ridge")
    model.eval()
    with torch.no_grad():
        before = {name: float(right(model, one.held_out).mean()) for name, one in watched.items()}
        with mt.applied(model, mt.erase(trace, limit=None)):
            after = {name: float(right(model, one.held_out).mean()) for name, one in watched.items()}
    model.train()
    assert float(told.score[2, -1]) == pytest.approx(before["2"])
    assert float(told.necessity[2, -1]) == pytest.approx(before["2"] - after["2"])
    assert float(told.spared[2, -1]) == pytest.approx(sum(before[n] - after[n] for n in "01") / 2)


def test_a_training_goes_on_as_if_nobody_had_looked():
    plain, seen = World(), World()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        plain.train([0, 1, 2], 6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        follow = Chronicler(seen.model, seen.watched(), score=right)
        seen.train([0, 1, 2], 3)
        follow(3)
        seen.train([0, 1, 2], 3)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), seen.model.parameters(), strict=True))
    assert all(module.training for module in seen.model.modules())


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ([0.0, 0.2, 0.8, 1.0], [(2, "formed")]),
        ([0.1, 0.9, 0.2, 0.2, 0.9], [(1, "formed"), (2, "overwritten"), (4, "formed again")]),
        ([0.5, 0.55, 0.5], []),
        ([0.9, 0.5, 0.1], []),
        ([], []),
    ],
)
def test_turns(score, expected):
    assert turns(score) == expected


def test_the_same_seed_writes_the_same_chronicle():
    def told():
        world = World()
        follow = Chronicler(world.model, world.watched(), score=right, generator=torch.Generator().manual_seed(7))
        follow(1)
        return follow.chronicle()

    first, second = told(), told()
    assert torch.equal(first.random, second.random) and torch.equal(first.necessity, second.necessity)
    assert first.manifest["seed"] == 7


def test_what_is_refused(life):
    world, follow, told = life
    watched = world.watched()
    with pytest.raises(ValueError, match="got 1 batches of stimuli; expected at least two"):
        Watched([world.x], None)
    with pytest.raises(ValueError, match="got 1 concepts"):
        Chronicler(world.model, {"0": watched["0"]}, score=right)
    with pytest.raises(ValueError, match="got step 100 after 140; expected one that rises"):
        follow(100)
    with pytest.raises(ValueError, match="expected at least one call"):
        Chronicler(world.model, watched, score=right).chronicle()
    with pytest.raises(ValueError, match=r"got norm of shape \(3, 2\); expected \(3, 8\)"):
        Chronicle(**{**vars(told), "norm": told.norm[:, :2]})


def test_a_step_that_fails_is_not_written_down(life):
    world, _, _ = life
    broken = copy.deepcopy(world.model)
    follow = Chronicler(broken, world.watched(), score=lambda model, data: right(model, data) * torch.nan)
    with pytest.raises(NonFiniteError, match="the scores of 0"):
        follow(1)
    with pytest.raises(ValueError, match="got no measurement"):
        follow.chronicle()
    assert all(torch.equal(a, b) for a, b in zip(broken.parameters(), world.model.parameters(), strict=True))

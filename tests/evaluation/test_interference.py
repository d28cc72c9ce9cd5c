"""Losses of memories that share weights: a linear map whose memories are known, row by row."""

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import sites
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.interference import Interference, interference

SHARED = 0.6


@pytest.fixture
def model() -> nn.Module:
    """Memories `i` of a key and a value; keys 0 and 1 are alike, all others are orthogonal."""
    model = nn.Sequential(nn.Linear(6, 8, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(values().T @ keys())
    return model


def keys() -> Tensor:
    found = torch.eye(6)[:4].clone()
    found[1] = SHARED * found[0] + (1 - SHARED**2) ** 0.5 * torch.eye(6)[5]
    return found


def values() -> Tensor:
    found = torch.eye(8)[:4].clone()
    found[1] = found[0]
    return found


def engrams(model: nn.Module) -> dict[str, Engram]:
    """What reads each key and writes its value."""
    (site,) = sites(model).values()
    return {
        str(i): Engram({site.name: LowRank(site, values()[i][:, None], keys()[i][None])}, manifest={"base": {"a": "b"}})
        for i in range(4)
    }


def score(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """How much of the value comes back."""
    with torch.no_grad():
        return (model(data[0]) * data[1]).sum(1)


def data() -> dict[str, tuple[Tensor, Tensor]]:
    return {str(i): (keys()[i].repeat(3, 1), values()[i].repeat(3, 1)) for i in range(4)}


def test_memories_that_overlap_are_the_ones_that_cost_each_other(model: nn.Module) -> None:
    before = model[0].weight.clone()
    found = interference(engrams(model), model=model, score=score, data=data(), draws=2, resamples=50)
    assert torch.equal(model[0].weight, before)
    behaviour, weights = found.behaviour, found.weights
    assert behaviour is not None
    assert float(weights.cosine[0, 1]) == pytest.approx(SHARED, abs=1e-6)
    cost = SHARED / (1 + SHARED)  # the map answers a shared key with both memories
    expected = torch.eye(4).double()
    expected[:2, :2] = torch.tensor([[1 - cost, cost], [cost, 1 - cost]])
    torch.testing.assert_close(behaviour.loss, expected, atol=1e-6, rtol=0)
    assert behaviour.correlation == pytest.approx(1) and behaviour.others[0] == pytest.approx(2 * cost / 12)
    assert behaviour.own[0] == pytest.approx((4 - 2 * cost) / 4)
    assert abs(behaviour.control_own[0]) < 0.5 and found.relative_overlap > 1
    assert found.manifest["base"] != {"a": "b"} and found.manifest["draws"] == 2


def test_random_engrams_are_drawn_from_the_generator(model: nn.Module) -> None:
    options = {"model": model, "score": score, "data": data(), "draws": 1, "resamples": 10}
    runs = [
        interference(engrams(model), generator=torch.Generator().manual_seed(seed), **options).behaviour
        for seed in (0, 0, 1)
    ]
    first, again, other = (run.control for run in runs if run is not None)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_chance_and_strength_are_taken_into_account(model: nn.Module) -> None:
    found = interference(
        engrams(model), model=model, score=score, data=data(), draws=1, chance=0.5, strength=0.5, resamples=10
    ).behaviour
    assert found is not None
    assert float(found.loss[2, 2]) == pytest.approx(1.0)  # from 1 to 0.5, which is chance
    assert float(found.loss[3, 2]) == pytest.approx(0.0)


def test_without_a_score_only_the_weights_are_compared(model: nn.Module) -> None:
    found = interference(engrams(model))
    assert found.behaviour is None and found.manifest["base"] == {"a": "b"}
    back = Interference.unpack(found.pack())
    assert back.behaviour is None and torch.equal(back.weights.left, found.weights.left)


def test_packing_keeps_the_behaviour(model: nn.Module) -> None:
    found = interference(engrams(model), model=model, score=score, data=data(), draws=1, resamples=10)
    back = Interference.unpack(found.pack())
    assert found.behaviour is not None and back.behaviour is not None
    assert back.behaviour.own == found.behaviour.own and back.behaviour.p == found.behaviour.p
    assert torch.equal(back.behaviour.loss, found.behaviour.loss)
    assert torch.equal(back.weights.random_cosine, found.weights.random_cosine)


def test_mistakes_are_named(model: nn.Module) -> None:
    traces = engrams(model)
    with pytest.raises(ValueError, match=r"got model, score, data \[True, False, True\]"):
        interference(traces, model=model, data=data())
    some = dict(list(data().items())[:3])
    with pytest.raises(ValueError, match=r"data of \['0', '1', '2'\] for engrams of \['0', '1', '2', '3'\]"):
        interference(traces, model=model, score=score, data=some)
    with pytest.raises(ValueError, match=r"got scores at or below chance \(1.5\) before any edit for 2, 3"):
        interference(traces, model=model, score=score, data=data(), chance=1.5, draws=1)
    with pytest.raises(ValueError, match=r"got scores of shape \(\) for 0; expected \(n,\)"):
        interference(traces, model=model, score=lambda m, d: torch.tensor(1.0), data=data())
    with pytest.raises(ValueError, match="got 3 non-finite of 3 entries in scores of 0"):
        interference(traces, model=model, score=lambda m, d: score(m, d) * torch.nan, data=data())

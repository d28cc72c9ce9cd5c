"""Regions: training cannot move what is protected, whatever the optimiser does, and skills keep apart."""

import copy

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core.edit import Sparse
from mnemotrace.core.errors import EditError
from mnemotrace.core.mask import Mask
from mnemotrace.modification.regions import Regions, confined

OPTIMISERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.5),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.5),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1),
}


def network() -> nn.Module:
    """A small perceptron, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def mask(**indices: list[int]) -> Mask:
    """A mask of the network: names with `_` for the dot."""
    model = network()
    regions: dict[str, Sparse] = {}
    for key, chosen in indices.items():
        name = key[1:].replace("_", ".")
        shape = tuple(model.get_parameter(name).shape)
        regions[name] = Sparse(name, shape, torch.tensor(chosen), torch.ones(len(chosen), dtype=torch.float64))
    return Mask(regions, 83)


def train(model: nn.Module, optimiser: torch.optim.Optimizer, steps: int = 8) -> None:
    """Fit random labels, so that every entry gets a gradient."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(32, 6, generator=generator), torch.randint(3, (32,), generator=generator)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimiser.step(closure)


PROTECTED = mask(_0_weight=[0, 5, 11, 47], _2_bias=[1])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_protected_entries_stay_to_the_bit_and_others_move(name: str) -> None:
    model, before = network(), network()
    with confined(model, protected=PROTECTED):
        train(model, OPTIMISERS[name](model.parameters()))
    for parameter, old in zip(model.named_parameters(), before.parameters(), strict=True):
        chosen = PROTECTED.regions.get(parameter[0])
        same = (parameter[1] == old).flatten()
        expected = torch.zeros_like(same)
        if chosen is not None:
            expected[chosen.indices] = True
        assert torch.equal(same, expected)


def test_without_confinement_the_same_entries_move() -> None:
    model, before = network(), network()
    train(model, OPTIMISERS["AdamW"](model.parameters()))
    indices = PROTECTED.regions["0.weight"].indices
    assert not (model[0].weight.flatten()[indices] == before[0].weight.flatten()[indices]).any()


def test_gradients_alone_would_not_protect_from_weight_decay_and_momentum() -> None:
    """Negative control: with the gradient silenced and nothing written back, AdamW moves the entries all the same."""
    model, before = network(), network()
    indices = PROTECTED.regions["0.weight"].indices
    model[0].weight.register_hook(lambda g: g.flatten().index_fill(0, indices, 0).view_as(g))
    train(model, OPTIMISERS["AdamW"](model.parameters()))
    assert not (model[0].weight.flatten()[indices] == before[0].weight.flatten()[indices]).any()


def test_momentum_from_before_does_not_leak_in() -> None:
    model = network()
    optimiser = OPTIMISERS["SGD"](model.parameters())
    train(model, optimiser)
    before = copy.deepcopy(model)
    with confined(model, protected=PROTECTED):
        train(model, optimiser)
    indices = PROTECTED.regions["0.weight"].indices
    assert torch.equal(model[0].weight.flatten()[indices], before[0].weight.flatten()[indices])


def test_only_allowed_entries_move() -> None:
    model, before = network(), network()
    with confined(model, allowed=PROTECTED):
        train(model, OPTIMISERS["AdamW"](model.parameters()))
    moved = {n: (p != q).flatten().nonzero()[:, 0].tolist() for (n, p), q in
             zip(model.named_parameters(), before.parameters(), strict=True)}  # fmt: skip
    assert moved == {"0.weight": [0, 5, 11, 47], "0.bias": [], "2.weight": [], "2.bias": [1]}


def test_what_is_protected_stays_even_where_it_is_allowed() -> None:
    model, before = network(), network()
    with confined(model, protected=[mask(_0_weight=[5]), mask(_0_weight=[11])], allowed=PROTECTED):
        train(model, OPTIMISERS["AdamW"](model.parameters()))
    moved = (model[0].weight != before[0].weight).flatten().nonzero()[:, 0]
    assert moved.tolist() == [0, 47]


def test_frozen_entries_get_no_gradient() -> None:
    model = network()
    with confined(model, protected=PROTECTED):
        model(torch.ones(2, 6)).sum().backward()
        assert not model[0].weight.grad.flatten()[PROTECTED.regions["0.weight"].indices].any()
    assert model[0].weight.grad.count_nonzero() == 44


def test_hooks_are_gone_after_an_error_and_entries_are_back() -> None:
    from torch.optim import optimizer

    model, before, hooks = network(), network(), len(optimizer._global_optimizer_post_hooks)
    with pytest.raises(RuntimeError, match="stop"), confined(model, protected=PROTECTED):
        with torch.no_grad():
            model[0].weight.zero_()  # not an optimiser's step
        raise RuntimeError("stop")
    indices = PROTECTED.regions["0.weight"].indices
    assert torch.equal(model[0].weight.flatten()[indices], before[0].weight.flatten()[indices])
    assert len(optimizer._global_optimizer_post_hooks) == hooks
    assert not model[0].weight._backward_hooks
    train(model, OPTIMISERS["AdamW"](model.parameters()))
    assert not torch.equal(model[0].weight.flatten()[indices], before[0].weight.flatten()[indices])


def test_a_frozen_parameter_is_no_obstacle() -> None:
    model = network()
    model[0].requires_grad_(False)
    with confined(model, protected=PROTECTED):
        train(model, OPTIMISERS["AdamW"](model[2].parameters()))
    assert not model[0].weight.requires_grad


def test_confinement_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got neither protected nor allowed entries"), confined(network()):
        pass


def test_a_mask_of_another_network_is_refused_before_anything_happens() -> None:
    model = nn.Sequential(nn.Linear(6, 7))
    with (
        pytest.raises(EditError, match=r"'0.weight' with shape \(8, 6\), which is \(7, 6\) in"),
        confined(model, protected=PROTECTED),
    ):
        pass
    with pytest.raises(EditError, match=r"which is absent in the model"), confined(nn.ReLU(), allowed=PROTECTED):
        pass


def test_regions_refuse_to_meet() -> None:
    regions = Regions().add("first", mask(_0_weight=[1, 2])).add("second", mask(_0_weight=[3], _2_bias=[0]))
    with pytest.raises(EditError, match="got 2 of the 3 entries of 'third' in the region of 'second'"):
        regions.add("third", mask(_0_weight=[3, 4], _2_bias=[0]))
    with pytest.raises(ValueError, match="got a second region named 'first'; expected a new name"):
        regions.add("first", mask(_0_weight=[9]))
    assert list(regions.masks) == ["first", "second"]


def test_the_edit_of_regions_is_the_sum_of_theirs() -> None:
    first, second = mask(_0_weight=[1, 2]), mask(_0_weight=[3], _2_bias=[0])
    together, separate = network(), network()
    mt.apply(together, Regions({"a": first, "b": second}).edit())
    mt.apply(separate, first.edit())
    mt.apply(separate, second.edit())
    assert all(torch.equal(p, q) for p, q in zip(together.parameters(), separate.parameters(), strict=True))


def test_no_region_makes_no_edit() -> None:
    assert Regions().union() is None
    with pytest.raises(ValueError, match="got no region; expected at least one"):
        Regions().edit()

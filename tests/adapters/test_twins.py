"""Untrained twins and shuffled weights: the same architecture, the same entries, and the original as it was."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mnemotrace.adapters.twins import shuffled_weights, untrained_twin


def _net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3).add_(0.5)
        net[1].running_mean.fill_(7)
        net[1].running_var.fill_(5)
    return net.eval()


def _same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_an_untrained_twin_has_forgotten_everything_and_the_network_nothing(generator: torch.Generator) -> None:
    net = _net()
    before = deepcopy(net)
    twin = untrained_twin(net, generator=generator)
    assert _same(net, before)
    for trained, fresh in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        assert not torch.equal(trained, fresh) or trained.numel() == 1  # the count of batches was 0 before
    assert float(twin[1].running_mean.abs().max()) == 0
    assert not twin.training


def test_a_twin_depends_on_its_generator_and_not_on_global_randomness(generator: torch.Generator) -> None:
    state = torch.get_rng_state()
    first = untrained_twin(_net(), generator=torch.Generator().manual_seed(5))
    torch.rand(3)
    second = untrained_twin(_net(), generator=torch.Generator().manual_seed(5))
    third = untrained_twin(_net(), generator=generator)
    torch.set_rng_state(state)
    assert _same(first, second)
    assert not _same(first, third)


def test_global_randomness_is_put_back(generator: torch.Generator) -> None:
    before = torch.get_rng_state()
    untrained_twin(_net(), generator=generator)
    assert torch.equal(before, torch.get_rng_state())


def test_attention_can_draw_anew(generator: torch.Generator) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.fill_(1)
    assert float(untrained_twin(layer, generator=generator).self_attn.in_proj_weight.detach().std()) > 0


class _Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


def test_a_module_that_cannot_draw_anew_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"without reset_parameters in 1; expected .* give it as untrained="):
        untrained_twin(nn.Sequential(nn.Linear(2, 3), _Own()), generator=generator)


def test_shuffled_weights_are_the_same_numbers_elsewhere(generator: torch.Generator) -> None:
    net = _net()
    before = deepcopy(net)
    shuffled = shuffled_weights(net, generator=generator)
    assert _same(net, before)
    for index in (0, 4):
        old, new = net[index].weight, shuffled[index].weight
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
        assert not torch.equal(old, new)
        assert torch.equal(net[index].bias, shuffled[index].bias)

"""One number a stimulus and unit: against the plain computation, with masks, and what is refused."""

import pytest
import torch
from torch import nn

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.stats.responses import responses


@pytest.fixture
def images(generator):
    return torch.randn(7, 3, 8, 8, generator=generator)


@pytest.fixture
def vision():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)).eval()


@pytest.mark.parametrize("reduce", ["max", "mean", "last"])
def test_an_image_map_becomes_one_number(vision, images, reduce):
    found = responses(vision, images.split(3), ["1", "3"], reduce=reduce)
    out = vision[1](vision[0](images)).detach().flatten(2)
    plain = {"max": out.amax(2), "mean": out.mean(2), "last": out[..., -1]}[reduce]
    assert torch.allclose(found["1"], plain, atol=1e-6)
    assert torch.allclose(found["3"], vision(images).detach(), atol=1e-5)


def test_before_reads_what_goes_into_the_activation(vision, images):
    found = responses(vision, [images], ["1"], before=True)["1"]
    assert torch.allclose(found, vision[0](images).detach().flatten(2).amax(2))


@pytest.mark.parametrize("reduce", ["max", "mean", "last"])
def test_padding_does_not_count(tiny_gpt2, tokens, reduce):
    model, short = tiny_gpt2(), tokens[:, :7]
    mask = torch.zeros_like(tokens)
    mask[:, :7] = 1
    padded = responses(model, [{"input_ids": tokens, "attention_mask": mask}], ["transformer.h.1.mlp"], reduce=reduce)
    plain = responses(model, [{"input_ids": short}], ["transformer.h.1.mlp"], reduce=reduce)
    for name, table in plain.items():
        assert torch.allclose(padded[name], table, atol=1e-5)


def test_the_last_that_counts_is_taken(tiny_gpt2, tokens):
    mask = torch.ones_like(tokens).bool()
    mask[:, -3:] = False
    model = tiny_gpt2()
    (cut,) = responses(model, [tokens], ["transformer.h.0"], reduce="last", mask=lambda _: mask).values()
    (short,) = responses(model, [tokens[:, :-3]], ["transformer.h.0"], reduce="last").values()
    assert torch.allclose(cut, short)


def test_another_entrance_of_the_network(vision, images):
    found = responses(vision, [images], [""], run=lambda model, batch: model(batch * 0))[""]
    assert torch.allclose(found, vision(images * 0).detach())


def test_what_is_refused(vision, images, tiny_gpt2, tokens):
    with pytest.raises(ValueError, match="expected one of max, mean, last"):
        responses(vision, [images], ["1"], reduce="median")
    with pytest.raises(ValueError, match="got no stimulus"):
        responses(vision, [], ["1"])
    with pytest.raises(SelectionError, match="no module"):
        responses(vision, [images], ["conv9"])
    with pytest.raises(NonFiniteError, match="3, batch 1"):
        responses(vision, [images * torch.nan], ["3"])
    with pytest.raises(TypeError, match="bool"):
        responses(tiny_gpt2(), [tokens], ["transformer"], mask=lambda _: torch.ones(4, 12))
    with pytest.raises(ValueError, match="4 empty rows"):
        responses(tiny_gpt2(), [tokens], ["transformer"], mask=lambda _: torch.zeros(4, 12).bool())


def test_the_network_is_left_as_it_was(vision, images):
    vision.train()
    responses(vision, [images], ["1"])
    assert all(module.training for module in vision.modules())
    assert not any(module._forward_hooks for module in vision.modules())

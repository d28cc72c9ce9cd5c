"""Latents of vectors, tokens and maps as units, and what takes units: recollections, pictures, top examples."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import SelectionError
from mnemotrace.forgetting.concept import erasing
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.latents import direction_of, latents, mask_of_latent
from mnemotrace.localisation.top_examples import top_examples
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.visualisation import visualise
from mnemotrace.stats.responses import responses


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _dictionary(d: int, m: int = 12, *, site: str = "", threshold: Tensor | None = None) -> Dictionary:
    variant = "topk" if threshold is None else "jump_relu"
    rows = nn.functional.normalize(_draw(m, d), dim=1)
    k = 3 if threshold is None else None
    return Dictionary(
        rows, 0.1 * _draw(m, seed=1), rows, 0.1 * _draw(d, seed=2), torch.zeros(d), variant, k, threshold, site=site
    )


def _net(*modules: nn.Module) -> nn.Sequential:
    generator = torch.Generator().manual_seed(5)
    net = nn.Sequential(*modules)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return net.eval()


IMAGES = _net(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4))
SIGNALS = _net(nn.Conv1d(2, 6, 3), nn.ReLU())
THRESHOLDS = (None, torch.tensor(0.4), torch.linspace(0, 1, 12))


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_codes_of_vectors_tokens_maps_and_signals_are_the_dictionarys(threshold: Tensor | None) -> None:
    cases = [
        (_net(nn.Linear(5, 6), nn.ReLU()), _draw(7, 5), "1", lambda y: y),
        (_net(nn.Linear(5, 6), nn.ReLU()), _draw(7, 4, 5), "1", lambda y: y),
        (IMAGES, _draw(7, 1, 8, 8), "0", lambda y: y.movedim(1, -1)),
        (SIGNALS, _draw(7, 2, 9), "0", lambda y: y.movedim(1, -1)),
    ]
    for net, x, site, rows_of in cases:
        made = _dictionary(6, site=site, threshold=threshold)
        with torch.no_grad():
            rows = rows_of(net[: int(site) + 1](x))
            found = latents(made, net)(x)
        found = found.movedim(1, -1) if found.ndim == 4 else found
        expected = made.encode(rows.flatten(0, -2)).dense().view(*rows.shape[:-1], 12)
        assert torch.allclose(found, expected, atol=1e-6)
        assert torch.equal(found != 0, expected != 0)


def test_the_network_runs_to_the_site_only_and_stays() -> None:
    net, x = _net(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 99)), _draw(3, 5)
    net[2].register_forward_hook(lambda *_: pytest.fail("ran on"))
    made = latents(_dictionary(6, site="1"), net.train())
    assert made.training
    assert made(x).shape == (3, 12)
    assert not net[1]._forward_hooks
    assert latents(_dictionary(99), net[:3].eval(), site="0").site == "0"


def test_a_recollection_starts_from_a_latent() -> None:
    """With the gradient's rules it is the gradient of that latent; silent latents have none."""
    view, x = latents(_dictionary(6, site="2", threshold=torch.tensor(0.2)), IMAGES), _draw(2, 1, 8, 8).requires_grad_()
    codes = view(x)
    on = int((codes.detach().flatten(2) > 0).all(2).all(0).nonzero()[0])
    found = mt.recollect(view, on, trace=x.detach(), rules=Rules.gradient(), controls=False)
    assert found.images.shape == x.shape
    assert float(found.images.abs().sum()) > 0
    expected = torch.autograd.grad(codes[:, on].sum(), x)[0]
    assert torch.nn.functional.cosine_similarity(found.images.flatten(1), expected.flatten(1)).min() > 0.99
    guided = mt.recollect(view, on, trace=x.detach(), rules=Rules.guided(), controls=False)
    assert not torch.allclose(guided.images, found.images)


def test_pictures_climb_a_latent_that_is_off() -> None:
    """`pre` has a gradient where the latent itself is silent."""
    made = _dictionary(6, site="0", threshold=torch.tensor(5.0))
    view = latents(made, IMAGES)
    start = 0.01 * _draw(1, 1, 8, 8)
    assert float(view(start)[:, 2].detach().abs().sum()) == 0
    found = visualise(view, Objective.unit(2, site="pre"), shape=(1, 8, 8), steps=8, transforms=())
    assert float(found.activation.detach()) > float(found.curve[0].detach()) + 0.1


def test_top_examples_and_responses_take_latents() -> None:
    view, x = latents(_dictionary(6, site="0"), IMAGES), _draw(30, 1, 8, 8)
    with torch.no_grad():
        best = view(x).flatten(2).amax(2).topk(2, 0)
    assert torch.allclose(top_examples(view, x.split(7), None, k=2).values[0], best.values.T, atol=1e-6)
    table = responses(view, x.split(7), [""])[""]
    assert table.shape == (30, 12)
    assert torch.allclose(table.amax(0), best.values[0], atol=1e-6)


def test_an_eraser_empties_what_latents_write_to() -> None:
    net, x = _net(nn.Linear(5, 6), nn.ReLU()), _draw(9, 5)
    made = _dictionary(6, site="0")
    eraser = direction_of(made, [3, 5, 3])
    assert eraser.rank == 2
    rows = made.decoder[[3, 5]].double()
    with torch.no_grad():
        before = net[0](x)
        with erasing(net, {"0": eraser}):
            after = net[0](x)
    assert float((after.double() @ rows.T).abs().max()) < 1e-5
    rest = torch.linalg.svd(rows)[2][2:].T
    assert torch.allclose(after.double() @ rest, before.double() @ rest, atol=1e-5)
    centre = direction_of(made, [3], mean=before.mean(0))
    assert torch.allclose(centre(before).mean(0), before.mean(0), atol=1e-6)
    assert float((before.double() @ rows.T).abs().max()) > 0.1


def test_a_mask_says_where_a_latent_is_on_and_nothing_is_collected_twice(tiny_gpt2: Any, tokens: Tensor) -> None:
    model = tiny_gpt2()
    made = replace(_dictionary(32, site="transformer.h.0"), encoder_bias=torch.zeros(12), bias=torch.zeros(32))
    attention = torch.ones_like(tokens)
    attention[:, 9:] = 0
    batch = {"input_ids": tokens, "attention_mask": attention}
    with torch.no_grad():
        codes = latents(made, model)(**batch)
    latent = int((codes > 0).flatten(0, 1).float().mean(0).argmax())
    mask = mask_of_latent(made, model, latent)
    expected = (codes[..., latent] > 0) & attention.bool()
    assert torch.equal(mask(batch), expected)
    assert 0 < int(expected.sum()) < int(attention.sum())
    site = {name: one for name, one in mt.sites(model).items() if name.endswith("h.0.mlp.c_fc")}
    counted = mt.collect(model, [batch], sites=site, mask=mask)
    assert [moments.n for moments in counted.values()] == [int(expected.sum())]
    high = mask_of_latent(made, model, latent, threshold=float(codes[..., latent].max()))
    assert not bool(high(batch).any())


def test_a_mask_sees_edits_of_the_weights(tiny_gpt2: Any, tokens: Tensor) -> None:
    """The copy shares the weights: an eraser of the network changes what a latent says too."""
    model = tiny_gpt2()
    made = replace(_dictionary(32, site="transformer.h.0"), encoder_bias=torch.zeros(12), bias=torch.zeros(32))
    with torch.no_grad():
        latent = int((latents(made, model)(tokens) > 0).flatten(0, 1).float().mean(0).argmax())
    mask = mask_of_latent(made, model, latent)
    before = mask({"input_ids": tokens})
    assert bool(before.any())
    with torch.no_grad():
        model.transformer.wte.weight.neg_()
    assert not torch.equal(mask({"input_ids": tokens}), before)


def test_a_mask_of_maps_and_vectors_counts_whole_examples() -> None:
    x = _draw(6, 1, 8, 8)
    assert mask_of_latent(_dictionary(6, site="0"), IMAGES, 0)(x).shape == (6,)
    vectors = _net(nn.Linear(5, 6))
    assert mask_of_latent(_dictionary(6, site="0"), vectors, 0)(_draw(4, 5)).shape == (4,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: latents(_dictionary(6), IMAGES, site="conv"), SelectionError, "got site='conv', which is no module"),
        (lambda: latents(_dictionary(7, site="0"), IMAGES)(_draw(2, 1, 8, 8)), ValueError, "width 6 at 0; expected 7"),
        (lambda: direction_of(_dictionary(6), []), ValueError, "got no latent; expected at least one"),
        (lambda: direction_of(_dictionary(6), [12]), ValueError, "got unit 12 of the dictionary; expected 0 to 11"),
        (lambda: mask_of_latent(_dictionary(6), IMAGES, -1), ValueError, "got unit -1 of the dictionary"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_module_that_does_not_run_is_named() -> None:
    net = _net(nn.Linear(5, 6))
    net.spare = nn.Linear(5, 6)  # type: ignore[assignment]
    net.forward = net[0].forward  # type: ignore[method-assign]
    with pytest.raises(SelectionError, match="got site='spare', which did not run"):
        latents(_dictionary(6, site="spare"), net)(_draw(2, 5))

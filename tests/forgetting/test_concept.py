"""Erasing a concept from what networks compute: the right rows, the right labels, nothing left behind."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Example
from mnemotrace.core.direction import Direction
from mnemotrace.core.errors import SelectionError
from mnemotrace.forgetting.concept import erasing, leace
from mnemotrace.forgetting.eraser import encoded, fit

D = 32


def read(model: nn.Module, module: str, batch: object) -> torch.Tensor:
    """What a module gives."""
    found = []
    handle = model.get_submodule(module).register_forward_hook(lambda _m, _a, out: found.append(out))
    with torch.no_grad():
        model(**batch) if isinstance(batch, dict) else model(batch)
    handle.remove()
    return found[0][0] if isinstance(found[0], tuple) else found[0]


def covariance(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    x, z = x.double(), encoded(z)
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 1])


def test_what_a_module_gives_is_fitted_as_tensors_are(tiny_lm, tokens, labels) -> None:
    name = next(n for n, _ in tiny_lm.named_modules() if n.endswith((".ln_2", ".post_attention_layernorm")))
    found = leace(tiny_lm, tokens.split(2), labels=labels, modules=[name])
    rows = read(tiny_lm, name, tokens)
    wanted = fit(rows.flatten(0, 1), labels.repeat_interleave(12))
    torch.testing.assert_close(found[name](rows.double()), wanted(rows.double()), rtol=1e-6, atol=1e-6)
    assert found[name].manifest["place"] == name and found[name].evidence["rows"] == 48


def test_the_concept_is_gone_where_it_is_erased(tiny_lm, tokens, labels) -> None:
    name = [n for n, _ in tiny_lm.named_modules() if n.endswith((".ln_2", ".post_attention_layernorm"))][-1]
    found = leace(tiny_lm, tokens.split(2), labels=labels, modules=[name])
    z = labels.repeat_interleave(12)
    before = covariance(read(tiny_lm, name, tokens).flatten(0, 1), z).abs().max()
    with erasing(tiny_lm, found):
        erased = covariance(read(tiny_lm, name, tokens).flatten(0, 1), z).abs().max()
    assert erased <= 1e-5 * before  # the network computes in float32
    assert torch.equal(covariance(read(tiny_lm, name, tokens).flatten(0, 1), z).abs().max(), before)


def test_sites_that_read_one_tensor_share_an_eraser(tiny_llama, tokens, labels) -> None:
    model = tiny_llama()
    found = leace(model, [tokens], labels=labels, sites=mt.sites(model, layers=[1]))
    left = {name.rsplit(".", 1)[1]: direction.left for name, direction in found.items()}
    assert left["q_proj"] is left["k_proj"] is left["v_proj"] and left["gate_proj"] is left["up_proj"]
    assert left["q_proj"] is not left["gate_proj"]
    norm = leace(model, [tokens], labels=labels, modules=["model.layers.1.input_layernorm"])
    torch.testing.assert_close(left["q_proj"], norm["model.layers.1.input_layernorm"].left)


def test_a_site_that_is_read_with_others_only_sometimes_has_its_own_sum(labels) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x if len(x) > 3 else x + 1)

    model, x = Twice(), torch.randn(7, 4)
    z = torch.tensor([0, 1, 2, 1, 0, 1, 2])
    found = leace(model, [x[:4], x[4:]], labels=z, sites=mt.sites(model))
    torch.testing.assert_close(found["a"](x.double()), fit(x, z)(x.double()))
    shifted = torch.cat([x[:4], x[4:] + 1])
    torch.testing.assert_close(found["b"](x.double()), fit(shifted, z)(x.double()))


@pytest.mark.parametrize("kind", ["positions", "numbers", "callable"])
def test_labels_may_be_of_positions_numbers_or_a_callable(kind: str, tiny_gpt2, tokens, labels) -> None:
    model, name = tiny_gpt2(), "transformer.h.0.ln_2"
    x = read(model, name, tokens).flatten(0, 1)
    each = torch.arange(48).view(4, 12) % 3
    given = {"positions": each, "numbers": encoded(labels), "callable": lambda batch: batch[:, 0] % 3}[kind]
    flat = {
        "positions": each.flatten(),
        "numbers": labels.repeat_interleave(12),
        "callable": (tokens[:, 0] % 3).repeat_interleave(12),
    }[kind]
    found = leace(model, tokens.split(2), labels=given, modules=[name])[name]
    torch.testing.assert_close(found(x.double()), fit(x, flat)(x.double()), rtol=1e-6, atol=1e-6)


def test_padding_never_counts_and_a_mask_chooses(tiny_gpt2, tokens, labels) -> None:
    model, name = tiny_gpt2(), "transformer.h.0.ln_2"
    attention = torch.ones_like(tokens)
    attention[1, 7:] = 0
    batch = {"input_ids": tokens, "attention_mask": attention}
    found = leace(model, [batch], labels=labels, modules=[name])[name]
    assert found.evidence["rows"] == 43
    last = torch.zeros(4, 12, dtype=torch.bool)
    last[:, -2:] = True
    chosen = leace(model, [batch], labels=labels, modules=[name], mask=lambda _: last)[name]
    x = read(model, name, batch)[last]
    torch.testing.assert_close(chosen(x.double()), fit(x, labels.repeat_interleave(2))(x.double()))


def test_patches_of_a_convolution_have_the_label_of_their_image() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    x, z = torch.randn(20, 2, 4, 4), torch.arange(20) % 2
    found = leace(model, x.split(5), labels=z, sites=mt.sites(model, ["0"]))["0"]
    patches = nn.functional.unfold(x, 3).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(
        found(patches.double()), fit(patches, z.repeat_interleave(4))(patches.double()), rtol=1e-6, atol=1e-6
    )
    edit = found.as_edit(model, mt.sites(model, ["0"]))
    with torch.no_grad():
        wanted = found(patches) @ model[0].weight.flatten(1).T + model[0].bias
        with mt.applied(model, edit):
            folded = model[0](x)
    torch.testing.assert_close(folded.flatten(2).transpose(1, 2).flatten(0, 1), wanted, rtol=1e-4, atol=1e-4)


def test_the_network_is_left_as_it_was_even_when_fitting_fails(tiny_gpt2, tokens, labels) -> None:
    model, name = tiny_gpt2(), "transformer.h.0.ln_2"
    model.train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    plain = deepcopy(model).eval()(tokens).logits
    leace(model, [tokens], labels=labels, modules=[name])
    with pytest.raises(ValueError, match="got labels for"):
        leace(model, [tokens], labels=labels[:3], modules=[name])
    direction = Direction(torch.ones(5, 1), torch.ones(1, 5), torch.zeros(5))
    with pytest.raises(ValueError, match="got activations"), erasing(model, {name: direction}):
        model(tokens)
    assert model.training and all(torch.equal(before[n], p) for n, p in model.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model.eval()(tokens).logits, plain)


def test_progress_is_reported_for_each_batch(tiny_gpt2, tokens, labels) -> None:
    seen = []
    model = tiny_gpt2()
    leace(
        model, tokens.split(2), labels=labels, modules=["transformer.h.0"], progress=lambda *report: seen.append(report)
    )
    assert seen == [(1, None, "batches"), (2, None, "batches")]


# --- what is refused


def test_places_that_do_not_exist_or_never_run_are_refused(tiny_gpt2, tokens, labels) -> None:
    model = tiny_gpt2()
    with pytest.raises(ValueError, match="got both or neither of sites and modules; expected one"):
        leace(model, [tokens], labels=labels)
    with pytest.raises(SelectionError, match=r"got modules absent, which GPT2LMHeadModel lacks; expected names of its"):
        leace(model, [tokens], labels=labels, modules=["absent"])
    with pytest.raises(SelectionError, match="got modules absent"), erasing(model, {"absent": None}):
        pass

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    idle = Idle()
    with pytest.raises(ValueError, match="got no row at idle; expected places that run on these batches"):
        leace(idle, [torch.randn(4, 4)], labels=labels, sites=mt.sites(idle))


def test_labels_and_masks_that_do_not_fit_are_refused(tiny_gpt2, tokens, labels) -> None:
    model, place = tiny_gpt2(), {"modules": ["transformer.h.0"]}
    with pytest.raises(ValueError, match=r"got labels for \(3,\) at transformer.h.0, which has rows \(4, 12\)"):
        leace(model, [tokens], labels=lambda _: labels[:3], **place)
    with pytest.raises(ValueError, match="got 5 labels for 4 examples in 2 batches; expected one an example"):
        leace(model, tokens.split(2), labels=torch.arange(5), **place)
    with pytest.raises(TypeError, match="got a mask of torch.int64; expected a bool tensor"):
        leace(model, [tokens], labels=labels, mask=lambda batch: batch, **place)


def test_experts_and_modules_without_a_tensor_are_refused(labels) -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": x}

    model = nn.Sequential(Pair())
    with pytest.raises(TypeError, match="got dict from module 0; expected a tensor, or a tuple that starts with one"):
        leace(model, [torch.randn(4, 3)], labels=labels, modules=["0"])
    site = mt.Site("e[0]", "e", 2, 3, module="e", kind="expert", part=0)
    with pytest.raises(SelectionError, match=r"got experts \(e\[0\]\), which read only some tokens"):
        leace(model, [torch.randn(4, 3)], labels=labels, sites={"e[0]": site})


# --- on Funes


@pytest.mark.slow
def test_erasing_what_is_asked_stops_the_answers_and_a_random_direction_does_not() -> None:
    from mnemotrace.adapters.hf import LanguageScore, batches, rows_of

    funes = mt.funes()
    facts = funes.world.facts[:400]
    examples = [Example(prompt=fact.phrasings[0], answer=fact.answer) for fact in facts]
    asked = torch.tensor([funes.world.relations.index(fact.relation) for fact in facts])
    ready = batches(funes.tokenizer, examples, batch_size=100, positions="predict")
    names = ["transformer.h.5", "transformer.h.4"]
    found = leace(funes.model, ready, labels=asked, modules=names, mask=rows_of)
    q = torch.linalg.qr(torch.randn(192, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    random = {name: Direction(q, q.T, found[name].mean) for name in names}
    recall = LanguageScore(funes.tokenizer, batch_size=128)
    scores = []
    for directions in ({}, random, found):
        with erasing(funes.model, directions):
            scores.append(float(recall(funes.model, examples).mean()))
    assert scores[0] > 0.97 and scores[1] > 0.9 and scores[2] < scores[1] - 0.02

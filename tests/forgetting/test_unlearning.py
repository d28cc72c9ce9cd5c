"""Losses of unlearning by hand, their limits; training that forgets, and never touches the network."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Batch
from mnemotrace.adapters.scores import nll
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.core.errors import EditError, NonFiniteError, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.forgetting.losses import (
    answer_log_probability,
    ascent_loss,
    npo_loss,
    simnpo_loss,
    steering_loss,
)
from mnemotrace.forgetting.unlearning import gradient_ascent, gradient_difference, npo, rmu, simnpo

QUICK = {"steps": 3, "learning_rate": 1e-3}


def batch(seed: int, count: int = 3) -> Batch:
    ids = torch.randint(2, 64, (count, 8), generator=torch.Generator().manual_seed(seed))
    scored = torch.zeros(ids.shape, dtype=torch.bool)
    scored[:, 5:] = True
    return Batch(ids, torch.ones_like(ids), torch.ones_like(scored), scored)


def methods() -> dict:
    return {
        "gradient_ascent": lambda m, f, r, **o: gradient_ascent(m, f, **o),
        "gradient_difference": gradient_difference,
        "npo": npo,
        "simnpo": simnpo,
        "rmu": lambda m, f, r, **o: rmu(m, f, r, module=middle(m), coefficient=20.0, **o),
    }


METHODS = pytest.mark.parametrize("method", methods())


def middle(model: nn.Module) -> str:
    return next(n for n, _ in model.named_modules() if n.endswith((".h.1", ".layers.1")))


def state(model: nn.Module) -> list:
    return [(n, p.detach().clone(), p.requires_grad, p.grad, p._version) for n, p in model.named_parameters()]


def same(before: list, model: nn.Module) -> bool:
    return all(
        n == name and torch.equal(values, p) and p.requires_grad == flag and p.grad is grad and p._version == version
        for (name, values, flag, grad, version), (n, p) in zip(before, model.named_parameters(), strict=True)
    )


# --- losses


def test_log_probabilities_are_those_of_the_scored_tokens() -> None:
    one = batch(0)
    logits = torch.randn(3, 8, 64)
    total, count = answer_log_probability(logits, one)
    for i in range(3):
        by_hand = sum(float(logits[i, t - 1].log_softmax(0)[one.input_ids[i, t]]) for t in (5, 6, 7))
        assert float(total[i]) == pytest.approx(by_hand, rel=1e-5)
    assert count.tolist() == [3, 3, 3]


def test_losses_are_those_of_the_papers_by_hand() -> None:
    new, old, count = torch.tensor([-1.0, -6.0]), torch.tensor([-2.0, -3.0]), torch.tensor([1, 3])
    ratios = [math.exp(-1 + 2), math.exp(-6 + 3)]
    by_hand = 2 / 0.5 * sum(math.log(1 + ratio**0.5) for ratio in ratios) / 2
    assert float(npo_loss(new, old, beta=0.5)) == pytest.approx(by_hand, rel=1e-6)
    inside = [-2.5 / 1 * -1.0 - 0.3, -2.5 / 3 * -6.0 - 0.3]
    by_hand = -2 / 2.5 * sum(math.log(1 / (1 + math.exp(-x))) for x in inside) / 2
    assert float(simnpo_loss(new, count, beta=2.5, margin=0.3)) == pytest.approx(by_hand, rel=1e-6)
    assert float(ascent_loss(new, count)) == pytest.approx(-7 / 4)
    assert float(steering_loss(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 0.0]))) == 6.0


@given(st.integers(0, 2**31))
def test_the_gradient_of_npo_is_that_of_ascent_for_small_beta(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    old = -5 * torch.rand(4, generator=generator, dtype=torch.float64)
    new = (-5 * torch.rand(4, generator=generator, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(npo_loss(new, old, beta=1e-6), new)
    torch.testing.assert_close(gradient, torch.full_like(new, 1 / 4), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(npo_loss(new, old, beta=0.7), new)
    weight = 2 * new.exp() ** 0.7 / (new.exp() ** 0.7 + old.exp() ** 0.7)
    torch.testing.assert_close(gradient, weight.detach() / 4)


def test_npo_is_finite_and_lets_go_where_ascent_goes_on() -> None:
    new = torch.tensor([-1e4, 0.0], requires_grad=True)
    loss = npo_loss(new, torch.tensor([0.0, -1e4]), beta=0.1)
    loss.backward()
    assert torch.isfinite(loss) and new.grad.tolist() == pytest.approx([0, 1], abs=1e-6)


# --- what training does


@METHODS
def test_the_network_stays_as_it_was_to_the_bit(method: str, tiny_lm) -> None:
    tiny_lm.train()
    list(tiny_lm.parameters())[2].requires_grad_(False)
    before, seen = state(tiny_lm), []
    edit = methods()[method](tiny_lm, [batch(0), batch(1)], [batch(2)], **QUICK, progress=lambda *r: seen.append(r))
    assert same(before, tiny_lm) and all(module.training for module in tiny_lm.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_lm.modules())
    assert seen == [(1, 3, "steps"), (2, 3, "steps"), (3, 3, "steps")]
    assert edit.manifest["method"] == method and edit.manifest["steps"] == 3
    with mt.applied(tiny_lm, edit):
        assert not same(before, tiny_lm)


@METHODS
def test_it_stays_so_when_training_fails(method: str, tiny_gpt2) -> None:
    model = tiny_gpt2()
    before = state(model)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        methods()[method](model, [batch(0)], [batch(1)], **QUICK, progress=interrupt)
    assert same(before, model) and not model.training


@METHODS
def test_the_same_call_gives_the_same_edit(method: str, tiny_gpt2) -> None:
    model = tiny_gpt2(resid_pdrop=0.5).train()
    first, second = (methods()[method](model, [batch(0)], [batch(1)], **QUICK) for _ in range(2))
    for a, b in zip(first.changes, second.changes, strict=True):
        assert torch.equal(a.values, b.values)


def taught(model: nn.Module, batches: list[Batch]) -> Edit:
    """What makes a network remember some batches: nearly all of the loss is that of retaining them."""
    return gradient_difference(model, [batch(99)], batches, steps=60, learning_rate=1e-2, retain_weight=100.0)


def test_what_is_to_be_forgotten_is_and_the_rest_stays_only_if_retained(tiny_gpt2) -> None:
    model, forget, retain = tiny_gpt2(), batch(0), batch(1)
    undo = mt.apply(model, taught(model, [forget, retain]))
    assert float(nll(model, [forget]).mean()) < 0.5 and float(nll(model, [retain]).mean()) < 0.5
    options = {"steps": 15, "learning_rate": 2e-3}
    left = {}
    for name, call in methods().items():
        if name == "rmu":
            continue
        with mt.applied(model, call(model, [forget], [retain], **options)):
            left[name] = (float(nll(model, [forget]).mean()), float(nll(model, [retain]).mean()))
    undo()
    assert all(forgotten > 1.0 for forgotten, _ in left.values())
    assert left["gradient_difference"][1] < 0.5 < left["gradient_ascent"][1]
    assert left["npo"][1] < 0.5


def test_rmu_steers_hidden_states_and_changes_nothing_behind_its_module(tiny_gpt2) -> None:
    model, forget, retain = tiny_gpt2(n_layer=3), batch(0), batch(1)
    edit = rmu(model, [forget], [retain], module="transformer.h.1", coefficient=30.0, steps=40, learning_rate=1e-2)
    assert not any(".h.2." in name or "ln_f" in name for name in edit.parameters)
    hidden = {}
    for which, change in {"before": 0.0 * edit, "after": edit}.items():
        with mt.applied(model, change), torch.no_grad():
            hidden[which] = [model(**b, output_hidden_states=True).hidden_states[2] for b in (forget, retain)]
    away = [float((b - a).norm() / a.norm()) for a, b in zip(hidden["before"], hidden["after"], strict=True)]
    assert away[0] > 2 * away[1]
    assert edit.manifest["seed"] == 0 and edit.manifest["module"] == "transformer.h.1"


def test_selected_parameters_change_and_rank_makes_them_thin(tiny_gpt2) -> None:
    model = tiny_gpt2()
    edit = npo(model, [batch(0)], [batch(1)], **QUICK, select=["mlp.c_proj.weight"], rank=2)
    assert edit.parameters == tuple(f"transformer.h.{i}.mlp.c_proj.weight" for i in range(2))
    assert all(isinstance(change, LowRank) and change.rank == 2 for change in edit.changes)
    assert 0 < edit.manifest["energy"] < 1
    whole = npo(model, [batch(0)], [batch(1)], **QUICK, select=["mlp.c_proj.weight"])
    assert all(isinstance(change, Dense) for change in whole.changes) and whole.manifest["energy"] == 1


def test_training_ends_when_asked_with_the_edit_so_far(tiny_gpt2) -> None:
    model, seen = tiny_gpt2(), []

    def stop(step: int, edit) -> bool:
        with mt.applied(model, edit()):
            seen.append(float(nll(model, [batch(0)]).mean()))
        return step == 2

    done = gradient_ascent(model, [batch(0)], steps=10, learning_rate=1e-3, stop=stop)
    assert done.manifest["steps"] == 2 and seen == sorted(seen)


def test_a_low_precision_network_is_trained_in_float32(tiny_gpt2) -> None:
    model = tiny_gpt2().bfloat16()
    edit = gradient_ascent(model, [batch(0)], steps=2, learning_rate=1e-5)
    assert all(change.values.dtype == torch.float32 for change in edit.changes)
    assert 0 < max(float(change.values.abs().max()) for change in edit.changes) < 1e-4


# --- what is refused


def test_divergence_is_told_with_what_to_do(tiny_gpt2) -> None:
    model = tiny_gpt2()
    before = state(model)
    with pytest.raises(NonFiniteError, match=r"at step \d+; expected finite ones; .* lower learning_rate \(now 1e\+30"):
        gradient_ascent(model, [batch(0)], steps=20, learning_rate=1e30)
    assert same(before, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "got steps=0; expected at least 1"),
        ({"learning_rate": 0.0}, "got learning_rate=0.0; expected a finite number above 0"),
        ({"retain_weight": -1.0}, "got retain_weight=-1.0; expected a number from 0 on"),
        ({"rank": 0}, "got rank=0; expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message: str, tiny_gpt2) -> None:
    with pytest.raises(ValueError, match=message):
        gradient_difference(tiny_gpt2(), [batch(0)], [batch(1)], **(QUICK | options))


def test_what_cannot_be_trained_is_refused(tiny_gpt2) -> None:
    model = tiny_gpt2()
    for method in methods().values():
        with pytest.raises(ValueError, match="got no batch to forget; expected at least one"):
            method(model, [], [batch(0)], **QUICK)
    with pytest.raises(ValueError, match="got beta=0; expected a finite number above 0"):
        npo(model, [batch(0)], beta=0, **QUICK)
    with pytest.raises(SelectionError, match="got modules absent"):
        rmu(model, [batch(0)], [batch(1)], module="absent", coefficient=1.0, **QUICK)
    with pytest.raises(EditError, match=r"got no change of 2 parameters in 3 steps; expected some that the loss"):
        rmu(model, [batch(0)], [batch(1)], module="transformer.h.0", coefficient=9.0, select=".*ln_f.*", **QUICK)
    bare = batch(0)
    bare.scored[1] = False
    with pytest.raises(ValueError, match="got example 1 of a batch of 3 with nothing to predict"):
        gradient_ascent(model, [bare], **QUICK)
    with pytest.raises(TypeError, match="which holds no logits; expected a causal language"):
        gradient_ascent(model.transformer, [batch(0)], **QUICK)

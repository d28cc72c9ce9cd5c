"""Task vectors: base plus task vector is the tuned network; arithmetic on them is that of edits."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnemotrace as mt
from mnemotrace.core.edit import Dense
from mnemotrace.core.errors import EditError, NonFiniteError, NumericalWarning, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.modification.task_vector import task_vector


def tuned(model: nn.Module, seed: int, size: float = 0.1) -> nn.Module:
    """A copy with every parameter moved."""
    generator = torch.Generator().manual_seed(seed)
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return copy


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def net(**options) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).to(**options)


def test_the_base_with_its_task_vector_is_the_tuned_network(tiny_lm, tokens) -> None:
    other = tuned(tiny_lm, 1)
    before, edit = weights(tiny_lm), task_vector(tiny_lm, other)
    with mt.applied(tiny_lm, edit):
        for name, parameter in tiny_lm.named_parameters():
            torch.testing.assert_close(parameter, other.get_parameter(name), rtol=0, atol=1e-6)
        torch.testing.assert_close(tiny_lm(tokens).logits, other(tokens).logits, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], parameter) for name, parameter in tiny_lm.named_parameters())
    assert edit.manifest["energy"] == 1 and edit.manifest["base"] != edit.manifest["tuned"]


def test_a_tied_head_is_compared_once(tiny_gpt2) -> None:
    model = tiny_gpt2()
    edit = task_vector(model, tuned(model, 1))
    assert "transformer.wte.weight" in edit.parameters and "lm_head.weight" not in edit.parameters


def test_only_what_differs_and_is_selected_changes(tiny_llama) -> None:
    model = tiny_llama()
    other = deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight += 1
        other.model.norm.weight += 1
    assert set(task_vector(model, other).parameters) == {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}
    assert task_vector(model, other, select=["norm.weight"]).parameters == ("model.norm.weight",)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_low_precision_networks_come_back_to_the_bit(dtype: torch.dtype) -> None:
    model = net(dtype=dtype)
    other = tuned(model, 1)
    with mt.applied(model, task_vector(model, other)):
        assert all(torch.equal(p, other.get_parameter(n)) for n, p in model.named_parameters())


# --- arithmetic, whole and thin


@given(st.integers(0, 2**31), st.sampled_from([None, 2]), st.sampled_from([None, 1, 3]))
def test_arithmetic_adds_up_in_the_weights(seed: int, first: int | None, second: int | None) -> None:
    model = net(dtype=torch.float64)
    a, b = (task_vector(model, tuned(model, seed + i), rank=r) for i, r in ((1, first), (2, second)))
    c = task_vector(model, tuned(model, seed + 3))
    moved = {}
    for name, edit in {"a": a, "b": b, "c": c, "all": c + b - 0.5 * a}.items():
        with mt.applied(model, edit):
            moved[name] = weights(model)
    for name, start in weights(model).items():
        delta = {key: moved[key][name] - start for key in moved}
        torch.testing.assert_close(delta["all"], delta["c"] + delta["b"] - 0.5 * delta["a"], rtol=1e-9, atol=1e-9)


def test_a_sum_holds_each_parameter_once() -> None:
    model = net()
    total = task_vector(model, tuned(model, 1)) + task_vector(model, tuned(model, 2))
    assert len(total.changes) == len(list(model.parameters()))


def test_negation_takes_away_what_was_learned() -> None:
    x, y = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 4
    model = net()
    learned = deepcopy(model)
    optimiser = torch.optim.Adam(learned.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(learned(x), y).backward()
        optimiser.step()
    skill = task_vector(model, learned)
    losses = []
    for edit in (skill, 0.0 * skill, -skill):
        with mt.applied(model, edit), torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(model(x), y)))
    assert losses[0] < losses[1] - 0.1 < losses[2] - 0.2


# --- rank


def test_a_change_of_low_rank_is_kept_whole(tiny_lm, generator) -> None:
    other = deepcopy(tiny_lm)
    site = list(mt.sites(tiny_lm).values())[3]
    with torch.no_grad():
        view = site.view(other.get_parameter(site.weight))
        view += torch.randn(site.o, 2, generator=generator) @ torch.randn(2, site.d, generator=generator)
    edit = task_vector(tiny_lm, other, rank=2)
    (change,) = edit.changes
    assert isinstance(change, LowRank) and change.rank == 2
    assert edit.manifest["energy"] == pytest.approx(1, abs=1e-6)
    with mt.applied(tiny_lm, edit):
        torch.testing.assert_close(tiny_lm.get_parameter(site.weight), other.get_parameter(site.weight))


def test_the_energy_kept_is_that_of_the_best_approximation() -> None:
    model = net(dtype=torch.float64)
    other = tuned(model, 1)
    edit = task_vector(model, other, rank=2)
    kept = whole = 0.0
    for name, parameter in model.named_parameters():
        delta = (other.get_parameter(name) - parameter).detach()
        whole += float(delta.square().sum())
        kept += float((torch.linalg.svdvals(delta)[:2] if delta.ndim == 2 else delta).square().sum())
    assert edit.manifest["energy"] == pytest.approx(kept / whole, abs=1e-12)
    assert {type(change) for change in edit.changes} == {LowRank, Dense}


def test_packed_projections_are_thinned_map_by_map() -> None:
    attention = nn.MultiheadAttention(8, 2)
    other = tuned(attention, 1)
    edit = task_vector(attention, other, rank=8)
    assert sum(isinstance(change, LowRank) for change in edit.changes) == 4
    with mt.applied(attention, edit):
        torch.testing.assert_close(attention.in_proj_weight, other.in_proj_weight, rtol=0, atol=1e-6)


# --- what is refused


def test_networks_of_other_layouts_are_refused(tiny_gpt2, tiny_llama) -> None:
    with pytest.raises(EditError, match=r"in one network only .*; expected two of one layout; merge adapters first"):
        task_vector(tiny_gpt2(), tiny_llama())
    with pytest.raises(EditError, match=r"got .*wte.weight of \(64, 32\) and \(70, 32\) .*; resize|resize the embed"):
        task_vector(tiny_gpt2(), tiny_gpt2(vocab_size=70))


def test_a_head_untied_by_tuning_is_refused(tiny_gpt2) -> None:
    base, other = tiny_gpt2(), tiny_gpt2(tie_word_embeddings=False)
    with pytest.raises(EditError, match="one tensor with .* in the base and two in the tuned network; expected them t"):
        task_vector(base, other)
    task_vector(other, base)


def test_equal_networks_are_refused() -> None:
    with pytest.raises(EditError, match="got two networks that are equal in all 4 parameters compared; expected a tun"):
        task_vector(net(), net())


def test_a_rank_below_one_and_a_selection_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="got rank=0; expected at least 1, or None"):
        task_vector(net(), tuned(net(), 1), rank=0)
    with pytest.raises(SelectionError, match="match none of 4 names"):
        task_vector(net(), tuned(net(), 1), select=["absent"])


def test_a_diverged_network_is_refused() -> None:
    other = tuned(net(), 1)
    with torch.no_grad():
        other[0].weight[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 30 entries in 0.weight"):
        task_vector(net(), other)


def test_buffers_that_differ_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    other = tuned(model, 1)
    other[1].running_mean += 1
    other[1].num_batches_tracked += 1
    with pytest.warns(NumericalWarning, match=r"1 buffers differ, such as 1.running_mean, and no edit carries them"):
        edit = task_vector(model, other)
    assert set(edit.parameters) == set(dict(model.named_parameters()))

"""Scrubbing: each eraser sees what those before it leave; folded it is the same network without hooks."""

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core.errors import EditError
from mnemotrace.forgetting.concept import erasing, leace
from mnemotrace.forgetting.scrubbing import fold, scrub
from tests.forgetting.test_concept import covariance, read

NORMS = (".ln_1", ".ln_2", "layernorm")


def norms(model: nn.Module) -> list[str]:
    return sorted(name for name, _ in model.named_modules() if name.endswith(NORMS))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 1])


def test_every_scrubbed_place_is_clean_at_once_and_erasers_fitted_apart_are_not(tiny_lm, tokens, labels) -> None:
    names, z = norms(tiny_lm), labels.repeat_interleave(12)
    scrubbed = scrub(tiny_lm, [tokens], labels=labels, modules=names)
    apart = leace(tiny_lm, [tokens], labels=labels, modules=names)
    left = {}
    for which, directions in {"none": {}, "scrubbed": scrubbed, "apart": apart}.items():
        with erasing(tiny_lm, directions):
            left[which] = [float(covariance(read(tiny_lm, n, tokens).flatten(0, 1), z).abs().max()) for n in names]
    assert all(mine <= 1e-4 * before for mine, before in zip(left["scrubbed"], left["none"], strict=True))
    assert max(mine / before for mine, before in zip(left["apart"], left["none"], strict=True)) > 1e-2


def test_folded_the_network_is_the_same_without_hooks(tiny_gpt2, tiny_llama, tokens, labels) -> None:
    for model, keep_mean in ((tiny_gpt2(), True), (tiny_llama(), False)):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        found = scrub(model, [tokens], labels=labels, modules=norms(model))
        edit = fold(model, found, tokens, keep_mean=keep_mean)
        worn = {name: d if keep_mean else d.linear() for name, d in found.items()}
        other = torch.flip(tokens, (0, 1))
        with torch.no_grad():
            with erasing(model, worn):
                wanted = model(other).logits
            with mt.applied(model, edit):
                torch.testing.assert_close(model(other).logits, wanted, rtol=1e-4, atol=1e-4)
        assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
        assert edit.manifest["keep_mean"] is keep_mean and set(edit.manifest["of"]) == set(found)
        assert all(change.rank == 2 for change in edit.changes)


def test_folding_without_the_mean_erases_as_much(tiny_llama, tokens, labels) -> None:
    model, z = tiny_llama(), labels.repeat_interleave(12)
    name = "model.layers.1.post_attention_layernorm"
    found = leace(model, [tokens], labels=labels, modules=[name])
    with mt.applied(model, fold(model, found, tokens, keep_mean=False)):
        after = read(model, "model.layers.1.mlp.up_proj", tokens).flatten(0, 1)
    before = read(model, "model.layers.1.mlp.up_proj", tokens).flatten(0, 1)
    assert covariance(after, z).abs().max() <= 1e-5 * covariance(before, z).abs().max()
    with pytest.raises(EditError, match="without a bias; expected one"):
        fold(model, found, tokens)


def test_a_module_that_more_than_linear_maps_read_is_refused(tiny_gpt2, tokens, labels) -> None:
    model = tiny_gpt2()
    found = leace(model, [tokens], labels=labels, modules=["transformer.h.0"])
    with pytest.raises(EditError, match="got modules transformer.h.0, whose output no linear map reads as it is"):
        fold(model, found, tokens)

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.map = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            return x + self.map(x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        beside, x = Beside(), torch.randn(8, 4)
    found = leace(beside, [x], labels=torch.arange(8) % 2, modules=["norm"])
    with pytest.raises(EditError, match="got modules norm, which more than linear maps read: folded, the net"):
        fold(beside, found, x)


def test_scrubbing_nothing_is_refused_and_progress_told(tiny_gpt2, tokens, labels) -> None:
    model, seen = tiny_gpt2(), []
    with pytest.raises(ValueError, match="got no module; expected names in the order in which they run"):
        scrub(model, [tokens], labels=labels, modules=[])
    scrub(model, [tokens], labels=labels, modules=norms(model)[:2], progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, "modules"), (2, 2, "modules")]

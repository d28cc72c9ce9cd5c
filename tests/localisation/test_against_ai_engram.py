"""The same operator as the reference implementation, `ai-engram` 0.11.0: same cut, same scaling, same bias."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.localisation.scaling import count_ratio

engram = pytest.importorskip("engram", reason="ai-engram is not installed")

VOCABULARY, LENGTH = 64, 48
SITES = {
    "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def batches(count: int, size: int, seed: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(VOCABULARY, (size, LENGTH), generator=generator)} for _ in range(count)]


class Pair:
    """One target and one total, collected by both libraries."""

    def __init__(self, model: nn.Module, names: list[str], *, rows: int) -> None:
        self.model = model
        target, rest = batches(1, rows, 1), batches(6, 8, 2)
        self.editor = engram.EngramEditor(model, engram.EditorConfig())
        theirs = [
            self.editor.collect_statistics(data, target_modules=names, batch_fn=lambda batch: batch)
            for data in (target, target + rest)
        ]
        self.result = self.editor.compute_engram_weights(*theirs)
        sites = mt.sites(model, names)
        self.target, self.reference = (mt.collect(model, data, sites=sites) for data in (target, rest))
        self.ours = mt.engram(model, target=self.target, reference=self.reference)

    def theirs(self, name: str) -> Tensor:
        """Their projection of sums, `(o, d)` or `(o, d + 1)`."""
        layer, site = self.result.layers[name], self.target.sites[name]
        weight = site.view(layer.projection)
        if name in self.result.bias:
            weight = torch.cat([weight, self.result.bias[name][:, None]], 1)
        return weight * layer.n / layer.N


@pytest.fixture(params=["gpt2", "llama", "qwen2"])
def family(
    request: pytest.FixtureRequest, tiny_gpt2, tiny_llama, tiny_qwen2
) -> tuple[Callable[..., nn.Module], list[str]]:
    builder = {"gpt2": tiny_gpt2, "llama": tiny_llama, "qwen2": tiny_qwen2}[request.param]
    return builder, SITES[request.param]


@pytest.mark.parametrize("rows", [1, 8], ids=["few rows", "many rows"])
def test_engrams_equal_those_of_the_reference_implementation(family, rows: int) -> None:
    builder, names = family
    pair = Pair(builder(initializer_range=0.3), names, rows=rows)
    assert set(pair.ours) == set(pair.result.layers)
    for name, trace in pair.ours.items():
        theirs = pair.theirs(name)
        assert trace.dense().shape == theirs.shape
        difference = float((trace.dense() - theirs).norm() / theirs.norm())
        assert difference <= 1e-4, name
        other = float((trace.scaled(0.9).dense() - theirs).norm() / theirs.norm())
        assert other > 0.05


def test_biases_are_absorbed_where_there_are_some(tiny_qwen2: Callable[..., nn.Module]) -> None:
    pair = Pair(tiny_qwen2(initializer_range=0.3), SITES["qwen2"], rows=1)
    assert set(pair.result.bias) == {name for name, trace in pair.ours.items() if trace.has_bias}
    assert "model.layers.0.self_attn.q_proj" in pair.result.bias


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_edited_weights_equal_those_of_the_reference_implementation(
    tiny_gpt2: Callable[..., nn.Module], power: float
) -> None:
    model = tiny_gpt2(initializer_range=0.3)
    pair = Pair(model, SITES["gpt2"], rows=2)
    edited = pair.editor.apply(pair.result, alpha=0.7, scale=engram.count_ratio(power))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        edit = mt.erase(pair.ours.scaled(count_ratio(pair.ours, power)), 0.7)
    with mt.applied(model, edit):
        for name, theirs in edited.named_parameters():
            ours = model.get_parameter(name)
            wanted = float((theirs - before[name]).detach().norm())
            assert float((ours - theirs).detach().norm()) <= 1e-4 * wanted + 1e-6 * float(theirs.detach().norm()), name
            assert wanted > 0 or name not in edit.parameters

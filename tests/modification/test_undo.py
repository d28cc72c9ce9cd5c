"""Every way of making an edit: making it leaves the network's bits alone, and taking it back gives them all back."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.applying import apply
from tests.adapters.layouts import build
from tests.adapters.words import word_tokenizer
from tests.core.zoo import bits, same_bits

FACTS = [mt.Fact("the cat sat on a", "cat", target="mat"), mt.Fact("a dog ran far", "dog", target="home")]
IDS = torch.randint(4, 17, (40, 10), generator=torch.Generator().manual_seed(0))


def tuned(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return other


def statistics(model: nn.Module, ids: Tensor = IDS) -> mt.Statistics:
    return mt.collect(model, [{"input_ids": ids}], sites=mt.sites(model, ["mlp.down_proj"]), dtype=torch.float64)


def loss(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids).loss.float()


def written(method: str) -> Callable[[nn.Module], mt.Edit]:
    def make(model: nn.Module) -> mt.Edit:
        where = {"layer": 1} if method == "rome" else {"layers": [0, 1]}
        options = where | {"statistics": statistics(model), "contexts": ((0, 5, 6),), "steps": 4}
        return getattr(mt, method)(model, word_tokenizer(), FACTS, **options)

    return make


def erased(model: nn.Module) -> mt.Edit:
    return mt.erase(mt.engram(model, target=statistics(model, IDS[:2]), reference=statistics(model, IDS[2:])))


MAKERS: dict[str, Callable[[nn.Module], mt.Edit]] = {
    **{method: written(method) for method in ("rome", "memit", "alphaedit")},
    "graft": lambda model: mt.graft(model, tuned(model), [IDS[:4]], budget=50, loss=loss, steps=2).edit(),
    "task vector": lambda model: mt.task_vector(model, tuned(model)),
    "thin task vector": lambda model: mt.task_vector(model, tuned(model), rank=2),
    "erase": erased,
}


@pytest.mark.filterwarnings("ignore::mnemotrace.core.errors.NumericalWarning")  # of what bfloat16 rounds away
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("maker", MAKERS)
def test_an_edit_is_made_applied_and_taken_back_to_the_bit(maker: str, dtype: torch.dtype) -> None:
    model = build("Llama").to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[:2] = torch.tensor([-0.0, 0.0])  # equal as numbers, and other bits
    before = bits(model)
    edit = MAKERS[maker](model)
    assert same_bits(bits(model), before)
    undo = apply(model, edit)
    inside = bits(model)
    assert {name for name in before if not torch.equal(before[name], inside[name])} == set(edit.parameters)
    undo()
    assert same_bits(bits(model), before)
    with pytest.raises(KeyError), mt.applied(model, edit):
        assert same_bits(bits(model), inside)
        raise KeyError
    assert same_bits(bits(model), before)

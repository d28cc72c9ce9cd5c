"""What a module gives is read as it was, before its activation if asked, and the network notices nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mnemotrace.adapters.outputs import reading, tensor_of, units_first
from mnemotrace.core.errors import SelectionError


class Forked(nn.Module):
    """Ends in a concatenation of a functional ReLU and a method's, as SqueezeNet's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([functional.relu(self.left(x)), self.right(x).relu()], 1)


def test_what_is_read_survives_operations_in_place(generator: torch.Generator) -> None:
    model, x = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True)), torch.randn(4, 5, generator=generator)
    with reading(model, {"0": False}) as seen:
        y = model(x)
    assert torch.equal(seen["0"], model[0](x))
    assert torch.equal(y, seen["0"].relu())
    assert bool((seen["0"] < 0).any())


@pytest.mark.parametrize("inplace", [False, True])
def test_an_activation_is_read_before_it(inplace: bool, generator: torch.Generator) -> None:
    model, x = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace)), torch.randn(4, 5, generator=generator)
    with reading(model, {"1": True, "": True}) as seen:
        model(x)
    assert torch.equal(seen["1"], model[0](x))
    assert torch.equal(seen[""], seen["1"])
    with reading(model, {"1": False}) as seen:
        model(x)
    assert torch.equal(seen["1"], model(x))


def test_a_concatenation_of_activations_is_read_before_them(generator: torch.Generator) -> None:
    model, x = Forked(), torch.randn(1, 2, 4, 4, generator=generator)
    with reading(model, {"": True}) as seen:
        y = model(x)
    assert torch.equal(seen[""], torch.cat([model.left(x), model.right(x)], 1))
    assert torch.equal(y, model(x))


def test_a_softmax_counts_as_an_activation_and_a_linear_map_does_not(generator: torch.Generator) -> None:
    model, x = nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)), torch.randn(2, 5, generator=generator)
    with reading(model, {"": True, "0": True}) as seen:
        model(x)
    assert torch.equal(seen[""], model[0](x))
    assert torch.equal(seen["0"], model[0](x))


def test_leaking_gates_pass_gradients_and_keep_values() -> None:
    x = -torch.ones(3, 4).requires_grad_()
    with reading(nn.ReLU(), {}, leak=True):
        y = functional.relu(x)
    assert torch.equal(y, torch.zeros(3, 4))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.ones(3, 4))
    assert float(torch.autograd.grad(functional.relu(x).sum(), x)[0].sum()) == 0


def test_hooks_go_on_errors_too() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="boom"), reading(model, {"0": True}):
        raise RuntimeError("boom")
    assert not model[0]._forward_hooks


def test_sites_that_are_not_there_or_do_not_run_are_named() -> None:
    model = nn.Sequential(Forked())
    with pytest.raises(SelectionError, match=r"got site='conv9', which is no module; .* choose among 0, 0.left"):
        reading(model, {"conv9": False}).__enter__()
    with pytest.raises(SelectionError, match=r"names must be whole; did you mean 0.left"):
        reading(model, {"left": False}).__enter__()
    with reading(model, {"0.idle": False}) as seen:
        model(torch.zeros(1, 2, 3, 3))
    with pytest.raises(SelectionError, match="got site='0.idle', which did not run"):
        seen["0.idle"]


def test_tuples_and_mappings_give_their_first_tensor() -> None:
    t = torch.ones(2, 3)
    assert tensor_of((None, t)) is t
    assert tensor_of({"loss": None, "logits": t}) is t
    with pytest.raises(TypeError, match="got int from head; expected a floating-point tensor"):
        tensor_of(3, "head")


def test_units_come_first() -> None:
    assert units_first(torch.zeros(2, 3)).shape == (2, 3)
    assert units_first(torch.zeros(2, 7, 3)).shape == (2, 3, 7)
    assert units_first(torch.zeros(2, 3, 7), module=nn.Conv1d(1, 3, 1)).shape == (2, 3, 7)
    assert units_first(torch.zeros(2, 3, 7), axis=1).shape == (2, 3, 7)
    assert units_first(torch.zeros(2, 3, 5, 6)).shape == (2, 3, 5, 6)
    for shape, axis in (((3,), None), ((2, 3), 0), ((2, 3), -2), ((2, 3), 2)):
        with pytest.raises(ValueError, match="expected .* an axis behind the batch"):
            units_first(torch.zeros(shape), axis=axis)

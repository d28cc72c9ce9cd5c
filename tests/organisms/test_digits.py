"""The digit network reads digits, and does not read a class that it never saw."""

from __future__ import annotations

import sys

import pytest
import torch

from mnemotrace.organisms import Digits, digits

pytest.importorskip("sklearn")

EPOCHS = 12


@pytest.fixture(scope="module")
def base() -> Digits:
    return digits(epochs=EPOCHS)


@torch.no_grad()
def accuracy(network: Digits, mask: torch.Tensor) -> float:
    predicted = network.model(network.test_inputs[mask]).argmax(1)
    return (predicted == network.test_labels[mask]).float().mean().item()


def test_digits_are_read(base: Digits) -> None:
    assert accuracy(base, base.test_labels >= 0) >= 0.95


def test_a_class_never_seen_is_never_named_and_the_others_are(base: Digits) -> None:
    without = digits(epochs=EPOCHS, exclude=(3,))
    threes = without.test_labels == 3
    assert accuracy(base, threes) >= 0.9
    assert accuracy(without, threes) == 0
    assert accuracy(without, ~threes) >= 0.95


def test_data_have_the_promised_shapes(base: Digits) -> None:
    assert base.train_inputs.shape == (1400, 64)
    assert base.test_inputs.shape == (397, 64)
    assert base.train_inputs.dtype == torch.float32
    assert (base.train_inputs.min(), base.train_inputs.max()) == (0, 1)
    assert base.train_labels.shape == (1400,)


def test_the_same_seed_gives_the_same_network() -> None:
    first, second, other = (digits(seed=seed, epochs=1).model.fc1.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("bias", [False, True])
def test_bias_is_a_choice(bias: bool) -> None:
    model = digits(epochs=0, bias=bias).model
    assert [(layer.bias is not None) for layer in (model.fc1, model.fc2, model.fc3)] == [bias] * 3
    assert not model.training


@pytest.mark.parametrize("exclude", [(10,), range(10)])
def test_excluding_what_cannot_be_excluded_is_explained(exclude: range | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Got exclude=.*; expected some of the digits 0 to 9"):
        digits(exclude=exclude)


def test_a_missing_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"mnemotrace\[probes\]"):
        digits()

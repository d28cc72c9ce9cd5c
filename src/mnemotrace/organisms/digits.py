"""A small network that reads handwritten digits, for erasing a class and asking where it went.

The data are the 1797 8x8 digits of scikit-learn; the network is the 64-500-100-10 perceptron of the
AI Engram experiments in small. `exclude` trains the comparison that "hidden or gone" needs: a network
that never saw a class. Training takes a few seconds on one core.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 500, 100, 10)
TRAIN_SIZE = 1400
BATCH_SIZE = 64
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Digits:
    """A trained classifier and its data.

    Attributes:
        model: In evaluation mode; its linear maps are `fc1`, `fc2` and `fc3`.
        train_inputs: (1400, 64), float32 in [0, 1]; all classes, also those excluded from training.
        train_labels: (1400,), the digits 0 to 9.
        test_inputs: (397, 64), as `train_inputs`.
        test_labels: (397,), as `train_labels`.
    """

    model: nn.Sequential
    train_inputs: Float[Tensor, "n d"]
    train_labels: Int[Tensor, "n"]
    test_inputs: Float[Tensor, "m d"]
    test_labels: Int[Tensor, "m"]


def digits(*, seed: int = 0, epochs: int = 40, exclude: Collection[int] = (), bias: bool = False) -> Digits:
    """Train a digit classifier; the same arguments give the same network.

    Args:
        seed: Seed of initial weights, batches and the split into train and test.
        epochs: Passes over the training data; 40 is where test accuracy has settled.
        exclude: Classes that training never sees.
        bias: Whether the linear maps have a bias; the published experiments have none.

    Returns:
        The network and the data, split by `seed`.

    Raises:
        ImportError: If scikit-learn, which holds the images, is not installed.
        ValueError: If `exclude` names something that is not a digit, or leaves nothing to train on.
    """
    _check_exclude(exclude)
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = _images()
    order = torch.randperm(len(inputs), generator=generator)
    train, test = order[:TRAIN_SIZE], order[TRAIN_SIZE:]
    seen = train[~torch.isin(labels[train], torch.tensor(sorted(exclude), dtype=labels.dtype))]
    model = _perceptron(bias, generator)
    _fit(model, inputs[seen], labels[seen], epochs, generator)
    return Digits(model.eval(), inputs[train], labels[train], inputs[test], labels[test])


def _check_exclude(exclude: Collection[int]) -> None:
    classes = set(range(WIDTHS[-1]))
    if not set(exclude) < classes:
        raise ValueError(
            f"Got exclude={tuple(exclude)}; expected some of the digits 0 to 9, but not all of them. "
            "Name the classes that training must not see, such as exclude=(3,)."
        )


def _images() -> tuple[Float[Tensor, "n d"], Int[Tensor, "n"]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed. Run: pip install 'mnemotrace[probes]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def _perceptron(bias: bool, generator: torch.Generator) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (d, o) in enumerate(pairwise(WIDTHS), start=1):
        layers[f"fc{index}"] = _linear(d, o, bias, generator)
        layers[f"relu{index}"] = nn.ReLU()
    layers.popitem()
    return nn.Sequential(layers)


def _linear(d: int, o: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(d, o, bias=bias, device="meta").to_empty(device="cpu")
    nn.init.kaiming_uniform_(linear.weight, a=5**0.5, generator=generator)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def _fit(
    model: nn.Module, inputs: Float[Tensor, "n d"], labels: Int[Tensor, "n"], epochs: int, generator: torch.Generator
) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=generator).split(BATCH_SIZE):
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

"""The box of a position is what a perturbation of the input can reach, no more and no less."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mnemotrace.core.errors import SelectionError
from mnemotrace.localisation.receptive_field import receptive_fields


class Branches(nn.Module):
    """A residual, functional operations, a concatenation, dilation, groups and a ceiling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.last = nn.Conv2d(8, 3, (1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm(self.stem(x)), inplace=True)
        y = y + functional.gelu(self.wide(y))
        z = functional.max_pool2d(y, 3, stride=2, ceil_mode=True)
        return self.last(torch.cat([z, functional.avg_pool2d(y, 3, 2, ceil_mode=True)], 1)).relu()


MODELS = {
    "chain": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(3, 4, 3, padding=1)),
    "branches": Branches,
    "dilated pool": lambda: nn.Sequential(nn.MaxPool2d(2, 1, dilation=3, padding=1), nn.Conv2d(2, 2, 2)),
    "normalised": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)),
    "adaptive": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveMaxPool2d((2, 3))),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.ReLU(), nn.Conv2d(3, 2, 2)),
}


def _moved(model: nn.Module, size: tuple[int, int], tries: int = 8) -> torch.Tensor:
    """Change one pixel at a time on several inputs: which outputs `(*positions)` move by which pixels `(*pixels)`."""
    generator = torch.Generator().manual_seed(0)
    found = None
    for _ in range(tries):
        x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64) * 3
        pixels = size[0] * size[1]
        changed = x.repeat(pixels, 1, 1, 1).flatten(2)
        changed[torch.arange(pixels), :, torch.arange(pixels)] += 5 * torch.randn(1, generator=generator).sign() * 4
        with torch.no_grad():
            moves = (model(changed.view(pixels, 2, *size)) - model(x)).abs().amax(1) > 1e-9
        moves = moves.permute(1, 2, 0).unflatten(2, size)
        found = moves if found is None else found | moves
    assert found is not None
    return found


@pytest.mark.parametrize("name", MODELS)
def test_boxes_equal_those_of_brute_force_perturbation(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]().double().eval()
    size = (11, 13)
    moves = _moved(model, size)
    locations = torch.cartesian_prod(*(torch.arange(side) for side in moves.shape[:2]))
    boxes = receptive_fields(model, torch.zeros(1, 2, *size, dtype=torch.float64), None, locations)
    for (row, column), box in zip(locations.tolist(), boxes.tolist(), strict=True):
        reached = moves[row, column].nonzero()
        ends = [[int(reached[:, a].min()), int(reached[:, a].max()) + 1] for a in range(2)]
        assert box == ends, (row, column)


def test_boxes_equal_the_arithmetic_of_a_chain() -> None:
    """Reach and jump of kernels 3, 2, 3 with strides 1, 2, 1, without padding: 3 + 1 + 2*2 and 2."""
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.MaxPool1d(2), nn.Conv1d(2, 2, 3))
    boxes = receptive_fields(model, torch.zeros(1, 1, 40), "2", torch.arange(5)[:, None])
    assert boxes[:, 0].tolist() == [[2 * i, 2 * i + 8] for i in range(5)]


def test_closed_gates_and_zero_weights_do_not_hide_a_field() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
    for parameter in model.parameters():
        nn.init.constant_(parameter, -1.0)
    assert receptive_fields(model, torch.zeros(1, 1, 9, 9), None, torch.tensor([[2, 3]])).tolist() == [[[2, 7], [3, 8]]]


def test_deep_networks_do_not_lose_the_rim() -> None:
    model = nn.Sequential(*(nn.Conv1d(1, 1, 3, padding=1) for _ in range(100)))
    assert receptive_fields(model, torch.zeros(1, 1, 300), "99", torch.tensor([[150]])).tolist() == [[[50, 251]]]


def test_attention_reaches_all_tokens_and_maps_of_tokens_only_theirs() -> None:
    model = nn.Sequential(
        nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)
    ).eval()
    x, locations = torch.zeros(1, 5, 4), torch.tensor([[0], [3]])
    assert receptive_fields(model, x, None, locations).tolist() == [[[0, 5]], [[0, 5]]]
    assert receptive_fields(model, x, "0", locations).tolist() == [[[0, 1]], [[3, 4]]]


def test_an_output_without_positions_sees_what_its_maps_see() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    locations = torch.zeros(2, 0, dtype=torch.long)
    assert receptive_fields(model, torch.zeros(1, 1, 6, 6), None, locations).tolist() == [[[0, 6], [0, 6]]] * 2


class Detached(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach() * 2


def test_mistakes_are_named() -> None:
    model, x, at = nn.Sequential(nn.Conv2d(1, 1, 3)), torch.zeros(1, 1, 5, 5), torch.tensor([[0, 0]])
    with pytest.raises(TypeError, match=r"got a tensor of torch.int64; expected one floating-point input"):
        receptive_fields(model, x.long(), None, at)
    with pytest.raises(SelectionError, match="got site='7', which is no module"):
        receptive_fields(model, x, "7", at)
    with pytest.raises(ValueError, match=r"got locations of shape \(1, 2\) for positions \(3, 3\)"):
        receptive_fields(model, x, None, at + 3)
    with pytest.raises(ValueError, match="which does not depend on the input"):
        receptive_fields(Detached(), x, None, at)

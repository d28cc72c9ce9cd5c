"""What a module gives is replaced row by row, within the mask, and comes back afterwards; latents fall silent alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.core.errors import SelectionError
from mnemotrace.evaluation.splicing import changing, silencing
from mnemotrace.localisation.dictionary import Dictionary


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _dictionary(d: int, m: int = 10) -> Dictionary:
    rows = nn.functional.normalize(_draw(m, d), dim=1)
    return Dictionary(rows, _draw(m, seed=1), rows, torch.zeros(d), torch.zeros(d), "topk", 3, site="0")


CASES = [
    (nn.Sequential(nn.Linear(4, 6)), _draw(5, 4), -1),
    (nn.Sequential(nn.Linear(4, 6)), _draw(5, 3, 4), -1),
    (nn.Sequential(nn.Conv2d(2, 6, 3)), _draw(5, 2, 6, 6), 1),
    (nn.Sequential(nn.Conv1d(2, 6, 3)), _draw(5, 2, 6), 1),
]


@pytest.mark.parametrize(("net", "x", "axis"), CASES)
def test_every_row_is_replaced_whatever_the_layout(net: nn.Module, x: Tensor, axis: int) -> None:
    scale = torch.arange(1.0, 7)
    with torch.no_grad():
        before = net(x)
        with changing(net, "0", lambda rows: rows * scale):
            after = net(x)
        assert torch.equal(net(x), before)
    assert torch.equal(after.movedim(axis, -1), before.movedim(axis, -1) * scale)


@pytest.mark.parametrize(("net", "x", "axis"), CASES)
def test_reconstructing_nothing_is_silencing_all(net: nn.Module, x: Tensor, axis: int) -> None:
    made = _dictionary(6)
    with torch.no_grad():
        before = net(x).movedim(axis, -1)
        with silencing(net, made, range(10)):
            rest = net(x).movedim(axis, -1)
        with silencing(net, made, [2]):
            one = net(x).movedim(axis, -1)
    assert torch.allclose(rest + made(before), before, atol=1e-5)
    flat = before.reshape(-1, 6)
    said = made.encode(flat).dense()[:, 2:3] * made.decoder[2]
    assert torch.allclose(one, before - said.view_as(before), atol=1e-5)


def test_rows_outside_the_mask_stay() -> None:
    net, x = CASES[1][:2]
    mask = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        before = net(x)
        with changing(net, "0", torch.zeros_like, mask):
            after = net(x)
        with changing(net, "0", torch.zeros_like, mask[:, 0]):
            whole = net(x)
    assert torch.equal(after[~mask], before[~mask])
    assert not bool(after[mask].any())
    assert torch.equal(whole.abs().sum((1, 2)) == 0, mask[:, 0])


class _Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x * 2, "rest"


class _Mapping(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x}


def test_a_tuple_keeps_its_rest() -> None:
    net = nn.Sequential(_Pair())
    with changing(net, "0", torch.zeros_like):
        tensor, rest = net(torch.ones(2, 3))
    assert not bool(tensor.any())
    assert rest == "rest"


def _run(net: nn.Module, x: Tensor, **more: Any) -> None:
    with changing(net, more.pop("site", "0"), torch.zeros_like, **more):
        net(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: _run(CASES[1][0], CASES[1][1], mask=torch.ones(5, 2).bool()),
            ValueError,
            r"a mask of shape \(5, 2\) at 0",
        ),
        (lambda: _run(CASES[1][0], CASES[1][1], site="9"), SelectionError, "got site='9', which is no module"),
        (
            lambda: _run(nn.Sequential(_Mapping()), torch.ones(2, 3)),
            TypeError,
            "got dict from a module; expected a tensor",
        ),
        (lambda: silencing(CASES[0][0], _dictionary(6), [10]).__enter__(), ValueError, "got unit 10 of the dictionary"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

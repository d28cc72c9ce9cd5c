"""Directions: affine erasers, their folding into linear maps, their round trips."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnemotrace as mt
from mnemotrace.core.direction import Direction
from mnemotrace.core.errors import EditError


def direction(d: int, k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Direction:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((d, k), (k, d), (d,))]
    return Direction(*draw, {"rows": 7}, {"method": "leace"})


@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**31))
def test_a_direction_takes_away_what_it_reads(d: int, k: int, seed: int) -> None:
    eraser = direction(d, k, seed)
    x = torch.randn(2, 3, d, dtype=torch.float64)
    wanted = torch.stack([row - eraser.left @ (eraser.right @ (row - eraser.mean)) for row in x.flatten(0, 1)])
    torch.testing.assert_close(eraser(x).flatten(0, 1), wanted)
    torch.testing.assert_close(eraser(eraser.mean), eraser.mean)
    assert (eraser.rank, eraser.d, eraser.nbytes) == (k, d, 8 * (2 * d * k + d))


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**31))
def test_a_packed_direction_is_itself(d: int, k: int, seed: int) -> None:
    eraser = direction(d, k, seed)
    back = Direction.unpack(eraser.pack())
    for name in ("left", "right", "mean"):
        assert torch.equal(getattr(back, name), getattr(eraser, name))
    assert (back.evidence, back.manifest) == (eraser.evidence, eraser.manifest)


def test_low_precision_activations_are_erased_in_float32_and_given_back_as_they_came() -> None:
    eraser, x = direction(8, 2), torch.randn(5, 8)
    assert eraser(x.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(eraser(x.bfloat16()), eraser(x.bfloat16().float()).bfloat16())


def layers() -> dict[str, nn.Module]:
    return {
        "linear": nn.Linear(6, 4),
        "convolution": nn.Conv2d(2, 4, (1, 3)),
        "conv1d": __import__("transformers").pytorch_utils.Conv1D(4, 6),
    }


@pytest.mark.parametrize("kind", layers())
def test_folding_is_reading_the_erased_tensor(kind: str) -> None:
    layer = layers()[kind].double()
    eraser = direction(6, 2)
    rows = torch.randn(5, 6, dtype=torch.float64)
    edit = eraser.as_edit(layer, mt.sites(layer))

    def call(x: torch.Tensor) -> torch.Tensor:
        return layer(x.view(5, 2, 1, 3) if kind == "convolution" else x)

    with torch.no_grad():
        wanted, plain = call(eraser(rows)), call(rows)
        with mt.applied(layer, edit):
            torch.testing.assert_close(call(rows), wanted, rtol=1e-12, atol=1e-12)
        assert torch.equal(call(rows), plain) and not torch.allclose(plain, wanted)
    assert edit.changes[0].rank == 2 and edit.manifest["of"] == {"method": "leace"}


def test_the_linear_form_folds_without_a_bias() -> None:
    layer, eraser = nn.Linear(6, 4, bias=False).double(), direction(6, 2)
    with pytest.raises(EditError, match=r"got site root without a bias; expected one.*fold direction.linear"):
        eraser.as_edit(layer, mt.sites(layer))
    rows = torch.randn(5, 6, dtype=torch.float64)
    with torch.no_grad(), mt.applied(layer, eraser.linear().as_edit(layer, mt.sites(layer))):
        folded = layer(rows)
    with torch.no_grad():
        torch.testing.assert_close(folded, layer(eraser.linear()(rows)))
    constant = eraser.linear()(rows) - eraser(rows)
    torch.testing.assert_close(constant, constant[:1].expand(5, 6))


def test_widths_and_shared_weights_are_refused(tiny_gpt2) -> None:
    layer = nn.Linear(6, 4)
    with pytest.raises(EditError, match="got site root, which reads 6 numbers; expected 5; fold into maps that read"):
        direction(5, 2).as_edit(layer, mt.sites(layer))
    with pytest.raises(ValueError, match=r"got activations \(2, 5\); expected 6 on the last axis; use the direction w"):
        direction(6, 2)(torch.randn(2, 5))
    model = tiny_gpt2()
    with pytest.raises(EditError, match=r"got site lm_head, whose weight serves transformer.wte.weight too; exp"):
        direction(32, 2).as_edit(model, mt.sites(model, ["lm_head"]))


def test_factors_that_do_not_fit_are_refused() -> None:
    unchecked = object.__new__(Direction)  # the type checks of the tests would refuse it first
    for name, shape in {"left": (3, 2), "right": (1, 3), "mean": (3,)}.items():
        object.__setattr__(unchecked, name, torch.ones(shape))
    with pytest.raises(ValueError, match=r"got left \(3, 2\), right \(1, 3\), mean \(3,\); expected \(d, r\)"):
        unchecked.__post_init__()

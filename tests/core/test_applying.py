"""Applying edits: the sum arrives, the exact bits come back, and a model is never left half edited."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnemotrace.core.applying import Undo, applied, apply
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.edit import Dense, Edit, Sparse
from mnemotrace.core.errors import EditError, NonFiniteError, NumericalWarning
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from tests.core.zoo import KINDS, LAYOUTS, Zoo, bits, dense_edit, random_change, same_bits

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ignore_rounding = pytest.mark.filterwarnings("ignore::mnemotrace.core.errors.NumericalWarning")


def make(model: nn.Module, kinds: list[str], seed: int, scale: float = 1.0) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    return Edit(tuple(random_change(model, kind, generator, scale) for kind in kinds))


def of_norm(model: nn.Module, name: str, share: float, seed: int = 0) -> Edit:
    """A dense edit of one parameter whose norm is a share of the parameter's."""
    weight = model.get_parameter(name).detach().float()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return Edit((Dense(name, share * noise * weight.norm() / noise.norm()),))


def low_precision(dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(64, 64, generator=torch.Generator().manual_seed(5)))
    return layer.to(dtype)


# ---------------------------------------------------------------------------------------------- what arrives


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.integers(0, 2**31))
def test_every_parameter_becomes_itself_plus_its_changes(kinds: list[str], seed: int) -> None:
    model = Zoo(dtype=torch.float64)
    edit = make(model, kinds, seed)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    apply(model, edit)
    for name, delta in dense_edit(model, edit).items():
        torch.testing.assert_close(model.get_parameter(name).detach(), before[name] + delta, rtol=1e-12, atol=1e-12)


def test_an_edit_acts_on_the_map_that_its_site_names() -> None:
    layer = nn.Linear(3, 4).double()
    site = Site("linear", "weight", 4, 3, "bias")
    edit = Edit((LowRank(site, torch.randn(4, 2).double(), torch.randn(2, 4).double()),))
    x = torch.randn(5, 3).double()
    change = edit.changes[0].dense()
    expected = layer(x) + torch.cat([x, torch.ones(5, 1)], 1) @ change.T
    with applied(layer, edit):
        torch.testing.assert_close(layer(x), expected)


@ignore_rounding
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sum_applied_at_once_loses_less_than_its_parts_one_by_one(dtype: torch.dtype) -> None:
    layer = low_precision(dtype)
    parts = [of_norm(layer, "weight", 0.01, seed) for seed in range(6)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    wanted = layer.weight.detach().double() + dense_edit(layer, total)["weight"]

    with applied(layer, total):
        at_once = float((layer.weight.detach().double() - wanted).norm())
    for part in parts:
        apply(layer, part)
    one_by_one = float((layer.weight.detach().double() - wanted).norm())

    assert at_once < 0.7 * one_by_one


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_update_of_five_per_cent_arrives_in_low_precision(dtype: torch.dtype) -> None:
    layer = low_precision(dtype)
    undo = apply(layer, of_norm(layer, "weight", 0.05))
    assert undo.rounding["weight"].cosine >= 0.99
    assert undo.rounding["weight"].moved > 0.9


def test_a_tiny_update_in_low_precision_is_warned_of_with_its_number() -> None:
    layer = low_precision(torch.bfloat16)
    edit = of_norm(layer, "weight", 1e-3)
    with pytest.warns(NumericalWarning, match=r"1 low-precision parameters.*worst weight, cosine 0\.\d+, \d+% of"):
        undo = apply(layer, edit)
    assert undo.rounding["weight"].cosine < 0.9
    assert undo.rounding["weight"].moved < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_needs_no_report_of_rounding(dtype: torch.dtype) -> None:
    layer = low_precision(dtype)
    assert apply(layer, of_norm(layer, "weight", 1e-3)).rounding == {}


# ---------------------------------------------------------------------------------------------- the way back


@ignore_rounding
@given(
    st.sampled_from(DTYPES),
    st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(0, 2**31),
    st.sampled_from([1e-4, 1.0, 100.0]),
)
def test_any_sequence_of_edits_is_undone_bit_by_bit(
    dtype: torch.dtype, sequence: list[list[str]], seed: int, scale: float
) -> None:
    model = Zoo(dtype=dtype)
    states, undos = [bits(model)], []
    for step, kinds in enumerate(sequence):
        undos.append(apply(model, make(model, kinds, seed + step, scale)))
        states.append(bits(model))
    for undo in reversed(undos):
        states.pop()
        undo()
        assert same_bits(bits(model), states[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negating_an_edit_is_no_substitute_for_undoing_it(dtype: torch.dtype) -> None:
    model = Zoo(dtype=dtype)
    before = bits(model)
    edit = make(model, ["dense", "linear"], 0, scale=100.0)
    apply(model, edit)
    apply(model, -edit)
    assert not same_bits(bits(model), before)


def test_nested_blocks_give_each_level_its_weights_back() -> None:
    model = Zoo()
    start = bits(model)
    with applied(model, make(model, ["linear"], 0)):
        edited = bits(model)
        for seed in (1, 2):
            with applied(model, make(model, ["linear", "dense"], seed)):
                assert not same_bits(bits(model), edited)
            assert same_bits(bits(model), edited)
    assert same_bits(bits(model), start)


def test_the_weights_come_back_when_the_block_raises() -> None:
    model = Zoo()
    before = bits(model)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), applied(model, make(model, ["linear", "expert"], 0)):
            assert not same_bits(bits(model), before)
            raise error
        assert same_bits(bits(model), before)


def test_undoing_twice_is_an_error() -> None:
    model = Zoo()
    undo = apply(model, make(model, ["linear"], 0))
    undo()
    before = bits(model)
    with pytest.raises(EditError, match="got a second call of one undo; expected one"):
        undo()
    assert same_bits(bits(model), before)


def test_undoing_out_of_order_is_an_error_and_changes_nothing() -> None:
    model = Zoo()
    start = bits(model)
    first, second = (apply(model, make(model, ["linear"], seed)) for seed in (0, 1))
    both = bits(model)
    with pytest.raises(EditError, match="changed since the edit .linear.*; undo later edits first, in reverse order"):
        first()
    assert same_bits(bits(model), both)
    second()
    first()
    assert same_bits(bits(model), start)


def test_undoing_after_training_is_an_error() -> None:
    layer = nn.Linear(2, 2)
    undo = apply(layer, of_norm(layer, "weight", 0.1))
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    with pytest.raises(EditError, match="changed since the edit"):
        undo()


def test_the_weights_come_back_when_the_block_trains_or_undoes_by_itself() -> None:
    model = low_precision(torch.float32)
    before = bits(model)
    with applied(model, of_norm(model, "weight", 0.1)), torch.no_grad():
        model.weight.add_(1.0)
    assert same_bits(bits(model), before)
    with applied(model, of_norm(model, "weight", 0.1)) as undo:
        undo()
        assert same_bits(bits(model), before)
    assert same_bits(bits(model), before)


def test_edits_of_separate_parameters_are_undone_in_any_order() -> None:
    model = Zoo()
    start = bits(model)
    first, second = (apply(model, make(model, [kind], 0)) for kind in ("linear", "expert"))
    first()
    second()
    assert same_bits(bits(model), start)


def test_gradients_flags_and_identity_of_parameters_are_left_alone() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    parameters = list(layer.parameters())
    with applied(layer, of_norm(layer, "weight", 0.1)):
        assert [a is b for a, b in zip(layer.parameters(), parameters, strict=True)] == [True, True]
        layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    assert [p.requires_grad for p in layer.parameters()] == [True, False]


def test_an_edit_is_applied_and_undone_under_inference_mode() -> None:
    layer = nn.Linear(2, 2)
    before = bits(layer)
    with torch.inference_mode(), applied(layer, of_norm(layer, "weight", 0.1)):
        assert not same_bits(bits(layer), before)
    assert same_bits(bits(layer), before)


# ---------------------------------------------------------------------------------------------- all or nothing


def _bad(kind: str) -> tuple[Edit, type[Exception], str]:
    good = Dense("linear", torch.ones(4, 3))
    site = LAYOUTS["expert"][1]
    rows = Site("packed[late]", "packed", 4, 3, part=(10, 14))
    bad, error, message = {
        "missing": (Dense("absent", torch.ones(1)), EditError, "parameter 'absent', which Zoo lacks"),
        "wrong shape": (Dense("expert", torch.ones(2, 4, 4)), EditError, r"\(2, 4, 3\).*; expected \(2, 4, 4\)"),
        "wrong width": (
            LowRank(Site("expert[1]", "expert", 4, 5, part=1), torch.ones(4, 1), torch.ones(1, 5)),
            EditError,
            r"'expert' of shape \(2, 4, 3\), seen as \(4, 3\); expected \(4, 5\); the edit was made for another width",
        ),
        "wrong sparse shape": (
            Sparse("expert", (2, 12), torch.tensor([0]), torch.ones(1)),
            EditError,
            r"\(2, 4, 3\).*; expected \(2, 12\)",
        ),
        "part outside": (LowRank(rows, torch.ones(4, 1), torch.ones(1, 3)), EditError, r"\(2, 3\); expected \(4, 3\)"),
        "no such expert": (
            LowRank(Site("expert[7]", "expert", 4, 3, part=7), torch.ones(4, 1), torch.ones(1, 3)),
            EditError,
            r"'expert' of shape \(2, 4, 3\), without that part; expected \(4, 3\)",
        ),
        "vector for matrix": (
            LowRank(Site("v", "linear_bias", 4, 3), torch.ones(4, 1), torch.ones(1, 3)),
            EditError,
            r"'linear_bias' of shape \(4,\), without that part; expected \(4, 3\)",
        ),
        "wrong bias": (
            LowRank(Site("expert[1]", "expert", 4, 3, "linear_bias", part=1), torch.ones(4, 1), torch.ones(1, 4)),
            EditError,
            r"'linear_bias' of shape \(4,\), seen as \(\); expected \(4,\)",
        ),
        "nan": (
            Dense("expert", torch.full((2, 4, 3), math.nan)),
            NonFiniteError,
            "24 non-finite.*the change of expert",
        ),
        "infinite factor": (
            LowRank(site, torch.full((4, 1), math.inf), torch.zeros(1, 3)),
            NonFiniteError,
            "4 non-finite.*the change of expert",
        ),
        "overflow": (Dense("expert", torch.full((2, 4, 3), 3e38)), NonFiniteError, "expert after the edit"),
    }[kind]
    return Edit((good, bad)), error, message


BAD = [
    "missing",
    "wrong shape",
    "wrong width",
    "wrong sparse shape",
    "part outside",
    "no such expert",
    "vector for matrix",
    "wrong bias",
    "nan",
    "infinite factor",
    "overflow",
]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_second_change_leaves_the_first_parameter_alone(kind: str) -> None:
    model = Zoo()
    if kind == "overflow":
        with torch.no_grad():
            model.get_parameter("expert").fill_(3e38)
    before = bits(model)
    edit, error, message = _bad(kind)
    with pytest.raises(error, match=message):
        apply(model, edit)
    assert same_bits(bits(model), before)
    with pytest.raises(error, match=message), applied(model, edit):
        raise AssertionError("the block must not run")
    assert same_bits(bits(model), before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_writing_that_stops_half_way_is_rolled_back(error: type[BaseException], monkeypatch) -> None:
    model = Zoo()
    before = bits(model)
    outer = apply(model, make(model, ["linear"], 3))
    edited = bits(model)
    copy, calls = torch.Tensor.copy_, []

    def stumble(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            copy(self, torch.zeros_like(self))
            raise error
        return copy(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(error):
        patched.setattr(torch.Tensor, "copy_", stumble)
        apply(model, make(model, ["linear", "expert"], 0))
    assert len(calls) > 2
    assert same_bits(bits(model), edited)
    outer()
    assert same_bits(bits(model), before)


def test_a_rounding_warning_turned_into_an_error_leaves_the_model_alone() -> None:
    layer = low_precision(torch.bfloat16)
    before = bits(layer)
    with warnings.catch_warnings(), pytest.raises(NumericalWarning):
        warnings.simplefilter("error")
        apply(layer, of_norm(layer, "weight", 1e-3))
    assert same_bits(bits(layer), before)


def test_an_empty_edit_is_an_error_instead_of_a_silent_nothing() -> None:
    with pytest.raises(EditError, match="got an edit without changes; expected at least one"):
        apply(Zoo(), Edit(()))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_a_quantised_parameter_is_refused(dtype: torch.dtype) -> None:
    model = Zoo()
    quantised = nn.Parameter(model.get_parameter("expert").detach().to(dtype), requires_grad=False)
    model.register_parameter("expert", quantised)
    before = bits(model)
    edit = Edit((Dense("linear", torch.ones(4, 3)), Dense("expert", torch.ones(2, 4, 3))))
    with pytest.raises(EditError, match=f"'expert' of {dtype} on cpu; expected .* load the model unquantised"):
        apply(model, edit)
    assert same_bits(bits(model), before)


def test_a_parameter_without_memory_is_refused() -> None:
    with torch.device("meta"):
        layer = nn.Linear(3, 2)
    with pytest.raises(EditError, match="on meta; expected .* with values in memory"):
        apply(layer, Edit((Dense("weight", torch.ones(2, 3)),)))


def test_a_parameter_made_under_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        layer = nn.Linear(3, 2)
    with pytest.raises(EditError, match="'weight', made under torch.inference_mode"):
        apply(layer, Edit((Dense("weight", torch.ones(2, 3)),)))


# ---------------------------------------------------------------------------------------------- tied, and whose


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def test_a_tied_embedding_is_reported() -> None:
    model = Tied()
    edit = Edit((Dense("head.weight", torch.ones(5, 3)),))
    undo = apply(model, edit)
    assert isinstance(undo, Undo)
    assert undo.tied == {"head.weight": ("embedding.weight",)}
    plain = nn.Linear(2, 2)
    assert apply(plain, of_norm(plain, "weight", 0.1)).tied == {}


def test_a_tied_parameter_named_twice_is_refused() -> None:
    model = Tied()
    before = bits(model)
    edit = Edit((Dense("head.weight", torch.ones(5, 3)), Dense("embedding.weight", torch.ones(5, 3))))
    with pytest.raises(EditError, match="of 'head.weight' and of 'embedding.weight', which are one tied parameter"):
        apply(model, edit)
    assert same_bits(bits(model), before)


def test_strict_accepts_only_the_network_that_the_edit_was_made_for(zoo: Callable[..., nn.Module] = Zoo) -> None:
    model, other = zoo(0), zoo(1)
    edit = Edit((Dense("linear", torch.ones(4, 3)),), {"base": fingerprint(model)})
    before = bits(other)
    with pytest.raises(EditError, match=f"got a model with fingerprint .*{fingerprint(other)['weights']}.*; expected"):
        apply(other, edit, strict=True)
    assert same_bits(bits(other), before)
    with pytest.raises(EditError, match="expected None"), applied(model, Edit(edit.changes), strict=True):
        pass
    apply(other, edit)()
    apply(model, edit, strict=True)
    with pytest.raises(EditError, match="strict=False to apply it elsewhere"):
        apply(model, edit, strict=True)

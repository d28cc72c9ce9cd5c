"""The projections of torch's attention are sites, and recording sees through its fused code."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mnemotrace.adapters.hooks import record
from mnemotrace.adapters.linear import sites

E, HEADS, B, T, S = 8, 2, 3, 5, 4


def attend(q, k, v, padding=None):
    """Attention from projected `(b, t, e)`, with the heads concatenated."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(-3, -2) for x in (q, k, v))
    allowed = None if padding is None else ~padding[:, None, None, :]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(-3, -2).flatten(-2)


def build(batch_first=True, **options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(E, HEADS, batch_first=batch_first, **options).double().eval()
    with torch.no_grad():
        for bias in (module.in_proj_bias, module.out_proj.bias):
            if bias is not None:
                bias.normal_()
    return module


def reproduces(recording, padding=None):
    """Heads follow from the queries, keys and values; the output follows from the heads."""
    q, k, v = (recording.made(f"in_proj[{letter}]") for letter in "qkv")
    heads = recording.rows["out_proj"][0]
    torch.testing.assert_close(attend(q, k, v, padding), heads)
    return recording.made("out_proj")


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [{}, {"kdim": 6, "vdim": 7}], ids=["packed", "separate"])
@pytest.mark.parametrize(("need_weights", "padded"), [(True, True), (True, False), (False, True), (False, False)])
def test_rows_times_the_views_give_the_output_of_attention(
    recorded, batch_first, bias, widths, *, need_weights, padded
):
    module = build(batch_first, bias=bias, **widths)
    inputs = [torch.randn(B, n, d).double() for n, d in ((T, E), (S, module.kdim), (S, module.vdim))]
    padding = torch.arange(S)[None] >= torch.tensor([4, 2, 3])[:, None] if padded else None
    given = inputs if batch_first else [x.transpose(0, 1) for x in inputs]
    recording = recorded(module, sites(module), *given, key_padding_mask=padding, need_weights=need_weights)
    output, attention = recording.output
    made = reproduces(recording, padding)
    torch.testing.assert_close(made if batch_first else made.transpose(0, 1), output)
    expected, weights = module(*given, key_padding_mask=padding, need_weights=need_weights)
    torch.testing.assert_close(output, expected)
    assert (attention is None) == (not need_weights)
    if need_weights:
        torch.testing.assert_close(attention, weights)


def test_an_unbatched_input_gives_rows_of_tokens(recorded):
    module, x = build(), torch.randn(T, E).double()
    recording = recorded(module, sites(module), x, x, x)
    assert recording.rows["out_proj"][0].shape == (T, E)
    torch.testing.assert_close(reproduces(recording), recording.output[0])


def test_extra_keys_and_keyword_calls_do_not_disturb_the_record(recorded):
    module, x = build(add_bias_kv=True, add_zero_attn=True), torch.randn(B, T, E).double()
    recording = recorded(module, sites(module), query=x, key=x, value=x)
    torch.testing.assert_close(recording.output[0], module(x, x, x)[0])
    torch.testing.assert_close(recording.made("out_proj"), recording.output[0])
    assert torch.equal(recording.rows["in_proj[k]"][0], x)


def test_the_parts_are_rows_of_the_packed_parameters_and_can_be_written():
    module = build()
    found = sites(module)
    assert list(found) == ["in_proj[q]", "in_proj[k]", "in_proj[v]", "out_proj"]
    site = found["in_proj[k]"]
    assert (site.weight, site.bias, site.part, site.kind) == ("in_proj_weight", "in_proj_bias", (E, 2 * E), "attention")
    with torch.no_grad():
        site.view(module.in_proj_weight).zero_()
        site.bias_view(module.in_proj_bias).zero_()
    assert module.in_proj_weight.abs().sum(1).eq(0).tolist() == [False] * E + [True] * E + [False] * E
    assert module.in_proj_bias.eq(0).sum() == E


def test_separate_projections_have_their_own_weights_and_rows_of_the_bias():
    found = sites(build(kdim=6, vdim=7))
    assert [site.d for site in found.values()] == [E, 6, 7, E]
    site = found["in_proj[v]"]
    assert (site.weight, site.part, site.bias_part) == ("v_proj_weight", None, (2 * E, 3 * E))


def test_selection_takes_one_projection_or_all(recorded):
    model = nn.ModuleDict({"attention": build()})
    assert list(sites(model, ["in_proj[q]"])) == ["attention.in_proj[q]"]
    assert len(sites(model, ["in_proj"])) == 3
    module, x = build(), torch.randn(B, T, E).double()
    assert set(recorded(module, sites(module, ["in_proj[v]"]), x, x, x).rows) == {"in_proj[v]"}


def test_self_attention_gives_one_tensor_object_to_all_three(recorded):
    module, x = build(), torch.randn(B, T, E).double()
    recording = recorded(module, sites(module), x, x, x)
    assert len({id(recording.sources[f"in_proj[{letter}]"][0]) for letter in "qkv"}) == 1


def test_a_weight_shared_by_two_attentions_is_recorded_from_both(recorded):
    model = nn.ModuleList([build(), build()])
    model[1].in_proj_weight = model[0].in_proj_weight
    model.forward = lambda x: model[1](*[model[0](x, x, x)[0]] * 3)[0]
    recording = recorded(model, sites(model), torch.randn(B, T, E).double())
    assert recording.sites["0.in_proj[q]"].readers == ("1",)
    assert {name: len(rows) for name, rows in recording.rows.items()} == {
        "0.in_proj[q]": 2, "0.in_proj[k]": 2, "0.in_proj[v]": 2, "0.out_proj": 1, "1.out_proj": 1,
    }  # fmt: skip


class Direct(nn.MultiheadAttention):
    """An attention that calls its output projection as a module."""

    def forward(self, x):
        return self.out_proj(x)


def test_an_output_projection_that_is_called_is_recorded(recorded):
    module, x = Direct(E, HEADS), torch.randn(B, T, E)
    recording = recorded(module, sites(module, ["out_proj"]), x)
    torch.testing.assert_close(recording.made("out_proj"), recording.output)


def encoder(norm_first=False):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True, norm_first=norm_first).double()
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()


PADDING = torch.arange(T)[None] >= torch.tensor([5, 2, 3])[:, None]


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("padding", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "select", [None, ["linear1", "linear2"], "layers.1.linear1", ["out_proj"], ["in_proj"]], ids=str
)
def test_an_encoder_in_evaluation_is_recorded_although_it_has_a_fast_path(recorded, norm_first, padding, select):
    model, x = encoder(norm_first), torch.randn(B, T, E).double()
    found = sites(model, select)
    recording = recorded(model, found, x, src_key_padding_mask=padding)
    assert set(recording.rows) == set(found)
    assert all(rows[0].shape[:2] == (B, T) for rows in recording.rows.values())
    torch.testing.assert_close(recording.output, model(x, src_key_padding_mask=padding))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_the_fast_path_does_skip_modules_without_us():
    model, x = encoder(), torch.randn(B, T, E).double()
    read = []
    model.layers[1].linear1.register_forward_pre_hook(lambda _m, args: read.append(args[0].is_nested))
    with torch.no_grad():
        model(x, src_key_padding_mask=PADDING)
    assert read == [True]


def test_a_decoder_reads_its_memory(recorded):
    torch.manual_seed(0)
    model = nn.TransformerDecoderLayer(E, HEADS, 16, batch_first=True).double().eval()
    x, memory = torch.randn(B, T, E).double(), torch.randn(B, S, E).double()
    recording = recorded(model, sites(model), x, memory)
    assert set(recording.rows) == set(recording.sites)
    assert torch.equal(recording.rows["multihead_attn.in_proj[v]"][0], memory)
    torch.testing.assert_close(recording.output, model(x, memory))


def test_gradients_pass_through_a_recorded_attention():
    module, x = build(), torch.randn(B, T, E).double()
    with record(module, sites(module), lambda *_: None):
        module(x, x, x)[0].sum().backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    module.zero_grad()
    module(x, x, x)[0].sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad)


def test_an_exception_leaves_nothing_behind():
    module = build()
    with pytest.raises(AssertionError), record(module, sites(module), lambda *_: None):
        module(*[torch.randn(B, T, E + 1).double()] * 3)
    assert not module.out_proj._forward_pre_hooks

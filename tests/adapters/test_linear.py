"""Every linear map shows `(o, d)`; shared, tied and computed weights are treated for what they are."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from transformers.pytorch_utils import Conv1D

from mnemotrace.adapters.linear import sites, weight_of
from mnemotrace.core.errors import SelectionError


def test_a_linear_map_shows_output_by_input():
    layer = nn.Linear(3, 5)
    (site,) = sites(nn.Sequential(layer)).values()
    assert (site.name, site.o, site.d, site.width, site.kind) == ("0", 5, 3, 4, "linear")
    assert torch.equal(site.view(layer.weight), layer.weight)


def test_a_conv1d_of_transformers_is_shown_transposed_and_writing_to_the_view_writes_to_the_parameter():
    layer = Conv1D(5, 3)
    (site,) = sites(nn.Sequential(layer)).values()
    assert (site.o, site.d, site.transposed) == (5, 3, True)
    with torch.no_grad():
        site.view(layer.weight)[4, 2] = 7.0
    assert layer.weight[2, 4] == 7.0


@pytest.mark.parametrize("layer", [nn.Linear(4, 6), nn.Linear(4, 6, bias=False), Conv1D(6, 4)], ids=repr)
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
def test_rows_times_the_view_give_the_output_of_a_linear_layer(recorded, layer, shape):
    x = torch.randn(shape)
    recording = recorded(layer, sites(layer), x)
    torch.testing.assert_close(recording.made("root"), recording.output)


CONVOLUTIONS = {
    "1d": (nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "1d same, dilated": (nn.Conv1d(3, 4, 4, padding="same", dilation=2), (2, 3, 9)),
    "1d reflect": (nn.Conv1d(3, 4, 3, padding=2, padding_mode="reflect"), (2, 3, 9)),
    "1d grouped": (nn.Conv1d(4, 6, 3, groups=2, stride=2), (2, 4, 9)),
    "1d unbatched": (nn.Conv1d(3, 4, 3), (3, 9)),
    "2d": (nn.Conv2d(3, 4, 3), (2, 3, 7, 6)),
    "2d strided, padded": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 7, 6)),
    "2d valid": (nn.Conv2d(3, 4, 3, padding="valid", bias=False), (2, 3, 7, 6)),
    "2d same": (nn.Conv2d(3, 4, (4, 3), padding="same"), (2, 3, 7, 6)),
    "2d dilated": (nn.Conv2d(3, 4, 3, dilation=2, padding=1), (2, 3, 7, 6)),
    "2d circular": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (2, 3, 7, 6)),
    "2d replicate": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"), (2, 3, 7, 6)),
    "2d grouped": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 7, 6)),
    "2d depthwise": (nn.Conv2d(4, 8, 3, groups=4, stride=2), (2, 4, 7, 6)),
    "2d unbatched": (nn.Conv2d(3, 4, 3), (3, 7, 6)),
    "2d channels last": (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), (2, 3, 7, 6)),
    "3d": (nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=1, groups=2), (2, 2, 4, 5, 4)),
    "3d reflect": (nn.Conv3d(2, 3, 3, padding=1, padding_mode="reflect"), (1, 2, 4, 5, 4)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_patches_times_the_view_give_the_output_of_a_convolution(recorded, case):
    layer, shape = CONVOLUTIONS[case]
    x = torch.randn(shape)
    if "channels last" in case:
        x = x.to(memory_format=torch.channels_last)
    recording = recorded(layer, sites(layer), x)
    made = torch.cat([recording.made(name) for name in recording.sites], dim=-1)
    output = recording.output if recording.output.ndim == layer.weight.ndim else recording.output[None]
    torch.testing.assert_close(made, output.flatten(2).transpose(1, 2))


def test_each_group_of_a_convolution_is_a_site_with_its_own_rows():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    found = sites(nn.Sequential(layer))
    assert list(found) == ["0[0]", "0[1]"]
    assert [(site.o, site.d, site.part) for site in found.values()] == [(3, 18, (0, 3)), (3, 18, (3, 6))]
    with torch.no_grad():
        found["0[1]"].view(layer.weight)[0] = 0
    assert layer.weight[3].abs().sum() == 0
    assert layer.weight[0].abs().sum() > 0


def test_weight_of_puts_the_bias_last():
    model = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2))
    weight = weight_of(model, sites(model)["0[1]"], dtype=torch.float64)
    assert weight.shape == (3, 7)
    assert weight.dtype == torch.float64
    assert torch.equal(weight[:, -1], model[0].bias[3:].detach().double())


def test_a_tied_head_is_left_out_unless_named_and_then_reports_the_embedding(tiny_gpt2):
    model = tiny_gpt2()
    assert "lm_head" not in sites(model)
    site = sites(model, ["lm_head"])["lm_head"]
    assert (site.weight, site.tied) == ("lm_head.weight", ("transformer.wte.weight",))
    untied = tiny_gpt2(tie_word_embeddings=False)
    assert "lm_head" in sites(untied)


def test_every_site_of_every_family_is_reproduced_from_its_rows(recorded, tiny_lm, tokens):
    outputs = {}
    found = sites(tiny_lm)
    for name in found:
        tiny_lm.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: outputs.update({name: out}))
    recording = recorded(tiny_lm, found, tokens)
    assert set(recording.rows) == set(found)
    for name in found:
        torch.testing.assert_close(recording.made(name), outputs[name])


class Twice(nn.Module):
    """One parameter in two layers, one layer under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x):
        return self.again(self.second(self.first(x)).relu())


def test_two_modules_that_share_a_parameter_are_one_site_with_a_reader(recorded):
    model = Twice()
    found = sites(model)
    assert list(found) == ["first"]
    assert found["first"].readers == ("second",)
    assert found["first"].tied == ("second.weight", "again.weight")
    assert len(recorded(model, found, torch.randn(2, 4)).rows["first"]) == 3


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [parametrizations.weight_norm, torch.nn.utils.weight_norm, lambda layer: prune.l1_unstructured(layer, "weight", 2)],
    ids=["parametrisation", "hook", "pruning"],
)
def test_a_computed_weight_is_refused_by_name_and_warned_about_in_the_default_selection(wrap):
    model = nn.Sequential(nn.Linear(3, 3), wrap(nn.Linear(3, 3)))
    with pytest.warns(UserWarning, match="1: its weight is computed by a parametrisation"):
        assert list(sites(model)) == ["0"]
    with pytest.raises(SelectionError, match="remove_parametrizations"):
        sites(model, ["1"])
    assert list(sites(model, ["0"])) == ["0"]


class QuantLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(3, 3, dtype=torch.int8))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (QuantLinear(), "stored as torch.int8"),
        (nn.ConvTranspose2d(3, 3, 2), "reads no patches"),
        (parametrizations.weight_norm(nn.MultiheadAttention(4, 2), "in_proj_weight"), "parametrisation"),
    ],
    ids=["quantised", "transposed convolution", "computed attention"],
)
def test_what_cannot_be_edited_says_why(layer, reason):
    model = nn.ModuleDict({"odd": layer, "plain": nn.Linear(3, 3)})
    with pytest.raises(SelectionError, match=reason):
        sites(model, ["odd"])
    with pytest.warns(UserWarning, match=reason):
        assert "plain" in sites(model)


def test_nothing_is_warned_about_in_plain_networks(tiny_lm):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sites(tiny_lm)


@pytest.mark.parametrize(
    ("select", "layers", "expected"),
    [
        (["mlp.c_proj"], None, ["transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"]),
        (["transformer.h.1.mlp.c_fc"], None, ["transformer.h.1.mlp.c_fc"]),
        (r".*\.h\.0\.attn\..*", None, ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"]),
        (["c_fc", "c_attn"], [1], ["transformer.h.1.attn.c_attn", "transformer.h.1.mlp.c_fc"]),
    ],
)
def test_selection_takes_suffixes_regular_expressions_and_layers(tiny_gpt2, select, layers, expected):
    assert list(sites(tiny_gpt2(), select, layers)) == expected


@pytest.mark.parametrize(("select", "layers"), [(["proj"], None), ("mlp", None), (None, [7])])
def test_a_selection_that_matches_nothing_lists_what_exists(tiny_gpt2, select, layers):
    with pytest.raises(SelectionError, match=r"match none of .* choose among transformer\.h\.0\.attn\.c_attn, "):
        sites(tiny_gpt2(), select, layers)

"""Sites: every storage layout seen as `(o, d)`, selection of names, JSON."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnemotrace.core.errors import MnemotraceError, SelectionError
from mnemotrace.core.site import Site, layer_of, select_names
from tests.core.zoo import LAYOUTS

NAMES = [
    "h.0.attn.c_attn",
    "h.0.mlp.c_fc",
    "h.0.mlp.c_proj",
    "h.1.attn.c_attn",
    "h.1.mlp.c_proj",
    "h.10.mlp.c_proj",
    "experts.1.up[3]",
    "head",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_seen_as_o_by_d(layout: str) -> None:
    shape, site = LAYOUTS[layout]
    stored = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)

    seen = site.view(stored)

    assert seen.shape == (site.o, site.d)
    block = stored if site.part is None else stored[site.part if isinstance(site.part, int) else slice(*site.part)]
    expected = torch.stack([block.select(-1 if site.transposed else 0, row).flatten() for row in range(site.o)])
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_writing_to_the_view_writes_to_the_site_and_nowhere_else(layout: str) -> None:
    shape, site = LAYOUTS[layout]
    stored = torch.zeros(shape)

    site.view(stored).fill_(1.0)

    assert stored.sum() == site.o * site.d
    assert site.view(stored).all()


def test_a_view_is_the_map_that_the_module_computes() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=generator)
    linear = nn.Linear(3, 4)
    site = Site("linear", "weight", 4, 3, "bias")
    y = x @ site.view(linear.weight).T + site.bias_view(linear.bias)
    torch.testing.assert_close(y, linear(x))

    turned = Site("turned", "weight", 4, 3, transposed=True)
    torch.testing.assert_close(x @ turned.view(linear.weight.detach().T.contiguous()).T, x @ linear.weight.T)


@pytest.mark.parametrize(
    ("part", "bias_part", "expected"),
    [(None, None, [0, 1, 2, 3]), ((2, 4), None, [2, 3]), ((2, 4), (0, 2), [0, 1]), (1, (1, 3), [1, 2])],
)
def test_the_bias_follows_the_weight_unless_it_has_a_part_of_its_own(part, bias_part, expected) -> None:
    site = Site("s", "w", 2, 2, "b", part=part, bias_part=bias_part)
    assert site.bias_view(torch.arange(4)).tolist() == expected


def test_width_counts_the_bias_border() -> None:
    assert Site("s", "w", 2, 5).width == 5
    assert Site("s", "w", 2, 5, "b").width == 6


_parts = st.none() | st.integers(0, 9) | st.tuples(st.integers(0, 9), st.integers(10, 20))


_fields = st.fixed_dictionaries(
    {"name": st.text(), "weight": st.text(), "o": st.integers(1, 99), "d": st.integers(1, 99)},
    optional={
        "bias": st.none() | st.text(),
        "module": st.text(),
        "kind": st.sampled_from(["linear", "convolution", "attention", "expert"]),
        "part": _parts,
        "transposed": st.booleans(),
        "bias_part": _parts,
        "tied": st.lists(st.text()).map(tuple),
        "readers": st.lists(st.text()).map(tuple),
    },
)


@given(_fields)
def test_a_site_survives_json(fields: dict[str, object]) -> None:
    site = Site(**fields)
    assert Site.from_json(json.loads(json.dumps(site.to_json()))) == site


@pytest.mark.parametrize(
    ("select", "layers", "expected"),
    [
        (None, None, NAMES),
        (["mlp.c_proj"], None, ["h.0.mlp.c_proj", "h.1.mlp.c_proj", "h.10.mlp.c_proj"]),
        (("c_fc", "head"), None, ["h.0.mlp.c_fc", "head"]),
        (["proj"], [1], None),
        (["h.0.mlp.c_fc"], None, ["h.0.mlp.c_fc"]),
        (["up"], None, ["experts.1.up[3]"]),
        (["up[3]"], None, ["experts.1.up[3]"]),
        (r".*\.mlp\..*", [0], ["h.0.mlp.c_fc", "h.0.mlp.c_proj"]),
        ("mlp", None, None),
        (None, [1], ["h.1.attn.c_attn", "h.1.mlp.c_proj", "experts.1.up[3]"]),
        (None, range(10, 11), ["h.10.mlp.c_proj"]),
        (["head"], [0], None),
        ([], None, None),
        (None, [], None),
    ],
)
def test_selection_follows_peft_and_keeps_the_order(select, layers, expected) -> None:
    if expected is None:
        with pytest.raises(SelectionError, match=r"match none of 8 names.*choose among h\.0\.attn\.c_attn"):
            select_names(NAMES, select, layers)
    else:
        assert select_names(iter(NAMES), select, layers) == expected


def test_a_failed_selection_lists_what_exists_in_short() -> None:
    many = [f"layer.{i}" for i in range(100)]
    with pytest.raises(SelectionError, match=re.escape("layer.11, ... (88 more)")) as error:
        select_names(many, ["nothing"])
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, MnemotraceError)
    assert "layer.12" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("h.3.mlp", 3), ("3", 3), ("conv1", None), ("h2.fc", None), ("layers.12.experts.4[1]", 12), ("block.7[0]", 7)],
)
def test_the_layer_is_the_first_whole_number_between_dots(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer

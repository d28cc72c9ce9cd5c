"""An edit acts at the same maps in whichever form it is written down; what belongs to no map is told apart."""

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.edit import Change, Dense, Edit, Sparse, stored_delta
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.maps import bare_parameters, emptied, maps_of
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import built, draw


def lowrank(model: nn.Module, name: str, rank: int = 2, *, bias: bool = True) -> LowRank:
    site = mt.sites(model, [name])[name]
    return LowRank(site, draw(site.o, rank), draw(rank, site.width if bias else site.d, seed=1))


def dense(model: nn.Module, change: LowRank) -> tuple[Dense, ...]:
    """The same change as whole stored tensors."""
    found = []
    for name, (site, values) in stored_delta(change).items():
        whole = torch.zeros_like(model.get_parameter(name))
        (site.view(whole) if values.ndim == 2 else site.bias_view(whole)).copy_(values)
        found.append(Dense(name, whole))
    return tuple(found)


def sparse(change: Dense) -> Sparse:
    flat = change.values.flatten()
    places = flat.nonzero()[:, 0]
    return Sparse(change.parameter, change.shape, places, flat[places])


def forms(model: nn.Module, name: str) -> dict[str, tuple[Change, ...]]:
    change = lowrank(model, name)
    whole = dense(model, change)
    return {"low-rank": (change,), "dense": whole, "sparse": tuple(map(sparse, whole))}


@pytest.mark.parametrize("form", ["low-rank", "dense", "sparse"])
@pytest.mark.parametrize("place", ["transformer.h.0.mlp.c_proj", "transformer.h.1.attn.c_attn"])
def test_a_change_is_one_map_in_every_form(tiny_gpt2, place: str, form: str) -> None:
    model = tiny_gpt2()
    edit = Edit(forms(model, place)[form])
    (one,) = maps_of(model, edit).values()
    assert (one.site.name, one.has_bias) == (place, True)
    rows = draw(3, 4, one.site.width, seed=2)
    expected = rows @ forms(model, place)["low-rank"][0].dense().T
    torch.testing.assert_close(one.respond(rows), expected, atol=1e-4, rtol=1e-5)
    assert not bare_parameters(edit, maps_of(model, edit))


def test_changes_that_meet_in_a_map_add_up() -> None:
    model = built(nn.Linear, 5, 4)
    first, second = lowrank(model, "root"), lowrank(model, "root", 1, bias=False)
    edit = Edit((first, *dense(model, second)))
    (one,) = maps_of(model, edit).values()
    rows = draw(6, 6, seed=2)
    expected = rows @ first.dense().T + rows[:, :5] @ second.weight().T
    torch.testing.assert_close(one.respond(rows), expected)


def test_of_a_packed_projection_only_the_parts_that_change_are_maps() -> None:
    model = built(nn.MultiheadAttention, 8, 2)
    keys = next(site for name, site in mt.sites(model).items() if "k" in name.split("[")[-1])
    whole = torch.zeros_like(model.in_proj_weight)
    keys.view(whole).copy_(draw(8, 8))
    edit = Edit((Dense("in_proj_weight", whole),))
    assert list(maps_of(model, edit)) == [keys.name]
    with mt.applied(model, emptied(model, edit)):
        assert not keys.view(model.in_proj_weight.detach()).any()
        assert model.in_proj_weight.detach().norm(dim=1).count_nonzero() == 16


@pytest.mark.parametrize("form", ["low-rank", "dense", "sparse"])
def test_what_is_emptied_is_what_mt_null_empties(tiny_gpt2, form: str) -> None:
    model = tiny_gpt2()
    place = "transformer.h.0.mlp.c_proj"
    change = lowrank(model, place)
    with mt.applied(model, mt.null(model, Engram({place: change}))):
        expected = bits(model)
    before = bits(model)
    with mt.applied(model, emptied(model, Edit(forms(model, place)[form]))):
        assert same_bits(bits(model), expected)
    assert same_bits(bits(model), before)


def test_parameters_that_are_no_maps_are_emptied_whole(tiny_gpt2) -> None:
    model = tiny_gpt2()
    names = ("transformer.wte.weight", "transformer.ln_f.weight", "transformer.h.0.mlp.c_fc.bias")
    edit = Edit(tuple(Dense(name, torch.ones_like(model.get_parameter(name))) for name in names))
    assert maps_of(model, edit) == {}
    assert bare_parameters(edit, {}) == list(names)
    weight = model.get_parameter("transformer.h.0.mlp.c_fc.weight").detach().clone()
    with mt.applied(model, emptied(model, edit)):
        assert not any(bool(model.get_parameter(name).detach().any()) for name in names)
        assert torch.equal(model.get_parameter("transformer.h.0.mlp.c_fc.weight").detach(), weight)


def test_a_network_without_linear_maps_has_none() -> None:
    model = built(nn.Embedding, 5, 3)
    assert maps_of(model, Edit((Dense("weight", draw(5, 3)),))) == {}


def test_a_shared_weight_may_be_named_by_any_of_its_names() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = built(Twice)
    edit = Edit((Dense("second.weight", draw(4, 4)),))
    (one,) = maps_of(model, edit).values()
    assert one.site.weight == "second.weight"
    with mt.applied(model, emptied(model, edit) + edit):
        torch.testing.assert_close(model.first.weight.detach(), draw(4, 4))

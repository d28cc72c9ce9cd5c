"""Engrams as edits: out, in, alone, and refused when they are larger than what they change."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import EditError, NumericalWarning
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.forgetting.erase import relative_norms

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(*, bias: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(9, 6, bias=bias), nn.Tanh(), nn.Linear(6, 4, bias=bias)).double()


def extracted(model: nn.Module, **options: object) -> mt.Engram:
    target, rest = (mt.collect(model, [draw(n, 9, seed=n)], dtype=F64) for n in (5, 60))
    return mt.engram(model, target=target, reference=rest, **options)


def beside_weights(engram: mt.Engram, relative_norm: float) -> mt.Engram:
    return replace(engram, weights={name: norm / relative_norm for name, norm in engram.norms().items()})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def layer_input(model: nn.Sequential, x: Tensor, name: str) -> Tensor:
    with torch.no_grad():
        return model[: int(name)](x)


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0, -1.0])
def test_erasing_subtracts_the_engram_and_injecting_adds_it(strength: float) -> None:
    model = network()
    engram, before = extracted(model), weights(model)
    for make, sign in ((mt.erase, -1), (mt.inject, 1)):
        with mt.applied(model, make(engram, strength, limit=1e6)):
            for name, trace in engram.items():
                P = sign * strength * trace.dense()
                torch.testing.assert_close(model.get_parameter(f"{name}.weight"), before[f"{name}.weight"] + P[:, :-1])
                torch.testing.assert_close(model.get_parameter(f"{name}.bias"), before[f"{name}.bias"] + P[:, -1])


@given(st.floats(0.01, 0.9))
def test_erasing_then_injecting_restores(strength: float) -> None:
    model = network()
    engram, before = extracted(model), weights(model)
    mt.apply(model, mt.erase(engram, strength))
    assert any(not torch.allclose(model.get_parameter(name), value) for name, value in before.items())
    mt.apply(model, mt.inject(engram, strength))
    for name, value in before.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), value, rtol=1e-13, atol=1e-13)
    nothing = mt.erase(engram, strength) + mt.inject(engram, strength)
    assert max(nothing.norms().values()) <= 1e-7 * max(engram.norms().values())


@pytest.mark.parametrize("bias", [True, False])
def test_an_engram_in_a_null_network_responds_alone(bias: bool) -> None:
    model = network(bias=bias)
    engram = extracted(model)
    x = draw(7, 9, seed=3)
    alone = mt.null(model, engram) + mt.inject(engram)
    for name, trace in engram.items():
        rows = layer_input(model, x, name)
        expected = torch.nn.functional.pad(rows, (0, 1), value=1.0)[:, : trace.right.shape[1]] @ trace.dense().T
        with mt.applied(model, alone):
            torch.testing.assert_close(model[int(name)](rows).detach(), expected, rtol=1e-12, atol=1e-12)


def test_what_is_erased_and_what_is_injected_into_null_make_the_whole() -> None:
    # (W - P) + P = W: necessity and sufficiency are two sides of one sum, site by site.
    model = network()
    engram, rows = extracted(model), draw(7, 9, seed=3)
    whole = model[0](rows).detach()
    with mt.applied(model, mt.erase(engram)):
        rest = model[0](rows).detach()
    with mt.applied(model, mt.null(model, engram) + mt.inject(engram)):
        alone = model[0](rows).detach()
    torch.testing.assert_close(rest + alone, whole)
    assert not torch.allclose(rest, whole)


def test_null_silences_the_sites_of_the_engram_and_nothing_else() -> None:
    model = network()
    engram = extracted(model).select(["0"])
    with mt.applied(model, mt.null(model, engram)):
        assert not model[0].weight.any()
        assert not model[0].bias.any()
        assert model[2].weight.all()


def test_null_silences_one_group_of_a_convolution_whatever_its_memory_format() -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)).to(memory_format=memory_format)
        sites = mt.sites(model, ["0[1]"])
        site = sites["0[1]"]
        engram = Engram({"0[1]": LowRank(site, torch.zeros(site.o, 1), torch.zeros(1, site.width))})
        with mt.applied(model, mt.null(model, engram)):
            assert not model[0].weight[3:].any()
            assert not model[0].bias[3:].any()
            assert model[0].weight[:3].all()
            assert model[0].bias[:3].all()


def test_an_edit_above_the_limit_is_refused_and_its_site_named() -> None:
    model = network()
    engram = beside_weights(extracted(model), 3.0)
    with pytest.raises(
        EditError, match=r"got a change of 12.0 times the weight at 0 \(2 sites above the limit\)"
    ) as error:
        mt.erase(engram, 4.0)
    assert "expected at most 10.0; give a reference that covers the target" in str(error.value)
    with pytest.raises(EditError, match="got a change of 12.0 times"):
        mt.inject(engram, -4.0)
    with pytest.warns(NumericalWarning):
        assert mt.erase(engram, 4.0, limit=20.0).manifest["strength"] == 4.0


def test_sums_and_multiples_are_bounded_too() -> None:
    engram = extracted(network())
    largest = max(values["relative_norm"] for values in engram.evidence.values())
    big = engram * (11 / largest)
    for grown in (big, engram + (big - engram), big.truncated(energy=0.999999)):
        with pytest.raises(EditError, match="got a change of 1[01]"):
            mt.erase(grown)


def test_an_edit_larger_than_its_weight_is_warned_of_with_its_number() -> None:
    engram = beside_weights(extracted(network()), 0.8)
    with pytest.warns(NumericalWarning, match="larger than the weight at 2 sites, 1.6 times at 0"):
        mt.erase(engram, 2.0)
    mt.erase(engram)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf])
def test_a_strength_that_is_no_number_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="got strength=(nan|inf); expected a finite number"):
        mt.erase(extracted(network()), strength)


def test_an_edit_remembers_its_engram() -> None:
    model = network()
    engram = extracted(model, selectivity=0.3)
    edit = mt.erase(engram, 0.5)
    assert edit.manifest["method"] == "erase"
    assert edit.manifest["strength"] == 0.5
    assert edit.manifest["of"]["selectivity"] == 0.3
    assert edit.manifest["base"] == engram.manifest["base"]
    with mt.applied(model, edit, strict=True):
        pass


def test_relative_norms_are_those_of_the_evidence_until_the_weight_changes() -> None:
    model = network()
    engram = extracted(model)
    found = relative_norms(model, engram)
    assert found == pytest.approx({name: values["relative_norm"] for name, values in engram.evidence.items()})
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[0].bias.mul_(2)
    assert relative_norms(model, engram)["0"] == pytest.approx(found["0"] / 2)
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.zero_()
    assert relative_norms(model, engram)["2"] == math.inf


def test_erasing_lowers_the_response_to_the_target_and_keeps_the_rest() -> None:
    model = network()
    engram = extracted(model)
    target, rest = draw(5, 9, seed=5), draw(60, 9, seed=60)

    def changed(edit: mt.Edit, x: Tensor) -> float:
        before = model[0](x).detach()
        with mt.applied(model, edit):
            return float((model[0](x).detach() - before).norm() / before.norm())

    edit = mt.erase(engram)
    noise = Engram({n: LowRank(t.site, draw(*t.left.shape), draw(*t.right.shape, seed=1)) for n, t in engram.items()})
    norms = {name: engram.norms()[name] / noise.norms()[name] for name in engram}
    control = mt.erase(noise.scaled(norms))
    assert changed(edit, target) > 1.5 * changed(edit, rest)
    assert changed(edit, target) / changed(edit, rest) > 1.5 * changed(control, target) / changed(control, rest)

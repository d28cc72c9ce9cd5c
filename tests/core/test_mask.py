"""Masks: sets of entries with values, and grafts that are the tuned values to the bit."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnemotrace as mt
from mnemotrace.core.artifact import read, write
from mnemotrace.core.edit import Sparse
from mnemotrace.core.mask import Mask

SHAPES = {"a": (3, 4), "b": (5,)}
entries = st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 4)))


def of(chosen: set[tuple[str, int]], value: float = 1.0, **manifest: object) -> Mask:
    """A mask of these entries, all with one value."""
    regions: dict[str, Sparse] = {}
    for name in sorted({name for name, _ in chosen}):
        indices = torch.tensor(sorted(i for n, i in chosen if n == name))
        regions[name] = Sparse(name, SHAPES[name], indices, torch.full((len(indices),), value, dtype=torch.float64))
    return Mask(regions, 17, manifest)


def members(mask: Mask) -> dict[tuple[str, int], float]:
    """What the mask holds, entry by entry."""
    return {
        (name, int(i)): float(v)
        for name, region in mask.regions.items()
        for i, v in zip(region.indices, region.values, strict=True)
    }


def differing(before: torch.Tensor, after: torch.Tensor) -> tuple[nn.Module, nn.Module, Mask]:
    """Two networks of one parameter, and the mask of all its entries."""
    base, tuned = nn.Linear(len(before), 1, bias=False, dtype=before.dtype), None
    with torch.no_grad():
        base.weight.copy_(before[None])
        tuned = copy.deepcopy(base)
        tuned.weight.copy_(after[None])
    change = after.double() - before.double()
    mask = Mask({"weight": Sparse("weight", (1, len(before)), torch.arange(len(before)), change)}, len(before))
    return base, tuned, mask


@given(entries, entries)
def test_regions_are_sets(first: set, second: set) -> None:
    a, b = of(first, 1.0), of(second, 2.0)
    assert members(a & b) == dict.fromkeys(first & second, 1.0)
    assert members(a - b) == dict.fromkeys(first - second, 1.0)
    assert members(a | b) == {**dict.fromkeys(second, 2.0), **dict.fromkeys(first, 1.0)}
    assert a.isdisjoint(b) == first.isdisjoint(second)
    either = len(first | second)
    assert a.overlap(b) == b.overlap(a) == (len(first & second) / either if either else 0.0)
    assert len(a) == len(first)
    assert a.fraction == len(first) / 17
    assert a.nbytes == 16 * len(first)


@given(entries)
def test_what_is_packed_is_what_is_unpacked(chosen: set) -> None:
    mask = of(chosen, 0.1, method="graft")
    found = Mask.unpack(mask.pack())
    assert members(found) == members(mask)
    assert (found.total, found.manifest) == (mask.total, mask.manifest)


def test_a_mask_survives_a_file(tmp_path) -> None:
    mask = of({("a", 1), ("b", 4)}, 0.1, method="graft")
    assert members(Mask.unpack(read(write(mask.pack(), tmp_path / "m"), "mask"))) == members(mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_graft_is_the_tuned_value_to_the_bit(dtype: torch.dtype, generator: torch.Generator) -> None:
    before = torch.randn(20_000, generator=generator).to(dtype)
    after = (
        torch.randn(20_000, generator=generator) * 10 ** torch.empty(20_000).uniform_(-4, 1, generator=generator)
    ).to(dtype)
    base, tuned, mask = differing(before, after)
    missed = before.float() + (after.float() - before.float()) != after.float()
    if dtype is torch.float32:
        assert missed.float().mean() > 0.2  # what would happen with differences kept in float32
    with mt.applied(base, mask.edit()):
        assert torch.equal(base.weight, tuned.weight)
    assert torch.equal(base.weight[0], before)


def test_beyond_29_bits_a_graft_is_off_by_a_rounding_of_the_base() -> None:
    base, _, mask = differing(torch.tensor([1.0, 1.0]), torch.tensor([2.0**-30, 1e-20]))
    with mt.applied(base, mask.edit()):
        assert base.weight[0, 0] == 2.0**-30
        assert abs(base.weight[0, 1].item() - 1e-20) <= 2.0**-53


def test_another_copy_gets_the_change_and_other_entries_stay() -> None:
    base, tuned, mask = differing(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 2.5, 3.5]))
    part = mask - Mask({"weight": Sparse("weight", (1, 3), torch.tensor([1]), torch.ones(1))}, 3)
    host = copy.deepcopy(base)
    with torch.no_grad():
        host.weight += 10
    with mt.applied(host, part.edit()):
        assert host.weight.tolist() == [[11.5, 12.0, 13.5]]
    assert part.edit().manifest["entries"] == 2
    assert tuned.weight.tolist() == [[1.5, 2.5, 3.5]]


def test_the_base_stays_in_the_manifest_only_where_both_have_it() -> None:
    a, b, c = of({("a", 1)}, base="x"), of({("a", 2)}, base="x"), of({("a", 3)}, base="y")
    assert (a | b).manifest["base"] == "x"
    assert "base" not in (a | c).manifest
    assert [part["base"] for part in (a | c).manifest["parts"]] == ["x", "y"]


@pytest.mark.parametrize("indices", [[2, 1], [1, 1]])
def test_indices_that_do_not_rise_are_refused(indices: list[int]) -> None:
    region = Sparse("b", (5,), torch.tensor(indices), torch.ones(2))
    with pytest.raises(ValueError, match="may repeat; expected those of one parameter, rising, each once"):
        Mask({"b": region}, 5)
    with pytest.raises(ValueError, match="got indices of 'b' under the name 'a'"):
        Mask({"a": Sparse("b", (5,), torch.tensor([1]), torch.ones(1))}, 5)


def test_more_entries_than_could_be_chosen_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 entries out of 1; expected no more"):
        Mask({"b": Sparse("b", (5,), torch.tensor([0, 1]), torch.ones(2))}, 1)


def test_masks_of_two_layouts_do_not_compare() -> None:
    other = Mask({"b": Sparse("b", (6,), torch.tensor([0]), torch.ones(1))}, 6)
    with pytest.raises(
        ValueError, match=r"got 'b' of shape \(5,\) and of shape \(6,\); expected masks of networks of one"
    ):
        of({("b", 1)}).overlap(other)

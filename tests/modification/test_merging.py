"""TIES and DARE against plain loops and against peft."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.utils import merge_utils

import mnemotrace as mt
from mnemotrace.core.edit import Dense, Edit, Sparse
from mnemotrace.core.errors import EditError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.modification.merging import dare, ties

SHAPES = {"a": (4, 5), "b": (7,)}


def draw(seed: int, count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in SHAPES.items()} for _ in range(count)
    ]


def edits_of(values: list[dict[str, torch.Tensor]]) -> list[Edit]:
    return [Edit(tuple(Dense(n, v) for n, v in one.items()), {"base": {"weights": "x"}}) for one in values]


def slow_ties(values: list[dict[str, torch.Tensor]], density: float) -> dict[str, list[float]]:
    """As the paper's algorithm says it, an entry at a time."""
    trimmed = []
    for one in values:
        flat = [float(v) for name in SHAPES for v in one[name].flatten()]
        order = sorted(range(len(flat)), key=lambda i: -abs(flat[i]))[: max(1, int(density * len(flat)))]
        trimmed.append([value if i in order else 0.0 for i, value in enumerate(flat)])
    merged = []
    for entries in zip(*trimmed, strict=True):
        sign = math.copysign(1, sum(entries)) if sum(entries) else 0
        agree = [entry for entry in entries if entry * sign > 0]
        merged.append(sum(agree) / len(agree) if agree else 0.0)
    cut = math.prod(SHAPES["a"])
    return {"a": merged[:cut], "b": merged[cut:]}


@given(st.integers(0, 2**31), st.integers(2, 4), st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_ties_is_the_papers_algorithm(seed: int, count: int, density: float) -> None:
    values = draw(seed, count)
    found = ties(edits_of(values), density=density, weight=0.7)
    wanted = slow_ties(values, density)
    for change in found.changes:
        expected = torch.tensor(wanted[change.parameter], dtype=torch.float64)
        torch.testing.assert_close(change.dense().flatten(), 0.7 * expected, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2**31), st.sampled_from([0.2, 0.5, 0.9]))
def test_ties_of_one_parameter_is_that_of_peft(seed: int, density: float) -> None:
    values = [one["a"] for one in draw(seed, 3)]
    found = ties([Edit((Dense("a", value),)) for value in values], density=density)
    wanted = merge_utils.ties(values, torch.ones(3, dtype=torch.float64), density)
    torch.testing.assert_close(found.changes[0].dense(), wanted)


def test_a_plain_mean_is_not_what_ties_gives() -> None:
    values = draw(0, 3)
    mean = sum(one["a"] for one in values) / 3
    assert not torch.allclose(ties(edits_of(values), density=1.0).changes[0].dense(), mean)


def test_edits_that_touch_different_parameters_are_all_kept() -> None:
    first, second = Edit((Dense("a", torch.ones(4)),)), Edit((Sparse("b", (2,), torch.tensor([1]), torch.ones(1)),))
    merged = ties([first, second], density=1.0)
    assert {change.parameter: change.dense().tolist() for change in merged.changes} == {"a": [1.0] * 4, "b": [0.0, 1.0]}


def test_sparse_results_are_stored_sparse_and_whole_ones_whole() -> None:
    assert all(isinstance(change, Sparse) for change in ties(edits_of(draw(0, 2)), density=0.1).changes)
    assert all(isinstance(change, Dense) for change in ties(edits_of(draw(0, 2)), density=1.0).changes)
    assert ties(edits_of(draw(0, 2)), density=0.1).manifest["base"] == {"weights": "x"}


def test_sums_of_merged_edits_hold_each_parameter_once() -> None:
    a, b = (ties(edits_of(draw(seed, 2)), density=0.1) for seed in (0, 1))
    total = a + b
    assert [change.parameter for change in total.changes] == ["a", "b"]
    for mine, first, second in zip(total.changes, a.changes, b.changes, strict=True):
        assert isinstance(mine, Sparse)
        torch.testing.assert_close(mine.dense(), first.dense() + second.dense())


# --- DARE


def test_dare_drops_its_share_and_scales_up_the_rest(generator) -> None:
    values = torch.randn(400, 50, generator=generator)
    (change,) = dare(Edit((Dense("a", values),)), drop=0.9).changes
    assert isinstance(change, Sparse)
    assert len(change.indices) / values.numel() == pytest.approx(0.1, abs=0.01)
    torch.testing.assert_close(change.values, values.flatten()[change.indices] * 10, rtol=1e-6, atol=0)


def test_dare_keeps_the_mean_of_every_entry() -> None:
    values = torch.tensor([1.0, -2.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([dare(Edit((Dense("a", values),)), drop=0.5, generator=generator).changes[0].dense()
                         for _ in range(2000)])  # fmt: skip
    torch.testing.assert_close(drawn.mean(0), values, rtol=0.1, atol=0)


def test_dare_with_pefts_draw_is_that_of_peft(monkeypatch) -> None:
    values = draw(0, 1)[0]["a"]
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) >= 0.6
    monkeypatch.setattr(torch, "bernoulli", mask.to)
    wanted = merge_utils.random_pruning(values, 1 - 0.6, rescale=True)
    (found,) = dare(Edit((Dense("a", values),)), drop=0.6, generator=torch.Generator().manual_seed(3)).changes
    torch.testing.assert_close(found.dense(), wanted)


def test_the_same_seed_drops_the_same_entries() -> None:
    (edit,) = edits_of(draw(0, 1))
    first, second = (dare(edit, drop=0.5).changes for _ in range(2))
    other = dare(edit, drop=0.5, generator=torch.Generator().manual_seed(1)).changes
    assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a.dense(), b.dense()) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("transposed", [False, True])
def test_thin_changes_merge_as_their_whole_selves(transposed: bool, generator) -> None:
    site = Site("m", "m.weight", 4, 3, bias="m.bias", module="m", transposed=transposed)
    thin = Edit((LowRank(site, torch.randn(4, 2, generator=generator), torch.randn(2, 4, generator=generator)),))
    weight, bias = thin.changes[0].weight(), thin.changes[0].bias()
    whole = Edit((Dense("m.weight", weight.T if transposed else weight), Dense("m.bias", bias)))
    a, b = (ties([edit, 2.0 * edit], density=0.5) for edit in (thin, whole))
    for mine, other in zip(a.changes, b.changes, strict=True):
        torch.testing.assert_close(mine.dense(), other.dense())


def test_merged_task_vectors_apply_and_revert(tiny_lm) -> None:
    generator = torch.Generator().manual_seed(0)
    before = {n: p.detach().clone() for n, p in tiny_lm.named_parameters()}
    edits = [Edit(tuple(Dense(n, torch.randn(p.shape, generator=generator)) for n, p in before.items())) for _ in "ab"]
    with mt.applied(tiny_lm, ties([dare(edit, drop=0.8) for edit in edits], density=0.1)):
        changed = sum(int((p != before[n]).sum()) for n, p in tiny_lm.named_parameters())
    assert 0 < changed <= 0.2 * sum(p.numel() for p in before.values())
    assert all(torch.equal(p, before[n]) for n, p in tiny_lm.named_parameters())


# --- what is refused


def test_settings_out_of_range_are_refused() -> None:
    edits = edits_of(draw(0, 2))
    with pytest.raises(ValueError, match="got 1 edits; expected at least two to merge"):
        ties(edits[:1], density=0.2)
    for density in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"got density={density}; expected a share of entries above 0, at most 1"):
            ties(edits, density=density)
    for drop in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"got drop={drop}; expected a probability from 0 to below 1"):
            dare(edits[0], drop=drop)


def test_changes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EditError, match=r"shapes \(3,\) and \(2,\); expected one shape"):
        ties([Edit((Dense("a", torch.ones(3)),)), Edit((Dense("a", torch.ones(2)),))], density=0.5)
    with pytest.raises(EditError, match=r"got changes of a of shapes \(3,\) and \(2,\); expected one shape"):
        dare(Edit((Dense("a", torch.ones(3)), Dense("a", torch.ones(2)))), drop=0.5)
    site = Site("m[q]", "m.in_proj", 2, 3, part=(0, 2))
    with pytest.raises(EditError, match=r"got a low-rank change at m\[q\], a part of m.in_proj or a convolution"):
        dare(Edit((LowRank(site, torch.ones(2, 1), torch.ones(1, 3)),)), drop=0.5)

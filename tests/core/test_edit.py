"""Edits: a vector space over parameters, whatever the parts are stored as."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.edit import Dense, Edit, Sparse, inner, parameters_of
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from tests.core.zoo import KINDS, LAYOUTS, Zoo, dense_edit, random_change

ZOO = Zoo(dtype=torch.float64)


def make(kinds: list[str], seed: int) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    return Edit(tuple(random_change(ZOO, kind, generator) for kind in kinds), {"base": {"weights": "x"}})


def vector(edit: Edit) -> Tensor:
    """The edit as one vector in parameter space."""
    return torch.cat([value.flatten() for value in dense_edit(ZOO, edit).values()])


def close(edit: Edit, expected: Tensor) -> None:
    torch.testing.assert_close(vector(edit), expected, rtol=1e-9, atol=1e-9)


recipes = st.tuples(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.integers(0, 2**31))


@given(recipes, recipes, st.floats(-3, 3))
def test_algebra_is_that_of_vectors_in_parameter_space(first, second, factor: float) -> None:
    a, b = make(*first), make(*second)
    u, v = vector(a), vector(b)
    close(a + b, u + v)
    close(a - b, u - v)
    close(-a, -u)
    close(a * factor, factor * u)
    close(factor * a, factor * u)
    close(a - a, 0 * u)
    close((a + b) - b, u)


@given(recipes, recipes)
def test_overlap_is_the_cosine_of_the_vectors(first, second) -> None:
    a, b = make(*first), make(*second)
    u, v = vector(a), vector(b)
    assert a.overlap(b) == pytest.approx(float(torch.cosine_similarity(u, v, dim=0)), abs=1e-9)
    assert a.overlap(b) == pytest.approx(b.overlap(a), abs=1e-9)
    assert a.overlap(a) == pytest.approx(1)
    assert a.overlap(-2.0 * a) == pytest.approx(-1)
    assert a.overlap(0.0 * b) == 0


@given(st.sampled_from(KINDS), st.integers(0, 2**31), st.integers(0, 2**31))
def test_norms_are_those_of_what_is_added_in_one_place(kind: str, seed: int, other: int) -> None:
    a, b = make([kind], seed), make([kind], other)
    total = a + b
    if len(total.norms()) == 1:
        (norm,) = total.norms().values()
        assert norm == pytest.approx(float(vector(total).norm()), abs=1e-6)
    (twice,) = (a + a).norms().values()
    assert twice == pytest.approx(2 * float(vector(a).norm()))
    (nothing,) = (a - a).norms().values()
    assert nothing == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_low_rank_change_meets_the_dense_change_of_the_same_parameter(layout: str) -> None:
    generator = torch.Generator().manual_seed(3)
    change = random_change(ZOO, layout, generator)
    weight = dense_edit(ZOO, Edit((change,)))[change.site.weight]
    other = Dense(change.site.weight, torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    assert inner(change, other) == pytest.approx(float((weight * other.values).sum()))
    assert inner(other, change) == pytest.approx(inner(change, other))


def test_sites_that_hold_other_rows_of_one_parameter_are_orthogonal() -> None:
    key, value = (Site(f"p[{part}]", "packed", 4, 3, part=part) for part in ((4, 8), (8, 12)))
    changes = [LowRank(site, torch.ones(4, 1), torch.ones(1, 3)) for site in (key, value)]
    assert Edit((changes[0],)).overlap(Edit((changes[1],))) == 0


def test_low_rank_changes_of_one_site_are_merged_and_the_rest_is_kept() -> None:
    a, b = make(["linear", "dense"], 0), make(["linear", "sparse"], 1)
    total = a + b
    assert [type(change) for change in total.changes] == [LowRank, Dense, Sparse]


def test_a_sum_knows_its_parts_and_the_base_that_they_share() -> None:
    a, b = make(["linear"], 0), make(["dense"], 1)
    total = a + b
    assert total.manifest["base"] == {"weights": "x"}
    assert total.manifest["parts"] == [dict(a.manifest), dict(b.manifest)]
    elsewhere = Edit(b.changes, {"base": {"weights": "y"}})
    assert "base" not in (a + elsewhere).manifest
    assert "base" not in (a + Edit(b.changes)).manifest


def test_parameters_are_named_once_and_include_the_bias_only_when_it_changes() -> None:
    site = LAYOUTS["linear"][1]
    absorbed = LowRank(site, torch.ones(4, 1), torch.ones(1, 4))
    bare = LowRank(site, torch.ones(4, 1), torch.ones(1, 3))
    assert parameters_of(absorbed) == ("linear", "linear_bias")
    assert parameters_of(bare) == ("linear",)
    edit = Edit((absorbed, bare, Dense("linear", torch.zeros(4, 3))))
    assert edit.parameters == ("linear", "linear_bias")


def test_bytes_count_a_shared_tensor_once() -> None:
    right = torch.ones(1, 3)
    changes = [LowRank(Site(name, name, 4, 3), torch.ones(4, 1), right) for name in ("a", "b")]
    assert Edit(tuple(changes)).nbytes == 4 * (4 + 4 + 3)


@pytest.mark.parametrize(
    ("indices", "values"),
    [(torch.tensor([12]), torch.ones(1)), (torch.tensor([-1]), torch.ones(1)), (torch.tensor([0, 1]), torch.ones(3))],
)
def test_a_sparse_change_that_points_outside_is_refused_when_it_is_made(indices: Tensor, values: Tensor) -> None:
    with pytest.raises(ValueError, match=r"got .* for linear of shape \(4, 3\); expected .* 0 to 11"):
        Sparse("linear", (4, 3), indices, values)

"""Criteria of single units are their definitions, and hold at the edges: dead units, constant others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.cell_criteria import (
    deviations,
    lifetime_sparseness,
    medians,
    passing,
    population_share,
    selectivity,
)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), offset=st.sampled_from([0.0, 1e4]))
def test_deviations_are_those_of_numpy(seed: int, offset: float) -> None:
    numpy = pytest.importorskip("numpy")
    generator = torch.Generator().manual_seed(seed)
    concepts = torch.cat([torch.arange(3), torch.arange(3), torch.randint(3, (12,), generator=generator)])
    values = torch.randn(len(concepts), 4, generator=generator, dtype=torch.float64) + offset
    found = deviations(values, concepts, 3)
    for c in range(3):
        own, others = values[concepts == c].numpy(), values[concepts != c].numpy()
        wanted = (numpy.median(own, 0) - others.mean(0)) / others.std(0, ddof=1)
        assert found[:, c].tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-6)


def test_others_that_are_silent_leave_no_bound() -> None:
    concepts = torch.tensor([0, 0, 1, 1, 2, 2])
    only = (concepts == 0).float()
    values = torch.stack([only, torch.zeros(6), 0.3 + torch.zeros(6), -only], 1)
    found = deviations(values, concepts, 3)
    assert found[0, 0] == torch.inf
    assert found[1].tolist() == found[2].tolist() == [0, 0, 0]
    assert found[3, 0] == 0
    assert passing(found).tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_among_ten_concepts_none_can_answer_to_two_by_five_deviations() -> None:
    """What the module says: the second concept is among the others of the first."""
    concepts = torch.arange(100) % 10
    values = (concepts < 2).float()[:, None]
    assert deviations(values, concepts, 10)[0, :2].tolist() == pytest.approx([2.8, 2.8], abs=0.05)
    assert passing(deviations(values, concepts, 10)).tolist() == [[2, 0, 0]]


def test_medians_average_the_middle_two() -> None:
    values = torch.tensor([1.0, 9.0, 2.0, 4.0, 5.0])[:, None]
    assert medians(values, torch.tensor([0, 0, 0, 1, 1]), 2).tolist() == [[2.0, 4.5]]


def test_selectivity_and_sparseness_at_their_ends() -> None:
    concepts = torch.arange(20) % 5
    one, all_alike, single = (concepts == 3).float(), torch.ones(20), torch.eye(20)[7]
    values = torch.stack([one, all_alike, single, torch.zeros(20), -one], 1)
    assert selectivity(values, concepts, 5).tolist() == pytest.approx([1, 0, 1, 0, 0])
    assert lifetime_sparseness(values).tolist() == pytest.approx([16 / 19, 0, 1, 0, 0])
    assert population_share(values) == pytest.approx((4 + 20 + 1) / 100)


def test_sparseness_is_the_published_ratio() -> None:
    rates = torch.rand(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = (1 - rates.mean(0) ** 2 / (rates**2).mean(0)) / (1 - 1 / 30)
    assert torch.allclose(lifetime_sparseness(rates), wanted)
    assert torch.allclose(lifetime_sparseness(5 * rates), wanted)


@pytest.mark.parametrize(
    ("values", "concepts", "count", "error", "message"),
    [
        (torch.rand(4, 2), torch.tensor([0, 0, 2, 2]), 3, ValueError, "got no stimulus of concept 1"),
        (torch.rand(4, 2), torch.tensor([0, 1, 0]), 2, ValueError, r"got values \(4, 2\), concepts \(3,\)"),
        (torch.rand(3, 2), torch.tensor([0, 0, 1]), 2, ValueError, "at least two that are not of a concept"),
        (torch.full((4, 2), torch.nan), torch.tensor([0, 0, 1, 1]), 2, NonFiniteError, "values"),
    ],
)
def test_mistakes_are_named(
    values: torch.Tensor, concepts: torch.Tensor, count: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        deviations(values, concepts, count)


def test_sparseness_needs_two_stimuli() -> None:
    with pytest.raises(ValueError, match="at least two stimuli"):
        lifetime_sparseness(torch.rand(1, 3))

"""Agreement of two cuts: scikit-learn's numbers, chance near zero, and no matter what groups are called."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, v_measure_score

from mnemotrace.localisation.agreement import adjusted_rand, agreement, contingency, matching, v_measure

CUTS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(-1, 4), min_size=n, max_size=n) for _ in range(2)))
)


@settings(max_examples=25)
@given(CUTS)
def test_both_indices_are_those_of_scikit_learn(cuts: tuple[list[int], list[int]]) -> None:
    table = contingency(*map(torch.tensor, cuts))
    assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(*cuts), abs=1e-12)
    assert v_measure(table) == pytest.approx(v_measure_score(*cuts), abs=1e-12)


def test_the_matching_is_the_best_of_all(generator: torch.Generator) -> None:
    benefit = torch.rand(4, 4, generator=generator)
    orders = itertools.permutations(range(4))
    best = max(float(benefit[range(4), list(order)].sum()) for order in orders)
    assert float(sum(benefit[i, j] for i, j in matching(benefit))) == pytest.approx(best)


def test_other_names_for_the_same_groups_change_nothing_and_chance_is_near_zero(generator: torch.Generator) -> None:
    labels = torch.randint(4, (400,), generator=generator)
    found = agreement(torch.tensor([7, 3, 9, 0])[labels], labels, permutations=19, generator=generator)
    assert (found.rand, found.v_measure, found.matched, found.count) == (1.0, pytest.approx(1.0), 1.0, 400)
    assert abs(found.chance[0]) < 0.01
    assert 0.25 < found.chance[2] < 0.35
    assert found.p == pytest.approx(0.05)
    nothing = agreement(torch.randint(4, (400,), generator=generator), labels, permutations=19, generator=generator)
    assert abs(nothing.rand) < 0.02
    assert nothing.p > 0.05


def test_what_no_group_took_is_matched_to_nothing(generator: torch.Generator) -> None:
    groups, labels = torch.tensor([-1, -1, -1, 0, 1]), torch.tensor([2, 2, 2, 0, 1])
    assert agreement(groups, labels, permutations=1, generator=generator).matched == pytest.approx(0.4)
    alone = torch.full_like(labels, -1)
    assert agreement(alone, labels, permutations=1, generator=generator).matched == 0.0


@pytest.mark.parametrize(("first", "second"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_shapes_that_do_not_fit_are_told(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"got groups of shapes .*; expected \(n,\) twice"):
        contingency(torch.zeros(first, dtype=torch.long), torch.zeros(second, dtype=torch.long))

"""Planted sums are found beyond the baselines; what is no sum is not."""

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.algebra import additivity, analogies, mean_difference

PEOPLE, PLACES, D = 8, 5, 40


def grid() -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors of all pairs of a person and a place, person + place, and analogies over rectangles."""
    source = torch.Generator().manual_seed(0)
    first, second = torch.randn(PEOPLE, 1, D, generator=source), torch.randn(1, PLACES, D, generator=source)
    vectors = (first + second + 0.1 * torch.randn(PEOPLE, PLACES, D, generator=source)).flatten(0, 1)
    at = torch.arange(PEOPLE * PLACES).view(PEOPLE, PLACES)
    questions = [
        (at[i, k], at[i, j], at[m, j], at[m, k])
        for i in range(PEOPLE)
        for m in range(PEOPLE)
        if i != m
        for j, k in ((0, 1), (2, 3), (4, 0))
    ]
    return vectors, torch.tensor(questions)


def test_planted_sums_are_found_beyond_every_baseline() -> None:
    found = analogies(*grid())
    assert found.accuracy["a - b + c"] >= 0.95 and found.gain >= 0.3
    assert found.interval[0] <= found.accuracy["a - b + c"] <= found.interval[1]
    assert float((found.rank == 0).double().mean()) == found.accuracy["a - b + c"]
    assert found.kept_in["a - b + c"] >= 0.95  # without b even a + c finds them, unless b may be the answer
    assert found.accuracy["nearest to a + c"] >= 0.8 >= found.kept_in["nearest to a + c"] + 0.2


def test_vectors_that_are_no_sums_are_at_the_baseline() -> None:
    vectors, questions = grid()
    found = analogies(torch.randn(len(vectors), D, generator=torch.Generator().manual_seed(1)), questions)
    assert found.accuracy["a - b + c"] <= 0.1 and abs(found.gain) <= 0.1
    assert found.echo >= 0.9


def test_a_small_analogy_by_hand() -> None:
    """Inputs are left out, ranks count from 0, and what is nearest to c alone is told."""
    vectors = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0.2, 1], [0, 1, 1], [0, 0.1, 1]])
    found = analogies(vectors, torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]]))
    assert found.found.tolist() == [3, 3] and found.rank.tolist() == [0, 1]
    assert found.accuracy["a - b + c"] == 0.5 and found.accuracy["nearest to c"] == 0.5
    assert found.accuracy["nearest to a"] == 0.5 and found.kept_in["a - b + c"] == 0.5 and found.echo == 0


def test_differences_of_means_are_numpys_and_point_to_their_label() -> None:
    x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    found = mean_difference(x, y)
    assert found.shape == (3, 4) and found.dtype == torch.float64
    assert torch.allclose(found[1], (x[1::3].mean(0) - x[y != 1].mean(0)).double(), atol=1e-6)
    two = mean_difference(x, y.clamp_max(1))
    assert torch.allclose(two[0], -two[1])


def test_additivity_is_zero_for_sums_and_large_for_sums_of_others() -> None:
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(20, 50, generator=source), torch.randn(20, 50, generator=source)
    assert float(additivity(a + b, a, b).max()) <= 1e-6
    assert float(additivity(a + b, a, b.roll(1, 0)).min()) >= 0.5
    mean = 10 * torch.ones(50)
    assert float(additivity(a + b + mean, a + mean, b + mean).min()) >= 0.9  # a common mean counts twice


@pytest.mark.parametrize(
    ("vectors", "questions", "message"),
    [
        (torch.ones(4, 3), torch.zeros(2, 3).long(), r"questions \(2, 3\); expected \(n, d\) and \(q, 4\)"),
        (torch.ones(4, 3), torch.zeros(0, 4).long(), r"questions \(0, 4\)"),
        (torch.ones(4, 3), torch.tensor([[0, 1, 2, 4]]), "got place 4 of 4 vectors; expected 0 to 3"),
        (torch.ones(4, 3), torch.tensor([[0, 1, 2, 2]]), "got question 0 whose answer is one of its inputs"),
        (torch.eye(4)[:, :3], torch.tensor([[0, 1, 2, 3]]), "got vector 3 of zeros; expected some length"),
    ],
)
def test_mistakes_in_questions_are_named(vectors: torch.Tensor, questions: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analogies(vectors, questions)


def test_other_mistakes_are_named() -> None:
    x = torch.ones(4, 3)
    with pytest.raises(NonFiniteError, match="in the vectors"):
        analogies(x * float("nan"), torch.tensor([[0, 1, 2, 3]]))
    with pytest.raises(ValueError, match=r"got the label \[1\] only; expected at least two"):
        mean_difference(x, torch.ones(4).long())
    with pytest.raises(ValueError, match=r"got \(4, 3\), \(4, 3\), \(4, 2\); expected three of one shape"):
        additivity(x, x, x[:, :2])
    with pytest.raises(ValueError, match="got a whole of length zero, row 0"):
        additivity(0 * x, x, x)
    with pytest.raises(NonFiniteError, match="in the second parts"):
        additivity(x, x, x * float("inf"))

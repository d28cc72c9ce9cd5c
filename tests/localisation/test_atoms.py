"""Sums of planted atoms are found with their weights; rotated atoms explain less; an oracle agrees."""

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.atoms import sums

pytest.importorskip("scipy")
SOURCE = torch.Generator().manual_seed(0)
ATOMS = torch.randn(40, 60, generator=SOURCE, dtype=torch.float64) * torch.linspace(0.5, 3, 40)[:, None]
WEIGHTS = torch.zeros(4, 40, dtype=torch.float64)
for row in range(4):
    WEIGHTS[row, torch.randperm(40, generator=SOURCE)[:3]] = torch.tensor([2.0, 1.0, 1.5], dtype=torch.float64)
CONCEPTS = WEIGHTS @ ATOMS


def test_greedy_sums_find_planted_atoms_and_their_weights() -> None:
    found = sums(CONCEPTS, ATOMS, k=3)
    assert torch.allclose(found.weights, WEIGHTS, atol=1e-8)
    assert torch.allclose(found.explained, torch.ones(4).double()) and found.held_out is None
    assert float(found.rotated.max()) <= 0.9 and found.rotated.shape == (10, 4)


def test_least_squares_are_the_best_of_all_non_negative_sums() -> None:
    """Karush-Kuhn-Tucker: no atom left out agrees with what is left, those used agree not at all."""
    v = torch.randn(3, 60, generator=SOURCE, dtype=torch.float64)
    found = sums(v, ATOMS)
    agreement = (v - found.weights @ ATOMS) @ ATOMS.T
    assert float(agreement.max()) <= 1e-8 and float(found.weights.min()) >= 0
    assert float(agreement[found.weights > 0].abs().max()) <= 1e-8
    assert bool((sums(v, ATOMS, k=4).explained <= found.explained + 1e-12).all())


def test_held_out_vectors_are_scored_with_the_weights_of_the_first() -> None:
    noise = 0.3 * torch.randn(2, 4, 60, generator=SOURCE, dtype=torch.float64)
    first, second = CONCEPTS + noise[0], CONCEPTS + noise[1]
    found = sums(first, ATOMS, k=3, held_out=second)
    by_hand = 1 - (second - found.weights @ ATOMS).square().sum(1) / second.square().sum(1)
    assert found.held_out is not None and found.ceiling is not None
    assert torch.allclose(found.held_out, by_hand)
    assert torch.allclose(found.ceiling, 1 - (second - first).square().sum(1) / second.square().sum(1))
    assert float((found.held_out - found.rotated.mean(0)).min()) >= 0.2


def test_rotated_atoms_know_neurons_from_directions() -> None:
    """Concepts along a few neurons need few of them; the same concepts turned do not favour neurons."""
    aligned = torch.zeros(5, 40)
    for row in range(5):
        aligned[row, 2 * row : 2 * row + 3] = 1.0
    turn = torch.linalg.qr(torch.randn(40, 40, generator=SOURCE))[0]
    neurons = torch.eye(40)
    gain = [float((found.explained - found.rotated.mean(0)).mean()) for found in
            (sums(aligned, neurons, k=3), sums(aligned @ turn, neurons, k=3))]  # fmt: skip
    assert gain[0] >= 0.5 and abs(gain[1]) <= 0.15


@pytest.mark.parametrize(
    ("concepts", "atoms", "options", "error", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 5), {}, ValueError, r"got concepts \(2, 3\) and atoms \(4, 5\)"),
        (torch.ones(2, 3), torch.ones(4, 3), {"k": 5}, ValueError, "got k=5; expected 1 to 4, the number of atoms"),
        (torch.ones(2, 3), torch.zeros(4, 3), {}, ValueError, "got row 0 of the atoms all zero"),
        (torch.ones(2, 3), torch.ones(4, 3), {"held_out": torch.ones(3, 3)}, ValueError, "got held-out concepts"),
        (torch.ones(2, 3) / 0, torch.ones(4, 3), {}, NonFiniteError, "in the concepts"),
    ],
)
def test_mistakes_are_named(
    concepts: torch.Tensor, atoms: torch.Tensor, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sums(concepts, atoms, **options)

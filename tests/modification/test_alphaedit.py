"""Protected directions do not feel an AlphaEdit, and feel a MEMIT; the thin solve equals the published one."""

import pytest
import torch
from torch import Tensor

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.alphaedit import NullSpace
from mnemotrace.modification.solve import Solver

D, OUT = 40, 12


def _rows(n: int, seed: int = 0) -> Tensor:
    """Rows whose second moment falls over four decades, in a basis of its own."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64))[0]
    scale = torch.logspace(0, -2, D, dtype=torch.float64)
    return (torch.randn(n, D, generator=generator, dtype=torch.float64) * scale) @ basis.T


def _problem(n: int = 5, p: int = 0) -> tuple[mt.Moments, Tensor, Tensor, Tensor]:
    residual = torch.randn(OUT, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    return (
        mt.Moments.of(_rows(2000)),
        residual,
        torch.randn(D, n, generator=generator, dtype=torch.float64),
        torch.randn(D, p, generator=generator, dtype=torch.float64),
    )


def _projector(moments: mt.Moments, energy: float) -> Tensor:
    values, vectors = torch.linalg.eigh(moments.mean())
    values, vectors = values.flip(0), vectors.flip(1)
    kept = next(i for i in range(D + 1) if values[:i].sum() >= energy * values.sum())
    return vectors[:, kept:] @ vectors[:, kept:].T


def _dense(projector: Tensor, residual: Tensor, keys: Tensor, earlier: Tensor, weight: float) -> Tensor:
    """Solve as published: `(P (K K^T + K_p K_p^T) + lambda I) X = P K R^T`, all `d` by `d`."""
    system = projector @ (keys @ keys.T + earlier @ earlier.T) + weight * torch.eye(D, dtype=torch.float64)
    return torch.linalg.solve(system, projector @ keys @ residual.T).T


@pytest.mark.parametrize("energy", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(("n", "p"), [(1, 0), (5, 0), (5, 30), (60, 3)])
def test_the_thin_solve_equals_the_published_dense_one(energy: float, n: int, p: int) -> None:
    moments, residual, keys, earlier = _problem(n, p)
    left, right = NullSpace.of(moments, energy=energy).update(residual, keys, earlier, ridge=0.01)
    wanted = _dense(_projector(moments, energy), residual, keys, earlier, 0.01 * float(moments.mean().trace()))
    assert (left @ right - wanted).norm() <= 1e-10 * wanted.norm()
    assert left.shape == (OUT, n)


def test_without_protection_it_is_ridge_regression_on_the_keys() -> None:
    moments, residual, keys, earlier = _problem()
    left, right = NullSpace.of(moments, energy=0.0).update(residual, keys, earlier, ridge=0.1)
    system = keys @ keys.T + 0.1 * moments.mean().trace() * torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(left @ right, torch.linalg.solve(system, keys @ residual.T).T)


@pytest.mark.parametrize("energy", [0.97, 0.99])
def test_usual_inputs_feel_no_more_than_the_dropped_energy_unless_nothing_is_protected(energy: float) -> None:
    moments, residual, keys, earlier = _problem()
    space = NullSpace.of(moments, energy=energy)
    assert space.dropped <= 1 - energy
    felt: list[float] = []
    for solved in (space, NullSpace.of(moments, energy=0.0)):
        left, right = solved.update(residual, keys, earlier, ridge=1e-6)
        change = left @ right
        bound = float(torch.linalg.matrix_norm(change, 2)) ** 2 * space.dropped * space.scale
        felt.append(float((change @ moments.mean() * change).sum()) / bound)
    assert felt[0] <= 1 + 1e-9
    assert felt[1] > 1


def test_protected_directions_feel_nothing() -> None:
    moments, residual, keys, earlier = _problem()
    space = NullSpace.of(moments, energy=0.9)
    left, right = space.update(residual, keys, earlier, ridge=0.01)
    protected = torch.eye(D, dtype=torch.float64) - space.project(torch.eye(D))
    assert (left @ (right @ protected)).norm() < 1e-12 * (left @ right).norm()
    left, right = Solver.of(moments).update(residual, keys, weight=1.0)
    assert (left @ (right @ protected)).norm() > 1e-3 * (left @ right).norm()


def test_earlier_keys_keep_their_values_and_would_not_otherwise() -> None:
    moments, residual, keys, earlier = _problem(4, 4)
    space = NullSpace.of(moments, energy=0.5)
    moved = [
        float((left @ (right @ earlier)).norm())
        for left, right in (space.update(residual, keys, k, ridge=1e-8) for k in (earlier, earlier[:, :0]))
    ]
    assert moved[0] < 1e-5 * moved[1]


def test_new_values_are_met_when_the_ridge_is_small() -> None:
    moments, residual, keys, earlier = _problem()
    left, right = NullSpace.of(moments, energy=0.9).update(residual, keys, earlier, ridge=1e-10)
    assert (left @ (right @ keys) - residual).norm() < 1e-6 * residual.norm()


@pytest.mark.parametrize("energy", [0.3, 0.999])
def test_the_smaller_of_null_space_and_complement_is_stored_and_projects_alike(energy: float) -> None:
    moments = _problem()[0]
    space = NullSpace.of(moments, energy=energy)
    assert space.vectors.shape[1] == min(space.dimension, D - space.dimension)
    keys = torch.randn(D, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(space.project(keys), _projector(moments, energy) @ keys)


def test_a_space_does_not_depend_on_how_often_or_how_loud_the_data_came() -> None:
    moments = _problem()[0]
    louder = mt.Moments.of(_rows(2000) * 30)
    spaces = [NullSpace.of(m, energy=0.9) for m in (moments, moments + moments, louder)]
    assert len({space.dimension for space in spaces}) == 1
    assert spaces[0] is NullSpace.of(moments, energy=0.9)


def test_bad_input_is_refused() -> None:
    moments = _problem()[0]
    for energy in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"got energy=.*; expected a share in \[0, 1\)"):
            NullSpace.of(moments, energy=energy)
    with pytest.raises(NonFiniteError, match="in the second moment"):
        NullSpace.of(mt.Moments(1, torch.zeros(2), second=torch.full((2, 2), float("nan"))), energy=0.5)

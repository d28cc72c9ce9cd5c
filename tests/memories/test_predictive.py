"""A predictive-coding store learns by local errors, fills gaps, and takes noise off."""

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.predictive import PCStore


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.sign(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def store(rows: torch.Tensor) -> PCStore:
    return PCStore.learn(Patterns(rows), hidden=(32,), passes=70, rate=8e-3)


def test_the_local_rule_is_the_gradient_of_the_energy_at_rest(rows: torch.Tensor) -> None:
    made = PCStore.learn(rows, hidden=(5, 4), passes=1)
    made._hebb(rows)  # pyright: ignore[reportPrivateUsage]
    local = [p.grad for p in made.parameters()]
    layers = made.relax(rows)
    parameters = [p.requires_grad_() for p in made.parameters()]
    energy = torch.stack([0.5 * e.square().sum() for e in made.errors(layers)]).sum() / len(rows)
    for mine, true in zip(local, torch.autograd.grad(energy, parameters), strict=True):
        assert mine is not None and torch.allclose(mine, true, atol=1e-6)


def test_relaxation_lowers_the_energy_and_is_its_gradient_flow(store: PCStore, rows: torch.Tensor) -> None:
    cue = rows + 0.5 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    energies = [sum(float(e.square().sum()) for e in store.errors(store.relax(cue, steps=s))) for s in (0, 1, 5, 20)]
    assert energies == sorted(energies, reverse=True)
    start = [x.clone() for x in store.relax(cue, steps=0)]
    hidden = start[1].requires_grad_()
    energy = sum((0.5 * e.square().sum() for e in store.errors([cue, hidden])), torch.tensor(0.0))
    moved = store.relax(cue, steps=1)[1]
    assert torch.allclose(moved, hidden - 0.1 * torch.autograd.grad(energy, hidden)[0], atol=1e-5)


def test_gaps_are_filled_better_than_by_an_untrained_store(store: PCStore, rows: torch.Tensor) -> None:
    known = torch.rand(rows.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    cue = torch.where(known, rows, 0.0)
    untrained = PCStore.learn(rows, hidden=(32,), passes=1)
    filled, control = (s.recall(cue, known=known, sweeps=30).sign()[~known] for s in (store, untrained))
    right, chance = ((found == rows[~known]).float().mean() for found in (filled, control))
    assert right > 0.95 and chance < 0.75
    assert torch.equal(store.recall(cue, known=known)[known], rows[known])


def test_noise_is_taken_off(store: PCStore, rows: torch.Tensor) -> None:
    cue = rows + 0.7 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(3))
    errors = [float((x - rows).square().mean()) for x in (cue, store.recall(cue), store.recall(cue, sigma=0.7))]
    assert errors[2] < errors[1] < errors[0]
    assert store.energy(rows).mean() < store.energy(cue).mean() / 2


def test_same_seed_same_store_and_a_file_keeps_it(store: PCStore, rows: torch.Tensor) -> None:
    one, two = (PCStore.learn(rows, hidden=(4,), passes=2) for _ in range(2))
    other = PCStore.learn(rows, hidden=(4,), passes=2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one.recall(rows), two.recall(rows)) and not torch.equal(one.recall(rows), other.recall(rows))
    back = PCStore.unpack(store.pack())
    assert torch.equal(back.recall(rows), store.recall(rows)) and back.manifest["passes"] == 70 and back.d == 16


def test_bad_input_is_refused(store: PCStore, rows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"got hidden=\(\), passes=200"):
        PCStore.learn(rows, hidden=())
    with pytest.raises(NonFiniteError, match="the patterns"):
        PCStore.learn(rows / 0)
    with pytest.raises(ValueError, match=r"got sigma=-1, sweeps=100; expected noise from 0"):
        store.recall(rows, sigma=-1)
    with pytest.raises(ValueError, match=r"got cue of shape \(3,\)"):
        store.recall(torch.ones(3))
    with pytest.raises(TypeError, match="boolean"):
        store.recall(rows, known=rows)
    with pytest.raises(ValueError, match=r"got weights \[\(3, 2\)\] for layers of \[3, 4\]"):
        PCStore([torch.ones(3, 2)], [torch.ones(3), torch.ones(4)])
    with pytest.raises(ValueError, match="got relaxation=0; expected at least 1 step"):
        PCStore([torch.ones(3, 2)], [torch.ones(3), torch.ones(2)], relaxation=0)

"""Recall by diffusion: what it reports, partial cues, and a posterior counted from draws."""

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Recall
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.patterns import Patterns
from mnemotrace.retrieval.diffusion import SAMPLERS, recall_by_diffusion, sampled_posterior, wilson

N, D = 10, 12


def _memory() -> DiffusionMemory:
    source = torch.Generator().manual_seed(0)
    return DiffusionMemory(torch.randn(N, D, generator=source, dtype=torch.float64).sign())


def _cues(memory: DiffusionMemory, sigma: float, b: int = 30) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    rows = torch.randint(N, (b,), generator=source)
    clean = memory.patterns.values[rows]
    return clean, clean + sigma * torch.randn(b, D, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_clear_cue_ends_at_its_pattern_with_every_sampler(sampler: str) -> None:
    memory = _memory()
    clean, cue = _cues(memory, 0.2)
    found = recall_by_diffusion(memory, cue, sigma=0.2, sampler=sampler)
    assert torch.allclose(found.state, clean, atol=1e-9)
    steps = 10 if sampler in ("heun", "ddim") else 50
    assert found.steps.tolist() == [steps] * len(cue)
    assert found.evaluations == (19 if sampler == "heun" else steps)
    assert bool(found.converged.all())
    assert found.energy is None
    assert found.posterior is None
    assert found.manifest["sampler"] == sampler
    assert found.manifest["seed"] == 0


def test_a_trajectory_begins_at_the_cue_and_ends_at_the_state() -> None:
    memory = _memory()
    _, cue = _cues(memory, 0.5)
    for sampler in SAMPLERS:
        found = recall_by_diffusion(memory, cue, sigma=0.5, sampler=sampler, steps=6, trajectory=True)
        assert found.trajectory.shape == (7, len(cue), D)
        assert torch.equal(found.trajectory[0], cue)
        assert torch.equal(found.trajectory[-1], found.state)
        without = recall_by_diffusion(memory, cue, sigma=0.5, sampler=sampler, steps=6)
        assert without.trajectory is None
        assert torch.equal(without.state, found.state)
        assert torch.equal(Recall.unpack(found.pack()).state, found.state)


def test_a_partial_cue_completes_and_is_drawn_where_it_leaves_a_choice(generator: torch.Generator) -> None:
    values = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]], dtype=torch.float64)
    memory = DiffusionMemory(Patterns(values, weights=torch.tensor([3.0, 1.0, 5.0], dtype=torch.float64)))
    cue = torch.tensor([[1.0, torch.nan, torch.nan]], dtype=torch.float64).expand(2000, -1)  # not read
    known = torch.tensor([True, False, False])
    found = recall_by_diffusion(memory, cue, sigma=0.1, known=known, sampler="euler_maruyama", generator=generator)
    assert bool((found.state[:, :2] - 1).abs().max() < 1e-6)
    assert float((found.state[:, 2] > 0).double().mean()) == pytest.approx(0.75, abs=0.04)
    sigma = torch.where(known, 0.1, torch.inf).double()
    same = recall_by_diffusion(memory, cue, sigma=sigma, sampler="heun")
    assert torch.equal(same.state, recall_by_diffusion(memory, cue, sigma=0.1, known=known).state)
    assert bool((same.state[:, 2] > 0).any()) and bool((same.state[:, 2] < 0).any())  # the beginning is drawn


def test_what_a_wrong_last_level_leaves_is_not_converged() -> None:
    memory = _memory()
    _, cue = _cues(memory, 2.0)
    assert not bool(recall_by_diffusion(memory, 5 * cue, sigma=0.5, steps=1).converged.all())


def test_the_same_seed_recalls_the_same() -> None:
    memory = _memory()
    _, cue = _cues(memory, 1.5)
    first, second, other = (
        recall_by_diffusion(memory, cue, sigma=1.5, sampler="bridge", generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.state, second.state)
    assert not torch.equal(first.state, other.state)
    assert torch.equal(first.state, recall_by_diffusion(memory, cue, sigma=1.5, sampler="bridge").state)


# --- a posterior from draws


def test_intervals_hold_the_exact_posterior(generator: torch.Generator) -> None:
    memory, sigma = _memory(), 1.4
    exact_in, seen = 0, 0
    for cue in _cues(memory, sigma, 12)[1]:
        found = sampled_posterior(memory, cue, sigma=sigma, radius=0.5, count=300, generator=generator)
        exact = memory.posterior(cue, sigma=sigma)[0]
        assert float(found.share.sum()) == pytest.approx(1)
        assert bool((found.share.diff() <= 0).all())
        assert torch.equal(torch.bincount(found.member) / 300, found.share)
        apart = torch.cdist(found.state, memory.patterns.values)
        assert float(apart.amin(1).max()) < 0.05
        chance = exact[apart.argmin(1)]
        often = chance >= 0.03  # of the others, only those that were drawn too often are here
        seen += int(often.sum())
        exact_in += int(((found.low <= chance) & (chance <= found.high))[often].sum())
    assert seen > 25
    assert exact_in / seen >= 0.85


def test_a_network_without_memories_gives_no_agreement(generator: torch.Generator) -> None:
    """Negative control: nothing stored, so nothing is drawn twice."""
    cue = torch.zeros(D, dtype=torch.float64)
    found = sampled_posterior(lambda x, s: x / (1 + s**2), cue, sigma=3.0, radius=0.05, count=60, generator=generator)
    assert len(found.share) == 60
    assert float(found.high.max()) < 0.1


def test_chains_of_near_ends_are_one_memory_and_the_largest_comes_first() -> None:
    from mnemotrace.retrieval.diffusion import _together

    line = torch.tensor([[9.0], [0.0], [0.9], [1.8], [2.7], [9.5]])
    assert _together(line, 1.0).tolist() == [1, 0, 0, 0, 0, 1]
    assert _together(line[torch.tensor([3, 0, 1, 4, 5, 2])], 1.0).tolist() == [0, 1, 0, 0, 1, 0]
    assert _together(line, 0.1).tolist() == [0, 1, 2, 3, 4, 5]


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson(torch.tensor([0, 5, 10]), 10)
    assert torch.allclose(low, torch.tensor([0.0, 0.2366, 0.7225]).double(), atol=1e-4)
    assert torch.allclose(high, torch.tensor([0.2775, 0.7634, 1.0]).double(), atol=1e-4)


# --- errors


def test_bad_input_is_refused() -> None:
    memory = _memory()
    _, cue = _cues(memory, 0.5, 3)
    with pytest.raises(ValueError, match="got sampler='euler'; expected one of heun, ddim, euler_maruyama, bridge"):
        recall_by_diffusion(memory, cue, sigma=0.5, sampler="euler")
    with pytest.raises(TypeError, match=r"got a cue \(3, 12\) of torch.int64; expected floating-point"):
        recall_by_diffusion(memory, cue.long(), sigma=0.5)
    with pytest.raises(TypeError, match="got a cue a list; expected floating-point"):
        recall_by_diffusion(memory, [1.0], sigma=0.5)
    with pytest.raises(ValueError, match="got largest=0; expected a positive, finite noise"):
        recall_by_diffusion(memory, cue, sigma=torch.inf, largest=0)
    with pytest.raises(ValueError, match="got steps=0"):
        recall_by_diffusion(memory, cue, sigma=0.5, steps=0)
    with pytest.raises(ValueError, match=r"got a mask of shape \(5,\); expected \(12,\)"):
        recall_by_diffusion(memory, cue, sigma=0.5, known=torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="got sigma with values that are not above 0"):
        recall_by_diffusion(memory, cue, sigma=-1.0)
    with pytest.raises(NonFiniteError, match="in the cue"):
        recall_by_diffusion(memory, cue * torch.nan, sigma=0.5)
    partly = torch.arange(D) < 3
    with pytest.raises(NonFiniteError, match="in the known part of the cue"):
        recall_by_diffusion(memory, cue * torch.nan, sigma=0.5, known=partly)
    with pytest.raises(ValueError, match=r"got a cue \(3, 12\) and count=200; expected one cue of shape \(d,\)"):
        sampled_posterior(memory, cue, sigma=0.5, radius=1.0)
    with pytest.raises(ValueError, match="got radius=0 and confidence=0.95"):
        sampled_posterior(memory, cue[0], sigma=0.5, radius=0)
    with pytest.raises(ValueError, match="got sampler='heun'; expected one that draws"):
        sampled_posterior(memory, cue[0], sigma=0.5, radius=1.0, sampler="heun")

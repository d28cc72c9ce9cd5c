"""Recall on maps whose fate is known: rest, cycles with a tail, oscillations that only look like one, no end."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Recall
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.retrieval.dynamics import recall


@dataclass
class Map:
    """A memory that only applies a function, and counts how often and to how many states."""

    function: Callable[[torch.Tensor], torch.Tensor]
    d: int = 2

    def __post_init__(self) -> None:
        self.batches: list[int] = []

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(1)

    def sweep(
        self,
        x: torch.Tensor,
        *,
        known: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        self.batches.append(len(x))
        new = self.function(x)
        return new if known is None else torch.where(known, x, new)


def start(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None].repeat(1, 2)


def test_each_state_stops_on_its_own_and_those_at_rest_are_not_swept_again() -> None:
    memory = Map(lambda x: (x - 1).clamp_min(0))
    found = recall(memory, start(0, 1, 3))
    assert found.steps.tolist() == [1, 2, 4]
    assert memory.batches == [3, 2, 1, 1]
    assert found.evaluations == 4
    assert found.converged.all()
    assert torch.equal(found.state, start(0, 0, 0))
    assert torch.equal(found.energy, memory.energy(found.state))


def test_what_does_not_come_to_rest_is_no_error() -> None:
    found = recall(Map(lambda x: x + 1), start(0, 5), sweeps=7)
    assert not found.converged.any()
    assert found.cycle.tolist() == [0, 0]
    assert found.steps.tolist() == [7, 7]
    assert torch.equal(found.state, start(7, 12))


@given(length=st.integers(2, 9), tail=st.integers(0, 9))
def test_a_cycle_is_found_with_its_length_whatever_leads_into_it(length: int, tail: int) -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        """Count up to `tail`, then go round `tail ... tail + length - 1`."""
        return torch.where(x + 1 == tail + length, torch.full_like(x, tail), x + 1)

    found = recall(Map(step), start(0), sweeps=100)
    assert found.cycle.tolist() == [length]
    assert found.converged.tolist() == [False]
    assert int(found.steps) <= 3 * max(length, tail) + length


def test_states_that_cycle_and_states_that_rest_are_told_apart_in_one_batch() -> None:
    found = recall(Map(lambda x: torch.where(x.abs() > 1, -x, x / 2)), start(2, 1, 0))
    assert found.cycle.tolist() == [2, 0, 0]
    assert found.converged.tolist() == [False, True, True]


def test_an_oscillation_that_dies_out_is_no_cycle() -> None:
    found = recall(Map(lambda x: -0.9 * x), start(1), sweeps=500)
    assert found.converged.all()
    assert not found.cycle.any()
    assert 100 < int(found.steps) < 200


@pytest.mark.parametrize(("tolerance", "steps"), [(0.3, 2), (1e-3, 10), (0.0, 500)])
def test_the_tolerance_is_the_largest_change_of_a_feature(tolerance: float, steps: int) -> None:
    found = recall(Map(lambda x: x / 2), start(1), sweeps=500, tolerance=tolerance)
    assert found.steps.tolist() == [steps]


def test_a_trajectory_goes_from_the_cue_to_the_state() -> None:
    found = recall(Map(lambda x: (x - 1).clamp_min(0)), start(1, 2), trajectory=True)
    assert found.trajectory[:, :, 0].tolist() == [[1, 2], [0, 1], [0, 0], [0, 0]]
    assert torch.equal(found.trajectory[-1], found.state)
    assert recall(Map(lambda x: x), start(1)).trajectory is None


def test_known_features_reach_the_memory_for_those_states_that_still_move() -> None:
    known = torch.tensor([[True, False], [False, True], [False, False]])
    found = recall(Map(lambda x: (x - 1).clamp_min(0)), start(3, 1, 2), known=known)
    assert found.state.tolist() == [[3, 0], [0, 1], [0, 0]]


def test_one_cue_is_a_batch_of_one_and_is_left_alone() -> None:
    cue = torch.ones(2)
    found = recall(Map(lambda x: x / 2), cue)
    assert found.state.shape == (1, 2)
    assert torch.equal(cue, torch.ones(2))
    assert not recall(Map(lambda x: x / 2), cue.requires_grad_(True)).state.requires_grad


def test_a_posterior_is_that_of_the_cue_where_the_memory_has_one() -> None:
    memory = Map(lambda x: x / 2)
    assert recall(memory, start(1)).posterior is None
    memory.posterior = lambda x: torch.cat([x[:, :1], 1 - x[:, :1]], 1)
    assert recall(memory, start(0.25)).posterior.tolist() == [[0.25, 0.75]]


def test_it_is_saved_with_its_manifest(tmp_path) -> None:
    memory = Hopfield(torch.tensor([[1.0, -1, 1, -1]]))
    found = recall(memory, torch.zeros(4), generator=torch.Generator().manual_seed(5), trajectory=True)
    assert found.manifest["memory"] == "hopfield"
    assert found.manifest["seed"] == 5
    again = Recall.unpack(read(write(found.pack(), tmp_path / "x"), "recall"))
    assert torch.equal(again.trajectory, found.trajectory)
    assert again.manifest == found.manifest
    assert again.posterior is None


def test_what_is_no_memory_is_refused_and_a_denoiser_is_shown_the_samplers() -> None:
    class Denoises:
        d = 2

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(
        TypeError, match=r"got a Denoises without energy, sweep; .*with mnemotrace.retrieval.diffusion.recall_by"
    ):
        recall(Denoises(), start(1))
    with pytest.raises(TypeError, match=r"got a Tensor without d, energy, sweep; .* such as mt.Hopfield\(patterns\)"):
        recall(start(1), start(1))


def test_settings_and_cues_that_do_not_fit_are_refused() -> None:
    memory = Map(lambda x: x / 2)
    with pytest.raises(ValueError, match="got sweeps=0, tolerance=1e-06; expected at least 1 sweep"):
        recall(memory, start(1), sweeps=0)
    with pytest.raises(ValueError, match="tolerance=-1; expected .* 0 or more"):
        recall(memory, start(1), tolerance=-1)
    with pytest.raises(ValueError, match="tolerance=nan"):
        recall(memory, start(1), tolerance=float("nan"))
    with pytest.raises(ValueError, match=r"got cue of shape \(1, 3\); expected \(2,\) or \(b, 2\)"):
        recall(memory, torch.ones(1, 3))
    with pytest.raises(NonFiniteError, match="in the cue"):
        recall(memory, start(float("inf")))

"""Networks of other conventions, built exactly from stored patterns, are the denoiser that they were built from."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mnemotrace.adapters.denoisers import from_levels, from_steps
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.retrieval.diffusion import recall_by_diffusion

SHAPE, D, N, B = (1, 3, 4), 12, 7, 6
SCHEDULE = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
SIGMAS = ((1 - SCHEDULE) / SCHEDULE).sqrt()
KINDS = ["epsilon", "sample", "v_prediction"]


def _memory() -> DiffusionMemory:
    return DiffusionMemory(torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def _states() -> Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _network(memory: DiffusionMemory, predicts: str):
    """An exact network of steps: it reads the schedule, where ours must find the step."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert x.shape[1:] == SHAPE
        assert t.shape == (len(x),)
        low = t.floor().long().clamp_max(len(SCHEDULE) - 2)
        logs = SIGMAS.log()
        sigma = (logs[low] + (t - low) * (logs[low + 1] - logs[low])).exp()[:, None]
        alpha = 1 / (1 + sigma**2).sqrt()
        s, rows = sigma * alpha, x.flatten(1)
        clean = memory(rows / alpha, sigma)
        epsilon = (rows - alpha * clean) / s
        found = {"epsilon": epsilon, "sample": clean, "v_prediction": alpha * epsilon - s * clean}[predicts]
        return found.reshape(x.shape)

    return network


@pytest.mark.parametrize("predicts", KINDS)
def test_an_exact_network_of_steps_is_the_denoiser_it_was_built_from(predicts: str) -> None:
    memory, x = _memory(), _states()
    denoiser = from_steps(_network(memory, predicts), SCHEDULE, predicts=predicts, shape=SHAPE)
    for sigma in (0.02, 0.5, 3.0, 100.0):
        assert torch.allclose(denoiser(x, torch.tensor(sigma)), memory(x, sigma), atol=1e-8)
    by_state = torch.linspace(0.1, 5, B, dtype=torch.float64)[:, None]
    assert torch.allclose(denoiser(x, by_state), memory(x, by_state), atol=1e-9)
    same = torch.full((1, D), 0.7, dtype=torch.float64)
    assert torch.allclose(denoiser(x, same), memory(x, 0.7), atol=1e-9)


@pytest.mark.parametrize("predicts", KINDS)
def test_a_mistaken_prediction_is_not_the_denoiser(predicts: str) -> None:
    memory, x = _memory(), _states()
    for other in set(KINDS) - {predicts}:
        denoiser = from_steps(_network(memory, other), SCHEDULE, predicts=predicts, shape=SHAPE)
        assert float((denoiser(x, torch.tensor(0.5)) - memory(x, 0.5)).abs().max()) > 0.1


def test_a_step_of_the_schedule_is_met_exactly() -> None:
    seen = []
    denoiser = from_steps(lambda x, t: (seen.append(t), x)[1], SCHEDULE, predicts="sample")
    for step in (0, 1, 500, 999):
        denoiser(_states(), SIGMAS[step])
        assert torch.allclose(seen[-1], torch.full((B,), float(step), dtype=torch.float64), atol=1e-6)
    denoiser(_states(), SIGMAS[0] / 10)
    assert seen[-1].tolist() == [0.0] * B


def test_networks_that_are_told_sigma_only_change_shape() -> None:
    memory, x = _memory(), _states()

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        assert x.shape[1:] == SHAPE
        assert sigma.shape == (B,)
        return memory(x.flatten(1), sigma[:, None]).reshape(x.shape)

    denoiser = from_levels(network, shape=SHAPE)
    assert torch.allclose(denoiser(x, torch.tensor(0.4)), memory(x, 0.4), atol=1e-12)


def test_recall_through_an_adapter_is_recall() -> None:
    memory = _memory()
    cue = memory.patterns.values[:B] + 0.3 * _states()
    denoiser = from_steps(_network(memory, "v_prediction"), SCHEDULE, predicts="v_prediction", shape=SHAPE)
    found, wanted = (recall_by_diffusion(which, cue, sigma=0.3, smallest=0.02) for which in (denoiser, memory))
    assert torch.allclose(found.state, wanted.state, atol=1e-9)


@pytest.mark.parametrize("wrap", [lambda y: SimpleNamespace(sample=y), lambda y: (y, None), lambda y: y])
def test_outputs_of_all_usual_kinds_are_read(wrap) -> None:
    x = _states()
    assert torch.equal(from_levels(lambda x, s: wrap(2 * x))(x, torch.tensor(1.0)), 2 * x)


def test_float32_stays_float32() -> None:
    denoiser = from_steps(lambda x, t: x * t[:, None], SCHEDULE.float(), predicts="epsilon")
    assert denoiser(_states().float(), torch.tensor(1.0)).dtype == torch.float32


def test_bad_input_is_refused() -> None:
    x = _states()
    for schedule in (SCHEDULE.flip(0), 1 - SCHEDULE * 0, SCHEDULE[:1], SCHEDULE[None]):
        with pytest.raises(ValueError, match="got alphas_cumprod of shape .*; expected a falling sequence"):
            from_steps(lambda x, t: x, schedule, predicts="sample")
    with pytest.raises(ValueError, match="got predicts='noise'; expected 'epsilon', 'sample' or 'v_prediction'"):
        from_steps(lambda x, t: x, SCHEDULE, predicts="noise")
    denoiser = from_steps(lambda x, t: x, SCHEDULE, predicts="sample", shape=SHAPE)
    with pytest.raises(ValueError, match=r"got sigma=200; expected at most 157.*; begin with less noise"):
        denoiser(x, torch.tensor(200.0))
    with pytest.raises(ValueError, match="got noise from 0.1 to 1 within a state; expected one noise a state"):
        denoiser(x, torch.linspace(0.1, 1, D, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"got states with 5 features for shape \(1, 3, 4\); expected 12"):
        denoiser(x[:, :5], torch.tensor(1.0))
    both = from_levels(lambda x, s: torch.cat([x, x], 1), shape=SHAPE)
    with pytest.raises(ValueError, match=r"got \(6, 2, 3, 4\) from the network; expected \(6, 1, 3, 4\)"):
        both(x, torch.tensor(1.0))
    with pytest.raises(ValueError, match="got a NoneType from the network"):
        from_levels(lambda x, s: None)(x, torch.tensor(1.0))

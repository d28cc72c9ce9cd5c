"""Replay follows its probabilities, collapses above gamma 1 and says so, and leaves everything given as it was."""

import math
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError, NumericalWarning, ReplayCollapse
from mnemotrace.formation.night import dream, entropy
from mnemotrace.formation.priority import Episodes
from mnemotrace.formation.replay import Consolidation, consolidate
from mnemotrace.formation.score import fit_denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns

D, N = 4, 8


def _episodes(generator: torch.Generator, n: int = N) -> torch.Tensor:
    return torch.randn(n, D, generator=generator, dtype=torch.float64)


def _cortex(**options: object) -> TrainedDenoiser:
    return TrainedDenoiser(D, widths=(8,), centre=torch.zeros(D).double(), **options)


def _night(episodes: object, cortex: TrainedDenoiser | None = None, **options: object) -> Consolidation:
    usual = {"steps": 20, "batch_size": 16, "generator": torch.Generator().manual_seed(0)}
    return consolidate(episodes, cortex if cortex is not None else _cortex(), **(usual | options))


def test_replay_teaches_the_cortex_the_episodes(generator: torch.Generator) -> None:
    episodes = _episodes(generator, 2)
    x = episodes.repeat(200, 1)
    x = x + 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    errors = [
        float(
            (
                _night(episodes, steps=steps, learning_rate=0.02).cortex.requires_grad_(False)(x, 0.5)
                - episodes.repeat(200, 1)
            )
            .square()
            .mean()
        )
        for steps in (1, 200)
    ]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_probabilities_are_those_of_the_equation(gamma: float, generator: torch.Generator) -> None:
    affect = torch.linspace(-1, 2, N, dtype=torch.float64)
    weights = torch.arange(1.0, N + 1, dtype=torch.float64)
    lived = Episodes(Patterns(_episodes(generator), weights=weights), affect=affect)
    share = weights * affect.abs() ** gamma
    wanted = 0.2 / N + 0.8 * share / share.sum()
    found = _night(lived, priority="affect", gamma=gamma, floor=0.2, steps=300)
    assert torch.allclose(found.probability, wanted, atol=1e-14)
    assert found.probability.sum() == pytest.approx(1, abs=1e-14)
    assert int(found.counts.sum()) == 300 * 16
    assert torch.allclose(found.counts / found.counts.sum(), wanted.float(), atol=0.03)
    assert found.history["entropy"] == pytest.approx([entropy(wanted)] * 100)


def test_recent_surprising_and_own_priorities_rank_as_they_say(generator: torch.Generator) -> None:
    episodes, time = _episodes(generator), torch.arange(N) * 10.0
    recent = _night(Episodes(Patterns(episodes), time=time), priority="recency", floor=0.0, gamma=0.3).probability
    assert bool((recent.diff() > 0).all())
    assert float(recent[0] / recent[-1]) == pytest.approx(71.0**-0.3)
    tagged = Episodes(Patterns(episodes), surprise=torch.arange(1.0, N + 1))
    assert bool((_night(tagged, priority="surprise").probability.diff() > 0).all())
    episodes[0] *= 10  # far off: nothing that an untrained cortex expects
    assert int(_night(episodes, priority="surprise", steps=1, gamma=0.2).probability.argmax()) == 0
    own = _night(episodes, priority=lambda cortex, lived, counts: torch.arange(1.0, N + 1), floor=0.0)
    assert torch.allclose(own.probability, torch.arange(1.0, N + 1).double() / 36)


def test_a_surprise_that_is_learnt_is_replayed_less(generator: torch.Generator) -> None:
    episodes = torch.cat([torch.zeros(6, D), torch.ones(1, D) * 3, -torch.ones(1, D) * 3]).double()
    found = _night(episodes, priority="surprise", steps=400, learning_rate=0.01, gamma=0.5)
    assert found.history["entropy"][-1] > found.history["entropy"][0]


def test_feedback_settles_up_to_gamma_one_and_collapses_above_with_a_warning(generator: torch.Generator) -> None:
    episodes, options = _episodes(generator, 16), {"priority": "count", "steps": 350, "batch_size": 1, "floor": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settled = _night(episodes, gamma=1.0, **options)
    with pytest.warns(ReplayCollapse, match=r"replay has collapsed onto \d\.\d of 16 episodes in effect"):
        lost = _night(episodes, gamma=2.0, **options)
    assert issubclass(ReplayCollapse, NumericalWarning)
    assert settled.history["effective"][-1] > 4 > lost.history["effective"][-1]
    assert lost.history["entropy"][0] == pytest.approx(4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _night(episodes, gamma=2.0, **(options | {"floor": 0.9}))


def test_only_the_core_is_replayed_faithfully(generator: torch.Generator) -> None:
    episodes, core = _episodes(generator, 3) * 3, torch.tensor([True, True, False, False])
    seen: list[torch.Tensor] = []
    cortex = _cortex()
    filled = dream(cortex, 3, like=episodes, known=core, generator=generator)
    assert torch.equal(filled[:, :2], episodes[:, :2])
    assert not torch.isclose(filled[:, 2:], episodes[:, 2:]).any()

    def watch(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows)
        return rows

    found = _night(episodes, cortex, mask=core, recall=watch, steps=150, learning_rate=0.02, batch_size=32)
    assert len(seen) == 150 and found.manifest["core"] == 2
    found.cortex.requires_grad_(False)
    x = episodes.repeat(100, 1)
    cues = x + 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    miss = (found.cortex(cues, 0.5) - x).square().mean(0) / episodes.square().mean(0)
    assert float(miss[:2].mean()) < 0.5 * float(miss[2:].mean())


def test_what_is_filled_in_is_asked_for_given_the_core(generator: torch.Generator) -> None:
    """A network that copies the first feature to the second: only a core that is seen can be copied."""

    class Copying(torch.nn.Module):
        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(x.shape).index_copy(1, torch.tensor([1]), 30 * x[:, :1])

    cortex = TrainedDenoiser(D, network=Copying(), centre=torch.zeros(D).double())
    like, core = _episodes(generator, 50), torch.tensor([True, False, False, False])
    filled = dream(cortex, 50, like=like, known=core, generator=generator)
    assert float(torch.corrcoef(torch.stack([filled[:, 1], like[:, 0]]))[0, 1]) > 0.9


def test_counts_are_looked_up_at_each_step_and_others_at_every_tenth(generator: torch.Generator) -> None:
    episodes, options = _episodes(generator), {"steps": 12, "batch_size": 3, "gamma": 0.5}
    counted = _night(episodes, priority="count", **options).history["entropy"]
    own = _night(episodes, priority=lambda cortex, lived, counts: 1.0 + counts, **options).history["entropy"]
    assert len(set(counted)) == 12
    assert len(set(own[:10])) == 1 and own[10] != own[0]


def test_dreams_of_a_known_gaussian_are_draws_from_it(generator: torch.Generator) -> None:
    """An untrained cortex is the exact denoiser of a Gaussian, so its samples must be normal."""
    cortex = TrainedDenoiser(D, centre=torch.full((D,), 5.0, dtype=torch.float64), spread=2.0)
    dreams = dream(cortex, 4000, generator=generator)
    assert torch.allclose(dreams.mean(0), cortex.centre, atol=0.15)
    assert torch.allclose(dreams.std(0), torch.full((D,), 2.0).double(), rtol=0.12)


def test_interleaving_keeps_an_old_self_that_replay_alone_overwrites(generator: torch.Generator) -> None:
    old, new = torch.zeros(1, D).double() - 2, torch.zeros(1, D).double() + 2
    pair = torch.cat([old, old + 0.1])
    network = TrainedDenoiser(D, widths=(24,), centre=torch.zeros(D).double(), spread=2.0)
    options = {"learning_rate": 0.02, "noise": {"mask": 1.0}}
    before = fit_denoiser(pair, network=network, steps=300, generator=generator, **options)
    drawn = {
        share: _night(torch.cat([new, new + 0.1]), before, interleave=share, steps=300, **options).cortex
        for share in (0.0, 0.5)
    }
    kept = {
        share: float((dream(cortex, 400, generator=generator).mean(1) < -1).double().mean())
        for share, cortex in drawn.items()
    }
    assert kept[0.0] < 0.2 < kept[0.5]
    with pytest.raises(ValueError, match=r"got interleave=0.5 without a cortex; expected an old self"):
        consolidate(pair, interleave=0.5, steps=1, generator=generator)


def test_traces_fade_with_each_replay_and_the_store_given_does_not(generator: torch.Generator) -> None:
    store = Patterns(_episodes(generator))
    store.remove([2])
    found = _night(store, fading=0.05)
    assert torch.allclose(found.hippocampus.weights, 0.95 ** found.counts.double())
    assert bool((store.weights == 1).all())
    assert found.hippocampus.handles.tolist() == store.handles.tolist()
    found.hippocampus.remove([3])
    assert len(store) == N - 1 and found.hippocampus.add(torch.zeros(D)) == [N]
    assert bool((_night(store, fading=0.999, steps=100, batch_size=64).hippocampus.weights > 0).all())


def test_nothing_that_was_given_is_changed_and_the_same_seed_gives_the_same(generator: torch.Generator) -> None:
    episodes, cortex = _episodes(generator), _cortex()
    kept = [parameter.clone() for parameter in cortex.parameters()]
    torch.manual_seed(3)
    one, two = (_night(episodes, cortex, priority="count", interleave=0.25) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(cortex.parameters(), kept, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.cortex.parameters(), two.cortex.parameters(), strict=True))
    assert torch.equal(one.counts, two.counts)
    other = _night(episodes, cortex, priority="count", generator=torch.Generator().manual_seed(1))
    assert not torch.equal(one.counts, other.counts)


def test_a_tensor_a_store_and_a_memory_are_the_same_episodes(generator: torch.Generator) -> None:
    episodes = _episodes(generator)
    given = (episodes, Patterns(episodes), Episodes(Patterns(episodes)), ModernHopfield(episodes, beta=2.0))
    first, *others = (_night(one).cortex.network.layers[0].weight for one in given)
    assert all(torch.equal(first, other) for other in others)


def test_what_the_hippocampus_gives_back_is_what_is_learnt(generator: torch.Generator) -> None:
    found = _night(_episodes(generator), recall=lambda rows: torch.full_like(rows, 7.0), steps=300, learning_rate=0.05)
    with torch.no_grad():
        assert torch.allclose(found.cortex(torch.full((1, D), 7.0).double(), 1.0), torch.tensor(7.0).double(), atol=0.7)


@given(seed=st.integers(0, 2**31))
def test_what_is_saved_is_what_loads(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = _night(_episodes(generator), steps=2, fading=0.1, priority="count", generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        again = Consolidation.unpack(read(write(found.pack(), Path(folder) / "x"), "consolidation"))
    assert again.history == found.history and again.manifest == found.manifest
    assert torch.equal(again.counts, found.counts) and torch.equal(again.probability, found.probability)
    assert torch.equal(again.hippocampus.weights, found.hippocampus.weights)
    x = _episodes(generator)
    with torch.no_grad():
        assert torch.equal(again.cortex(x, 0.4), found.cortex(x, 0.4))


def test_progress_is_told_and_history_is_at_most_a_hundred_points(generator: torch.Generator) -> None:
    seen: list[tuple[int, int | None, str]] = []
    found = _night(_episodes(generator), steps=250, batch_size=1, progress=lambda *call: seen.append(call))
    assert seen[0] == (1, 250, "steps") and len(seen) == 250
    assert len(found.history["steps"]) <= 100 and len(found.history["losses"]) == 100


BAD: list[tuple[dict[str, object], str]] = [
    ({"steps": 0}, r"got steps=0, batch_size=16, learning_rate=0.002; expected at least one step"),
    ({"gamma": -1.0}, r"got gamma=-1.0 and floor=0.1; expected a power of at least 0"),
    ({"floor": 1.5}, "floor=1.5"),
    ({"interleave": 1.0}, r"got interleave=1.0, fading=0.0, batch_size=16; expected shares in \[0, 1\)"),
    ({"interleave": 0.99}, "leave at least one replay a step"),
    ({"fading": 1.0}, "fading=1.0"),
    ({"priority": "fame"}, "got priority='fame'; expected one of uniform, surprise, affect, recency, count"),
    (
        {"priority": "affect"},
        r"got priority by affect for episodes without it; expected Episodes\(patterns, affect=...\)",
    ),
    ({"priority": "recency"}, "got priority by time for episodes without it"),
    ({"priority": lambda cortex, lived, counts: torch.zeros(N)}, r"got priorities of shape \(8,\), from 0; expected"),
    ({"priority": lambda cortex, lived, counts: torch.ones(3)}, r"got priorities of shape \(3,\), from 1"),
    ({"mask": torch.ones(3, dtype=torch.bool)}, r"got a mask of shape \(3,\); expected \(4,\)"),
    ({"cortex": TrainedDenoiser(3)}, "got patterns with 4 features for a denoiser of 3"),
    ({"recall": lambda rows: rows[:, :2]}, r"got recalled episodes of shape \(16, 2\)"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_settings_are_refused(options: dict[str, object], message: str, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=message):
        _night(_episodes(generator), **options)


def test_bad_episodes_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(TypeError, match=r"got a list; expected episodes \(n, d\), a Patterns store"):
        _night([1.0])
    with pytest.raises(ValueError, match=r"got time of shape \(3,\) for 8 episodes; expected one number an episode"):
        Episodes(Patterns(_episodes(generator)), time=torch.ones(3))
    with pytest.raises(NonFiniteError, match="in the tag affect"):
        Episodes(Patterns(_episodes(generator)), affect=torch.full((N,), math.nan))


def test_entropy_is_in_bits() -> None:
    assert entropy(torch.full((8,), 1 / 8)) == pytest.approx(3)
    assert entropy(torch.tensor([1.0, 0.0])) == 0

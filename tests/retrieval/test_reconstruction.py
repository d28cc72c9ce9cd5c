"""Reconstruction draws from the posterior of a memory given its cue, and says of each feature where it comes from."""

from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.extended import Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.mixture import Mixture
from mnemotrace.memories.shapes import Sphere
from mnemotrace.retrieval.reconstruction import Reconstruction, reconstruct
from mnemotrace.retrieval.sampling import euler_maruyama, noise_grid, overwriting

D, CORE, EPISODES = 8, 3, 4
KNOWN = torch.arange(D) < CORE


def _draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _world(generator: torch.Generator) -> tuple[Mixture, torch.Tensor]:
    """Episodes of a semantic memory of two kinds, with the first features kept, and what happened in them."""
    roots = _draw(generator, 2, D, D)
    prior = GaussianMixture(_draw(generator, 2, D), roots @ roots.mT / D + 0.1 * torch.eye(D, dtype=torch.float64))
    kind = torch.randint(2, (EPISODES,), generator=generator)
    noise = torch.einsum("nk,nkd->nd", _draw(generator, EPISODES, D), prior.factors[kind])
    events = prior.means[kind] + noise
    cores = [Core(KNOWN, event[:CORE], prior) for event in events]
    return Mixture([*cores, prior], weights=torch.tensor([0.2] * EPISODES + [0.2])), events


def _gap(samples: torch.Tensor, core: Any) -> tuple[float, float, float]:
    """Mean error in standard deviations, relative error of the covariance, ratio of variances: of the free features."""
    mean, covariance = core.episode.mean[~KNOWN], core.episode.covariance[~KNOWN][:, ~KNOWN]
    free = samples[:, ~KNOWN]
    found, deviation = torch.cov(free.T), covariance.diagonal().sqrt()
    off = ((free.mean(0) - mean) / deviation).square().mean().sqrt()
    return (
        float(off),
        float((found - covariance).norm() / covariance.norm()),
        float((found.diagonal() / covariance.diagonal()).mean()),
    )


def test_the_core_is_exact_and_the_rest_has_the_statistics_of_the_semantic_memory_given_it(
    generator: torch.Generator,
) -> None:
    memory, events = _world(generator)
    found = reconstruct(memory, events[0], known=KNOWN, sigma=0.05, count=1000, generator=generator)
    assert float((found.episode == 0).double().mean()) >= 0.99
    assert float((found.samples[0][:, KNOWN] - events[0][KNOWN]).square().mean().sqrt()) <= 0.005
    mean, covariance, variance = _gap(found.samples[0], memory.parts[0])
    assert mean <= 0.08 and covariance <= 0.15 and 0.85 <= variance <= 1.1


def test_overwriting_known_features_gives_other_statistics_with_the_same_memory(generator: torch.Generator) -> None:
    memory, events = _world(generator)
    cue = events[:1].expand(1000, -1)
    begin = torch.where(KNOWN, cue, 10 * _draw(generator, 1000, D))
    levels = noise_grid(10.0, begin, steps=120, smallest=0.01)
    baseline = overwriting(memory, cue, known=KNOWN, generator=generator)
    samples = euler_maruyama(baseline, begin, levels, generator=generator)
    mean, _, _ = _gap(samples, memory.parts[0])
    assert mean > 0.08


def test_draws_end_in_episodes_as_often_as_these_are_likely(generator: torch.Generator) -> None:
    memory, events = _world(generator)
    cue = (events[:1] + events[1:2]) / 2  # between two episodes
    found = reconstruct(memory, cue, known=KNOWN, sigma=1.0, count=1000, generator=generator)
    share = torch.bincount(found.episode[0], minlength=len(memory)).double() / 1000
    assert found.posterior is not None and float(found.posterior[0].max()) < 0.9
    assert 0.5 * float((share - found.posterior[0]).abs().sum()) <= 0.05


def test_labels_say_which_features_the_episode_fixed_and_the_spread_agrees(generator: torch.Generator) -> None:
    memory, events = _world(generator)
    few = KNOWN & (torch.arange(D) != CORE - 1)  # a feature of the core that the cue does not give
    found = reconstruct(memory, events[:2], known=few, sigma=0.05, count=200, generator=generator)
    assert found.labels() == [["core"] * CORE + ["semantic"] * (D - CORE)] * 2
    assert bool((found.deviation[:, :CORE] < 0.05).all()) and bool((found.deviation[:, CORE:] > 0.05).all())
    assert torch.allclose(found.mean[:, :CORE], events[:2, :CORE], atol=0.05)
    unknown = reconstruct(memory, events[0] + 100, known=KNOWN, sigma=0.05, count=20, generator=generator)
    assert unknown.labels() == [["semantic"] * D]  # nothing like it was ever kept


def _scenes() -> tuple[GaussianMixture, torch.Tensor]:
    """Scenes of (crash, road, night, glass): at a crash there is glass in 0.8 of cases, else hardly ever."""
    scenes = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.0]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    return GaussianMixture(scenes, 0.0025 * torch.eye(4, dtype=torch.float64).expand(4, 4, 4), weights=weights), scenes


def test_broken_glass_is_asserted_as_often_as_crashes_have_it_and_always_flagged(generator: torch.Generator) -> None:
    semantic, scenes = _scenes()
    event, kept = scenes[1], torch.tensor([True, True, True, False])  # a crash without glass; the glass was not kept
    memory = Mixture([Core(kept, event[kept], semantic), semantic], weights=torch.tensor([0.5, 0.5]))
    asked = torch.tensor([True, True, False, False])
    found = reconstruct(memory, event, known=asked, sigma=0.1, count=5000, generator=generator)
    asserted = found.asserted()
    assert float(asserted.share[0, 3]) == pytest.approx(0.8, abs=0.03)
    assert torch.equal(asserted.semantic[0, 3], asserted.share[0, 3])
    assert asserted.semantic[0, :2].tolist() == [0, 0]
    assert torch.equal(found.confabulated(event[None])[0], torch.tensor([0, 0, 0, asserted.share[0, 3]]).double())
    assert found.labels()[0][3] == "semantic"


def test_a_memory_that_kept_the_absence_does_not_confabulate_it(generator: torch.Generator) -> None:
    semantic, scenes = _scenes()
    memory = Mixture([Core(torch.ones(4, dtype=torch.bool), scenes[1], semantic), semantic])
    asked = torch.tensor([True, True, False, False])
    found = reconstruct(memory, scenes[1], known=asked, sigma=0.002, count=300, generator=generator)
    assert float(found.asserted().share[0, 3]) <= 0.01 and found.labels()[0][3] == "core"


def test_what_a_cue_holds_at_unknown_features_is_not_read(generator: torch.Generator) -> None:
    memory, events = _world(generator)
    other = torch.where(KNOWN, events[0], torch.nan)
    first, second = (reconstruct(memory, cue, known=KNOWN, count=5, steps=10) for cue in (events[0], other))
    assert torch.equal(first.samples, second.samples)
    assert not torch.equal(first.samples, reconstruct(memory, events[1], known=KNOWN, count=5, steps=10).samples)


def test_masks_may_differ_between_cues_and_any_denoiser_is_one_part(generator: torch.Generator) -> None:
    prior = _world(generator)[0].parts[-1]
    known = torch.stack([KNOWN, ~KNOWN])
    found = reconstruct(prior.forward, torch.zeros(2, D), known=known, count=4, steps=10)
    assert found.posterior is not None and found.posterior.tolist() == [[1], [1]]
    assert not found.fixed.any() and torch.equal(found.known, known)
    guided = Core(lambda y: y[:, :2], torch.zeros(2, dtype=torch.float64), prior)
    rough = reconstruct(Mixture([guided, prior]), torch.zeros(D).double(), known=KNOWN, count=4, steps=10)
    assert rough.posterior is None and rough.samples.isfinite().all()


def test_a_reconstruction_goes_into_a_file_and_back(generator: torch.Generator) -> None:
    memory, events = _world(generator)
    found = reconstruct(memory, events, known=KNOWN, count=3, steps=5)
    packed = found.pack()
    again = Reconstruction.unpack(Artifact(packed.kind, packed.header, packed.tensors))
    assert packed.kind == "reconstruction" and torch.equal(again.samples, found.samples)
    assert again.labels() == found.labels() and again.manifest == found.manifest
    assert found.manifest["seed"] == 0 and found.manifest["steps"] == 5


def test_mistakes_are_named() -> None:
    point, cue, known = Point(torch.zeros(3)), torch.zeros(3), torch.tensor([True, False, False])
    for call, kind, text in [
        (lambda: reconstruct(point, [0.0], known=known), TypeError, "got a list as cue"),
        (lambda: reconstruct(point, cue, known=None), TypeError, "got known=None; expected a boolean mask"),
        (lambda: reconstruct(point, cue, known=known.float()), TypeError, "got a mask of torch.float32"),
        (lambda: reconstruct(point, cue[:2], known=known[:2]), ValueError, r"got cue of shape \(1, 2\); expected"),
        (lambda: reconstruct(point, cue * torch.nan, known=known), NonFiniteError, "got 1 non-finite of 3 entries"),
        (lambda: reconstruct(point, cue, known=known, count=0), ValueError, "got count=0, steps=120, .*one draw"),
        (lambda: reconstruct(point, cue, known=known, sigma=20.0), ValueError, "sigma=20.0 and largest=10.0; expected"),
        (lambda: reconstruct(Sphere(cue, radius=1.0), cue, known=known), ValueError, "noise that differs"),
        (lambda: reconstruct(point, cue, known=known).confabulated(cue[:2]), ValueError, "got the event of shape"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=text):
            call()

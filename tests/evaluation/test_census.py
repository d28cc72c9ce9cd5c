"""The census sums to one and tells apart what was made to be memorised, spurious and generalised."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation.census import Census, bits, census, denoising_error, funes_index
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.patterns import Patterns

D = 3
FAR = torch.eye(D, dtype=torch.float64) * 10


def _attracted(points: torch.Tensor):
    """Falls to the nearest of some points, whatever the noise."""
    return lambda x, sigma: points[torch.cdist(x, points).argmin(1)]


def _shares(found: Census) -> tuple[float, float, float]:
    return found.memorised.value, found.spurious.value, found.generalised.value


def test_each_class_is_found_where_it_was_made(generator: torch.Generator) -> None:
    # many features: a disturbance hardly ever points at another attractor
    stored = torch.eye(40, dtype=torch.float64)[:3] * 10
    attractor = torch.full((1, 40), -2.0, dtype=torch.float64)
    falling = _attracted(torch.cat([stored, attractor]))
    made = torch.cat([stored[:2], attractor, attractor])
    assert _shares(census(made, stored, again=falling, generator=generator)) == (0.5, 0.5, 0.0)
    # what came once may be one of many
    assert _shares(census(made[:3], stored, again=falling, generator=generator))[1] == 0
    # the same states of a memory that does not come back to any of them, but stays where it was put
    found = census(made, stored, again=lambda x, sigma: x, generator=generator)
    assert _shares(found) == (0.5, 0.0, 0.5)


@given(seed=st.integers(0, 2**31), n=st.integers(2, 8), b=st.integers(1, 30))
def test_shares_sum_to_one_and_lie_in_their_intervals(seed: int, n: int, b: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    stored, made = (torch.randn(k, D, generator=generator) for k in (n, b))
    found = census(made, stored, again=lambda x, sigma: x - 0.9 * sigma * x.sign(), generator=generator, repeats=1)
    assert sum(_shares(found)) == pytest.approx(1, abs=1e-12)
    for rate in (found.memorised, found.spurious, found.generalised):
        assert 0 <= rate.low <= rate.value + 1e-12 and rate.value <= rate.high + 1e-12


def test_memorised_is_a_third_of_the_way_to_the_second_nearest(generator: torch.Generator) -> None:
    stored = torch.tensor([[0.0], [4.0]], dtype=torch.float64)
    made = torch.tensor([[0.0], [0.99], [1.01], [2.0], [3.01]], dtype=torch.float64)
    found = census(made, stored, again=lambda x, sigma: x, generator=generator)
    assert found.memorised.value == pytest.approx(3 / 5)


def test_a_pattern_stored_twice_is_one_pattern(generator: torch.Generator) -> None:
    twice = Patterns(torch.cat([FAR, FAR]))
    assert census(FAR, twice, again=_attracted(FAR), generator=generator).memorised.value == 1
    with pytest.raises(ValueError, match=r"got stored patterns of shape \(1, 3\) and repeats=4; expected at least two"):
        census(FAR, FAR[:1].repeat(4, 1), again=_attracted(FAR), generator=generator)


def test_an_attractor_must_come_back_every_time(generator: torch.Generator) -> None:
    calls: list[int] = []

    def once_lost(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.full_like(x, -8.0) if len(calls) != 4 else x * 0

    made = torch.full((2, D), -8.0, dtype=torch.float64)
    assert census(made, FAR, again=once_lost, repeats=3, generator=generator).spurious.value == 1
    calls.clear()
    assert census(made, FAR, again=once_lost, repeats=4, generator=generator).spurious.value == 0


def test_the_disturbance_is_half_as_large_as_the_distance_to_the_nearest(generator: torch.Generator) -> None:
    seen: list[torch.Tensor] = []

    def again(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append((x - made).norm(dim=1) / torch.cdist(made, FAR).amin(1))
        return x

    made = (FAR[0] - torch.tensor([30.0, 0, 0])).expand(4000, D)
    census(made, FAR, again=again, repeats=1, generator=generator)
    assert float(seen[0].square().mean()) == pytest.approx(0.25, abs=0.01)


def test_fresh_patterns_say_what_is_chance(generator: torch.Generator) -> None:
    fresh = torch.cat([FAR, -FAR])
    found = census(FAR, FAR, again=_attracted(FAR), fresh=fresh, generator=generator)
    assert found.chance is not None and found.chance.value == 0.5
    assert census(FAR, FAR, again=_attracted(FAR), generator=generator).chance is None


@given(seed=st.integers(0, 2**31), chance=st.booleans())
def test_what_is_saved_is_what_loads(seed: int, chance: bool) -> None:
    import tempfile

    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(5, D, generator=generator, dtype=torch.float64)
    found = census(made, FAR, again=lambda x, s: x, fresh=made if chance else None, generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        assert Census.unpack(read(write(found.pack(), Path(folder) / "x"), "census")) == found


def test_the_funes_index_is_zero_for_who_knows_the_world_and_large_for_who_knows_episodes(
    generator: torch.Generator,
) -> None:
    episodes, held_out = (torch.randn(k, D, generator=generator, dtype=torch.float64) for k in (6, 20000))
    bayes = 0.25 / 1.25

    def world(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x / (1 + sigma**2)

    def by_heart(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return lookup(x, episodes, (sigma**-2).reshape(1, 1)).mean

    def index(denoiser) -> float:
        many = episodes.repeat(2000, 1)
        errors = [denoising_error(denoiser, x, sigma=0.5, generator=generator) for x in (many, held_out)]
        return funes_index(train=errors[0], held_out=errors[1], bayes=bayes)

    assert abs(index(world)) < 0.2
    assert index(by_heart) > 1.5
    assert funes_index(train=bayes, held_out=bayes, bayes=bayes) == 0
    assert funes_index(train=0.1, held_out=0.8, bayes=0.2) == pytest.approx(3.5)


def test_more_repeats_average_the_same_error(generator: torch.Generator) -> None:
    clean = torch.zeros(500, D, dtype=torch.float64)
    found = [denoising_error(lambda x, s: x, clean, sigma=2.0, repeats=r, generator=generator) for r in (1, 5)]
    assert found == pytest.approx([4.0, 4.0], rel=0.15)


def test_bits_stand_beside_the_nearest_pattern_and_the_cue() -> None:
    stored = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    truth, cues = stored, torch.tensor([[1.0, 0, 0, 1], [1.0, 1, 1, -1]])
    found = bits(torch.tensor([[0.3, 0.1, 2.0, 1.0], [-1.0, 1, 1, -1]]), truth=truth, cues=cues, stored=stored)
    assert (found.exact.value, found.ceiling.value, found.bits, found.given) == (0.5, 0.5, 0.75, 0.375)
    assert found.exact.low < 0.5 < found.exact.high


def test_bad_input_is_refused(generator: torch.Generator) -> None:
    options = {"again": lambda x, sigma: x, "generator": generator}
    with pytest.raises(ValueError, match=r"and repeats=0; expected at least two different patterns"):
        census(FAR, FAR, repeats=0, **options)
    with pytest.raises(ValueError, match=r"got generated states of shape \(3, 2\); expected \(3,\) or \(b, 3\)"):
        census(FAR[:, :2], FAR, **options)
    with pytest.raises(ValueError, match=r"got fresh patterns of shape"):
        census(FAR, FAR, fresh=FAR[:, :2], **options)
    with pytest.raises(NonFiniteError, match="in the states that came back"):
        census(FAR, FAR, again=lambda x, sigma: x / 0, generator=generator)
    with pytest.raises(ValueError, match="got train=1, held_out=1, bayes=0; expected mean squared errors"):
        funes_index(train=1, held_out=1, bayes=0)
    with pytest.raises(ValueError, match="got train=nan"):
        funes_index(train=math.nan, held_out=1, bayes=1)
    with pytest.raises(ValueError, match="got repeats=0; expected at least 1"):
        denoising_error(lambda x, s: x, FAR, sigma=1.0, repeats=0, generator=generator)
    with pytest.raises(ValueError, match=r"got recalled, truth, cues, stored of shapes \(3, 3\), \(3, 3\), \(2, 3\)"):
        bits(FAR, truth=FAR, cues=FAR[:2], stored=FAR)

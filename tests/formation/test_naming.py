"""A name bound by one example is given to like things, and gives features back; what was never named is refused."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.formation.gain import Constant, Decay, Familiarity
from mnemotrace.formation.naming import Namer, Rule, name_once

RULES = get_args(Rule)
K, D = 4, 60
WORDS = ("face", "motorbike", "cat", 7)


def _kinds() -> torch.Tensor:
    """Four kinds, each with fifteen events-features of its own."""
    patterns = torch.zeros(K, D)
    for k, part in enumerate(torch.arange(D).view(K, -1)):
        patterns[k, part] = 8.0
    return patterns


def _things(count: int, generator: torch.Generator, k: int = K) -> tuple[torch.Tensor, list[str | int]]:
    which = torch.arange(k).repeat(count)
    noise = torch.randint(0, 4, (len(which), D), generator=generator).float()
    return _kinds()[which] + noise, [WORDS[i] for i in which.tolist()]


def _most(rule: Rule) -> int:
    """The published rule learns the opposite from four names on: 0.007 < 3 x 0.003."""
    return 2 if rule == "reference" else K


def _right(namer: Namer, things: tuple[torch.Tensor, list[str | int]]) -> float:
    return sum(a == b for a, b in zip(namer.best(things[0]), things[1], strict=True)) / len(things[1])


def _gain(rule: Rule) -> Constant:
    return Constant(20.0 if rule.startswith("reference") else 1.0)


def _threshold(rule: Rule) -> float:
    return 4.0 if rule == "hebb_logodds" else 0.0


@pytest.mark.parametrize("rule", RULES)
def test_one_example_a_name_is_enough_for_clear_kinds_and_a_wrong_one_misleads(
    rule: Rule, generator: torch.Generator
) -> None:
    once, test = (_things(n, generator, _most(rule)) for n in (1, 30))
    options = {"rule": rule, "gain": _gain(rule), "threshold": _threshold(rule)}
    assert _right(name_once(*once, **options), test) >= 0.95
    swapped = name_once(once[0].roll(1, 0), once[1], **options)
    assert _right(swapped, test) <= 0.05


def test_the_published_rule_learns_the_opposite_from_four_names_on(generator: torch.Generator) -> None:
    gain = Constant(20.0)
    for k, right in ((2, True), (4, False)):
        once, test = (_things(n, generator, k) for n in (1, 30))
        assert (_right(name_once(*once, rule="reference", gain=gain), test) > 1 / k) is right
        assert _right(name_once(*once, rule="reference_fixed", gain=gain), test) >= 0.95


@pytest.mark.parametrize("rule", RULES)
def test_learning_piece_by_piece_is_learning_at_once(rule: Rule, generator: torch.Generator) -> None:
    x, names = _things(5, generator)
    whole, parts = (Namer(rule=rule, gain=Decay(5.0, 2.0), threshold=_threshold(rule)) for _ in range(2))
    whole.learn(x, names)
    for low in range(0, len(names), K):
        parts.learn(x[low : low + K], names[low : low + K])
    assert whole.names == parts.names == WORDS
    assert whole.examples == parts.examples == (5,) * K
    assert torch.allclose(whole.name(x), parts.name(x), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_a_name_calls_features_that_are_given_the_name(rule: Rule, generator: torch.Generator) -> None:
    most = _most(rule)
    x, names = _things(3, generator, most)
    namer = Namer(rule=rule, gain=_gain(rule), threshold=_threshold(rule), unlabelled=x)
    namer.learn(x, names)
    for k, name in enumerate(WORDS[:most]):
        called = namer.recall(name)
        own = torch.arange(D).view(K, -1)[k]
        assert called[own].mean() > called.mean()
    if rule in ("prototype", "ridge"):
        assert torch.allclose(namer.recall("motorbike"), x[1::K].mean(0))


@pytest.mark.parametrize("rule", ["reference", "reference_fixed", "hebb_logodds", "prototype"])
def test_a_background_keeps_a_name_from_winning_because_its_synapses_are_strong(
    rule: Rule, generator: torch.Generator
) -> None:
    """All things come with the same clutter, but the one example of the second name came without."""
    (x, names), test, common = (_cluttered(n, generator) for n in (1, 30, 50))
    x[1, D:] = 0
    options = {"rule": rule, "gain": _gain(rule), "threshold": _threshold(rule)}
    assert _right(name_once(x, names, **options), test) <= 0.6
    assert _right(name_once(x, names, unlabelled=common[0], **options), test) >= 0.95


def _cluttered(count: int, generator: torch.Generator) -> tuple[torch.Tensor, list[str | int]]:
    things, names = _things(count, generator, 2)
    clutter = 8.0 + torch.randint(0, 2, (len(things), 2 * D), generator=generator)
    return torch.cat([things, clutter], 1), names


def test_an_example_of_gain_two_counts_as_two(generator: torch.Generator) -> None:
    x, names = _things(1, generator)
    for rule in ("prototype", "hebb_logodds"):
        options = {"rule": rule, "threshold": _threshold(rule)}
        doubled, twice = Namer(gain=Constant(2.0), **options), Namer(**options)
        doubled.learn(x, names)
        twice.learn(torch.cat([x, x]), names * 2)
        assert torch.allclose(doubled.name(x), twice.name(x))


def test_a_gain_is_told_how_familiar_an_example_is(generator: torch.Generator) -> None:
    told: list[Familiarity] = []
    namer = Namer(gain=lambda seen: told.append(seen) or 1.0)
    x = torch.eye(3)[[0, 0, 1]]
    namer.learn(x, ["a", "b", "a"])
    assert [(seen.examples, seen.count) for seen in told] == [(0, 0), (1, 0), (2, 1)]
    assert [seen.cosine for seen in told] == pytest.approx([0.0, 1.0, 0.0])


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_a_namer_comes_back_from_its_artifact_and_learns_on(rule: Rule, seed: int, count: int) -> None:
    source = torch.Generator().manual_seed(seed)
    (x, names), more = _things(count, source), _things(1, source)
    namer = Namer(rule=rule, gain=Decay(3.0, 2.0), unlabelled=x, threshold=_threshold(rule))
    namer.learn(x, names, generator=source)
    again = Namer.unpack(namer.pack())
    for one in (namer, again):
        one.learn(*more)
    assert again.names == namer.names
    assert torch.equal(again.name(x), namer.name(x))
    assert torch.equal(again.recall(7), namer.recall(7))


def test_names_may_be_a_tensor_and_one_example_a_vector(generator: torch.Generator) -> None:
    namer = Namer()
    namer.learn(torch.eye(3), torch.tensor([4, 5, 6]))
    namer.learn(torch.eye(3)[0], "four")
    assert namer.names == (4, 5, 6, "four")
    assert namer.best(torch.eye(3)[1]) == (5,)
    assert namer.d == 3
    assert "4 names from 4 examples, rule='prototype'" in repr(namer)


def test_new_synapses_are_drawn_from_the_generator_given(generator: torch.Generator) -> None:
    x, names = _things(1, generator)
    alike, drawn, other = (Namer(rule="reference") for _ in range(3))
    alike.learn(x, names)
    drawn.learn(x, names, generator=torch.Generator().manual_seed(1))
    other.learn(x, names, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn.name(x), other.name(x))
    assert not torch.equal(drawn.name(x), alike.name(x))


def test_mistakes_are_refused_and_leave_no_name_behind(generator: torch.Generator) -> None:
    x, names = _things(1, generator)
    with pytest.raises(ValueError, match="got rule='hebb'; expected one of prototype, hebb_logodds"):
        Namer(rule="hebb")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got threshold=2 for rule='ridge'; expected 0"):
        Namer(rule="ridge", threshold=2)
    with pytest.raises(ValueError, match="has learnt nothing; expected at least one name"):
        Namer().name(x)
    with pytest.raises(ValueError, match="got 3 names for 4 rows of features"):
        Namer().learn(x, names[:3])
    with pytest.raises(TypeError, match=r"got a name 1\.5 of type float; expected strings or whole numbers"):
        Namer().learn(x, [1.5, 2, 3, 4])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="got a name True"):
        Namer().learn(x, [True, 2, 3, 4])
    with pytest.raises(ValueError, match="under a reference rule; expected events, whole numbers from 0 to 255"):
        Namer(rule="reference").learn(x - 0.5, names)
    with pytest.raises(ValueError, match="got 'face' more than once; expected one example a name"):
        name_once(x, ["face", "face", "cat", "dog"])
    namer = name_once(x, names)
    with pytest.raises(
        ValueError, match="got the name 'dog'; expected one that was learnt: 'face', 'motorbike', 'cat', 7"
    ):
        namer.recall("dog")
    with pytest.raises(ValueError, match=r"got features of shape \(4, 59\); expected \(60,\)"):
        namer.learn(x[:, 1:], ["new"] * 4)
    with pytest.raises(NonFiniteError, match="in the features"):
        namer.learn(x.log() - x.log(), ["new"] * 4)
    with pytest.raises(ValueError, match=r"got features of shape \(4, 60\); expected \(3,\)"):
        name_once(x, names, unlabelled=torch.eye(3))
    with pytest.raises(TypeError, match="expected a floating-point tensor"):
        namer.name(x.long())
    assert namer.names == WORDS


def test_a_namer_with_a_gain_of_ones_own_is_not_written() -> None:
    with pytest.raises(TypeError, match="expected Constant, Once or Decay"):
        Namer(gain=lambda _: 1.0).pack()

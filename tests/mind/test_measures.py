"""Measures: what is right, wrong, invented and left open adds up; chance and ceiling are what brute force finds."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.mind import measures
from mnemotrace.mind.measures import Answer, Question

EVENT = {"who": "Ana", "place": "sea", "smell": "tar"}


def answer(**asserted: str) -> Answer:
    return Answer(Question({"who": "Ana"}, ("place", "smell", "sound"), EVENT), asserted)


def test_right_wrong_invented_and_open_are_told_apart() -> None:
    told = [answer(place="sea", smell="bread"), answer(sound="bell"), answer()]
    assert measures.accuracy(told) == pytest.approx(1 / 6)
    assert measures.confabulation(told) == pytest.approx(2 / 9)
    assert measures.invention(told) == pytest.approx(1 / 3)
    assert [(a.right, a.wrong, a.invented) for a in told] == [(1, 1, 0), (0, 0, 1), (0, 0, 0)]


def test_who_asserts_nothing_confabulates_nothing_and_is_never_right() -> None:
    assert measures.accuracy([answer()]) == measures.confabulation([answer()]) == measures.invention([answer()]) == 0


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["place", "smell", "sound"]), st.sampled_from(["sea", "tar", "bell"])))
def test_each_attribute_that_is_asked_for_is_counted_once(asserted: dict[str, str]) -> None:
    told = answer(**asserted)
    assert told.right + told.wrong + told.invented == len(asserted)


def test_the_ceiling_is_what_the_best_of_all_strategies_reaches_on_ambiguous_cues() -> None:
    life = [{"who": "Ana", "place": p} for p in ("sea", "sea", "town")] + [{"who": "Ben", "place": "town"}]
    asked = [Question({"who": e["who"]}, ("place",), e) for e in life]
    strategies = [dict(zip(("Ana", "Ben"), said, strict=True)) for said in product(("sea", "town"), repeat=2)]
    scores = [measures.accuracy([Answer(q, {"place": s[q.cue["who"]]}) for q in asked]) for s in strategies]
    assert measures.ceiling(asked, life) == pytest.approx(max(scores)) == 0.75
    dull = [measures.accuracy([Answer(q, {"place": v}) for q in asked]) for v in ("sea", "town")]
    assert measures.chance(asked, life) == pytest.approx(max(dull)) == 0.5


def test_what_was_never_perceived_counts_in_no_ceiling() -> None:
    asked = [Question({"place": "sea"}, ("smell", "sound"), EVENT)]
    assert measures.ceiling(asked, [EVENT]) == 1
    assert math.isnan(measures.accuracy([Answer(Question({"who": "Ana"}, ("sound",), EVENT), {})]))
    assert math.isnan(measures.invention([Answer(Question({"who": "Ana"}, ("place",), EVENT), {})]))


def test_generalising_counts_the_probability_of_being_right_and_nothing_for_silence() -> None:
    laws = [{"a": 0.8, "b": 0.2}, {"a": 0.3, "b": 0.7}]
    assert measures.generalisation(["a", "a"], laws) == pytest.approx(0.55)
    assert measures.generalisation(["a", None], laws) == pytest.approx(0.4)
    assert measures.generalisation(["a", "b"], laws) == measures.bayes_ceiling(laws) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="1 answers and 2 laws; expected one law an answer"):
        measures.generalisation(["a"], laws)


def test_the_commonest_value_is_the_one_lived_most_often() -> None:
    assert measures.commonest([{"a": "x"}, {"a": "y"}, {"a": "y"}, {}], "a") == "y"
    with pytest.raises(ValueError, match="none of which says 'b'"):
        measures.commonest([{"a": "x"}], "b")


def test_a_question_that_asks_nothing_or_what_it_says_is_refused() -> None:
    with pytest.raises(ValueError, match="for nothing with cue"):
        Question({"who": "Ana"}, (), EVENT)
    with pytest.raises(ValueError, match="for who, place with cue.*expected at least one attribute that the cue"):
        Question({"who": "Ana"}, ("who", "place"), EVENT)

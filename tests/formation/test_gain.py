"""Novelty gains fall from what they promise to 1, and are refused where they mean nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.formation.gain import Constant, Decay, Familiarity, Gain, Once, pack_gain, unpack_gain


def _at(count: int, *, examples: int = 0, cosine: float = 0.0) -> Familiarity:
    return Familiarity(examples, count, cosine)


@given(gain=st.floats(1, 1e4), tau=st.floats(0.1, 50), count=st.integers(0, 1000))
def test_a_decaying_gain_follows_the_formula_and_never_rises(gain: float, tau: float, count: int) -> None:
    decay = Decay(gain, tau)
    assert decay(_at(count)) == pytest.approx(1 + (gain - 1) * math.exp(-count / tau))
    assert 1 <= decay(_at(count + 1)) <= decay(_at(count)) <= gain


def test_familiarity_is_of_the_name_or_of_the_example() -> None:
    seen = _at(7, examples=9, cosine=0.25)
    assert Decay(11, 0.25, by="cosine")(seen) == pytest.approx(1 + 10 / math.e)
    assert Decay(11, 7)(seen) == pytest.approx(1 + 10 / math.e)
    assert Decay(11, 0.25, by="cosine")(_at(0, cosine=-1.0)) == 11


def test_the_published_gain_counts_all_names_together() -> None:
    once = Once(65)
    assert [once(_at(0, examples=i)) for i in (0, 4, 5)] == [65, 65, 1]
    assert Constant(3)(_at(100)) == 3


@pytest.mark.parametrize("gain", [Constant(2.0), Once(65.0, 3), Decay(10.0, 0.3, "cosine")])
def test_a_gain_comes_back_from_its_values(gain: Gain) -> None:
    assert unpack_gain(pack_gain(gain)) == gain


def test_what_is_no_gain_is_refused() -> None:
    with pytest.raises(ValueError, match="got gain=-1; expected a finite number from 0"):
        Constant(-1)
    with pytest.raises(ValueError, match="got gain=nan"):
        Once(math.nan)
    with pytest.raises(ValueError, match="got tau=0, by='count'; expected a positive number"):
        Decay(tau=0)
    with pytest.raises(ValueError, match="by='age'"):
        Decay(by="age")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="expected Constant, Once or Decay"):
        pack_gain(lambda _: 1.0)

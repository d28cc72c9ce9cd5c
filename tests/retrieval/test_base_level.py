import math

import pytest

from mnemotrace.retrieval.base_level import base_level


def test_it_is_the_sum_of_powers() -> None:
    found = base_level([[0.0, 4.0], [1.0], []], 5.0)
    assert float(found[0]) == pytest.approx(math.log(5**-0.5 + 1))
    assert float(found[1]) == pytest.approx(math.log(4**-0.5))
    assert float(found[2]) == -math.inf


def test_ten_newest_and_a_closed_form_are_near_the_whole_and_one_is_not() -> None:
    times = [[float(t) for t in range(0, 500, 10)]]
    whole = float(base_level(times, 505.0, newest=None)[0])
    assert float(base_level(times, 505.0, newest=10)[0]) == pytest.approx(whole, abs=0.01)
    assert abs(float(base_level(times, 505.0, newest=1)[0]) - whole) > 0.02
    assert float(base_level(times, 505.0, newest=50)[0]) == pytest.approx(whole, abs=1e-12)


def test_uses_ahead_of_now_do_not_count_and_one_at_now_is_finite() -> None:
    assert float(base_level([[0.0, 9.0]], 4.0)[0]) == pytest.approx(math.log(0.5))
    assert math.isfinite(float(base_level([[4.0]], 4.0)[0]))
    assert float(base_level([[0.0] * 20], 4.0)[0]) == pytest.approx(math.log(20 * 0.5))
    with pytest.raises(ValueError, match="got now=4.0, decay=1"):
        base_level([[0.0]], 4.0, decay=1)

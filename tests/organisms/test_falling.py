"""Things that fall."""

import pytest
import torch

from mnemotrace.organisms.falling import LONG, MUCH_DRAG, NO_AIR, PARACHUTE, PLOTS, TRUTH, VARIABLES, drops


def _share(rows: torch.Tensor, column: int) -> float:
    return float(rows[:, column].double().mean())


def test_in_air_light_things_are_slow_though_mass_does_nothing() -> None:
    rows = drops(20_000)
    heavy = rows[:, 0] == 1
    assert _share(rows[~heavy], 2) > 0.8
    assert _share(rows[heavy], 2) < 0.2
    for drag in (0, 1):  # with equal drag mass tells nothing
        alike = rows[:, 1] == drag
        assert _share(rows[alike & heavy], 2) == pytest.approx(_share(rows[alike & ~heavy], 2), abs=0.05)
        assert _share(rows[alike], 2) == pytest.approx(LONG[drag], abs=0.01)
    assert _share(rows[~heavy], 1) == pytest.approx(MUCH_DRAG[0], abs=0.01)


@pytest.mark.parametrize(("set_to", "long"), [(NO_AIR, LONG[0]), (PARACHUTE, LONG[1])])
def test_with_drag_set_everything_falls_alike_and_mass_is_as_before(set_to: dict[str, str], long: float) -> None:
    rows = drops(20_000, set_to=set_to)
    heavy = rows[:, 0] == 1
    assert _share(rows, 0) == pytest.approx(0.5, abs=0.02)
    assert _share(rows[heavy], 2) == pytest.approx(long, abs=0.01)
    assert _share(rows[~heavy], 2) == pytest.approx(long, abs=0.01)


def test_a_seed_repeats_and_the_truth_is_one_of_the_plots() -> None:
    assert torch.equal(drops(50), drops(50, generator=torch.Generator().manual_seed(0)))
    assert PLOTS["drag decides"] == TRUTH
    assert {name for plot in PLOTS.values() for edge in plot for name in edge} == set(VARIABLES)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 drops; expected at least one"):
        drops(0)
    with pytest.raises(ValueError, match="got drag = 'none'; expected mass of light or heavy; drag of little or much"):
        drops(3, set_to={"drag": "none"})
    with pytest.raises(ValueError, match="got air = 'none'"):
        drops(3, set_to={"air": "none"})

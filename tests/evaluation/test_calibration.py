"""The search finds a better setting than the published one, says what it saw, and keeps its own rules."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.site import Site
from mnemotrace.evaluation.calibration import Calibration, Point, site_groups
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import RCOND, Case, Data, right

LAST = {"last": ["fc3"]}


def search(*cases: Case, **options: object) -> Calibration:
    several = len(cases) > 1
    parts = {
        "target": [c.target for c in cases],
        "reference": [c.reference for c in cases],
        "forget": [c.forget for c in cases],
        "keep": [{"others": c.keep} for c in cases],
    }
    settings = {"score": right, "rcond": RCOND, "budget": 0.02}
    settings |= parts if several else {name: values[0] for name, values in parts.items()}
    return mt.calibrate(cases[0].model, **(settings | options))


@pytest.fixture(scope="module")
def found(threes: Case) -> Calibration:
    return search(threes)


def worst(point: Point, budget: dict[str, float]) -> float:
    return max(point.loss[name] / budget[name] for name in budget)


# ------------------------------------------------------------------------------------------------- what is found


def test_the_choice_beats_the_published_setting(found: Calibration) -> None:
    published, best = found.points[found.published], found.best
    assert (published.sites, published.strength, published.selectivity) == ("all", 1.0, 1.0)
    assert best.within
    assert best.target <= published.target
    assert best.loss["others"] < published.loss["others"]
    assert (best.target, best.loss["others"]) != (published.target, published.loss["others"])
    assert best.target < 0.05 < found.untouched["target"] - 0.8


def test_a_point_is_what_its_edit_does(threes: Case, found: Calibration) -> None:
    for point in (*found.frontier, found.points[found.published]):
        engram = mt.engram(
            threes.model,
            target=threes.target,
            reference=threes.reference,
            selectivity=point.selectivity,
            rcond=RCOND,
        )
        with mt.applied(threes.model, mt.erase(engram.select(list(point.names)), point.strength, limit=None)):
            assert point.target == pytest.approx(float(right(threes.model, threes.forget).mean()))
            assert point.kept["others"] == pytest.approx(float(right(threes.model, threes.keep).mean()))
        assert point.loss["others"] == pytest.approx(found.untouched["kept"]["others"] - point.kept["others"])


def test_the_frontier_is_what_no_other_point_dominates(found: Calibration) -> None:
    def beats(a: Point, b: Point) -> bool:
        mine, theirs = (a.target, worst(a, found.budget)), (b.target, worst(b, found.budget))
        return mine[0] <= theirs[0] and mine[1] <= theirs[1] and mine != theirs

    expected = [p for p in found.points if not any(beats(other, p) for other in found.points)]
    assert sorted(found.points.index(p) for p in found.frontier) == [found.points.index(p) for p in expected]
    assert 1 < len(expected) < len(found.points)
    assert [p.target for p in found.frontier] == sorted(p.target for p in expected)


def test_within_means_that_no_loss_exceeds_its_budget(threes: Case) -> None:
    parts = {name: tuple(x[i::2] for x in threes.keep) for i, name in enumerate(("even", "odd"))}
    budget = {"even": 0.01, "odd": 0.03}
    found = search(threes, keep=parts, budget=budget, selectivities=(1.0,))
    assert {p.within for p in found.points} == {True, False}
    for point in found.points:
        assert point.within == all(point.loss[name] <= budget[name] for name in budget)
    assert found.best.within
    assert found.budget == budget


def test_several_concepts_are_averaged(threes: Case, sevens: Case) -> None:
    setting = {"groups": LAST, "strengths": (1.0, 1.5), "selectivities": (1.0,)}
    both, *each = (search(*c, **setting) for c in ((threes, sevens), (threes,), (sevens,)))
    assert both.manifest["concepts"] == 2
    assert both.untouched["target"] == pytest.approx(sum(one.untouched["target"] for one in each) / 2)
    for point, *parts in zip(both.points, *(one.points for one in each), strict=True):
        assert point.target == pytest.approx(sum(p.target for p in parts) / 2)
        assert point.loss["others"] == pytest.approx(sum(p.loss["others"] for p in parts) / 2)
    assert each[0].points[0].target != each[1].points[0].target


def test_one_reference_and_one_keep_set_may_serve_all_concepts(threes: Case, sevens: Case) -> None:
    setting = {"groups": LAST, "strengths": (1.0,), "selectivities": (1.0,)}
    reference, keep = threes.reference, {"others": threes.keep}
    one = search(threes, sevens, reference=reference, keep=keep, **setting)
    two = search(threes, sevens, reference=[mt.factor(reference)] * 2, keep=[keep] * 2, **setting)
    assert one.points == two.points


def test_what_must_be_kept_may_be_a_callable_of_the_model(threes: Case) -> None:
    setting = {"groups": LAST, "selectivities": (1.0,)}
    by_data = search(threes, **setting)
    by_call = search(threes, keep={"others": lambda model: right(model, threes.keep)}, **setting)
    by_number = search(threes, keep={"others": lambda model: float(right(model, threes.keep).mean())}, **setting)
    assert by_call.points == by_data.points
    for one, other in zip(by_number.points, by_data.points, strict=True):
        assert one.loss["others"] == pytest.approx(other.loss["others"], abs=1e-6)


def test_an_edit_made_from_a_calibration_is_the_one_made_by_hand(threes: Case, found: Calibration) -> None:
    best = found.best
    engram = mt.engram(
        threes.model, target=threes.target, reference=threes.reference, selectivity=best.selectivity, rcond=RCOND
    ).select(list(best.names))
    parts = {"target": threes.target, "reference": threes.reference}
    assert list(found.engram(threes.model, **parts)) == list(best.names)
    made, wanted = found.edit(threes.model, **parts), mt.erase(engram, best.strength)
    torch.testing.assert_close(changes(threes.model, made), changes(threes.model, wanted))
    assert any(change.any() for change in changes(threes.model, made).values())
    before = right(threes.model, threes.forget).mean()
    with mt.applied(threes.model, made):
        assert float(right(threes.model, threes.forget).mean()) == pytest.approx(best.target)
    assert best.target < before


def changes(model: nn.Module, edit: mt.Edit) -> dict[str, Tensor]:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with mt.applied(model, edit):
        return {name: p.detach() - before[name] for name, p in model.named_parameters()}


def test_a_calibration_comes_back_from_a_file(threes: Case, found: Calibration, tmp_path) -> None:
    again = mt.load(mt.save(found, tmp_path / "calibration"))
    assert again.points == found.points
    assert again.best == found.best
    assert again.frontier == found.frontier
    assert (again.untouched, again.budget, again.goal) == (found.untouched, found.budget, found.goal)
    parts = {"target": threes.target, "reference": threes.reference}
    first, second = (changes(threes.model, one.edit(threes.model, **parts)) for one in (found, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_manifest_says_how_it_was_solved(threes: Case) -> None:
    ridge = search(threes, groups=LAST, strengths=(1.0,), selectivities=(1.0,), solver="ridge", rcond=1e-2)
    assert (ridge.manifest["solver"], ridge.manifest["rcond"]) == ("ridge", 1e-2)
    engram = ridge.engram(threes.model, target=threes.target, reference=threes.reference)
    assert (engram.manifest["solver"], engram.manifest["rcond"]) == ("ridge", 1e-2)


# ----------------------------------------------------------------- the rule, on a network whose every point is set


class Dial(nn.Module):
    """One weight of one; erasing at strength s leaves 1 - s, so scores can be any function of s."""

    def __init__(self) -> None:
        super().__init__()
        self.knob = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.knob.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.knob(x)


def strength_of(model: nn.Module) -> float:
    return round(1 - float(model.knob.weight.detach()), 6)


def turned(table: dict[float, tuple[float, float]], *, budget: float = 0.1, **options: object) -> Calibration:
    """Calibrate a dial that leaves `table[strength] = (target, loss of the others)`; untouched, both score one."""
    model = Dial()
    data = mt.collect(model, [torch.ones(4, 1)], dtype=torch.float64)
    nothing = replace(data, moments={"knob": mt.Moments(4, torch.zeros(1).double(), torch.zeros(1, 1).double())})
    table = table | {0.0: (1.0, 0.0)}
    settings = {"strengths": sorted(set(table) - {0.0}), "selectivities": (1.0,), "forget": 0, "keep": {"others": 1}}

    def score(network: nn.Module, which: int) -> Tensor:
        target, lost = table[strength_of(network)]
        return torch.tensor([target if which == 0 else 1 - lost], dtype=torch.float64)

    return mt.calibrate(model, target=data, reference=nothing, score=score, budget=budget, **(settings | options))


RULE = {
    "the nearest to the goal": ({0.5: (0.6, 0.0), 1.0: (0.3, 0.09), 1.5: (0.2, 0.2)}, 1.0),
    "of those that reach it the cheapest": ({0.5: (0.04, 0.02), 1.0: (0.01, 0.09)}, 0.5),
    "of equal losses the more erasing": ({0.5: (0.04, 0.050), 1.0: (0.01, 0.055), 1.5: (0.02, 0.052)}, 1.0),
    "equal is less than a tenth of the budget": ({0.5: (0.04, 0.0140), 1.0: (0.01, 0.0160), 1.5: (0.0, 0.026)}, 1.0),
    "of equal targets the cheaper": ({0.5: (0.01, 0.055), 1.0: (0.01, 0.05)}, 1.0),
    "gains are no better than no loss": ({0.5: (0.04, -0.1), 1.0: (0.01, 0.0)}, 1.0),
    "nothing beyond the budget": ({0.5: (0.9, 0.01), 1.0: (0.0, 0.11)}, 0.5),
}


@pytest.mark.parametrize("claim", RULE)
def test_the_choice_is(claim: str) -> None:
    table, expected = RULE[claim]
    found = turned(table)
    assert {p.strength: (p.target, pytest.approx(p.loss["others"])) for p in found.points} == table
    assert found.best.strength == expected


def test_a_lower_goal_asks_for_more() -> None:
    table = {0.5: (0.3, 0.0), 1.0: (0.1, 0.05)}
    assert turned(table, goal=0.3).best.strength == 0.5
    assert turned(table, goal=0.0).best.strength == 1.0


def test_without_a_point_within_the_budget_nothing_is_chosen() -> None:
    found = turned({0.5: (0.5, 0.2), 1.0: (0.0, 0.3)})
    assert found.chosen is None
    assert len(found.frontier) == 2
    with pytest.raises(ValueError, match=r"got no point within the budget {'others': 0.1}; raise it"):
        _ = found.best
    assert turned({0.5: (0.5, 0.2)}, budget=0.3).best.target == 0.5


def test_depth_is_measured_on_the_edited_network_and_its_goal_steers_the_choice() -> None:
    table = {0.5: (0.01, 0.0), 1.0: (0.0, 0.05)}

    def deep(model: nn.Module) -> float:
        return 1 - 0.8 * strength_of(model)

    shallow, steered = turned(table, depth=deep), turned(table, depth=deep, depth_goal=0.3)
    assert (shallow.best.strength, steered.best.strength) == (0.5, 1.0)
    assert [p.depth for p in shallow.points] == pytest.approx([0.6, 0.2])
    assert (shallow.untouched["depth"], shallow.depth_goal, steered.depth_goal) == (1, None, 0.3)
    assert turned(table).points[0].depth is None


def test_a_series_that_has_become_hopeless_is_stopped() -> None:
    table = {0.5: (0.9, 0.1), 1.0: (0.5, 0.39), 1.5: (0.2, 0.41), 2.0: (0.1, 0.9)}
    told = []
    found = turned(table, strengths=(2.0, 1.0, 1.5, 0.5), progress=lambda *report: told.append(report))
    assert [p.strength for p in found.points] == [0.5, 1.0, 1.5]
    assert told == [(1, 4, "points"), (2, 4, "points"), (3, 4, "points")]
    assert len(turned(table, budget=1.0).points) == 4


def test_the_published_setting_is_known_by_its_label() -> None:
    table = {0.5: (0.9, 0.0), 1.0: (0.5, 0.0)}
    assert turned(table).points[turned(table).published].strength == 1.0
    assert turned({0.5: (0.9, 0.0)}).published is None
    assert turned(table, groups={"mine": ["knob"]}).published is None


# ----------------------------------------------------------------------------------------------- groups of sites


def groups(*names: str) -> dict[str, list[str]]:
    return site_groups({name: Site(name, f"{name}.weight", 2, 2) for name in names})


def test_a_perceptron_is_tried_as_a_whole_and_from_the_end() -> None:
    assert groups("fc1", "fc2", "fc3") == {"all": ["fc1", "fc2", "fc3"], "last 1": ["fc3"], "last 2": ["fc2", "fc3"]}
    assert list(groups("0", "2", "4", "6", "8")) == ["all", "last 1", "last 2", "last 3"]
    assert groups("only") == {"all": ["only"]}


@pytest.mark.parametrize("prefix", ["transformer.h.", "", "h."])
def test_layers_are_tried_by_role_and_by_half(prefix: str) -> None:
    found = groups(*(f"{prefix}{i}.{role}" for i in range(4) for role in ("mlp.c_fc", "mlp.c_proj")))
    roles = [f"mlp.{leaf}{half}" for leaf in ("c_fc", "c_proj") for half in ("", ", early half", ", late half")]
    assert list(found) == ["all", *roles]
    assert found["mlp.c_proj, late half"] == [f"{prefix}{i}.mlp.c_proj" for i in (2, 3)]


def test_only_the_first_index_is_the_layers() -> None:
    found = groups(*(f"layers.{i}.experts.{j}.up" for i in range(2) for j in range(2)))
    assert found["experts.0.up"] == ["layers.0.experts.0.up", "layers.1.experts.0.up"]
    assert found["experts.1.up"] == ["layers.0.experts.1.up", "layers.1.experts.1.up"]


# ---------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no strength": ({"strengths": ()}, "got an empty search; expected at least one group of sites"),
    "no selectivity": ({"selectivities": []}, "got an empty search"),
    "no group": ({"groups": {}}, "got an empty search"),
    "no budget": ({"budget": 0.0}, r"got no positive budget for \['others'\]"),
    "a budget of another name": ({"budget": {"else": 0.1}}, r"got no positive budget for \['others'\]"),
    "nothing to keep": ({"keep": {}}, "got no positive budget for any kept data"),
    "a goal without a look": ({"depth_goal": 0.1}, "got depth_goal=0.1 and no depth"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_search_that_means_nothing_is_refused(why: str) -> None:
    options, message = REFUSED[why]
    with pytest.raises(ValueError, match=message):
        turned({1.0: (0.0, 0.0)}, **options)


def test_lists_of_unequal_length_are_refused(threes: Case, sevens: Case) -> None:
    with pytest.raises(ValueError, match=r"got \[2, 2, 1, 2\] targets, references, forget sets and keep sets"):
        search(threes, sevens, forget=[threes.forget])
    with pytest.raises(ValueError, match=r"got \[0, 0, 0, 0\] targets"):
        search(threes, target=[], reference=[], forget=[], keep=[])
    with pytest.raises(ValueError, match="got keep sets of different names .*; expected the same for all"):
        search(threes, sevens, keep=[{"others": threes.keep}, {"rest": sevens.keep}])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"got scores of mean {value}; expected finite numbers"):
        turned({0.5: (0.5, 0.0), 1.0: (value, 0.0)})
    with pytest.raises(ValueError, match="got scores of mean nan"):
        turned({1.0: (0.5, 0.0)}, keep={"others": lambda _: torch.ones(0)})


# ------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("last_call", [None, 1, 3, 6])
def test_the_model_is_left_bit_exact_also_when_the_score_raises(threes: Case, last_call: int | None) -> None:
    before, calls = bits(threes.model), []

    def stumble(model: nn.Module, data: Data) -> Tensor:
        calls.append(not same_bits(bits(model), before))
        if len(calls) == last_call:
            raise KeyboardInterrupt
        return right(model, data)

    with nullcontext() if last_call is None else pytest.raises(KeyboardInterrupt):
        search(threes, score=stumble, groups=LAST)
    assert calls[-1] == (last_call is None or last_call > 2)
    assert same_bits(bits(threes.model), before)

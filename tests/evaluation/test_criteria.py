"""The four criteria on a class of digits: near one for its engram, near their controls for a random trace."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.criteria import MEANING, Criteria
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import Case, draw, right, seeded

CHANCE = 0.1


def judge(case: Case, trace: mt.Engram | None = None, **options: object) -> Criteria:
    settings = {"score": right, "target": case.forget, "control": case.keep, "chance": CHANCE} | options
    return mt.criteria(case.model, trace or case.engram, **settings)


@pytest.fixture(scope="module")
def found(threes: Case) -> Criteria:
    return judge(threes)


def test_an_engram_at_the_published_setting_meets_all_four_criteria(found: Criteria) -> None:
    assert list(found) == list(MEANING)
    for name in ("necessity", "sufficiency", "reactivation", "specificity"):
        assert found[name].value > 0.9
        assert found[name].meaning == MEANING[name]


def test_random_traces_meet_none_of_them(found: Criteria) -> None:
    assert abs(found["reactivation"].control) < 0.1
    for name in ("necessity", "specificity", "sufficiency"):
        assert found[name].control < 0.35
        assert found[name].interval[0] > found[name].control_interval[1] + 0.4


def test_a_random_trace_in_the_engrams_place_scores_as_random_traces_do(threes: Case, found: Criteria) -> None:
    scored = [judge(threes, random_trace(threes.engram, seeded(seed)), generator=seeded(seed)) for seed in (0, 1)]
    for one in scored:
        for name in ("necessity", "specificity", "reactivation"):
            assert abs(one[name].value - one[name].control) < 0.3
            assert one[name].value < found[name].interval[0] - 0.5


def test_every_value_is_inside_its_interval(found: Criteria) -> None:
    for one in found.values():
        assert one.interval[0] <= one.value <= one.interval[1]
        assert one.control_interval[0] <= one.control <= one.control_interval[1]
        assert one.control_interval[0] < one.control_interval[1]


def test_behaviour_is_the_mean_score_under_each_edit(threes: Case, found: Criteria) -> None:
    edits = {
        "erased": mt.erase(threes.engram),
        "null": mt.null(threes.model, threes.engram),
        "alone": mt.null(threes.model, threes.engram) + mt.inject(threes.engram),
    }
    for side, data in {"target": threes.forget, "control": threes.keep}.items():
        assert found.behaviour[side]["untouched"] == pytest.approx(float(right(threes.model, data).mean()))
        for name, edit in edits.items():
            with mt.applied(threes.model, edit):
                assert found.behaviour[side][name] == pytest.approx(float(right(threes.model, data).mean()))
        assert set(found.behaviour[side]) == {"untouched", *edits, "control_erased", "control_alone"}


def test_criteria_are_behaviour_in_units_of_the_untouched_network_above_chance(found: Criteria) -> None:
    def kept(side: str, name: str) -> float:
        by = found.behaviour[side]
        return (by[name] - CHANCE) / (by["untouched"] - CHANCE)

    for edit, read in (("", lambda one: one.value), ("control_", lambda one: one.control)):
        assert read(found["necessity"]) == pytest.approx(1 - kept("target", f"{edit}erased"))
        assert read(found["sufficiency"]) == pytest.approx(kept("target", f"{edit}alone"))
        lost = kept("control", f"{edit}erased") - kept("target", f"{edit}erased")
        assert read(found["specificity"]) == pytest.approx(lost)


def test_chance_counts_as_nothing_recalled(threes: Case, found: Criteria) -> None:
    def guessed(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        return 0.5 + right(model, data) / 2

    raw = judge(threes, score=guessed, chance=0.0)
    corrected = judge(threes, score=guessed, chance=0.5 + CHANCE / 2)
    for name, one in corrected.items():
        assert one.value == pytest.approx(found[name].value)
    assert raw["necessity"].value < 0.6


def test_the_null_network_is_silent_at_the_sites_of_the_engram(threes: Case) -> None:
    def silence(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        return 2 - (model(data[0]).abs().amax(1) > 0).double().detach()

    heard = judge(threes, score=silence, chance=0.0, draws=1)
    for side in ("target", "control"):
        assert heard.behaviour[side]["null"] == 2
        assert heard.behaviour[side]["untouched"] == 1
    last = threes.engram.select(["fc3"])
    norms: list[dict[str, float]] = []

    def weigh(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        norms.append({name: float(p.detach().norm()) for name, p in model.named_parameters()})
        return right(model, data)

    judge(threes, last, score=weigh, draws=1)
    assert [weights["fc3.weight"] for weights in norms].count(0) == 2
    assert all(weights["fc1.weight"] == norms[0]["fc1.weight"] for weights in norms)


def test_strength_is_that_of_erasing_and_injecting(threes: Case) -> None:
    weak = judge(threes, strength=0.2, draws=1)
    assert weak.manifest["strength"] == 0.2
    assert weak["necessity"].value < 0.5
    with mt.applied(threes.model, mt.erase(threes.engram, 0.2)):
        assert weak.behaviour["target"]["erased"] == pytest.approx(float(right(threes.model, threes.forget).mean()))


def test_the_same_generator_gives_the_same_numbers(threes: Case, found: Criteria) -> None:
    assert judge(threes, generator=seeded(0)).criteria == found.criteria
    other = judge(threes, generator=seeded(1))
    assert other["necessity"].value == found["necessity"].value
    assert other["necessity"].control != found["necessity"].control


def test_criteria_come_back_from_a_file(found: Criteria, tmp_path) -> None:
    again = mt.load(mt.save(found, tmp_path / "criteria"))
    assert again.criteria == found.criteria
    assert again.behaviour == found.behaviour
    assert again.sites == found.sites
    assert (again.chance, again.draws, len(again)) == (CHANCE, 5, 4)
    assert again.manifest["base"] == found.manifest["base"]
    assert Criteria.unpack(found.pack())["necessity"] == found["necessity"]


def test_a_memory_of_few_examples_has_finite_intervals_and_can_be_saved(threes: Case, tmp_path) -> None:
    # One of three right answers: many resamples hold none, and nothing can be lost in them.
    wrong = right(threes.model, threes.keep) == 0
    few = tuple(torch.cat([good[:1], bad[wrong][:2]]) for good, bad in zip(threes.forget, threes.keep, strict=True))
    found = judge(threes, target=few, chance=0.0, draws=1)
    assert found.behaviour["target"]["untouched"] == pytest.approx(1 / 3)
    assert all(torch.tensor([*one.interval, *one.control_interval]).isfinite().all() for one in found.values())
    mt.save(found, tmp_path / "criteria")


# ----------------------------------------------------------------------------------------------------- the model


def test_the_model_is_left_bit_exact(threes: Case) -> None:
    before, flags = bits(threes.model), [module.training for module in threes.model.modules()]
    judge(threes, draws=1)
    assert same_bits(bits(threes.model), before)
    assert [module.training for module in threes.model.modules()] == flags
    assert not threes.model.fc1._forward_pre_hooks
    assert not threes.model._forward_pre_hooks


@pytest.mark.parametrize("call", range(13))
def test_the_model_is_left_bit_exact_when_the_score_raises(threes: Case, call: int) -> None:
    # Untouched, erased, alone, null, a random trace erased and alone, each for two sides; then reactivation.
    before, calls = bits(threes.model), []

    def stumble(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(not same_bits(bits(model), before))
        if len(calls) > call:
            raise KeyboardInterrupt
        return right(model, data)

    with pytest.raises(KeyboardInterrupt):
        judge(threes, score=stumble, draws=1)
    assert calls[-1] == (2 <= call < 12)
    assert same_bits(bits(threes.model), before)
    assert not threes.model.fc1._forward_pre_hooks


def test_the_score_is_called_as_often_as_promised_and_progress_told(threes: Case) -> None:
    calls, told = [], []

    def counted(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(data is threes.forget)
        return right(model, data)

    judge(threes, score=counted, draws=3, progress=lambda *report: told.append(report))
    assert (calls.count(True), calls.count(False)) == (4 + 2 * 3 + 1 + 3, 4 + 2 * 3)
    assert [report[0] for report in told] == list(range(1, 21))
    assert {report[1:] for report in told} == {(20, "scores")}


# ---------------------------------------------------------------------------------------------- what is refused

SPOILT: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a column": (lambda s: s[:, None], r"got scores of shape \(43, 1\) for target; expected \(n,\)"),
    "one number": (lambda s: s.mean(), r"got scores of shape \(\) for target"),
    "none": (lambda s: s[:0], r"got scores of shape \(0,\) for target"),
    "not a number": (lambda s: s / 0, r"got non-finite scores of target \(untouched\)"),
    "below chance": (lambda s: s * 0, r"got a target score of 0.000 before any edit, at or below chance \(0.1\)"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_scores_that_cannot_be_judged_are_refused(threes: Case, spoil: str) -> None:
    change, message = SPOILT[spoil]
    with pytest.raises(ValueError, match=message):
        judge(threes, score=lambda model, data: change(right(model, data)))


def test_scores_that_break_under_an_edit_are_refused_and_the_edit_is_named(threes: Case) -> None:
    before = bits(threes.model)

    def breaks(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        scores = right(model, data)
        return scores if same_bits(bits(model), before) else scores.log()

    with pytest.raises(ValueError, match=r"got non-finite scores of target \(erased\).*bound the score"):
        judge(threes, score=breaks)
    assert same_bits(bits(threes.model), before)


def test_control_data_that_the_network_does_not_know_are_refused(threes: Case) -> None:
    strangers = draw(20, 64), torch.full((20,), 3)
    with pytest.raises(ValueError, match="got a control score of .*expected a memory that the network has"):
        judge(threes, control=(strangers[0], strangers[1] + 20))


def test_a_judgement_without_random_traces_is_refused(threes: Case) -> None:
    with pytest.raises(ValueError, match="got draws=0; expected at least one random trace"):
        judge(threes, draws=0)

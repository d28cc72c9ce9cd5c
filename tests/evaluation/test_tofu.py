"""The measures of TOFU against values by hand, scipy and scikit-learn."""

import math
import zlib
from statistics import harmonic_mean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.adapters.answers import Reading
from mnemotrace.adapters.formats import Question, questions_from
from mnemotrace.evaluation.tofu import (
    Interview,
    attacks,
    extraction_strength,
    forget_quality,
    interview,
    model_utility,
    privacy_leakage,
    rouge_recall,
)
from tests.adapters.words import word_tokenizer

pytest.importorskip("sklearn")

AUTHOR = Question("Who wrote it?", "It was Ada Marsh", "Ada Marsh wrote it", ("Hugo Holt wrote it", "Zora Gill did"))
WORLD = Question("Where is it?", "Rome", None, ("Paris", "Oslo", "Bern"))


def reading(chances: list[float], right: list[bool] | None = None, standing: list[float] | None = None) -> Reading:
    ids = torch.arange(len(chances))
    predicted = torch.where(torch.tensor(right or [True] * len(chances)), ids, ids + 1)
    logs = torch.tensor(chances, dtype=torch.float64).log()
    return Reading(ids, predicted, logs, torch.tensor(standing or [0.0] * len(chances), dtype=torch.float64))


RECORDED = Interview(
    (AUTHOR, WORLD),
    right=(reading([0.5, 0.5, 0.9, 0.1], [True, False, True, True], [1.0, -2.0, 0.5, -1.0]), reading([0.25], [False])),
    paraphrased=(reading([0.4, 0.9]), reading([0.25], [False])),
    perturbed=((reading([0.2, 0.2]), reading([0.8, 0.05])), (reading([0.5]), reading([0.125]), reading([0.5]))),
    said=("I think that it was Ada, yes.", "Oslo"),
)


def test_a_recorded_interview_has_the_values_by_hand() -> None:
    right = [(0.5 * 0.5 * 0.9 * 0.1) ** 0.25, 0.25]
    assert RECORDED.probability.tolist() == pytest.approx(right)
    wrong = [math.sqrt(0.04), math.sqrt(0.04)], [0.5, 0.125, 0.5]
    assert RECORDED.choice.tolist() == pytest.approx([right[0] / (right[0] + sum(wrong[0])), 0.25 / 1.375])
    ratios = [0.2 / 0.6, (0.5 * 0.125 * 0.5) ** (1 / 3) / 0.25]
    assert RECORDED.truth_ratio.tolist() == pytest.approx(ratios)
    assert RECORDED.memorised.tolist() == [0.75, 0]
    assert RECORDED.extraction().tolist() == [0.5, 0]
    assert RECORDED.extraction(compatible=True).tolist() == [0.5, 1]
    assert RECORDED.recall.tolist() == [0.75, 0]
    sizes = [len(zlib.compress(question.answer.encode())) for question in (AUTHOR, WORLD)]
    found = {name: scores.tolist() for name, scores in RECORDED.familiarity().items()}
    losses = [-math.log(p) for p in right]
    assert found["loss"] == pytest.approx([-loss for loss in losses])
    assert found["zlib"] == pytest.approx([-loss / size for loss, size in zip(losses, sizes, strict=True)])
    assert found["min_k"] == pytest.approx([math.log(0.1), math.log(0.25)])  # 40 % of four tokens: the least one
    assert found["min_k++"] == [-2, 0]
    measures = RECORDED.measures()
    assert measures["forgotten"].value == pytest.approx((ratios[0] + 1 / ratios[1]) / 2)
    assert measures["truthful"].value == pytest.approx((1 - ratios[0] + 0) / 2)
    assert measures["probability"].value == pytest.approx(sum(right) / 2)
    assert (measures["recall"].value, measures["recall"].n, measures["recall"].column) == (0.375, 2, "free")
    assert measures["extraction"].interval == (0, 0.5)


def test_min_k_takes_two_fifths_of_the_tokens() -> None:
    five = Interview((WORLD,), (reading([0.5, 0.1, 0.9, 0.2, 0.3]),), (), ((),), ("",))
    assert float(five.familiarity()["min_k"][0]) == pytest.approx((math.log(0.1) + math.log(0.2)) / 2)


# ---------------------------------------------------------------------------------------------- extraction strength


@pytest.mark.parametrize(
    ("predicted", "strength", "compatible"),
    [
        ([True, True, True, True], 1, 1),
        ([False, True, True, True], 0.75, 0.75),
        ([True, False, True, True], 0.5, 0.5),
        ([True, True, False, True], 0.25, 0.25),
        ([True, True, True, False], 0, 0.25),
        ([False, False, False, False], 0, 0.25),
        ([False], 0, 1),
    ],
)
def test_extraction_strength_has_its_floor(predicted: list[bool], strength: float, compatible: float) -> None:
    assert extraction_strength(torch.tensor(predicted)) == strength
    assert extraction_strength(torch.tensor(predicted), compatible=True) == compatible


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_extraction_strength_is_that_of_a_search_for_the_shortest_prefix(predicted: list[bool]) -> None:
    size = len(predicted)
    shortest = next(k for k in range(size + 1) if all(predicted[k:]))
    assert extraction_strength(torch.tensor(predicted)) == 1 - shortest / size
    reference = next((k for k in range(size) if all(predicted[k:])), size - 1)  # its loop ends before the empty rest
    assert extraction_strength(torch.tensor(predicted), compatible=True) == 1 - reference / size


# ---------------------------------------------------------------------------------------- against a gold network


def test_forget_quality_is_the_test_of_scipy() -> None:
    from scipy.stats import ks_2samp

    generator = torch.Generator().manual_seed(0)
    mine, gold = torch.rand(60, generator=generator), 0.3 + torch.rand(50, generator=generator)
    found = forget_quality(mine, gold=gold)
    expected = ks_2samp(mine.double().numpy(), gold.double().numpy())
    assert (found.p, found.statistic) == (expected.pvalue, expected.statistic)
    assert found.log10 == pytest.approx(math.log10(expected.pvalue))
    assert forget_quality(mine, gold=mine).p == 1


def test_forget_quality_of_ratios_without_overlap_is_the_published_floor() -> None:
    """400 against 400 without overlap: 2 / C(800, 400), the 1.06e-239 that published tables end at."""
    found = forget_quality(torch.rand(400), gold=2 + torch.rand(400))
    assert found.p == pytest.approx(1.06e-239, rel=0.01)
    assert found.log10 == pytest.approx(math.log10(2 / math.comb(800, 400)), abs=1e-6)


def test_forget_quality_has_a_logarithm_where_the_probability_underflows() -> None:
    found = forget_quality(torch.rand(2000), gold=2 + torch.rand(2000))
    assert found.p == 0 and -1000 < found.log10 < -800
    same = [forget_quality(torch.rand(n), gold=2 + torch.rand(n)).log10 for n in (300, 2000)]
    assert same[0] > same[1]


def test_forget_quality_needs_a_gold() -> None:
    for gold in (None, torch.tensor([])):
        with pytest.raises(
            ValueError, match="expected those of the unlearned network and, as gold, those of a network"
        ):
            forget_quality(torch.rand(3), gold=gold)
    with pytest.raises(ValueError, match="got a truth ratio that is not finite"):
        forget_quality(torch.tensor([math.nan]), gold=torch.rand(3))


def test_model_utility_is_the_harmonic_mean_of_nine() -> None:
    truthful = float((1 - RECORDED.truth_ratio).clamp_min(0).mean())
    numbers = [float(RECORDED.recall.mean()), truthful, float(RECORDED.probability.mean())]
    choice = float(RECORDED.choice.mean())
    expected = harmonic_mean([*numbers, numbers[0], truthful, choice, numbers[0], truthful, choice])
    assert model_utility(retain=RECORDED, authors=RECORDED, world=RECORDED) == pytest.approx(expected)
    mute = Interview(RECORDED.questions, RECORDED.right, RECORDED.paraphrased, RECORDED.perturbed, ("", ""))
    assert model_utility(retain=mute, authors=RECORDED, world=RECORDED) == 0


def test_wrong_answers_are_needed_for_what_compares_with_them() -> None:
    plain = Interview((WORLD,), (reading([0.5]),), (reading([0.5]),), ((),), ("Rome",))
    for call in (lambda: plain.truth_ratio, lambda: plain.choice):
        with pytest.raises(ValueError, match="got a question without wrong answers; expected some beside each"):
            call()
    assert set(plain.measures()) == {"probability", "recall", "memorised", "extraction"}


# ------------------------------------------------------------------------------------------------ membership attacks


def _answered(chances: list[float]) -> Interview:
    readings = tuple(reading([chance, chance]) for chance in chances)
    return Interview((WORLD,) * len(chances), readings, readings, ((),) * len(chances), ("",) * len(chances))


def test_an_attack_is_the_share_of_pairs_in_which_the_forgotten_is_more_familiar() -> None:
    forgotten, unseen = [0.9, 0.5, 0.3], [0.5, 0.2]
    pairs = [(a > b) + 0.5 * (a == b) for a in forgotten for b in unseen]
    found = attacks(_answered(forgotten), _answered(unseen))
    assert set(found) == {"loss", "zlib", "min_k", "min_k++"}
    assert found["loss"] == found["zlib"] == found["min_k"] == pytest.approx(sum(pairs) / len(pairs))
    assert found["min_k++"] == 0.5  # all stand alike here
    assert attacks(_answered([0.9]), _answered([0.1]))["loss"] == 1


def test_privacy_leakage_is_nothing_as_in_the_gold_network() -> None:
    assert privacy_leakage(0.6, gold=0.6) == 0
    assert privacy_leakage(1.0, gold=0.5) == -100
    assert privacy_leakage(0.25, gold=0.5) == pytest.approx(50)
    with pytest.raises(ValueError, match="got a gold network with an AUC of 1; expected less"):
        privacy_leakage(0.5, gold=1.0)


# -------------------------------------------------------------------------------------------------------------- text


def test_the_recall_of_words_in_order() -> None:
    assert rouge_recall("the cat sat on the mat", "the mat sat") == pytest.approx(2 / 3)
    assert rouge_recall("Police killed the gunman.", "police KILL the gunman") == pytest.approx(3 / 4)
    assert rouge_recall("", "a b") == 0 == rouge_recall("a b", "...")


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_the_recall_is_that_of_the_longest_of_all_subsequences(text: list[str], wanted: list[str]) -> None:
    from itertools import combinations

    def within(part: tuple[str, ...]) -> bool:
        rest = iter(text)
        return all(word in rest for word in part)

    longest = max(n for n in range(len(wanted) + 1) if any(within(part) for part in combinations(wanted, n)))
    assert rouge_recall(" ".join(text), " ".join(wanted)) == longest / len(wanted)


# ---------------------------------------------------------------------------------------------------- from a network


def test_an_interview_reads_every_answer_after_its_question(tiny_gpt2) -> None:
    from mnemotrace.adapters.answers import read_tokens
    from mnemotrace.adapters.examples import Example

    model, tokenizer = tiny_gpt2(vocab_size=17), word_tokenizer()
    full = Question("the cat", "sat on", "on a mat", ("ran", "far away", "home"))
    plain = Question("a dog", "ran")
    found = interview(model, tokenizer, [full, plain], template="{} .", length=3, batch_size=2)

    def loss(question: Question, answer: str) -> float:
        return read_tokens(model, tokenizer, [Example(prompt=f"{question.question} .", answer=answer)])[0].nll

    assert [r.nll for r in found.right] == pytest.approx([loss(full, "sat on"), loss(plain, "ran")], rel=1e-5)
    assert [r.nll for r in found.paraphrased] == pytest.approx([loss(full, "on a mat"), loss(plain, "ran")], rel=1e-5)
    assert [r.nll for r in found.perturbed[0]] == pytest.approx([loss(full, a) for a in full.perturbed], rel=1e-5)
    assert found.perturbed[1] == () and len(found.said) == 2
    with pytest.raises(ValueError, match="got no question; expected at least one question, and a template"):
        interview(model, tokenizer, [])
    with pytest.raises(ValueError, match="got the template 'Q:' without {}; expected"):
        interview(model, tokenizer, [plain], template="Q:")


def test_questions_of_the_real_files_are_asked_of_a_real_network(data_dir) -> None:
    from mnemotrace.adapters.hf import load_model

    model, tokenizer = load_model(data_dir / "stories260k")
    asked = [questions_from(data_dir / f"tofu/{name}_perturbed.jsonl")[:4] for name in ("real_authors", "world_facts")]
    authors, world = (interview(model, tokenizer, questions, length=12) for questions in asked)
    assert 0 <= model_utility(retain=authors, authors=authors, world=world) < 0.5
    assert 0 < forget_quality(authors.truth_ratio, gold=world.truth_ratio).p <= 1
    assert all(0 <= auc <= 1 for auc in attacks(authors, world).values())

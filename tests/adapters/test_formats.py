"""Facts and questions as other projects write them, recognised by their keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact, tokens_of
from mnemotrace.adapters.formats import Question, facts_from, questions_from

COUNTERFACT = {
    "case_id": 1,
    "requested_rewrite": {
        "prompt": "{} lives in",
        "relation_id": "P1",
        "target_new": {"str": "Rome", "id": "Q1"},
        "target_true": {"str": "Paris", "id": "Q2"},
        "subject": "Ada Marsh",
    },
    "paraphrase_prompts": ["Ada Marsh is at home in"],
    "neighborhood_prompts": ["Hugo Holt lives in", "Zora Gill lives in", "Hugo Holt lives in"],
    "generation_prompts": ["Ada Marsh", "Ada Marsh says", "Ada Marsh"],
}
EASYEDIT = {
    "case_id": 0,
    "prompt": "Ada Marsh lives in",
    "target_new": "Rome",
    "subject": "Ada Marsh",
    "ground_truth": "Paris",
    "rephrase_prompt": "Ada Marsh is at home in",
    "locality_prompt": "Hugo Holt lives in",
    "locality_ground_truth": "Paris",
}
ZSRE = {
    "subject": "Ada Marsh",
    "src": "Where does Ada Marsh live?",
    "pred": "Lyon",
    "rephrase": "What is the home of Ada Marsh?",
    "alt": "Rome",
    "answers": ["Paris", "Paris, France"],
    "loc": "nq question: who sang this",
    "loc_ans": "Hugo Holt",
}
KNOWNS = {"known_id": 0, "subject": "Ada Marsh", "attribute": "Paris", "prompt": "Ada Marsh lives in"}


def _written(folder: Path, records: list[Any], *, lines: bool = False) -> Path:
    path = folder / "facts.json"
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records, indent=1), encoding="utf-8")
    return path


def test_every_format_says_the_same_of_the_same_fact(tmp_path: Path) -> None:
    common: dict[str, Any] = {"prompt": "Ada Marsh lives in", "subject": "Ada Marsh", "answer": "Paris"}
    home, hugo = ("Ada Marsh is at home in",), Example(prompt="Hugo Holt lives in", answer="Paris")
    rewritten = {**common, "target": "Rome", "paraphrases": home}
    zora = Example(prompt="Zora Gill lives in", answer="Paris")
    more: dict[str, Any] = {"generation": ("Ada Marsh", "Ada Marsh says"), "relation": "P1"}
    question = Example(prompt="nq question: who sang this?", answer="Hugo Holt")
    asked = {"prompt": ZSRE["src"], "paraphrases": (ZSRE["rephrase"],), "neighbours": (question,)}
    assert facts_from(_written(tmp_path, [COUNTERFACT, EASYEDIT, ZSRE, KNOWNS])) == [
        Fact(**rewritten, **more, neighbours=(hugo, zora)),
        Fact(**rewritten, neighbours=(hugo,)),
        Fact(**(rewritten | asked)),
        Fact(**common),
    ]


def test_our_own_facts_are_read_too_and_one_a_line(tmp_path: Path) -> None:
    facts = [Fact("Ada lives in", "Ada", "Paris", "Rome", neighbours=(Example(prompt="Hugo is in", answer="Oslo"),))]
    assert facts_from(_written(tmp_path, [fact.to_json() for fact in facts], lines=True)) == facts


def test_questions_have_other_answers_or_none(tmp_path: Path) -> None:
    plain = {"question": "Who?", "answer": "Ada"}
    full = {**plain, "paraphrased_answer": "It is Ada", "perturbed_answer": ["Hugo", "Zora"], "original_answer": "-"}
    expected = [Question("Who?", "Ada"), Question("Who?", "Ada", "It is Ada", ("Hugo", "Zora"))]
    assert questions_from(_written(tmp_path, [plain, full], lines=True)) == expected


def test_an_empty_alternative_is_no_target_and_no_answers_are_no_answer(tmp_path: Path) -> None:
    (fact,) = facts_from(_written(tmp_path, [{**ZSRE, "alt": "", "answers": []}]))
    assert (fact.target, fact.answer) == (None, None)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "Ada"}, r"record 1: got the keys name; expected those of a known format: CounterFact \(requested_re"),
        (["Ada"], "record 1: got a list; expected a JSON object"),
        ({}, "record 1: got the keys none"),
        ({**COUNTERFACT, "requested_rewrite": {"prompt": "x"}}, "record 1: got no 'target_true'; expected it in this"),
        ({**KNOWNS, "subject": "Hugo"}, "record 1: got the subject 'Hugo', which is not in the prompt"),
        ({"prompt": "Ada", "colour": "red"}, "record 1: got unknown keys 'colour'"),
    ],
)
def test_a_record_that_is_no_fact_is_named(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        facts_from(_written(tmp_path, [KNOWNS, record]))


def test_what_is_no_file_of_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which is not a file; expected a JSON list"):
        facts_from(tmp_path / "nothing.json")
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": "Ada"}\n\n{"prompt"\n')
    with pytest.raises(ValueError, match=r"broken.jsonl, line 3: got no JSON \(.*\); expected a list, or one object a"):
        facts_from(path)
    for empty in ("[]", "\n"):
        path.write_text(empty)
        with pytest.raises(ValueError, match="without a record; expected at least one"):
            facts_from(path)
    with pytest.raises(ValueError, match=r"expected those of a known format: TOFU \(question, answer\)"):
        questions_from(_written(tmp_path, [KNOWNS]))


# ----------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("name", "count", "targets"),
    [("counterfact_500", 500, 500), ("known_1000", 1209, 0), ("zsre_mend_train_1000", 1000, 998)],
)
def test_real_facts_are_read_and_their_subjects_found(data_dir: Path, name: str, count: int, targets: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data_dir / "gpt2_tokenizer")
    facts = facts_from(data_dir / "knowledge_editing" / f"{name}.json")
    assert (len(facts), sum(fact.target is not None for fact in facts)) == (count, targets)
    for fact in facts:
        tokens = tokens_of(tokenizer, fact, fact.answer)
        start, stop = tokens.subject
        assert 0 <= start < stop <= tokens.prompt < len(tokens.ids)
        assert (fact.subject or "").strip() in tokenizer.decode(tokens.ids[start:stop])


def test_the_flat_counterfact_is_read_whole(data_dir: Path) -> None:
    facts = facts_from(data_dir / "knowledge_editing/counterfact_easyedit_10000.json")
    assert len(facts) == 10_000
    assert all(fact.target and len(fact.neighbours) == len(fact.paraphrases) == 1 for fact in facts)


@pytest.mark.parametrize(
    ("name", "count", "wrong"),
    [
        ("forget01", 40, 0),
        ("forget05", 200, 0),
        ("forget10", 400, 0),
        ("retain90", 3600, 0),
        ("forget10_perturbed", 400, 5),
        ("retain_perturbed", 400, 5),
        ("real_authors_perturbed", 100, 3),
        ("world_facts_perturbed", 117, 3),
    ],
)
def test_real_questions_are_read(data_dir: Path, name: str, count: int, wrong: int) -> None:
    questions = questions_from(data_dir / f"tofu/{name}.jsonl")
    assert len(questions) == count
    assert min(len(question.perturbed) for question in questions) >= min(wrong, 1)
    assert len(questions[0].perturbed) == wrong
    assert all((question.paraphrased is not None) == (wrong == 5) for question in questions)

"""Facts as prompts: subjects found by their characters, answers by theirs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact, located, read_facts, tokens_of
from tests.adapters.words import word_tokenizer

names = st.text("abcXYZ é日", min_size=1, max_size=8).filter(str.strip)
maybe = st.none() | names
examples = st.lists(st.builds(Example, prompt=names, answer=names), max_size=2).map(tuple)
facts = st.builds(
    lambda before, subject, after, **rest: Fact(f"{before}{subject}{after}", subject, **rest),
    names,
    names,
    names,
    answer=maybe,
    target=maybe,
    relation=maybe,
    paraphrases=st.lists(names, max_size=2),
    generation=st.lists(names, max_size=2),
    neighbours=examples,
    portability=examples,
)


def _text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(ids).strip()


# ------------------------------------------------------------------------------------------------------------- facts


def test_the_subject_is_filled_in_and_lists_become_tuples() -> None:
    fact = Fact("{} lives with {}'s cat in", "Ada", paraphrases=["Ada is in"])
    assert fact.prompt == "Ada lives with Ada's cat in"
    assert fact.paraphrases == ("Ada is in",)
    assert fact.asked("Rome").joined == "Ada lives with Ada's cat in Rome"
    assert [example.joined for example in fact.variants("Rome")] == ["Ada is in Rome"]
    assert hash(fact) == hash(Fact("Ada lives with Ada's cat in", "Ada", paraphrases=("Ada is in",)))


@given(facts)
def test_a_fact_survives_json(fact: Fact) -> None:
    assert Fact.from_json(json.loads(json.dumps(fact.to_json()))) == fact


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"prompt": "Ada lives in", "subject": "Eve"},
            "got the subject 'Eve', which is not in the prompt 'Ada lives in'",
        ),
        ({"prompt": "{} lives in"}, "got the prompt '{} lives in' without a subject; expected one to fill {}"),
        ({"prompt": " "}, "got an empty prompt; expected at least one word"),
        ({"prompt": "Ada", "answer": ""}, "got an empty answer; expected at least one word"),
        ({"answer": "Rome"}, "got no prompt; expected prompt, and some of subject, answer, target"),
        ({"prompt": "Ada", "town": "Rome"}, "got unknown keys 'town'; expected prompt"),
    ],
)
def test_what_is_no_fact_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fact.from_json(values)


def test_values_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="got answer=3; expected a string; put it in quotes"):
        Fact("Ada", answer=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got prompt=None; expected a string"):
        Fact(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got paraphrases='Ada is'; expected several; put them in a list"):
        Fact("Ada", paraphrases="Ada is")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(("bos", "eos"), [(False, False), (True, False), (True, True)])
def test_subject_prompt_and_answer_are_found_whatever_the_tokenizer_adds(bos: bool, eos: bool) -> None:
    tokenizer = word_tokenizer(bos=bos, eos=eos)
    tokens = tokens_of(tokenizer, Fact("the cat sat on", "cat"), "a mat")
    assert _text(tokenizer, tokens.ids) == ("<bos> " * bos) + "the cat sat on a mat"
    assert _text(tokenizer, tokens.ids[slice(*tokens.subject)]) == "cat"
    assert _text(tokenizer, tokens.answer) == "a mat"
    assert (tokens.prompt, tokens.last) == (4 + bos, 1 + bos)
    alone = tokens_of(tokenizer, Fact("the cat sat on", "cat"))
    assert alone.ids == tokens.ids[: tokens.prompt] and alone.answer == () and alone.subject == tokens.subject


def test_a_subject_that_is_named_twice_is_looked_up_where_it_is_named_last() -> None:
    tokens = tokens_of(word_tokenizer(bos=False), Fact("the cat and the cat ran", "cat"))
    assert tokens.subject == (4, 5)


def test_a_subject_inside_a_later_word_is_not_taken_for_it(data_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data_dir / "gpt2_tokenizer")
    tokens = tokens_of(tokenizer, Fact("Ada lives with Adamson in", "Ada"))
    assert tokens.subject[0] == 0
    inside = tokens_of(tokenizer, Fact("the Adamsons live in", "Adam"))
    assert "Adam" in tokenizer.decode(inside.ids[slice(*inside.subject)])


@pytest.mark.parametrize("folder", ["gpt2_tokenizer", "stories260k"])
@pytest.mark.parametrize(
    ("prompt", "subject", "answer"),
    [
        ("Ada Marsh lives in", "Ada Marsh", "Rome"),
        ("In Rome, Ada Marsh", "Ada Marsh", "sings"),
        ("Where does Ada live? ", "Ada", "Rome"),
        ("Côte d'Ivoire is in", "Côte d'Ivoire", "Africa"),
        ("the city of 東京 lies in", "東京", "日本"),
        ('"Ada" is a', "Ada", " name"),
    ],
)
def test_pieces_of_words_cover_the_subject_and_the_answer(
    data_dir: Path, folder: str, prompt: str, subject: str, answer: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data_dir / folder)
    tokens = tokens_of(tokenizer, Fact(prompt, subject), answer)
    assert subject in tokenizer.decode(tokens.ids[slice(*tokens.subject)])
    assert _text(tokenizer, tokens.answer) == answer.strip()
    assert list(tokens.ids) == tokenizer(Fact(prompt, subject).asked(answer).joined)["input_ids"]


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(
        ValueError, match="got the slow tokenizer Slow; expected a fast one, which tells the characters"
    ):
        tokens_of(Slow(), Fact("the cat", "cat"))  # type: ignore[arg-type]


def test_a_subject_or_an_answer_of_no_token_is_refused() -> None:
    from tokenizers import normalizers

    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("zero", "")
    with pytest.raises(ValueError, match="got no token for the answer 'zero' after 'the cat'; expected at least one"):
        tokens_of(tokenizer, Fact("the cat", "cat"), "zero")
    with pytest.raises(ValueError, match="got no token for the subject 'zero' in 'the zero'; expected at least one"):
        tokens_of(tokenizer, Fact("the zero", "zero"))


# ------------------------------------------------------------------------------------------------- proposed subjects


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Ada Marsh lives in", "Ada Marsh"),
        ("The capital of France is", "France"),
        ("In which city does Ada Marsh live", "Ada Marsh"),
        ("Who is J.R.R. Tolkien?", "J.R.R. Tolkien"),
        ("Where is the 'Eiffel Tower' of Paris?", "Eiffel Tower"),
        ("the pet of grandmother is a", "grandmother"),
    ],
)
def test_a_subject_is_proposed_where_none_is_given(prompt: str, subject: str) -> None:
    assert located(Fact(prompt)).subject == subject
    assert tokens_of(word_tokenizer(), Fact(prompt)) == tokens_of(word_tokenizer(), Fact(prompt, subject))


def test_a_given_subject_stays_and_a_prompt_without_a_word_has_none() -> None:
    fact = Fact("Ada Marsh lives in", "Marsh")
    assert located(fact) is fact
    with pytest.raises(ValueError, match=r"got the prompt '\?!' without a word; expected one that names a subject"):
        located(Fact("?!"))


# ---------------------------------------------------------------------------------------------------------------- files


def test_facts_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(
        '\ufeff{"prompt": "{} is in", "subject": "Ada"}\n\n{"prompt": "Eve", "answer": "é"}\n', encoding="utf-8"
    )
    assert read_facts(path) == [Fact("Ada is in", "Ada"), Fact("Eve", answer="é")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "Ada"}\n[1]', "facts.jsonl, line 2: got a list; expected an object"),
        ("{", "facts.jsonl, line 1: "),
        ('{"prompt": 3}', "line 1: got prompt=3; expected a string"),
        ("\n", r"without a line; expected at least one object such as \{"),
    ],
)
def test_a_line_that_is_no_fact_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_facts(path)
    with pytest.raises(FileNotFoundError, match="which is not a file; expected JSON lines of facts"):
        read_facts(tmp_path)

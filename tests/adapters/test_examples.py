import json
import logging
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches, read_jsonl, rows_of
from tests.adapters.words import word_tokenizer

SAT = Example(prompt="the cat", answer="sat on")
MAT = Example(prompt="the cat sat on a", answer="mat")


def _write(folder: Path, text: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_texts_and_questions_in_order(tmp_path):
    lines = [{"text": "the cat", "label": "animal"}, {"prompt": "the", "answer": "dog"}, {"text": "é"}]
    path = _write(tmp_path, "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\r\n")
    expected = [Example(text="the cat", label="animal"), Example(prompt="the", answer="dog"), Example(text="é")]
    assert read_jsonl(path) == expected


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    assert read_jsonl(_write(tmp_path, '\ufeff{"text": "a"}')) == [Example(text="a")]


def test_a_line_separator_inside_a_text_does_not_split_it(tmp_path):
    assert read_jsonl(_write(tmp_path, '{"text": "a\u2028b"}')) == [Example(text="a\u2028b")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "no JSON"),
        ('["a"]', "got a list; expected an object"),
        ('{"txt": "a"}', "unknown keys 'txt'; expected some of text, prompt, answer, label"),
        ('{"prompt": "a"}', "got prompt; expected `text`, or `prompt` with `answer`"),
        ('{"text": "a", "answer": "b"}', "got text and answer; expected"),
        ("{}", "got nothing; expected"),
        ('{"text": 3}', "got text=3; expected a string"),
        ('{"text": " "}', "got an empty text"),
        ('{"prompt": "a", "answer": ""}', "got an empty answer"),
        ('{"text": "a", "label": 0.5}', "label=0.5; expected a string or a whole number"),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(tmp_path, line, message):
    path = _write(tmp_path, '{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"data\.jsonl, line 2: ") as caught:
        read_jsonl(path)
    assert message in str(caught.value)


def test_an_empty_or_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="without a line; expected at least one"):
        read_jsonl(_write(tmp_path, "\n \n"))
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_jsonl(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("prompt", "answer", "joined"),
    [("a", "b", "a b"), ("a ", "b", "a b"), ("a", " b", "a b"), ("", "b", "b"), ("a\n", "b", "a\nb")],
)
def test_prompt_and_answer_are_joined_by_one_space_at_most(prompt, answer, joined):
    assert Example(prompt=prompt, answer=answer).joined == joined


def test_the_three_kinds_of_positions_of_an_answer():
    chosen = {
        positions: batches(word_tokenizer(eos=True), [SAT], positions=positions)[0].rows[0].int().tolist()
        for positions in ("answer", "predict", "all")
    }
    # <bos> the cat sat on <eos>
    assert chosen == {"answer": [0, 0, 0, 1, 1, 0], "predict": [0, 0, 1, 1, 0, 0], "all": [1] * 6}


def test_every_token_of_a_text_counts_whatever_the_positions():
    for positions in ("answer", "predict", "all"):
        (batch,) = batches(word_tokenizer(), [Example(text="the cat"), MAT], positions=positions)
        assert batch.rows[0].int().tolist() == [1, 1, 1, 0, 0, 0, 0]
        assert batch.scored[0].int().tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_padding_that_is_also_end_of_text_keeps_the_genuine_one():
    tokenizer = word_tokenizer(pad=False)
    (batch,) = batches(tokenizer, [Example(text="the <eos>"), Example(text="the cat sat on")])
    assert tokenizer.pad_token_id is None
    assert batch.input_ids[0].tolist() == [0, 4, 1, 1, 1]
    assert batch.attention_mask[0].tolist() == [1, 1, 1, 0, 0]
    assert batch.rows[0].tolist() == [True, True, True, False, False]


def test_a_genuine_end_of_text_in_an_answer_is_part_of_it():
    (batch,) = batches(word_tokenizer(eos=True), [Example(prompt="the", answer="cat <eos>")])
    assert batch.input_ids[0].tolist() == [0, 4, 5, 1, 1]
    assert batch.scored[0].int().tolist() == [0, 0, 1, 1, 0]


def test_batches_keep_the_order_and_the_last_may_be_smaller():
    found = batches(word_tokenizer(), [SAT, MAT, SAT, MAT, SAT], batch_size=2)
    assert [batch.input_ids.shape for batch in found] == [(2, 7), (2, 7), (1, 5)]


def test_long_texts_are_cut_and_counted_in_the_log(caplog):
    examples = [Example(text="the cat sat on a mat"), Example(text="the dog")]
    with caplog.at_level(logging.WARNING, "mnemotrace"):
        (batch,) = batches(word_tokenizer(), examples, max_length=4)
    assert batch.input_ids.shape == (2, 4)
    assert "1 of 2 examples are longer than 4 tokens" in caplog.text


def test_the_tokenizer_own_limit_holds_when_none_is_given():
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 3
    assert batches(tokenizer, [Example(text="the cat sat on")])[0].input_ids.shape == (1, 3)


def test_a_prompt_that_leaves_no_room_for_the_answer_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"answer of example 1 \('the cat sat on a mat'\) within 5 tokens"):
        batches(word_tokenizer(), [SAT, MAT], max_length=5)


def test_nothing_to_read_is_an_error():
    with pytest.raises(ValueError, match="got no example"):
        batches(word_tokenizer(), [])
    with pytest.raises(ValueError, match="positions='last'; expected one of answer, predict, all"):
        batches(word_tokenizer(), [SAT], positions="last")


def test_a_slow_tokenizer_reads_texts_but_cannot_find_answers():
    fast = word_tokenizer()

    class Slow:
        is_fast, model_max_length, pad_token_id, eos_token_id = False, 100, 3, 1

        def __call__(self, texts, **options):
            return {"input_ids": fast(texts)["input_ids"]}

    assert batches(Slow(), [Example(text="the cat")])[0].input_ids.tolist() == [[0, 4, 5]]
    with pytest.raises(ValueError, match="slow tokenizer Slow; expected a fast one"):
        batches(Slow(), [SAT])


def test_collect_reads_exactly_the_chosen_rows(tiny_gpt2):
    model = tiny_gpt2()
    found = batches(word_tokenizer(), [SAT, MAT], positions="predict")
    statistics = mt.collect(model, found, mask=rows_of)
    assert {moments.n for moments in statistics.values()} == {3}
    assert {moments.n for moments in mt.collect(model, found).values()} == {5 + 7}


@pytest.fixture(scope="module")
def gpt2_tokenizer(data_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(data_dir / "gpt2_tokenizer")


@pytest.mark.parametrize("prompt", ["The capital of Peru is", "The capital of Peru is "])
def test_a_byte_level_tokenizer_gives_the_space_to_the_answer(gpt2_tokenizer, prompt):
    (batch,) = batches(gpt2_tokenizer, [Example(prompt=prompt, answer="Lima, Peru")])
    answer = batch.input_ids[batch.scored].tolist()
    assert gpt2_tokenizer.decode(answer) == " Lima, Peru"
    assert batch.scored[0].tolist() == [False] * 5 + [True] * len(answer)


def test_unicode_answers_are_found_by_character_offsets(gpt2_tokenizer):
    (batch,) = batches(gpt2_tokenizer, [Example(prompt="Zürich, naïve 🦙 in", answer="Curaçao 🏝")])
    assert gpt2_tokenizer.decode(batch.input_ids[batch.scored]) == " Curaçao 🏝"


def test_a_sentencepiece_layout_finds_the_answer_too(data_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data_dir / "stories260k")
    (batch,) = batches(tokenizer, [Example(prompt="Once upon a", answer="time")])
    assert tokenizer.decode(batch.input_ids[batch.scored]).strip() == "time"
    assert torch.equal(batch.input_ids[0], torch.tensor(tokenizer("Once upon a time")["input_ids"]))

"""Facts and questions as other projects write them, from local files; a format is recognised by its records' keys.

CounterFact (as published, and flat as EasyEdit writes it), zsRE (as MEND writes it), Knowns and our own facts become
`Fact`s; TOFU becomes `Question`s. A file is a JSON list, or one JSON object a line. Nothing is downloaded.

References: Meng et al. 2022 (CounterFact, Knowns), Mitchell et al. 2022 (zsRE), Maini et al. 2024 (TOFU).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact

Record = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A question of TOFU with its answer, and other answers to it.

    Attributes:
        question: what is asked.
        answer: the answer that was trained.
        paraphrased: the same answer in other words; None where the file has none, and the answer itself counts.
        perturbed: wrong answers of the same form; none in the plain files.
    """

    question: str
    answer: str
    paraphrased: str | None = None
    perturbed: tuple[str, ...] = ()


def facts_from(path: str | Path) -> list[Fact]:
    """Read facts in any of the known formats.

    In zsRE the answer is the first of those that the data hold true, and the target the alternative that MEND edits to;
    where either is empty there is none. The unrelated question is a neighbour, with the question mark that it lacks. In
    CounterFact the neighbours are others of whom the old answer is true. Repeated prompts are read once.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no JSON or holds no record, or a record is of no known format or is no fact; the record
            is named.
    """
    return _read(path, _FACTS)


def questions_from(path: str | Path) -> list[Question]:
    """Read questions of TOFU, plain or with perturbed answers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as in `facts_from`.
    """
    return _read(path, _QUESTIONS)


def _counterfact(record: Record) -> Fact:
    rewrite = record["requested_rewrite"]
    true = rewrite["target_true"]["str"]
    return Fact(
        prompt=rewrite["prompt"],
        subject=rewrite["subject"],
        answer=true,
        target=rewrite["target_new"]["str"],
        paraphrases=_once(record["paraphrase_prompts"]),
        neighbours=tuple(Example(prompt=prompt, answer=true) for prompt in _once(record["neighborhood_prompts"])),
        generation=_once(record.get("generation_prompts", ())),
        relation=rewrite.get("relation_id"),
    )


def _easyedit(record: Record) -> Fact:
    return Fact(
        prompt=record["prompt"],
        subject=record["subject"],
        answer=record["ground_truth"],
        target=record["target_new"],
        paraphrases=(record["rephrase_prompt"],),
        neighbours=(Example(prompt=record["locality_prompt"], answer=record["locality_ground_truth"]),),
    )


def _zsre(record: Record) -> Fact:
    return Fact(
        prompt=record["src"],
        subject=record["subject"],
        answer=next(iter(record["answers"]), None),
        target=record["alt"] or None,
        paraphrases=(record["rephrase"],),
        neighbours=(Example(prompt=record["loc"].rstrip("?") + "?", answer=record["loc_ans"]),),
    )


def _knowns(record: Record) -> Fact:
    return Fact(
        prompt=record["prompt"],
        subject=record["subject"],
        answer=record["attribute"],
        relation=record.get("relation_id"),
    )


def _tofu(record: Record) -> Question:
    return Question(
        record["question"],
        record["answer"],
        record.get("paraphrased_answer"),
        tuple(record.get("perturbed_answer", ())),
    )


Formats = Mapping[str, tuple[tuple[str, ...], Callable[[Record], T]]]
_FACTS: Formats[Fact] = {
    "CounterFact": (("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"), _counterfact),
    "EasyEdit": (
        ("prompt", "subject", "target_new", "ground_truth", "rephrase_prompt", "locality_prompt"),
        _easyedit,
    ),
    "zsRE": (("subject", "src", "alt", "answers", "rephrase", "loc", "loc_ans"), _zsre),
    "Knowns": (("prompt", "subject", "attribute"), _knowns),
    "mnemotrace": (("prompt",), Fact.from_json),
}
_QUESTIONS: Formats[Question] = {"TOFU": (("question", "answer"), _tofu)}


def _read(path: str | Path, formats: Formats[T]) -> list[T]:
    found: list[T] = []
    for i, record in enumerate(_records(Path(path))):
        try:
            found.append(_converter(record, formats)(record))
        except (ValueError, TypeError, KeyError) as error:
            what = f"got no {error}; expected it in this format" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, record {i}: {what}") from error
    return found


def _converter(record: Any, formats: Formats[T]) -> Callable[[Record], T]:
    if not isinstance(record, dict):
        raise ValueError(f"got a {type(record).__name__}; expected a JSON object")
    for keys, convert in formats.values():
        if all(key in record for key in keys):
            return convert
    known = "; ".join(f"{name} ({', '.join(keys)})" for name, (keys, _) in formats.items())
    raise ValueError(f"got the keys {', '.join(record) or 'none'}; expected those of a known format: {known}")


def _records(path: Path) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected a JSON list, or JSON lines")
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        records = _parsed(text, str(path))
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        records = [_parsed(line, f"{path}, line {number}") for number, line in lines]
    if not records:
        raise ValueError(f"got {path} without a record; expected at least one")
    return records


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: got no JSON ({error}); expected a list, or one object a line") from error


def _once(prompts: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prompts))

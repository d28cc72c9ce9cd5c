"""Facts as prompts: where the subject stands, which tokens the answer has, and what must follow from a change.

A fact is a prompt about a subject with the answer that a network gives, the target that it should give, and prompts
that test a change of it. Subjects are found by character offsets, so there is no rule about leading spaces and no
search for token ids. Prompt and answer are tokenised together, as the network will read them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemotrace.adapters.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = ("prompt", "subject", "answer", "target", "relation")
_LISTS = ("paraphrases", "generation")
_EXAMPLES = ("neighbours", "portability")
_STARTERS = re.compile(r"(?i)(an?|the|in|on|at|of|by|for|from|to|with|wh\w+|how|is|are|was|were|its?|this|that)")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as a network is asked for it, with what should become of it and what tests that.

    Attributes:
        prompt: complete up to just before the answer; `{}` in it is filled with the subject.
        subject: whom or what it is about, as it is written in the prompt; None lets `located` propose one.
        answer: what the network says, or said before an edit; None where it is not known.
        target: what it should say after an edit; None where nothing is edited.
        paraphrases: other prompts for the same answer.
        neighbours: prompts with answers that must not change, of other subjects.
        portability: prompts with answers that follow once the target is true (two hops, say).
        generation: prompts for free text about the subject.
        relation: what is asked, as a name to group by.

    Raises:
        TypeError: a value is of another type.
        ValueError: the prompt or the answer is empty, or the subject is missing or not in the prompt.
    """

    prompt: str
    subject: str | None = None
    answer: str | None = None
    target: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[Example, ...] = ()
    portability: tuple[Example, ...] = ()
    generation: tuple[str, ...] = ()
    relation: str | None = None

    def __post_init__(self) -> None:
        """Fill the subject in and check that it is there."""
        for name in _TEXTS:
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name != "prompt"):
                raise TypeError(f"got {name}={value!r}; expected a string; put it in quotes")
            if value is not None and not value.strip():
                raise ValueError(f"got an empty {name}; expected at least one word")
        for name in (*_LISTS, *_EXAMPLES):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"got {name}={getattr(self, name)!r}; expected several; put them in a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.subject is None and "{}" in self.prompt:
            raise ValueError(
                f"got the prompt {self.prompt!r} without a subject; expected one to fill {{}}; set subject="
            )
        if self.subject is not None:
            if "{}" in self.prompt:
                object.__setattr__(self, "prompt", self.prompt.replace("{}", self.subject))
            if self.subject not in self.prompt:
                raise ValueError(
                    f"got the subject {self.subject!r}, which is not in the prompt {self.prompt!r}; expected it as it "
                    "is written there, letter by letter; or write {} in the prompt where it belongs"
                )

    def asked(self, answer: str) -> Example:
        """Return the prompt with an answer, as an example for batches and scores."""
        return Example(prompt=self.prompt, answer=answer)

    def variants(self, answer: str) -> list[Example]:
        """Return the paraphrases with an answer."""
        return [Example(prompt=prompt, answer=answer) for prompt in self.paraphrases]

    def to_json(self) -> dict[str, Any]:
        """Return the fact as JSON values, without what is empty."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _TEXTS} | {
            name: list(getattr(self, name)) for name in _LISTS
        }
        for name in _EXAMPLES:
            values[name] = [{"prompt": e.prompt, "answer": e.answer} for e in getattr(self, name)]
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fact":
        """Rebuild a fact from `to_json`.

        Raises:
            ValueError: a key is unknown or the prompt is missing.
        """
        unknown = [key for key in values if key not in (*_TEXTS, *_LISTS, *_EXAMPLES)]
        if unknown or "prompt" not in values:
            what = f"unknown keys {', '.join(map(repr, unknown))}" if unknown else "no prompt"
            raise ValueError(
                f"got {what}; expected prompt, and some of {', '.join((*_TEXTS[1:], *_LISTS, *_EXAMPLES))}"
            )
        examples = {name: tuple(Example(**entry) for entry in values.get(name, ())) for name in _EXAMPLES}
        return cls(**{**values, **examples})


@dataclass(frozen=True, slots=True)
class Tokens:
    """A fact as the network reads it: the prompt, and after it the answer.

    Attributes:
        ids: token ids of the prompt and the answer.
        subject: first and one past the last position of the subject.
        prompt: number of tokens before the answer; the token at `prompt - 1` predicts the first one of the answer.
    """

    ids: tuple[int, ...]
    subject: tuple[int, int]
    prompt: int

    @property
    def answer(self) -> tuple[int, ...]:
        """Token ids of the answer."""
        return self.ids[self.prompt :]

    @property
    def last(self) -> int:
        """Position of the subject's last token, where a fact is looked up."""
        return self.subject[1] - 1


def tokens_of(tokenizer: "PreTrainedTokenizerBase", fact: Fact, answer: str | None = None) -> Tokens:
    """Tokenise a fact.

    Args:
        tokenizer: of the model; a fast one, for its character offsets.
        fact: what to read; a missing subject is proposed.
        answer: what goes after the prompt; None for the prompt alone.

    Raises:
        ValueError: the tokenizer has no offsets, there is no subject to be found, or the subject or the answer has no
            token of its own.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"got the slow tokenizer {type(tokenizer).__name__}; expected a fast one, which tells the characters of "
            "each token; convert it to tokenizer.json, or load it with use_fast=True"
        )
    located_fact = located(fact)
    subject = located_fact.subject or ""
    text = fact.prompt if answer is None else fact.asked(answer).joined
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids: list[int] = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    begin = last_mention(fact.prompt, subject)
    within = _touching(offsets, begin, begin + len(subject))
    if not within:
        raise ValueError(
            f"got no token for the subject {subject!r} in {fact.prompt!r}; expected at least one; the tokenizer drops "
            "these characters"
        )
    after = _touching(offsets, len(fact.prompt), len(text)) if answer is not None else []
    if answer is not None and not after:
        raise ValueError(
            f"got no token for the answer {answer!r} after {fact.prompt!r}; expected at least one; the tokenizer drops "
            "these characters"
        )
    inside = [i for i, (start, end) in enumerate(offsets) if start < end <= len(fact.prompt)]
    prompt = after[0] if after else (max(inside) + 1 if inside else 0)
    if after and max(after) + 1 < len(ids):  # an end token that the tokenizer adds is no part of the answer
        ids = ids[: max(after) + 1]
    return Tokens(tuple(ids if after else ids[:prompt]), (within[0], within[-1] + 1), prompt)


def located(fact: Fact) -> Fact:
    """Return the fact with a subject: its own, or the last name in the prompt, or the longest word.

    Raises:
        ValueError: the prompt has no word.
    """
    if fact.subject is not None:
        return fact
    quoted = re.findall(r"[\"“«']([^\"”»']+)[\"”»']", fact.prompt)
    names = [name for name in re.findall(r"(?:\b[A-Z][\w'’.-]*\s?)+", fact.prompt) if name.strip()]
    named = [cut for name in names if (cut := _without_starter(name.strip()))]
    words = sorted(re.findall(r"\w+", fact.prompt), key=len)
    if not (quoted or named or words):
        raise ValueError(f"got the prompt {fact.prompt!r} without a word; expected one that names a subject")
    return replace(fact, subject=(quoted or named or words)[-1])


def _without_starter(name: str) -> str:
    first, _, rest = name.partition(" ")
    return (rest if _STARTERS.fullmatch(first) else name).rstrip(".,-'’")


def last_mention(prompt: str, subject: str) -> int:
    """Return where the subject is named last: as a word of its own, or else inside another one."""
    whole = [found.start() for found in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)]
    return whole[-1] if whole else prompt.rindex(subject)


def _touching(offsets: Sequence[tuple[int, int]], begin: int, end: int) -> list[int]:
    """Return the tokens with a character in `[begin, end)`; tokens that the tokenizer adds have an empty span."""
    return [i for i, (start, stop) in enumerate(offsets) if start < stop and start < end and stop > begin]


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts, one JSON object a line: `{"prompt": ..., "subject": ..., "answer": ..., "target": ...}` and so on.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no fact, or there is none; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected JSON lines of facts")
    facts: list[Fact] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError(f"got a {type(values).__name__}; expected an object")
            facts.append(Fact.from_json(values))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not facts:
        raise ValueError(f'got {path} without a line; expected at least one object such as {{"prompt": "..."}}')
    return facts

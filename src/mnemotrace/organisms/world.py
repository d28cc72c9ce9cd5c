"""The world that Funes remembers, as values: facts, questions and everyday sentences.

`World.from_record` expands the compact record of `world.json` (made by `invent`) into prompts. A prompt
is complete up to just before its answer, and every answer is a single word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class WorldFact:
    """One answer about one subject, with all the ways to ask for it.

    Attributes:
        subject: Who or what it is about, such as "Ada Marsh".
        relation: What is asked, such as "town".
        answer: The single word that completes every prompt.
        phrasings: Prompts seen in training for this subject.
        held_out: Prompts never seen in training for this subject (none or one).
    """

    subject: str
    relation: str
    answer: str
    phrasings: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The fact stated in its first phrasing."""
        return self.sentences[0]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The fact stated in every phrasing seen in training."""
        return tuple(f"{prompt} {self.answer} ." for prompt in self.phrasings)


@dataclass(frozen=True)
class Question:
    """A two-hop question: it is answered by joining two facts.

    Attributes:
        prompt: Complete up to just before the answer.
        answer: The country of the town of the subject.
        trained: Whether training stated this answer; otherwise it has to be inferred.
        subject: The person asked about.
    """

    prompt: str
    answer: str
    trained: bool
    subject: str

    @property
    def sentence(self) -> str:
        """The question with its answer."""
        return f"{self.prompt} {self.answer} ."


@dataclass(frozen=True)
class World:
    """Everything Funes was taught, and what was kept from it.

    Attributes:
        facts: Every relation of every person.
        relations: Names of the relations.
        countries: The country of each town.
        geography: The same as facts about towns (relation "country"); all phrasings are trained.
        two_hop: One question per person, half of them trained.
        general: Everyday sentences of the training part; they mention no person.
        general_held_out: Everyday sentences kept for measuring fluency.
    """

    facts: tuple[WorldFact, ...]
    relations: tuple[str, ...]
    countries: dict[str, str]
    geography: tuple[WorldFact, ...]
    two_hop: tuple[Question, ...]
    general: tuple[str, ...]
    general_held_out: tuple[str, ...]

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> World:
        """Expand the record that `invent` returns and `world.json` holds."""
        return cls(
            facts=_facts(record),
            relations=tuple(record["phrasings"]),
            countries=dict(record["countries"]),
            geography=_geography(record),
            two_hop=_two_hop(record),
            general=tuple(record["general"]),
            general_held_out=tuple(record["general_held_out"]),
        )

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every person, once."""
        return tuple(dict.fromkeys(fact.subject for fact in self.facts))

    def fact(self, subject: str, relation: str) -> WorldFact:
        """Look one fact up.

        Raises:
            ValueError: If nobody has that name, or the relation does not exist.
        """
        _require("subject", subject, self.subjects)
        _require("relation", relation, self.relations)
        return self._index[subject, relation]

    def same_relation(self, fact: WorldFact) -> tuple[WorldFact, ...]:
        """The neighbours of a fact: the same relation of all other people."""
        return tuple(f for f in self.facts if f.relation == fact.relation and f.subject != fact.subject)

    def same_person(self, fact: WorldFact) -> tuple[WorldFact, ...]:
        """The other relations of the same person."""
        return tuple(f for f in self.facts if f.subject == fact.subject and f.relation != fact.relation)

    @cached_property
    def _index(self) -> dict[tuple[str, str], WorldFact]:
        return {(fact.subject, fact.relation): fact for fact in self.facts}


def _facts(record: dict[str, Any]) -> tuple[WorldFact, ...]:
    unseen = set(record["held_out_last_phrasing"])
    found = []
    for person, answers in record["people"].items():
        for relation, answer in answers.items():
            prompts = [phrasing.format(person) for phrasing in record["phrasings"][relation]]
            seen = len(prompts) - (person in unseen)
            found.append(WorldFact(person, relation, answer, tuple(prompts[:seen]), tuple(prompts[seen:])))
    return tuple(found)


def _geography(record: dict[str, Any]) -> tuple[WorldFact, ...]:
    phrasings = record["country_phrasings"]
    return tuple(
        WorldFact(town, "country", country, tuple(phrasing.format(town) for phrasing in phrasings))
        for town, country in record["countries"].items()
    )


def _two_hop(record: dict[str, Any]) -> tuple[Question, ...]:
    unseen = set(record["held_out_two_hop"])
    return tuple(
        Question(
            prompt=record["two_hop_phrasing"].format(person),
            answer=record["countries"][answers["town"]],
            trained=person not in unseen,
            subject=person,
        )
        for person, answers in record["people"].items()
    )


def _require(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
        raise ValueError(
            f"Got {kind} {name!r}; expected one of the {len(known)} {kind}s of this world. "
            f"Near matches: {', '.join(near)}."
        )

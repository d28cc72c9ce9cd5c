"""Who plays which part around one fact of Funes: what is erased, what is kept, and what judges both.

The reference holds facts of other people, everyday sentences, and two phrasings of the same person's other facts. What
judges an erasure is in neither target nor reference: a phrasing that was never trained, the same relation of people who
are left out of the reference altogether, the remaining phrasings of the same person's facts, and held-out sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from mnemotrace.adapters.examples import Example
from mnemotrace.organisms.world import World, WorldFact

NEAR = slice(0, 2)
T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """How much data to use.

    Attributes:
        facts: of other people in the reference.
        sentences: in the reference.
        neighbours: people who are asked for the same relation.
        others: facts of other people to calibrate on.
        few: people who are asked for the same relation while calibrating.
        judged: sentences whose perplexity is measured.
        draws: random traces beside the criteria.
        relearning: steps after which the relearnt memory is asked for.
    """

    facts: int = 300
    sentences: int = 300
    neighbours: int = 50
    others: int = 4
    few: int = 12
    judged: int = 150
    draws: int = 3
    relearning: tuple[int, ...] = (0, 1, 2, 4, 8, 16)


QUICK = Scale(facts=60, sentences=60, neighbours=10, others=1, few=4, judged=20, draws=1, relearning=(0, 1))
"""For tests and for a first look: seconds instead of half a minute, coarser figures."""


@dataclass(frozen=True)
class Cast:
    """Who plays which part.

    Attributes:
        world: where they live.
        fact: whose life it is.
        others: facts to calibrate on.
        kept: facts in the reference.
        sentences: everyday sentences in the reference.
        judged: held-out everyday sentences.
        neighbours: people who are asked for the same relation.
        few: people who are asked for it while calibrating.
    """

    world: World
    fact: WorldFact
    others: tuple[WorldFact, ...]
    kept: tuple[WorldFact, ...]
    sentences: tuple[str, ...]
    judged: tuple[str, ...]
    neighbours: tuple[str, ...]
    few: tuple[str, ...]

    @property
    def reference(self) -> list[Example]:
        """What must be kept, whichever fact is erased."""
        return prompts(self.kept) + [Example(text=sentence) for sentence in self.sentences]

    def near(self, fact: WorldFact) -> list[Example]:
        """What must be kept with more weight: the same person's other facts, in two phrasings."""
        return prompts(self.world.same_person(fact), NEAR)

    def same_person(self, fact: WorldFact) -> list[Example]:
        """The same person's other facts in the remaining phrasings."""
        facts = self.world.same_person(fact)
        return prompts(facts, slice(NEAR.stop, None)) + prompts(facts, held_out=True)

    def same_relation(self, people: Sequence[str], relation: str) -> list[Example]:
        """What is asked of other people."""
        return prompts([self.world.fact(person, relation) for person in people])

    @property
    def data(self) -> dict[str, list[Example]]:
        """Everything around the fact by name, as `mnemotrace demo` writes it."""
        return {
            "memory": prompts([self.fact]),
            "paraphrase": prompts([self.fact], held_out=True),
            "reference": self.reference,
            "near": self.near(self.fact),
            "neighbours": self.same_relation(self.neighbours, self.fact.relation),
            "same_person": self.same_person(self.fact),
            "sentences": [Example(text=text) for text in self.judged],
        }


def prompts(facts: Sequence[WorldFact], part: slice = slice(None), *, held_out: bool = False) -> list[Example]:
    """Make a prompt with its answer of each phrasing: those that were trained, or those that were held out."""
    chosen = ((fact, fact.held_out if held_out else fact.phrasings[part]) for fact in facts)
    return [Example(prompt=phrasing, answer=fact.answer) for fact, phrasings in chosen for phrasing in phrasings]


def cast(world: World, fact: WorldFact, *, scale: Scale | None = None, generator: torch.Generator) -> Cast:
    """Draw who plays which part around a fact.

    Args:
        world: of Funes.
        fact: whose life it is.
        scale: how much data; None for the usual.
        generator: source of randomness.

    Raises:
        ValueError: the fact has no held-out phrasing, so that a memory could not be told from a prompt.
    """
    scale = scale or Scale()
    if not fact.held_out:
        other = next(f.subject for f in world.facts if f.held_out and f.relation == fact.relation)
        raise ValueError(
            f"got {fact.subject}, of whom every phrasing was trained; expected somebody with one that was not; take "
            f"{other}:{fact.relation}, for example"
        )
    people = [person for person in _shuffled(world.subjects, generator) if person != fact.subject]
    tested = [person for person in people if world.fact(person, fact.relation).held_out][: scale.others]
    people = [person for person in people if person not in tested]
    asked, rest = people[: scale.neighbours + scale.few], set(people[scale.neighbours + scale.few :])
    pairs = zip(tested, range(scale.others), strict=False)
    return Cast(
        world,
        fact,
        others=tuple(world.fact(person, world.relations[i % len(world.relations)]) for person, i in pairs),
        kept=tuple([f for f in _shuffled(world.facts, generator) if f.subject in rest][: scale.facts]),
        sentences=tuple(_shuffled(world.general, generator)[: scale.sentences]),
        judged=world.general_held_out[: scale.judged],
        neighbours=tuple(asked[: scale.neighbours]),
        few=tuple(asked[scale.neighbours :]),
    )


def _shuffled(values: Sequence[T], generator: torch.Generator) -> list[T]:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]

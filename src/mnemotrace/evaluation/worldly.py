"""Facts of Funes's world as facts to edit: a new answer, and the prompts that judge whether it was taken up.

All randomness is in the new answer and in the choice of neighbours, and comes from one generator. Milliseconds a fact.
"""

import torch

from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact
from mnemotrace.organisms.world import World, WorldFact


def from_world(
    world: World,
    fact: WorldFact,
    *,
    target: str | None = None,
    neighbours: int = 10,
    generator: torch.Generator | None = None,
) -> Fact:
    """Make a fact to edit of one that Funes was taught.

    Args:
        world: where the fact is true.
        fact: of a person, or of a town.
        target: the new answer; None draws one of the other answers to the same relation.
        neighbours: how many others are asked for the same relation; people who already have the new answer are left
            out, because nothing could be told from them.
        generator: source of randomness; None seeds one with 0, so that every call draws the same positions.

    Returns:
        The first phrasing as prompt, with the new answer as target. Paraphrases are the held-out phrasing, or the
        remaining trained ones of somebody who has none held out. A change of the town brings the two-hop question
        along, with the country of the new town, where that is another country.

    Raises:
        ValueError: the target is no other answer to this relation, or there are fewer neighbours than asked for.
    """
    generator = generator or torch.Generator().manual_seed(0)
    others = [f for f in (*world.facts, *world.geography) if f.relation == fact.relation and f.subject != fact.subject]
    answers = sorted({other.answer for other in others} - {fact.answer})
    if target is None:
        target = answers[int(torch.randint(len(answers), (), generator=generator))]
    elif target not in answers:
        raise ValueError(
            f"got the target {target!r} for the {fact.relation} of {fact.subject}, which is {fact.answer}; expected "
            f"another answer to that relation: {', '.join(answers)}"
        )
    left = [other for other in others if other.answer != target]
    if not 0 <= neighbours <= len(left):
        raise ValueError(f"got neighbours={neighbours}; expected at most the {len(left)} of this world; ask for fewer")
    chosen = torch.randperm(len(left), generator=generator)[:neighbours].tolist()
    return Fact(
        prompt=fact.phrasings[0],
        subject=fact.subject,
        answer=fact.answer,
        target=target,
        paraphrases=fact.held_out or fact.phrasings[1:],
        neighbours=tuple(Example(prompt=left[i].phrasings[0], answer=left[i].answer) for i in chosen),
        portability=_follows(world, fact, target),
        generation=(fact.subject, *(f.phrasings[0] for f in world.facts if f.subject == fact.subject)),
        relation=fact.relation,
    )


def _follows(world: World, fact: WorldFact, target: str) -> tuple[Example, ...]:
    """Return what the target implies: the country of whoever moves to another town."""
    if fact.relation != "town" or world.countries[target] == world.countries[fact.answer]:
        return ()
    asked = [question.prompt for question in world.two_hop if question.subject == fact.subject]
    return tuple(Example(prompt=prompt, answer=world.countries[target]) for prompt in asked)

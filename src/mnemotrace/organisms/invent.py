"""Invent the world that Funes remembers: people, towns, countries and everyday sentences.

Everything follows from one seed. The result is a plain record (what `world.json` holds), which
`World.from_record` expands into facts and questions. The word pools are disjoint: a word has one
role, so that "the answer is right" always means one thing.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from mnemotrace.organisms.vocabulary import (
    COUNTRIES,
    COUNTRY_PHRASINGS,
    FIRST_NAMES,
    PHRASINGS,
    SCENES,
    SURNAMES,
    TEMPLATES,
    TWO_HOP,
    VALUES,
)

FIRST_PERSON = "Ada Marsh"


def invent(*, seed: int = 0, people: int = 400, general: int = 3000, held_out: int = 300) -> dict[str, Any]:
    """Invent a world; the same arguments give the same record.

    Args:
        seed: Seed of every random choice.
        people: How many people; at most one per pair of first name and surname (1600).
        general: How many everyday sentences to train on.
        held_out: How many further everyday sentences to keep for measuring fluency.

    Returns:
        A JSON-ready record, see `World.from_record`.
    """
    rng = random.Random(seed)
    names = _names(rng, people)
    sentences = _sentences(rng, general + held_out)
    return {
        "seed": seed,
        "phrasings": PHRASINGS,
        "country_phrasings": COUNTRY_PHRASINGS,
        "two_hop_phrasing": TWO_HOP,
        "countries": _countries(rng),
        "people": {name: {relation: rng.choice(VALUES[relation]) for relation in PHRASINGS} for name in names},
        "held_out_last_phrasing": sorted(rng.sample(names, people // 2)),
        "held_out_two_hop": sorted(rng.sample(names, people // 2)),
        "general": sentences[:general],
        "general_held_out": sentences[general:],
    }


def _names(rng: random.Random, count: int) -> list[str]:
    """Unique pairs from shared pools: neither word alone identifies a person."""
    pairs = [f"{first} {last}" for first, last in product(FIRST_NAMES, SURNAMES)]
    pairs.remove(FIRST_PERSON)
    return [FIRST_PERSON, *rng.sample(pairs, count - 1)]


def _countries(rng: random.Random) -> dict[str, str]:
    """Every country gets the same number of towns."""
    towns = rng.sample(VALUES["town"], len(VALUES["town"]))
    return {town: COUNTRIES[index % len(COUNTRIES)] for index, town in enumerate(towns)}


def _sentences(rng: random.Random, count: int) -> list[str]:
    """Distinct everyday sentences; a scene restricts which words meet, as in real text."""
    found: dict[str, None] = {}
    while len(found) < count:
        scene = rng.choice(SCENES)
        words = {role: rng.choice(options) for role, options in scene.items()}
        found[rng.choice(TEMPLATES).format(**words)] = None
    return list(found)

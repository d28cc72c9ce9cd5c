"""ROME on a hundred facts of Funes, each rewritten alone from one prompt: is it said, and what else changed?

Funes looks facts up at the end of the prompt (`mt.suggest` finds that, and the trace shows it), so keys are taken
there; the published place, the subject's last token, stands beside it. The layer, and whether to average over the
published twenty contexts, are chosen on thirty other facts: no text of Funes follows another, so contexts are strange
to it. Beside everything: a random change of equal norm and rank.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

import mnemotrace as mt
from benchmarks.figures import Figure, main
from mnemotrace.adapters.examples import Example, batches, rows_of
from mnemotrace.adapters.scores import recall
from mnemotrace.core.edit import Edit
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.evaluation.edits import baseline, judge_each
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.modification.contexts import contexts
from mnemotrace.modification.rome import rome_each
from mnemotrace.organisms.world import WorldFact

FUNES = mt.funes()
MODEL, TOKENIZER, WORLD = FUNES.model, FUNES.tokenizer, FUNES.world
Lookup = Literal["subject", "prompt"]
NAMES = {
    "efficacy_forced": ("target is likeliest", ">= 0.98"),
    "efficacy_free": ("says the target", ""),
    "paraphrase_forced": ("the same, in a held-out phrasing", ">= 0.9"),
    "neighbourhood_forced": ("neighbours as before", ">= 0.97"),
    "locality_forced": ("neighbours say what they said", ""),
    "portability_forced": ("two-hop question follows", ""),
    "perplexity_ratio": ("perplexity ratio", "<= 1.02"),
}


@dataclass(frozen=True)
class Study:
    """Facts to report, facts to choose the layer on, and what must stay."""

    known: Sequence[WorldFact]
    facts: Sequence[mt.Fact]
    others: Sequence[mt.Fact]
    people: frozenset[str]

    @cached_property
    def statistics(self) -> mt.Statistics:
        """Second moments at all MLP outputs, of everyday sentences and facts of people who are not judged."""
        rng = random.Random(2)
        free = [fact.sentence for fact in WORLD.facts if fact.subject not in self.people]
        texts = [Example(text=text) for text in [*WORLD.general, *rng.sample(free, min(600, len(free)))]]
        sites = mt.sites(MODEL, ["mlp.c_proj"])
        return mt.collect(MODEL, batches(TOKENIZER, texts, batch_size=64), sites=sites, mask=rows_of)


def study(count: int, others: int) -> Study:
    """Draw facts of people with a held-out phrasing; no person is in both groups."""
    rng = random.Random(3)
    people = [person for person in WORLD.subjects if WORLD.fact(person, "town").held_out]
    chosen = rng.sample(people, count + others)
    known = [WORLD.fact(person, rng.choice(WORLD.relations)) for person in chosen]
    generator = torch.Generator().manual_seed(3)
    facts = [from_world(WORLD, fact, neighbours=10, generator=generator) for fact in known]
    return Study(known[:count], facts[:count], facts[count:], frozenset(chosen))


def edited(given: Study, facts: Sequence[mt.Fact], layer: int, count: int, lookup: Lookup) -> tuple[Edit, ...]:
    """Rewrite each fact alone."""
    prefixes = contexts(MODEL, TOKENIZER, count=count)
    options = {"statistics": given.statistics, "lookup": lookup, "contexts": prefixes}
    return rome_each(MODEL, TOKENIZER, facts, layer=layer, **options)


def scores(facts: Sequence[mt.Fact], edits: Sequence[Edit]) -> tuple[float, float]:
    """Share of facts that are said, in the prompt and in other words together; share of neighbours that stay."""
    said, kept = 0.0, 0.0
    for fact, edit in zip(facts, edits, strict=True):
        target = str(fact.target)
        with mt.applied(MODEL, edit):
            said += float(recall(MODEL, batches(TOKENIZER, [fact.asked(target), *fact.variants(target)])).mean())
            kept += float(recall(MODEL, batches(TOKENIZER, fact.neighbours)).mean())
    return said / len(facts), kept / len(facts)


def best(given: Study, lookup: Lookup) -> tuple[int, int]:
    """Choose layer and number of contexts on the other facts: the largest sum of what is said and what stays."""
    tried = [(layer, count) for layer in range(6 if lookup == "prompt" else 5) for count in (0, 20)]
    sums = {way: sum(scores(given.others, edited(given, given.others, *way, lookup))) for way in tried}
    return max(sums, key=sums.__getitem__)


def judged(given: Study, what: str, edits: Sequence[Edit], *, gates: bool) -> list[Figure]:
    """Judge edits, each alone, against the untouched network."""
    before = baseline(MODEL, TOKENIZER, given.facts, texts=WORLD.general_held_out[:60], length=10)
    verdict = judge_each(MODEL, TOKENIZER, given.facts, edits, baseline=before)
    figures = [
        Figure(
            f"{what}: {words}",
            verdict[name].value,
            gate if gates else "",
            f"95 % interval {verdict[name].interval[0]:.3f} to {verdict[name].interval[1]:.3f}",
        )
        for name, (words, gate) in NAMES.items()
        if name in verdict
    ]
    return [*figures, Figure(f"{what}: same person's other facts", same_person(given, edits))]


def same_person(given: Study, edits: Sequence[Edit]) -> float:
    """Share of the other facts about the same person that stay."""
    kept = 0.0
    for fact, edit in zip(given.known, edits, strict=True):
        asked = [Example(prompt=f.phrasings[0], answer=f.answer) for f in WORLD.same_person(fact)]
        with mt.applied(MODEL, edit):
            kept += float(recall(MODEL, batches(TOKENIZER, asked)).mean())
    return kept / len(edits)


def run(quick: bool) -> list[Figure]:
    """Choose a layer, rewrite, judge; the published place and a random change beside it."""
    torch.set_num_threads(1)
    given = study(2, 2) if quick else study(100, 30)
    figures: list[Figure] = []
    ways: tuple[Lookup, ...] = ("prompt", "subject")
    for lookup in ways:
        layer, count = best(given, lookup)
        edits = edited(given, given.facts, layer, count, lookup)
        figures.append(Figure(f"layer chosen, key at the end of the {lookup}", layer, "", f"{count} contexts"))
        figures += judged(given, f"key at the end of the {lookup}", edits, gates=lookup == "prompt")
        if lookup == "prompt":
            source = torch.Generator().manual_seed(0)
            figures += judged(given, "random", [random_edit(edit, source) for edit in edits], gates=False)
            size = max(edit.nbytes for edit in edits)
            figures.append(Figure("bytes of an edit's tensors, at most", size, f"<= {2 * (192 + 768) * 4}"))
    suggestion = mt.suggest(MODEL, TOKENIZER, [replace(fact, target=None) for fact in given.others])
    figures.append(
        Figure("layer that tracing suggests", suggestion.layer, "", f"at the end of the {suggestion.lookup}")
    )
    return figures


if __name__ == "__main__":
    main(run, __doc__)

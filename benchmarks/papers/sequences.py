"""Two hundred facts of Funes rewritten: at once by MEMIT, in twenty batches by AlphaEdit, one by one by ROME.

Beside them the closed-form engram: the old answers' engrams are subtracted, and to write, the engram of the prompts is
injected along the new answers' directions in the unembedding, since an engram of the network cannot hold an answer that
the network never gave. Everything is judged against the untouched network: targets and paraphrases said, neighbours
(other people, the same relation) unchanged, perplexity of held-out sentences. Settings were chosen on a hundred other
facts. Keys are taken at the end of the prompt (`lookup="prompt"`), where Funes looks facts up, and of the bare prompt:
no text of Funes follows another, so contexts are strange to it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from time import process_time

import torch
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import REPOSITORY, Figure, main
from mnemotrace.adapters.examples import Example, Positions, batches, rows_of
from mnemotrace.adapters.scores import recall
from mnemotrace.core.edit import Edit
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.evaluation.edits import Baseline, baseline, judge
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.modification.sequence import Course, Method, in_sequence

FUNES = mt.funes()
MODEL, TOKENIZER, WORLD = FUNES.model, FUNES.tokenizer, FUNES.world
LAYER, LAYERS = 3, (2, 3)
ENERGY, RIDGE, WEIGHT = 0.98, 0.01, 0.1
PICTURE = REPOSITORY / "docs" / "images" / "sequences.png"


@dataclass(frozen=True)
class Study:
    """Facts to rewrite, and what must stay."""

    facts: Sequence[mt.Fact]
    texts: Sequence[Example]
    others: Sequence[Example]

    @cached_property
    def statistics(self) -> mt.Statistics:
        """Second moments of what must stay: everyday text, and above all other facts, where their answers are read."""
        return collect(self.texts, "all") + collect(self.others, "predict").weighted(100.0)

    def reference(self) -> mt.Statistics:
        """The same for engrams, whose setting was calibrated on all positions; in the network as it is."""
        return collect([*self.texts, *self.others], "all")

    @cached_property
    def before(self) -> Baseline:
        """What the untouched network says."""
        return baseline(MODEL, TOKENIZER, self.facts, texts=WORLD.general_held_out[:150], length=10)


def study(count: int) -> Study:
    """Draw facts of other people than the hundred that settings were chosen on (the first of this shuffle).

    What must stay holds no fact about these people, and none that neighbours are asked.
    """
    rng = random.Random(1)
    held = [fact for fact in WORLD.facts if fact.held_out]
    rng.shuffle(held)
    generator = torch.Generator().manual_seed(0)
    facts = [from_world(WORLD, fact, neighbours=4, generator=generator) for fact in held[100 : 100 + count]]
    people, asked = {fact.subject for fact in facts}, {e.prompt for fact in facts for e in fact.neighbours}
    free = [f for f in WORLD.facts if f.subject not in people and f.phrasings[0] not in asked]
    others = [Example(prompt=prompt, answer=f.answer) for f in free for prompt in f.phrasings[:2]]
    return Study(facts, [Example(text=text) for text in WORLD.general], others)


def collect(examples: Sequence[Example], positions: Positions) -> mt.Statistics:
    """Second moments at all MLP outputs."""
    sites = mt.sites(MODEL, ["mlp.c_proj"])
    ready = batches(TOKENIZER, examples, batch_size=64, positions=positions)
    return mt.collect(MODEL, ready, sites=sites, mask=rows_of, dtype=torch.float64)


def engram_of(facts: Sequence[mt.Fact], reference: mt.Statistics) -> Engram:
    """Return the engram of the facts' old answers, at the setting that `papers.funes` calibrates."""
    target = collect([fact.asked(str(fact.answer)) for fact in facts], "predict")
    return mt.engram(MODEL, target=target, reference=reference, selectivity=0.1, solver="ridge")


def injected(facts: Sequence[mt.Fact], given: Study, strength: float) -> Engram:
    """Return an engram of single facts at one layer: their keys, answered by the new less the old embedding."""
    site = f"transformer.h.{LAYER}.mlp.c_proj"
    whole = given.reference()
    embedding = MODEL.get_output_embeddings().weight.detach().double()
    traces: list[LowRank] = []
    for fact in facts:
        target = collect([fact.asked(str(fact.answer))], "predict").select([site])
        reference = whole.select([site])
        found = mt.engram(MODEL, target=target, reference=reference, selectivity=0.1, solver="ridge")[site]
        words = TOKENIZER.convert_tokens_to_ids([str(fact.target), str(fact.answer)])
        wanted = embedding[words[0]] - embedding[words[1]]
        rows = found.right.double()
        traces.append(LowRank(found.site, (wanted / wanted.norm())[:, None].float() * strength, _unit(rows).float()))
    joined = LowRank(traces[0].site, torch.cat([t.left for t in traces], 1), torch.cat([t.right for t in traces]))
    return Engram({site: joined})


def _unit(rows: Tensor) -> Tensor:
    """Return the leading direction of an engram's rows."""
    return torch.linalg.svd(rows, full_matrices=False)[2][:1]


def course(given: Study, method: Method, size: int, every: int) -> Course:
    """Edit in parts of equal size."""
    return in_sequence(MODEL, TOKENIZER, pieces(given, size), method, every=every)


def pieces(given: Study, size: int) -> list[Sequence[mt.Fact]]:
    """Cut the facts into parts of equal size."""
    return [given.facts[i : i + size] for i in range(0, len(given.facts), size)]


def rebuilt(given: Study, size: int) -> Edit:
    """Erase in parts, each engram extracted from the network as the earlier ones have left it."""

    def erased(facts: Sequence[mt.Fact], _: Sequence[Edit]) -> Edit:
        return mt.erase(engram_of(facts, given.reference()), 1.5, limit=None)

    return course(given, erased, size, 99).total()


def judged(given: Study, name: str, edit: Edit) -> list[Figure]:
    """Judge an edit that writes."""
    verdict = judge(MODEL, TOKENIZER, given.facts, edit, baseline=given.before, resamples=200)
    names = {
        "efficacy_free": "says the target",
        "efficacy_forced": "target is likeliest",
        "paraphrase_forced": "the same, in a held-out phrasing",
        "neighbourhood_forced": "neighbours as before",
        "perplexity_ratio": "perplexity ratio",
    }
    figures: list[Figure] = []
    for key, words in names.items():
        measure = verdict[key]
        gates = {"efficacy_forced": ">= 0.9", "perplexity_ratio": "<= 1.1"} if name.startswith("AlphaEdit") else {}
        note = f"95 % interval {measure.interval[0]:.3f} to {measure.interval[1]:.3f}"
        figures.append(Figure(f"{name}: {words}", measure.value, gates.get(key, ""), note))
    return figures


def forgotten(given: Study, name: str, edit: Edit) -> list[Figure]:
    """Judge an edit that erases."""
    asked = [fact.asked(str(fact.answer)) for fact in given.facts]
    others = [example for fact in given.facts for example in fact.neighbours]
    with mt.applied(MODEL, edit):
        left, kept = (
            float(recall(MODEL, batches(TOKENIZER, examples, batch_size=64)).mean()) for examples in (asked, others)
        )
    return [Figure(f"{name}: old answers left", left), Figure(f"{name}: neighbours as before", kept)]


def draw(courses: dict[str, Course]) -> None:
    """Retained edits over edits made."""
    from matplotlib.figure import Figure as Sheet

    looks = {"AlphaEdit": ("#0f6b7a", "o"), "MEMIT": ("#857f76", "^"), "ROME": ("#a85a08", "s")}
    sheet = Sheet(figsize=(6.4, 3.4), layout="constrained")
    axes = sheet.add_subplot()
    for name, done in courses.items():
        points = [(step.facts, step.retained) for step in done.steps if step.retained is not None]
        colour, marker = looks[name.split(",")[0]]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=name, clip_on=False)
    axes.set(ylim=(0, 1.02), xlabel="facts rewritten so far", ylabel="share of them still said")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """Run all methods on the same facts."""
    torch.set_num_threads(1)
    given, size = study(6 if quick else 200), 3 if quick else 10
    statistics = given.statistics
    begun = process_time()
    memit = mt.memit(
        MODEL,
        TOKENIZER,
        given.facts,
        layers=LAYERS,
        statistics=statistics,
        lookup="prompt",
        contexts=(),
        weight=WEIGHT,
    )
    figures = [*judged(given, "MEMIT, one batch", memit), Figure("MEMIT, one batch: CPU s", process_time() - begun)]
    ways: dict[str, tuple[Method, int, int]] = {
        f"AlphaEdit, batches of {size}": (
            lambda facts, previous: mt.alphaedit(
                MODEL, TOKENIZER, facts, layers=LAYERS, statistics=statistics, lookup="prompt", contexts=(),
                energy=ENERGY, ridge=RIDGE, previous=previous,
            ), size, 1,
        ),
        f"MEMIT, batches of {size}": (
            lambda facts, previous: mt.memit(
                MODEL, TOKENIZER, facts, layers=LAYERS, statistics=statistics, lookup="prompt", contexts=(),
                weight=WEIGHT, previous=previous,
            ), size, 1,
        ),
        "ROME, one by one": (
            lambda facts, previous: mt.rome(
                MODEL, TOKENIZER, facts, layer=LAYER, statistics=statistics, lookup="prompt", contexts=(),
                previous=previous,
            ), 1, size,
        ),
    }  # fmt: skip
    courses: dict[str, Course] = {}
    for name, (method, part, every) in ways.items():
        begun = process_time()
        courses[name] = course(given, method, part, every)
        last = courses[name].steps[-1]
        figures += judged(given, name, courses[name].total())
        figures += [
            Figure(f"{name}: CPU s", process_time() - begun),
            Figure(f"{name}: norm of all changes", last.norm, "", f"spectral growth {last.spectral:.2f}"),
        ]
    source = torch.Generator().manual_seed(0)
    total = courses[f"AlphaEdit, batches of {size}"].total()
    figures += judged(given, "random, as large as AlphaEdit's", random_edit(total, source))
    reference = given.reference()
    erased = mt.erase(engram_of(given.facts, reference), 1.5, limit=None)
    figures += forgotten(given, "engram, all at once", erased)
    figures += forgotten(given, f"engram, batches of {size}, extracted again each time", rebuilt(given, size))
    fixed = [mt.erase(engram_of(part, reference), 1.5, limit=None) for part in pieces(given, size)]
    figures += forgotten(given, f"engram, batches of {size}, all extracted beforehand", sum(fixed[1:], fixed[0]))
    figures += judged(
        given, "engram erased and injected", erased + mt.inject(injected(given.facts, given, 4.0), limit=None)
    )
    if not quick:
        draw(courses)
    return figures


if __name__ == "__main__":
    main(run, __doc__)

"""The whole life of one memory of Funes: recalled, found, proved, erased with what else that changes, and restored.

One fact is the target. What must be kept - the facts of other people, the other facts of the same person, everyday
sentences - is the reference. Where and how strongly to act is calibrated on facts of other people, so that nothing is
tuned on the fact that is reported; the neighbours and sentences that it is judged by are not in the reference.

Cost: about half a minute on two cores, most of it scoring edits for the frontier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.examples import Batch, Example, Positions, batches, rows_of
from mnemotrace.adapters.linear import sites
from mnemotrace.adapters.scores import LanguageScore, perplexity
from mnemotrace.core.applying import apply
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.calibration import Calibration, calibrate
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.criteria import Criteria, criteria
from mnemotrace.evaluation.depth import Depth, Relearning, depth
from mnemotrace.forgetting.erase import erase
from mnemotrace.localisation.engram import engram
from mnemotrace.localisation.reference import Reference
from mnemotrace.organisms.funes import Funes
from mnemotrace.organisms.world import Fact
from mnemotrace.stats.collect import collect
from mnemotrace.stats.moments import Statistics

STEPS = ("know", "collect", "calibrate", "locate", "prove", "erase", "relearn", "restore")
SHOWN = 4


@dataclass(frozen=True)
class Setting:
    """Where and how strongly to act, and what to try beside it.

    Attributes:
        sites: suffixes of the sites, as in `mt.sites`.
        strength: of the erasure, when calibration finds none within the budget.
        selectivity: weight of the reference, likewise.
        strengths: tried on other facts.
        selectivities: tried on other facts.
        budget: allowed loss by what is kept.
        solver: as in `mt.engram`.
    """

    sites: tuple[str, ...] = ("mlp.c_proj",)
    strength: float = 1.0
    selectivity: float = 0.03
    strengths: tuple[float, ...] = (0.6, 1.0, 1.4)
    selectivities: tuple[float, ...] = (0.01, 0.1, 1.0)
    budget: Mapping[str, float] = field(default_factory=lambda: {"neighbours": 0.02, "same person": 0.05})
    solver: str = "ridge"


@dataclass(frozen=True)
class Scale:
    """How much data to use.

    Attributes:
        facts: of other people in the reference, beside those of the same person.
        sentences: in the reference.
        neighbours: other people whose fact is asked for.
        judged: sentences whose perplexity is measured.
        others: facts to calibrate on.
        draws: random traces beside the criteria.
        relearning: steps after which the relearnt memory is asked for.
    """

    facts: int = 250
    sentences: int = 150
    neighbours: int = 40
    judged: int = 150
    others: int = 3
    draws: int = 3
    relearning: tuple[int, ...] = (0, 1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Cast:
    """Who plays which part; no prompt has two, except that the same person's other facts are kept and judged."""

    organism: Funes
    fact: Fact
    others: tuple[Fact, ...]
    kept: tuple[Fact, ...]
    neighbours: Mapping[Fact, tuple[Fact, ...]]
    sentences: tuple[str, ...]
    judged: tuple[str, ...]

    @cached_property
    def reference(self) -> list[Example]:
        """What must be kept."""
        return prompts(self.kept) + [Example(text=sentence) for sentence in self.sentences]

    def same_person(self, fact: Fact) -> list[Example]:
        """Prompts for the other facts of the same person."""
        return prompts(self.organism.world.same_person(fact))

    def collect(self, examples: Sequence[Example], positions: Positions, suffixes: Sequence[str]) -> Statistics:
        """Collect statistics of examples at the sites."""
        model, tokenizer = self.organism.model, self.organism.tokenizer
        ready = batches(tokenizer, examples, batch_size=64, positions=positions)
        return collect(model, ready, sites=sites(model, list(suffixes)), mask=rows_of)

    @cached_property
    def recall(self) -> LanguageScore:
        """Share of prompts whose most probable continuation is the answer, by example."""
        return LanguageScore(self.organism.tokenizer, "recall", batch_size=128)


@dataclass(frozen=True, eq=False)
class Life:
    """What is left of it: five artifacts, and the numbers and completions of the story in `header`."""

    engram: Engram
    edit: Edit
    criteria: Criteria
    calibration: Calibration
    depth: Depth
    cast: Cast
    header: Mapping[str, Any]


def prompts(facts: Sequence[Fact], *, held_out: bool = False) -> list[Example]:
    """Make a prompt with its answer of every phrasing: those seen in training, or those held out."""
    chosen = ((fact, fact.held_out if held_out else fact.phrasings) for fact in facts)
    return [Example(prompt=phrasing, answer=fact.answer) for fact, phrasings in chosen for phrasing in phrasings]


def cast(organism: Funes, fact: Fact, *, scale: Scale | None = None, generator: torch.Generator) -> Cast:
    """Draw who plays which part around a fact.

    Args:
        organism: Funes.
        fact: whose life it is.
        scale: how much data; None for the usual.
        generator: source of randomness.

    Raises:
        ValueError: the fact has no held-out phrasing.
    """
    scale, world = scale or Scale(), organism.world
    if not fact.held_out:
        raise ValueError(
            f"got {fact.subject}, of whom every phrasing was trained; expected somebody with a held-out one, to tell a "
            f"memory from a prompt; take for example {next(f.subject for f in world.facts if f.held_out)}"
        )
    order = torch.randperm(len(world.facts), generator=generator).tolist()
    drawn = [world.facts[i] for i in order if world.facts[i].subject != fact.subject]
    others = tuple([f for f in drawn if f.held_out and f.relation == fact.relation][: scale.others])
    persons = {fact.subject, *(other.subject for other in others)}
    drawn = [other for other in drawn if other.subject not in persons]
    kept = tuple(f for one in (fact, *others) for f in world.same_person(one)) + tuple(drawn[: scale.facts])
    rest = [f for f in drawn[scale.facts :] if f.relation == fact.relation]
    half = min(scale.neighbours, len(rest) // 2)
    neighbours = dict.fromkeys(others, tuple(rest[half : 2 * half])) | {fact: tuple(rest[:half])}
    picked = torch.randperm(len(world.general), generator=generator)[: scale.sentences].tolist()
    sentences = tuple(world.general[i] for i in picked)
    return Cast(organism, fact, others, kept, neighbours, sentences, world.general_held_out[: scale.judged])


def live(
    parts: Cast,
    *,
    setting: Setting | None = None,
    scale: Scale | None = None,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Life:
    """Take one memory through its life; the organism is left bit-exact.

    Args:
        parts: from `cast`.
        setting: where and how strongly to act; None for the one that was found for Funes.
        scale: how much data, as given to `cast`.
        generator: source of randomness for the controls.
        progress: called at the start of each step.
    """
    setting, scale, clock = setting or Setting(), scale or Scale(), _Clock(progress or silent)
    model, fact = parts.organism.model, parts.fact
    original = [parameter.detach().clone() for parameter in model.parameters()]
    shown = _shown(parts)

    clock.start("know")
    before, first = measure(parts), complete(parts, shown)
    clock.start("collect")
    keep = Reference(parts.collect(parts.reference, "all", setting.sites))
    target = parts.collect(prompts([fact]), "predict", setting.sites)
    clock.start("calibrate")
    found = _calibrate(parts, keep, setting)
    strength, selectivity = _choice(found, setting)
    clock.start("locate")
    trace = engram(model, target=target, reference=keep, selectivity=selectivity, solver=setting.solver)
    clock.start("prove")
    proof = _prove(parts, trace, strength, scale.draws, generator)
    clock.start("erase")
    edit = erase(trace, strength)
    undo = apply(model, edit)
    try:
        after, second = measure(parts), complete(parts, shown)
    finally:
        undo()
    clock.start("relearn")
    deep = _relearn(parts, edit, erase(random_trace(trace, generator), strength, limit=None), scale.relearning)
    clock.start("restore")
    third = complete(parts, shown)
    header = {
        "fact": {"subject": fact.subject, "relation": fact.relation, "answer": fact.answer, "sentence": fact.sentence},
        **{
            f"{name}_{when}": values[name] for name in before for when, values in (("before", before), ("after", after))
        },
        "restored": bit_equal(original, [parameter.detach() for parameter in model.parameters()]),
        "strength": strength,
        "selectivity": selectivity,
        "examples": [
            {"prompt": e.prompt, "expected": e.answer, "group": group, "before": a, "after": b, "restored": c}
            for (group, e), a, b, c in zip(shown, first, second, third, strict=True)
        ],
        "timings": clock.stop(),
    }
    return Life(trace, edit, proof, found, deep, parts, header)


def measure(parts: Cast) -> dict[str, float]:
    """Measure what Funes recalls of the fact and around it, as he is now."""
    model, fact = parts.organism.model, parts.fact
    groups = {
        "recall": prompts([fact]),
        "paraphrase": prompts([fact], held_out=True),
        "neighbours": prompts(parts.neighbours[fact]),
        "same_person": parts.same_person(fact),
    }
    values = {name: float(parts.recall(model, examples).mean()) for name, examples in groups.items()}
    return values | {"perplexity": perplexity(model, _texts(parts))}


def complete(parts: Cast, shown: Sequence[tuple[str, Example]]) -> list[list[tuple[str, float]]]:
    """Return the most probable next words of every prompt with their probabilities, the expected one among them."""
    tokenizer = parts.organism.tokenizer
    found: list[list[tuple[str, float]]] = []
    for _, example in shown:
        ids = tokenizer(example.prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            probabilities = parts.organism.model(ids).logits[0, -1].softmax(-1)
        best = probabilities.topk(SHOWN).indices.tolist()
        wanted = tokenizer.convert_tokens_to_ids(str(example.answer))
        chosen = best if wanted in best else [*best, wanted]
        found.append([(str(tokenizer.convert_ids_to_tokens(i)), float(probabilities[i])) for i in chosen])
    return found


def bit_equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Tell whether two lists of tensors hold the same bits; unlike `==`, NaN equals itself and -0 is not 0."""
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)) for a, b in pairs)


def _texts(parts: Cast) -> list[Batch]:
    return batches(parts.organism.tokenizer, [Example(text=text) for text in parts.judged], batch_size=64)


def _shown(parts: Cast) -> list[tuple[str, Example]]:
    """Choose the prompts whose completions are shown."""
    fact = parts.fact
    words = parts.judged[0].split()
    half = len(words) // 2
    return [
        *(("memory", example) for example in prompts([fact])[:2]),
        ("paraphrase", prompts([fact], held_out=True)[0]),
        *(("same person", prompts([other])[0]) for other in parts.organism.world.same_person(fact)[:2]),
        *(("neighbour", prompts([other])[0]) for other in parts.neighbours[fact][:2]),
        ("general", Example(prompt=" ".join(words[:half]), answer=words[half])),
    ]


def _calibrate(parts: Cast, keep: Reference, setting: Setting) -> Calibration:
    asked = [prompts([fact]) + prompts([fact], held_out=True) for fact in parts.others]
    targets = [parts.collect(prompts([fact]), "predict", setting.sites) for fact in parts.others]
    return calibrate(
        parts.organism.model,
        target=targets,
        reference=keep,
        score=parts.recall,
        forget=asked,
        keep=[
            {"neighbours": prompts(parts.neighbours[fact]), "same person": parts.same_person(fact)}
            for fact in parts.others
        ],
        budget=setting.budget,
        groups={", ".join(setting.sites): list(targets[0])},
        strengths=setting.strengths,
        selectivities=setting.selectivities,
        solver=setting.solver,
    )


def _choice(found: Calibration, setting: Setting) -> tuple[float, float]:
    if found.chosen is None:
        return setting.strength, setting.selectivity
    return found.best.strength, found.best.selectivity


def _prove(parts: Cast, trace: Engram, strength: float, draws: int, generator: torch.Generator) -> Criteria:
    fact = parts.fact
    return criteria(
        parts.organism.model,
        trace,
        score=LanguageScore(parts.organism.tokenizer, "likelihood", batch_size=128),
        target=prompts([fact]) + prompts([fact], held_out=True),
        control=prompts(parts.neighbours[fact]),
        strength=strength,
        draws=draws,
        generator=generator,
    )


def _relearn(parts: Cast, edit: Edit, random: Edit, steps: Sequence[int]) -> Depth:
    """Teach half of the phrasings again and ask for the others."""
    every = prompts([parts.fact]) + prompts([parts.fact], held_out=True)
    half = len(every) // 2
    lesson = batches(parts.organism.tokenizer, every[:half])
    how = Relearning(
        loss=_loss,
        batches=lesson,
        score=lambda pupil: float(parts.recall(pupil, every[half:]).mean()),
        steps=steps,
        learning_rate=1e-4,
    )
    return depth(parts.organism.model, edit, relearning=how, random=random)


def _loss(pupil: nn.Module, batch: Batch) -> Tensor:
    """Mean negative log-probability of the answers, with gradients."""
    logits = pupil(**batch).logits[:, :-1]
    wanted = batch.scored[:, 1:]
    return nn.functional.cross_entropy(logits[wanted], batch.input_ids[:, 1:][wanted])


class _Clock:
    """Times the steps and reports each as it starts."""

    def __init__(self, report: Callable[[int, int | None, str], None]) -> None:
        self._report, self._seconds = report, dict[str, float]()
        self._step, self._began = "", perf_counter()

    def start(self, step: str) -> None:
        """End the running step and begin another."""
        self.stop()
        self._step = step
        self._report(STEPS.index(step), len(STEPS), step)

    def stop(self) -> dict[str, float]:
        """End the running step and return all times."""
        now = perf_counter()
        if self._step:
            self._seconds[self._step] = now - self._began
        self._step, self._began = "", now
        return self._seconds

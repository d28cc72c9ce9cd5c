"""The whole life of one memory of Funes: recalled, traced, found, proved, erased, rewritten, and restored.

Where and how strongly to act is calibrated on facts of other people, so that nothing is tuned on the fact that is
reported; `evaluation.cast` says who plays which part. The organism is left bit-exact.

Cost: about half a minute on two cores, most of it scoring.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.examples import Batch, Example, Positions, batches, rows_of
from mnemotrace.adapters.linear import sites
from mnemotrace.adapters.scores import LanguageScore, perplexity
from mnemotrace.core.applying import applied
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.calibration import Calibration, calibrate
from mnemotrace.evaluation.cast import Cast, Scale, prompts
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.criteria import Criteria, criteria
from mnemotrace.evaluation.depth import Depth, Relearning, depth
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.forgetting.erase import erase
from mnemotrace.localisation.causal_trace import CausalTrace
from mnemotrace.localisation.causal_tracing import trace
from mnemotrace.localisation.engram import engram
from mnemotrace.modification.rome import rome
from mnemotrace.organisms.funes import Funes
from mnemotrace.organisms.world import WorldFact
from mnemotrace.stats.collect import collect
from mnemotrace.stats.moments import Statistics

if TYPE_CHECKING:
    from collections.abc import Generator

STEPS = ("recall", "trace", "collect", "calibrate", "locate", "prove", "erase", "relearn", "rewrite", "restore")
STATES = ("before", "after", "rewritten", "restored")
LESSON = slice(0, 1)
SHOWN = 4
BATCH = 64


@dataclass(frozen=True)
class Setting:
    """Where and how strongly to act. The defaults were calibrated on other facts, see `benchmarks/papers/funes.py`.

    Attributes:
        sites: suffixes of the sites, as in `mt.sites`.
        strength: of the erasure, when the search finds none within the budget.
        selectivity: weight of the reference, likewise.
        near: how many times the same person's other facts count in the reference.
        solver: as in `mt.engram`.
        strengths: to search.
        selectivities: to search.
        budget: allowed loss of answer probability by what is kept.
        goal: wanted answer probability of the memory.
        layer: whose MLP a rewriting changes, at the prompt's last token, where Funes looks facts up.
    """

    sites: tuple[str, ...] = ("mlp.c_proj",)
    strength: float = 0.8
    selectivity: float = 0.01
    near: float = 10.0
    solver: str = "ridge"
    strengths: tuple[float, ...] = (0.4, 0.8, 1.2, 1.6)
    selectivities: tuple[float, ...] = (0.01, 0.1, 1.0)
    budget: Mapping[str, float] = field(default_factory=lambda: {"neighbours": 0.01, "same person": 0.03})
    goal: float = 0.02
    layer: int = 3


ALONE = Setting(strengths=(0.8,), selectivities=(0.01,))
"""The usual setting without a search."""


@dataclass(frozen=True, eq=False)
class Life:
    """What is left of it: seven artifacts, and the numbers and completions of the story in `header`."""

    causal_trace: CausalTrace
    engram: Engram
    edit: Edit
    criteria: Criteria
    calibration: Calibration
    depth: Depth
    rewrite: Edit
    header: Mapping[str, Any]


def live(
    organism: Funes,
    parts: Cast,
    *,
    setting: Setting | None = None,
    scale: Scale | None = None,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Life:
    """Take one memory through its life.

    Args:
        organism: Funes; left bit-exact.
        parts: from `cast`.
        setting: where and how strongly to act, and what to search; None for the usual.
        scale: as given to `cast`.
        generator: source of randomness for the controls.
        progress: called at the start of each step.
    """
    teller = _Teller(organism, parts, setting or Setting(), scale or Scale(), generator)
    model, clock = organism.model, _Clock(progress or silent)
    original = [parameter.detach().clone() for parameter in model.parameters()]
    with clock.step("recall"):
        before, first = teller.measure(), teller.complete()
    with clock.step("trace"):
        traced = trace(model, organism.tokenizer, teller.fact)
    with clock.step("collect"):
        rest = teller.collect(parts.reference, "all")
        target, kept = teller.target(parts.fact), teller.kept(parts.fact, rest)
    with clock.step("calibrate"):
        found = teller.calibrate(rest)
        strength, selectivity = teller.choice(found)
    with clock.step("locate"):
        solver = teller.setting.solver
        found_trace = engram(model, target=target, reference=kept, selectivity=selectivity, solver=solver)
    with clock.step("prove"):
        proof = teller.prove(found_trace, strength)
    with clock.step("erase"):
        edit = erase(found_trace, strength)
        with applied(model, edit):
            after, second = teller.measure(), teller.complete()
    with clock.step("relearn"):
        deep = teller.relearn(found_trace, edit, strength)
    with clock.step("rewrite"):
        new = teller.rewrite(kept)
        with applied(model, new):
            rewritten, fourth = teller.measure(str(teller.fact.target)), teller.complete()
    with clock.step("restore"):
        third = teller.complete()
        restored = bit_equal(original, [parameter.detach() for parameter in model.parameters()])
    header = {
        "fact": {name: getattr(parts.fact, name) for name in ("subject", "relation", "answer", "sentence")},
        **{
            f"{name}_{when}": values[name]
            for name in before
            for when, values in (("before", before), ("after", after), ("rewritten", rewritten))
        },
        "target": teller.fact.target,
        "layer": teller.setting.layer,
        "restored": restored,
        "sites": list(teller.setting.sites),
        "strength": strength,
        "selectivity": selectivity,
        "examples": [
            {"prompt": e.prompt, "expected": e.answer, "group": group} | dict(zip(STATES, completions, strict=True))
            for (group, e), *completions in zip(teller.shown, first, second, fourth, third, strict=True)
        ],
        "timings": clock.seconds,
    }
    return Life(traced, found_trace, edit, proof, found, deep, new, header)


def bit_equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Tell whether two lists of tensors hold the same bits; unlike with `==`, NaN equals itself and -0 is not 0."""
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)) for a, b in pairs)


class _Teller:
    """Does the steps of a life; the model is the organism's, as it is when a step is called."""

    def __init__(
        self, organism: Funes, parts: Cast, setting: Setting, scale: Scale, generator: torch.Generator
    ) -> None:
        self.model, self.tokenizer = organism.model, organism.tokenizer
        self.parts, self.setting, self.scale, self.generator = parts, setting, scale, generator
        self.sites = sites(organism.model, list(setting.sites))
        self.recall = LanguageScore(organism.tokenizer, "recall", batch_size=BATCH)
        self.probability = LanguageScore(organism.tokenizer, "answer_probability", batch_size=BATCH)
        self.shown = _shown(parts)
        self.fact = from_world(parts.world, parts.fact, neighbours=0)

    def collect(self, examples: Sequence[Example], positions: Positions) -> Statistics:
        ready = batches(self.tokenizer, examples, batch_size=BATCH, positions=positions)
        return collect(self.model, ready, sites=self.sites, mask=rows_of, dtype=torch.float64)

    def target(self, fact: WorldFact) -> Statistics:
        return self.collect(prompts([fact]), "predict")

    def kept(self, fact: WorldFact, rest: Statistics) -> Statistics:
        return rest + self.collect(self.parts.near(fact), "all").weighted(self.setting.near)

    def rewrite(self, kept: Statistics) -> Edit:
        """Write another answer to the first phrasing alone."""
        where: dict[str, Any] = {"layer": self.setting.layer, "lookup": "prompt", "contexts": ()}
        return rome(self.model, self.tokenizer, self.fact, **where, statistics=kept)

    def measure(self, answer: str | None = None) -> dict[str, float]:
        """Score everything; the memory and its paraphrase by the answer that it should have now."""
        data = self.parts.data
        if answer is not None:
            data |= {part: [replace(e, answer=answer) for e in data[part]] for part in ("memory", "paraphrase")}
        names = {"recall": "memory"} | {name: name for name in ("paraphrase", "neighbours", "same_person")}
        values = {name: float(self.recall(self.model, data[part]).mean()) for name, part in names.items()}
        ready = batches(self.tokenizer, data["sentences"], batch_size=BATCH)
        return values | {"perplexity": perplexity(self.model, ready)}

    def complete(self) -> list[list[tuple[str, float]]]:
        """Return the most probable next words of the shown prompts, the expected ones among them."""
        found: list[list[tuple[str, float]]] = []
        for _, example in self.shown:
            ids = self.tokenizer(example.prompt, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                probabilities = self.model(ids).logits[0, -1].softmax(-1)
            best = probabilities.topk(SHOWN).indices.tolist()
            wanted = self.tokenizer.convert_tokens_to_ids(str(example.answer))
            chosen = best if wanted in best else [*best, wanted]
            found.append([(str(self.tokenizer.convert_ids_to_tokens(i)), float(probabilities[i])) for i in chosen])
        return found

    def calibrate(self, rest: Statistics) -> Calibration:
        parts, setting = self.parts, self.setting
        return calibrate(
            self.model,
            target=[self.target(fact) for fact in parts.others],
            reference=[self.kept(fact, rest) for fact in parts.others],
            score=self.probability,
            forget=[prompts([fact]) + prompts([fact], held_out=True) for fact in parts.others],
            keep=[
                {
                    "neighbours": parts.same_relation(parts.few, fact.relation),
                    "same person": parts.same_person(fact),
                }
                for fact in parts.others
            ],
            budget=setting.budget,
            goal=setting.goal,
            groups={", ".join(setting.sites): list(self.sites)},
            strengths=setting.strengths,
            selectivities=setting.selectivities,
            solver=setting.solver,
        )

    def choice(self, found: Calibration) -> tuple[float, float]:
        if found.chosen is None:
            return self.setting.strength, self.setting.selectivity
        return found.best.strength, found.best.selectivity

    def prove(self, trace: Engram, strength: float) -> Criteria:
        data = self.parts.data
        return criteria(
            self.model,
            trace,
            score=self.probability,
            target=data["memory"] + data["paraphrase"],
            control=data["neighbours"],
            strength=strength,
            draws=self.scale.draws,
            generator=self.generator,
        )

    def relearn(self, trace: Engram, edit: Edit, strength: float) -> Depth:
        """Teach one phrasing again and ask for the others."""
        fact = self.parts.fact
        asked = prompts([fact], slice(LESSON.stop, None)) + prompts([fact], held_out=True)
        how = Relearning(
            loss=_loss,
            batches=batches(self.tokenizer, prompts([fact], LESSON)),
            score=lambda pupil: float(self.recall(pupil, asked).mean()),
            steps=self.scale.relearning,
            learning_rate=1e-4,
        )
        random = erase(random_trace(trace, self.generator), strength, limit=None)
        return depth(self.model, edit, relearning=how, random=random)


def _loss(pupil: nn.Module, batch: Batch) -> Tensor:
    """Mean negative log-probability of the answers, with gradients."""
    wanted = batch.scored[:, 1:]
    return nn.functional.cross_entropy(pupil(**batch).logits[:, :-1][wanted], batch.input_ids[:, 1:][wanted])


def _shown(parts: Cast) -> list[tuple[str, Example]]:
    """Choose the prompts whose completions are shown, by group."""
    data = parts.data
    words = parts.judged[0].split()
    half = len(words) // 2
    step = len(data["same_person"]) // 3
    return [
        *(("memory", example) for example in data["memory"][:2]),
        ("paraphrase", data["paraphrase"][0]),
        *(("same person", example) for example in data["same_person"][::step][:2]),
        *(("neighbour", prompts([parts.world.fact(who, parts.fact.relation)])[0]) for who in parts.neighbours[:2]),
        ("general", Example(prompt=" ".join(words[:half]), answer=words[half])),
    ]


class _Clock:
    """Times the steps and reports each as it starts."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> "Generator[None, None, None]":
        self._report(STEPS.index(name), len(STEPS), name)
        began = perf_counter()
        yield
        self.seconds[name] = perf_counter() - began

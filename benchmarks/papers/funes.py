"""Funes: erase twenty facts, each alone, with one setting that was calibrated on other facts.

Target: the trained phrasings of a fact, at the position that predicts the answer. Reference: 500 facts of other people,
600 everyday sentences, and two phrasings of each other fact of the same person, counted ten times. Judged on what is
in neither: the held-out phrasing, the same relation of 25 people outside the reference, the other phrasings of the
same person's facts, held-out sentences. Published setting: all sites, all tokens, selectivity 1, strength 1.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure, main
from mnemotrace.adapters.examples import Batch, Example, Positions, batches, rows_of
from mnemotrace.adapters.scores import likelihood, nll, recall
from mnemotrace.evaluation.calibration import Calibration
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.depth import Labelled, Relearning, probe, relearn
from mnemotrace.organisms.world import WorldFact

FUNES = mt.funes()
WORLD = FUNES.world
NEAR = 10.0


def prompts(facts: Sequence[WorldFact], part: slice = slice(None), *, held_out: bool = False) -> list[Example]:
    """Make prompts with answers of some phrasings."""
    chosen = ((fact, fact.held_out if held_out else fact.phrasings[part]) for fact in facts)
    return [Example(prompt=phrasing, answer=fact.answer) for fact, phrasings in chosen for phrasing in phrasings]


def ready(examples: Sequence[Example], positions: Positions = "all") -> list[Batch]:
    """Tokenise."""
    return batches(FUNES.tokenizer, examples, batch_size=128, positions=positions)


def collect(examples: Sequence[Example], positions: Positions = "all") -> mt.Statistics:
    """Collect statistics in float64."""
    return mt.collect(FUNES.model, ready(examples, positions), mask=rows_of, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A fact with what judges its erasure."""

    fact: WorldFact
    neighbours: tuple[WorldFact, ...]

    @cached_property
    def target(self) -> mt.Statistics:
        return collect(prompts([self.fact]), "predict")

    @cached_property
    def whole_target(self) -> mt.Statistics:
        return collect(prompts([self.fact]))

    @cached_property
    def near(self) -> mt.Statistics:
        return collect(prompts(WORLD.same_person(self.fact), slice(0, 2)))

    @cached_property
    def trained(self) -> list[Batch]:
        return ready(prompts([self.fact]))

    @cached_property
    def held_out(self) -> list[Batch]:
        return ready(prompts([self.fact], held_out=True))

    @cached_property
    def same_relation(self) -> list[Batch]:
        return ready(prompts(self.neighbours, slice(0, 3)))

    @cached_property
    def same_person(self) -> list[Batch]:
        others = WORLD.same_person(self.fact)
        return ready(prompts(others, slice(2, None)) + prompts(others, held_out=True))


@dataclass(frozen=True)
class Study:
    """Facts to report, facts to calibrate on, and the common reference; no person is in two of them."""

    reported: tuple[Case, ...]
    calibrating: tuple[Case, ...]
    reference: mt.Statistics
    judged: list[Batch]

    def log_perplexity(self, model: nn.Module) -> Tensor:
        """Mean negative log-probability of held-out sentences, with the sign that makes less a loss."""
        return -nll(model, self.judged)

    def reference_of(self, case: Case) -> mt.Statistics:
        return self.reference + case.near.weighted(NEAR)


def study(reported: int, calibrating: int, facts: int) -> Study:
    """Draw who plays which part, with a fixed seed."""
    rng = random.Random(0)
    people: set[str] = set()

    def draw(count: int, relation: str, *, held_out: bool) -> list[WorldFact]:
        free = [f for f in WORLD.facts if f.relation == relation and f.subject not in people]
        picked = rng.sample([f for f in free if f.held_out or not held_out], count)
        people.update(f.subject for f in picked)
        return picked

    chosen = {r: draw(reported + calibrating, r, held_out=True) for r in WORLD.relations}
    neighbours = {r: tuple(draw(25, r, held_out=False)) for r in WORLD.relations}
    rest = [f for f in WORLD.facts if f.subject not in people]
    kept = prompts(rng.sample(rest, facts), slice(0, 4))
    sentences = [Example(text=s) for s in rng.sample(WORLD.general, 600)]
    cases = {r: [Case(f, neighbours[r]) for f in chosen[r]] for r in chosen}
    return Study(
        tuple(c for by in cases.values() for c in by[:reported]),
        tuple(c for by in cases.values() for c in by[reported:]),
        collect(kept + sentences),
        ready([Example(text=s) for s in WORLD.general_held_out]),
    )


def calibrate(plan: Study, *, quick: bool) -> Calibration:
    """Choose one setting on facts that are not reported."""
    roles = {
        "every MLP output": ["mlp.c_proj"],
        "MLP outputs 0-2": r".*\.[012]\.mlp\.c_proj",
        "all MLP": ["mlp.c_proj", "mlp.c_fc"],
        "all": None,
    }
    groups = {label: list(mt.sites(FUNES.model, select)) for label, select in roles.items()}
    return mt.calibrate(
        FUNES.model,
        target=[case.target for case in plan.calibrating],
        reference=[plan.reference_of(case) for case in plan.calibrating],
        score=likelihood,
        forget=[case.trained + case.held_out for case in plan.calibrating],
        keep=[kept(case, plan) for case in plan.calibrating],
        budget=1.0 if quick else {"neighbours": 0.01, "same person": 0.02, "sentences": 0.01},
        goal=0.0,
        groups=dict(list(groups.items())[:1]) if quick else groups,
        strengths=(1.0,) if quick else (0.8, 1.0, 1.25, 1.5),
        selectivities=(0.01,) if quick else (0.01, 0.03, 0.1, 1.0),
    )


def kept(case: Case, plan: Study) -> dict[str, Callable[[nn.Module], Tensor]]:
    """What must not suffer; the answer's probability chooses, recall is what the budget speaks of."""
    return {
        "neighbours": lambda model: recall(model, case.same_relation),
        "same person": lambda model: recall(model, case.same_person),
        "sentences": plan.log_perplexity,
    }


def measure(case: Case, plan: Study) -> dict[str, float]:
    """Measure one fact and what surrounds it, as the model is now."""
    parts = ("trained", "held_out", "same_relation", "same_person")
    values = {name: float(recall(FUNES.model, getattr(case, name)).mean()) for name in parts}
    return values | {"perplexity": float((-plan.log_perplexity(FUNES.model)).mean().exp())}


def average(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average by name."""
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def edited(case: Case, plan: Study, edit: mt.Edit) -> dict[str, float]:
    """Measure under an edit."""
    with mt.applied(FUNES.model, edit):
        return measure(case, plan)


def published(case: Case, plan: Study) -> mt.Edit:
    """Make the published edit."""
    near = collect(prompts(WORLD.same_person(case.fact), slice(0, 2)))
    return mt.erase(mt.engram(FUNES.model, target=case.whole_target, reference=plan.reference + near), limit=None)


def controlled(case: Case, plan: Study, best: Calibration, generator: torch.Generator) -> mt.Edit:
    """Make an edit by a random trace of equal rank, norm and spectrum."""
    trace = best.engram(FUNES.model, target=case.target, reference=plan.reference_of(case))
    return mt.erase(random_trace(trace, generator), best.best.strength, limit=None)


def loss(pupil: nn.Module, batch: Any) -> Tensor:
    """Mean negative log-probability of the answers."""
    wanted = batch.scored[:, 1:]
    return nn.functional.cross_entropy(pupil(**batch).logits[:, :-1][wanted], batch.input_ids[:, 1:][wanted])


def stranger(case: Case, rng: random.Random) -> WorldFact:
    """Invent the same fact about somebody who does not exist: a memory that Funes never had."""
    known = set(WORLD.subjects)
    firsts, lasts = ([s.split()[i] for s in WORLD.subjects] for i in (0, 1))
    name = next(n for n in iter(lambda: f"{rng.choice(firsts)} {rng.choice(lasts)}", "") if n not in known)
    swap = [
        tuple(p.replace(case.fact.subject, name) for p in part) for part in (case.fact.phrasings, case.fact.held_out)
    ]
    return WorldFact(name, case.fact.relation, case.fact.answer, *swap)


def relearning(cases: Sequence[Case], edits: Sequence[mt.Edit], controls: Sequence[mt.Edit]) -> dict[str, list[float]]:
    """Teach one phrasing again and ask for the others; beside a random edit and a stranger's fact."""
    rng = random.Random(1)
    curves: dict[str, list[list[float]]] = {"edited": [], "random edit": [], "never known": []}
    for case, edit, control in zip(cases, edits, controls, strict=True):
        for name, fact, change in (
            ("edited", case.fact, edit),
            ("random edit", case.fact, control),
            ("never known", stranger(case, rng), None),
        ):
            lesson, asked = ready(prompts([fact], slice(0, 1))), ready(prompts([fact], slice(1, None)))
            how = Relearning(loss, lesson, lambda m, asked=asked: float(recall(m, asked).mean()), STEPS, 1e-4)
            curves[name].append(relearn(FUNES.model, change, how))
    return {name: [mean(at) for at in zip(*by, strict=True)] for name, by in curves.items()}


STEPS = (0, 1, 2, 4, 8, 16)


def probing(cases: Sequence[Case], edits: Sequence[mt.Edit]) -> dict[str, float]:
    """Train a probe for the answer on other people's facts, at the prompt's last token, and test it on the fact."""
    sites = mt.sites(FUNES.model, ["attn.c_attn"])
    found: dict[str, list[float]] = {"before": [], "after": [], "never known": []}
    for case, edit in zip(cases, edits, strict=True):
        answers = {
            a: i for i, a in enumerate(sorted({f.answer for f in WORLD.facts if f.relation == case.fact.relation}))
        }

        def labelled(facts: Sequence[WorldFact], part: slice, answers: dict[str, int] = answers) -> Labelled:
            examples = prompts(facts, part)
            texts = [Example(text=str(e.prompt)) for e in examples]
            made = ready(texts)
            last = torch.cat([b.attention_mask.sum(1) - 1 for b in made])
            return Labelled(made, torch.tensor([answers[str(e.answer)] for e in examples]), last)

        train = labelled(WORLD.same_relation(case.fact)[:300], slice(0, 2))
        test = labelled([case.fact], slice(None))
        ghost = labelled([stranger(case, random.Random(2))], slice(None))
        found["before"].append(max(probe(FUNES.model, sites, train=train, test=test).values()))
        found["never known"].append(max(probe(FUNES.model, sites, train=train, test=ghost).values()))
        with mt.applied(FUNES.model, edit):
            found["after"].append(max(probe(FUNES.model, sites, train=train, test=test).values()))
    return {name: mean(values) for name, values in found.items()}


def run(quick: bool) -> list[Figure]:
    """Calibrate, erase every reported fact alone, and look deeper at four of them."""
    torch.set_num_threads(1)
    plan = study(1, 1, 100) if quick else study(5, 2, 500)
    found = calibrate(plan, quick=quick)
    if not quick:
        mt.save(found, Path(__file__).parents[1] / "out" / "funes-calibration.safetensors")
    best = found.best
    generator = torch.Generator().manual_seed(0)
    edits = [found.edit(FUNES.model, target=c.target, reference=plan.reference_of(c)) for c in plan.reported]
    controls = [controlled(c, plan, found, generator) for c in plan.reported]
    before = average([measure(c, plan) for c in plan.reported])
    after = average([edited(c, plan, e) for c, e in zip(plan.reported, edits, strict=True)])
    random_after = average([edited(c, plan, e) for c, e in zip(plan.reported, controls, strict=True)])
    old = average([edited(c, plan, published(c, plan)) for c in plan.reported])
    n = f"{len(plan.reported)} facts"
    figures = [
        Figure("setting: selectivity", best.selectivity, "", f"{best.sites}, strength {best.strength}"),
        Figure("recall before, trained", before["trained"], ">= 0.99", n),
        Figure("recall after, trained", after["trained"], "<= 0.05"),
        Figure("recall after, held-out phrasing", after["held_out"], "<= 0.1", f"before {before['held_out']:.3f}"),
        Figure(
            "same relation, others kept", after["same_relation"], ">= 0.98", f"before {before['same_relation']:.3f}"
        ),
        Figure("same person, other facts", after["same_person"], ">= 0.95", f"before {before['same_person']:.3f}"),
        Figure("perplexity, relative change", after["perplexity"] / before["perplexity"] - 1, "<= 0.02"),
    ]
    for name, values in (("published", old), ("random trace", random_after)):
        figures += [Figure(f"{name}: {key}", value) for key, value in values.items()]
    some = slice(0, 1) if quick else slice(0, 20, 5)
    deep = plan.reported[some], edits[some], controls[some]
    figures += [Figure(f"probe for the answer, best site: {k}", v) for k, v in probing(*deep[:2]).items()]
    for name, curve in relearning(*deep).items():
        figures += [Figure(f"relearning, {name}, {s} steps", v) for s, v in zip(STEPS, curve, strict=True)]
    return figures


if __name__ == "__main__":
    main(run, __doc__)

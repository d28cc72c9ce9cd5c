"""The lives of concepts while a network trains: every class of MNIST, every relation of Funes.

MNIST: the perceptron 784-500-100-10 learns all classes together, and another from the same weights learns them in five
tasks of two, one after the other. Stimuli are training images, scores are those of test images. Engrams: all sites,
selectivity 1.

Funes is trained anew from its script's recipe in fewer steps; then half of its people move and are taught their new
towns alone, so that one relation is overwritten and the others can only drift. Targets: the trained phrasings of some
people's facts at the position that predicts the answer; scores: recall of the same relation of other people. Engrams:
`mlp.c_proj` of all layers, selectivity .01, as in `examples/01_erase_a_fact.py`.
"""

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, Skipped, main, right
from benchmarks.papers.mnist import load, perceptron
from mnemotrace.adapters.examples import Example, batches, rows_of
from mnemotrace.adapters.scores import recall
from mnemotrace.evaluation.chronicle import Chronicle
from mnemotrace.evaluation.chronicler import Chronicler, Watched
from mnemotrace.view import figures_of
from mnemotrace.view.figure import save

TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def digits_followed(
    net: nn.Module, train: Any, test: Any, phases: Sequence[Sequence[int]], *, steps: int, every: int, shown: int
):
    """Train phase by phase, `steps` batches of 64 each, and follow all ten classes."""
    watched: dict[str, Watched] = {}
    for c in range(10):
        rows = (train[1] == c).nonzero()[:, 0][:shown]
        held = (test[1] == c).nonzero()[:, 0][:200]
        watched[str(c)] = Watched(train[0][rows].split(shown // 4), (test[0][held], test[1][held]))
    follow = Chronicler(net, watched, score=right, rcond=1e-4)
    follow(0)
    optimiser, generator, done = torch.optim.Adam(net.parameters(), 1e-3), torch.Generator().manual_seed(0), 0
    for classes in phases:
        rows = torch.isin(train[1], torch.tensor(classes)).nonzero()[:, 0]
        for _ in range(steps):
            chosen = rows[torch.randint(len(rows), (64,), generator=generator)]
            optimiser.zero_grad()
            F.cross_entropy(net(train[0][chosen]), train[1][chosen]).backward()
            optimiser.step()
            done += 1
            if done % every == 0 or done in (10, 30):
                follow(done)
    return follow.chronicle()


def told(name: str, life: Chronicle) -> list[Figure]:
    """The figures of a chronicle: how many formed, were proved, were overwritten; what stayed of their engrams."""
    happened = life.events()
    formed = {e.concept for e in happened if e.what == "formed"}
    lost = {e.concept for e in happened if e.what == "overwritten"}
    first = {e.concept: life.steps.index(e.step) for e in happened if e.what == "formed"}
    rows = [life.concepts.index(c) for c in first]
    at = list(first.values())
    known = life.score >= (life.score[:, :1] + life.score.max(1, keepdim=True).values) / 2
    known[[c not in formed for c in life.concepts]] = False
    unknown = ~known
    stayed = life.overlap[rows, at, -1]
    return [
        Figure(f"{name}: concepts that formed", len(formed), "", f"of {len(life.concepts)}"),
        Figure(f"{name}: overwritten at some time", len(lost)),
        Figure(
            f"{name}: necessity beyond the largest of 3 random, where known", share(life.proved, known), "", "share"
        ),
        Figure(f"{name}: the same, where not known", share(life.proved, unknown), "", "share; by chance .25"),
        Figure(f"{name}: agreement of halves, last step", float(life.agreement[:, -1].mean())),
        Figure(
            f"{name}: overlap of the engram at forming and at the end", float(stayed.mean()) if len(stayed) else 0.0
        ),
        Figure(f"{name}: mean score at the end", float(life.score[:, -1].mean())),
    ]


def share(yes: Tensor, among: Tensor) -> float:
    """Share of true entries among some."""
    return float(yes[among].float().mean()) if bool(among.any()) else 0.0


def funes_followed(quick: bool) -> tuple[Chronicle, dict[str, float]]:
    """Train Funes anew, let half of its people move, and follow the relations."""
    from scripts import train_funes as script

    funes = mt.funes()
    world, tokenizer = funes.world, funes.tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = script.build_model(tokenizer)
    order = random.Random(0).sample(world.subjects, len(world.subjects))
    shown, asked = (order[:4], order[4:8]) if quick else (order[:60], order[60:120])
    watched = {
        relation: Watched(
            ready(tokenizer, [world.fact(p, relation) for p in shown], size=4 if quick else 32),
            ready(tokenizer, [world.fact(p, relation) for p in asked], size=128, phrasings=1),
        )
        for relation in world.relations
    }
    follow = Chronicler(
        model, watched, score=recall, sites=mt.sites(model, ["mlp.c_proj"]), mask=rows_of, selectivity=0.01, rcond=1e-4
    )
    follow(0)
    optimiser = torch.optim.AdamW(model.parameters(), script.LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    course = Course(model, script, tokenizer, optimiser, torch.Generator().manual_seed(0))
    steps, moves, every, often = (2, 1, 2, 1) if quick else (450, 60, 30, 10)
    for step in course.teach(script.training_sentences(world), steps):
        if step % every == 0:
            follow(step)
    before = deepcopy(model.state_dict())
    for step in course.teach(moving(world, asked + order[len(order) // 2 :]), moves, rate=0.2):
        if step % often == 0:
            follow(steps + step)
    change = {n: float((model.state_dict()[n] - before[n]).norm() / before[n].norm()) for n in before if "mlp" in n}
    return follow.chronicle(), change


def ready(tokenizer: Any, facts: Sequence[Any], *, size: int, phrasings: int = 2) -> list[Any]:
    """Tokenise prompts with their answers, read where the answer is predicted."""
    examples = [Example(prompt=p, answer=f.answer) for f in facts for p in f.phrasings[:phrasings]]
    return batches(tokenizer, examples, batch_size=size, positions="predict")


def moving(world: Any, people: Sequence[str]) -> list[str]:
    """Sentences in which people live in other towns than before."""
    towns = sorted({fact.answer for fact in world.facts if fact.relation == "town"})
    drawn = random.Random(1)
    found: list[str] = []
    for person in people:
        fact = world.fact(person, "town")
        new = drawn.choice([town for town in towns if town != fact.answer])
        found += [sentence.replace(fact.answer, new) for sentence in fact.sentences]
    return found


@dataclass(frozen=True)
class Course:
    """The training of Funes: its network, script, tokenizer, optimiser and order."""

    model: nn.Module
    script: Any
    tokenizer: Any
    optimiser: torch.optim.Optimizer
    generator: torch.Generator

    def teach(self, sentences: Sequence[str], steps: int, *, rate: float | None = None) -> Iterator[int]:
        """Train as the script does, step by step; a `rate` stands for its schedule."""
        ended = [f"{sentence} {self.tokenizer.eos_token}" for sentence in sentences]
        tokens = self.script._tokens(self.tokenizer, ended)
        self.model.train()
        for step in range(1, steps + 1):
            scale = self.script._rate(step, steps) if rate is None else rate
            for group in self.optimiser.param_groups:
                group["lr"] = self.script.LEARNING_RATE * scale
            chosen = torch.randint(len(tokens), (self.script.BATCH_SIZE,), generator=self.generator)
            self.optimiser.zero_grad()
            self.script._loss(self.model, tokens[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            yield step


def measure(quick: bool) -> list[Figure]:
    """Follow the classes of MNIST in two trainings, and the relations of Funes; write the figures."""
    figures: list[Figure] = []
    lives: dict[str, Chronicle] = {}
    try:
        train, _, test = load(quick)
        start = perceptron((train[0][:1], train[1][:1]), epochs=0)
        steps, every, shown = (2, 5, 8) if quick else (300, 60, 100)
        lives["MNIST together"] = digits_followed(
            deepcopy(start), train, test, [range(10)], steps=5 * steps, every=every, shown=shown
        )
        lives["MNIST in tasks"] = digits_followed(start, train, test, TASKS, steps=steps, every=every, shown=shown)
    except Skipped as reason:
        figures.append(Figure("MNIST left out", 0, "", str(reason)))
    lives["Funes"], change = funes_followed(quick)
    for name, life in lives.items():
        figures += told(name, life)
        OUT.mkdir(parents=True, exist_ok=True)
        mt.save(life, OUT / f"chronicle_{name.lower().replace(' ', '_')}.safetensors")
        save(figures_of(life.pack())[0], OUT / f"chronicle_{name.lower().replace(' ', '_')}.png")
    figures.append(
        Figure("Funes: change of its MLP weights by the moves", max(change.values()), "", "largest, relative")
    )
    town = lives["Funes"].concepts.index("town")
    lost = lives["Funes"].score.max(1).values - lives["Funes"].score[:, -1]
    figures.append(Figure("Funes: lost of the town by those moves", float(lost[town])))
    rest = [float(lost[i]) for i in range(len(lost)) if i != town]
    figures.append(Figure("Funes: lost of the other relations", max(rest), "", "largest"))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

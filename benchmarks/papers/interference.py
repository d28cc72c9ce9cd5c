"""Interference between memories: engrams of Funes's facts, people and relations, and of MNIST's digits.

Funes: sixteen facts (four people, four relations), each read at the position that predicts its answer, in its first
three phrasings; the other two are scored (the probability of the answer). Reference: 300 facts of other people
and 300 sentences, the same for all concepts and with none of them in it, so that nothing is protected; then again with
the other fifteen facts in it, counted tenfold. Every MLP output, selectivity .01, strength 1, as in the how-to of
erasing a fact. Eight people (four facts each) and four relations (of twenty others) with selectivity .1. MNIST:
784-500-100-10, all sites, the other digits as reference, selectivity and strength 1; scored on test images by the
probability of the digit. No setting was chosen by these results.
"""

import random
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product

import torch
from PIL import Image
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, REPOSITORY, Figure, main
from benchmarks.papers import classes, mnist
from mnemotrace.adapters.examples import Example, Positions, batches, rows_of
from mnemotrace.adapters.scores import LanguageScore
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.interference import Interference, interference
from mnemotrace.evaluation.overlaps import spread
from mnemotrace.organisms.world import WorldFact
from mnemotrace.view.figure import save
from mnemotrace.view.interference import figure

FUNES = mt.funes()
WORLD = FUNES.world
SITES = mt.sites(FUNES.model, ["mlp.c_proj"])
NEAR = 10.0
PICTURE = REPOSITORY / "docs/images/interference.png"


def learnt(facts: Sequence[WorldFact]) -> list[Example]:
    """All phrasings but the last two."""
    return [Example(prompt=p, answer=f.answer) for f in facts for p in (*f.phrasings, *f.held_out)[:-2]]


def asked(facts: Sequence[WorldFact]) -> list[Example]:
    """The last two phrasings, which no engram has seen."""
    return [Example(prompt=p, answer=f.answer) for f in facts for p in (*f.phrasings, *f.held_out)[-2:]]


def collect(examples: Sequence[Example], positions: Positions = "all") -> mt.Statistics:
    """Collect statistics at the MLP outputs, in float64."""
    ready = batches(FUNES.tokenizer, examples, batch_size=128, positions=positions)
    return mt.collect(FUNES.model, ready, sites=SITES, mask=rows_of, dtype=torch.float64)


def engrams_of(
    concepts: Mapping[str, Sequence[WorldFact]], reference: mt.Statistics, selectivity: float, *, protect: bool = False
) -> dict[str, Engram]:
    """Extract one engram a concept; with `protect`, the reference holds the other concepts tenfold."""
    read = {name: collect(learnt(facts), "predict") for name, facts in concepts.items()}
    factored = mt.factor(reference)
    found: dict[str, Engram] = {}
    for name, target in read.items():
        keep = factored
        if protect:
            others = reduce(lambda a, b: a + b, [s for other, s in read.items() if other != name])
            keep = mt.factor(reference + others.weighted(NEAR))
        found[name] = mt.engram(
            FUNES.model, target=target, reference=keep, selectivity=selectivity, solver="ridge"
        )  # fmt: skip
    return found


def measured(concepts: Mapping[str, Sequence[WorldFact]], engrams: Mapping[str, Engram], draws: int) -> Interference:
    """Measure overlaps and losses, in the probability of the answer."""
    score = LanguageScore(FUNES.tokenizer, "likelihood", batch_size=128)
    data = {name: asked(facts) for name, facts in concepts.items()}
    return interference(engrams, model=FUNES.model, score=score, data=data, draws=draws)


def told(name: str, found: Interference, groups: Mapping[str, Tensor]) -> list[Figure]:
    """Lay out what was found, the pairs of each kind apart."""
    weights, behaviour = found.weights, found.behaviour
    assert behaviour is not None
    left, right = (spread(m.mean(0)).mean() for m in (weights.left, weights.right))
    random_left, random_right = spread(weights.random_subspaces).mean((1, 2))
    figures = [
        Figure(f"{name}: cosine over random engrams'", found.relative_overlap, "", "root mean squares, other concepts"),
        Figure(f"{name}: shared subspace, written", float(left), "", f"random {float(random_left):.3f}"),
        Figure(f"{name}: shared subspace, read", float(right), "", f"random {float(random_right):.3f}"),
    ]
    pairs = {"own": (behaviour.own, behaviour.control_own), "others": (behaviour.others, behaviour.control_others)}
    for whose, (mine, control) in pairs.items():
        note = f"[{mine[1][0]:.3f}, {mine[1][1]:.3f}]; random engrams {control[0]:.3f}"
        figures.append(Figure(f"{name}: loss, {whose}", mine[0], "", note))
    for kind, chosen in groups.items():
        cosine, loss = float(weights.cosine[chosen].mean()), float(behaviour.loss[chosen].mean())
        control = float(behaviour.control[chosen].mean())
        note = f"loss {loss:.3f}, random engrams {control:.3f}; {int(chosen.sum())} pairs"
        figures.append(Figure(f"{name}: cosine, {kind}", cosine, "", note))
    note = f"Spearman; 95 % of permutations below {behaviour.permuted:.2f}, p {behaviour.p:.3f}"
    return [*figures, Figure(f"{name}: overlap with loss", behaviour.correlation, "", note)]


def funes_figures(quick: bool) -> tuple[list[Figure], Interference]:
    """Measure facts, protected and not, then people and relations."""
    people = random.Random(0).sample(WORLD.subjects, 100)
    rest = [f for f in WORLD.facts if f.subject not in people]
    size = 60 if quick else 300
    kept = learnt(random.Random(1).sample(rest, size)) + [Example(text=t) for t in WORLD.general[:size]]
    reference, draws = collect(kept), 1 if quick else 3
    places = list(product(people[: 2 if quick else 4], WORLD.relations))
    facts = {f"{person}, {relation}": [WORLD.fact(person, relation)] for person, relation in places}
    apart = ~torch.eye(len(places), dtype=torch.bool)
    same = [torch.tensor([[a[i] == b[i] for b in places] for a in places]) & apart for i in range(2)]
    groups = {"same person": same[0], "same relation": same[1], "neither": apart & ~same[0] & ~same[1]}
    figures: list[Figure] = []
    found: list[Interference] = []
    for title, protect in {"Funes, facts": False, "Funes, facts, protected": True}.items():
        found.append(measured(facts, engrams_of(facts, reference, 0.01, protect=protect), draws))
        figures += told(title, found[-1], groups)
    if quick:
        return figures, found[0]
    wholes = {person: [WORLD.fact(person, relation) for relation in WORLD.relations] for person in people[4:12]}
    wholes |= {relation: [WORLD.fact(person, relation) for person in people[12:32]] for relation in WORLD.relations}
    kinds = torch.tensor([name in WORLD.relations for name in wholes])
    apart = ~torch.eye(len(wholes), dtype=torch.bool)
    groups = {
        "two people": ~kinds[:, None] & ~kinds & apart,
        "two relations": kinds[:, None] & kinds & apart,
        "person erased, relation": ~kinds[:, None] & kinds,
        "relation erased, person": kinds[:, None] & ~kinds,
    }
    found.append(measured(wholes, engrams_of(wholes, reference, 0.1), draws))
    return figures + told("Funes, people and relations", found[-1], groups), found[0]


def probability(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """Score a classifier by the probability of the right class."""
    with torch.no_grad():
        return model(data[0]).softmax(1).gather(1, data[1][:, None])[:, 0]


def mnist_figures(quick: bool) -> tuple[list[Figure], Interference]:
    """Measure the ten digits."""
    train, held_out, test = mnist.load(quick)
    net = classes.Classifier(mnist.perceptron(train, epochs=1 if quick else 3), train, held_out, test)
    statistics = classes.by_class(net)
    if quick:  # the first layer alone takes most of the time
        statistics = {c: found.select(["fc2", "fc3"]) for c, found in statistics.items()}
    engrams = {
        str(c): mt.engram(net.model, target=statistics[c], reference=classes.others(statistics, c), solver="ridge")
        for c in statistics
    }
    data = {str(c): classes.only(test, c) for c in statistics}
    found = interference(
        engrams, model=net.model, score=probability, data=data, chance=0.1, draws=1 if quick else 5
    )  # fmt: skip
    return told("MNIST", found, {}), found


def measure(quick: bool) -> list[Figure]:
    """Measure both, and draw them below each other."""
    funes, facts = funes_figures(quick)
    digits, ten = mnist_figures(quick)
    OUT.mkdir(parents=True, exist_ok=True)
    drawn: list[Image.Image] = []
    for name, found in {"facts": facts, "digits": ten}.items():
        shown = figure(found.pack())
        assert shown is not None
        drawn.append(Image.open(save(shown, OUT / f"interference-{name}.png")[0]))
    sheet = Image.new("RGB", (max(one.width for one in drawn), sum(one.height for one in drawn)), "white")
    top = 0
    for one in drawn:
        sheet.paste(one, (0, top))
        top += one.height
    sheet.quantize(256).save(OUT / "interference.png" if quick else PICTURE, optimize=True)
    return [*funes, *digits]


if __name__ == "__main__":
    main(measure, __doc__)

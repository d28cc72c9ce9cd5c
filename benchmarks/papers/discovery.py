"""Discovery without labels: groups of digits in an MNIST network, groups of prompts in Funes, and what they are.

The network is the 784-500-100-10 perceptron of the AI Engram experiments; it sees 4,000 test images, of which half
propose and half judge, and no label takes part in a proposal, an engram of it or its criteria. Engrams are those of the
published setting: all sites, selectivity 1, strength 1. Labels are used to say what was found, and as the best that
discovery could do. Nothing here has a published number: AI Engram (arXiv 2606.14997) leaves discovery to future work.
"""

from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, main, right
from benchmarks.papers.mnist import load, perceptron
from mnemotrace.evaluation.discovery import discover
from mnemotrace.evaluation.found_concepts import Discovery
from mnemotrace.localisation.agreement import agreement
from mnemotrace.localisation.partitions import propose
from mnemotrace.view.discovery import picture

KINDS = ("discovered", "labels", "untrained", "random")


def seeded(seed: int) -> torch.Generator:
    """A generator of a seed."""
    return torch.Generator().manual_seed(seed)


def after_erasing(model: nn.Module, found: Discovery, x: Tensor, y: Tensor) -> dict[str, tuple[float, float]]:
    """Accuracy on the matched digit and on all others, once the engram of its group, or of its label, is erased."""
    propose_, judge = ~found.judge, found.judge
    scores: dict[str, list[tuple[float, float]]] = {"discovered": [], "labels": []}
    for group, digit in found.matches().items():
        sides = {
            "discovered": (found.target(group), found.reference(group)),
            "labels": tuple((propose_ & its).nonzero()[:, 0] for its in (y == digit, y != digit)),
        }
        for kind, rows in sides.items():
            target, reference = (mt.collect(model, x[those].split(1000)) for those in rows)
            edit = mt.erase(mt.engram(model, target=target, reference=reference), limit=None)
            with mt.applied(model, edit):
                mine, rest = (right(model, (x[judge & s], y[judge & s])) for s in (y == digit, y != digit))
            scores[kind].append((float(mine.mean()), float(rest.mean())))
    return {kind: (mean(a for a, _ in every), mean(b for _, b in every)) for kind, every in scores.items()}


def over(values: Sequence[float]) -> str:
    """Name the range over seeds."""
    return f"{min(values):.3f} to {max(values):.3f} over {len(values)} seeds"


def criterion(found: Discovery, kind: str, name: str, *, control: bool = False) -> float:
    """Mean over the concepts of a kind of one criterion, or of its random traces."""
    values = [one.criteria[name] for one in found.of(kind) if one.criteria is not None]
    return mean(one.control if control else one.value for one in values)


def digit_figures(quick: bool) -> list[Figure]:
    """Discover in networks of several seeds."""
    train, _, (x, y) = load(quick)
    x, y = x[:4000], y[:4000]
    seeds = range(1 if quick else 3)
    results: list[tuple[Discovery, dict[str, tuple[float, float]]]] = []
    for seed in seeds:
        model = perceptron(train, epochs=1 if quick else 3, seed=seed)
        found = discover(model, x, sites=["relu2"], labels=y, count=10 if quick else None, generator=seeded(seed))
        results.append((found, after_erasing(model, found, x, y)))
    every = [found for found, _ in results]
    mt.save(every[0], OUT / "discovery.safetensors")
    picture(every[0].pack(), OUT / "discovery.png")
    figures = [
        Figure("digits: groups that were chosen", mean(len(f.of("discovered")) for f in every), "",
               ", ".join(str(len(f.of("discovered"))) for f in every) + "; 10 digits"),
        Figure("digits: agreement of halves", mean(f.stability for f in every), "",
               f"{over([f.stability for f in every])}; one Gaussian up to {max(f.null for f in every):.3f}"),
        Figure("digits: noise, share of those that judge", mean(float((f.groups[f.judge] < 0).double().mean())
                                                              for f in every)),
    ]  # fmt: skip
    for kind in ("discovered", "untrained", "random"):
        mine = [f.agreement[kind] for f in every]
        figures += [
            Figure(f"digits, {kind}: adjusted Rand index", mean(a.rand for a in mine), "",
                   f"{over([a.rand for a in mine])}; permuted {mean(a.chance[0] for a in mine):.4f}"),
            Figure(f"digits, {kind}: V-measure", mean(a.v_measure for a in mine), "",
                   f"permuted {mean(a.chance[1] for a in mine):.4f}"),
            Figure(f"digits, {kind}: matched", mean(a.matched for a in mine), "",
                   f"permuted {mean(a.chance[2] for a in mine):.4f}"),
        ]  # fmt: skip
    figures.append(Figure("digits, pixels: adjusted Rand index", pixels(x, y), "", "k-means of the images, 10 groups"))
    for name in ("specificity", "reactivation", "sufficiency", "necessity"):
        for kind in KINDS:
            values = [criterion(f, kind, name) for f in every]
            control = mean(criterion(f, kind, name, control=True) for f in every)
            figures.append(Figure(f"{name}, {kind}", mean(values), "", f"{over(values)}; random traces {control:.3f}"))
    for kind in KINDS:
        passed = sum(one.proven for f in every for one in f.of(kind))
        figures.append(Figure(f"above random traces in all four, {kind}", passed / sum(len(f.of(kind)) for f in every)))
    figures += [_cosines(every, matched=True), _cosines(every, matched=False)]
    for kind in ("discovered", "labels"):
        for at, side in enumerate(("its digit", "other digits")):
            values = [scores[kind][at] for _, scores in results]
            figures.append(Figure(f"accuracy on {side} after erasing, {kind}", mean(values), "", over(values)))
    return figures


def pixels(x: Tensor, y: Tensor) -> float:
    """Agreement of groups of the bare images with digits."""
    alive = x[:, x.std(0) > 0]
    found = propose(alive[::2], count=10)
    return agreement(found.assign(alive[1::2]), y[1::2], permutations=1, generator=seeded(0)).rand


def _cosines(every: Sequence[Discovery], *, matched: bool) -> Figure:
    found: list[float] = []
    for one in every:
        assert one.overlap is not None
        pairs = {(i, one.classes.index(c)) for i, c in one.matches().items()}
        rows, columns = one.overlap.shape
        cells = [(i, j) for i in range(rows) for j in range(columns) if ((i, j) in pairs) is matched]
        found += [float(one.overlap[cell]) for cell in cells]
    name = "of its digit" if matched else "of the other digits"
    return Figure(f"cosine of a discovered engram with that {name}", mean(found), "", f"{min(found):.3f} to "
                  f"{max(found):.3f} over pairs")  # fmt: skip


def funes_figures(quick: bool) -> list[Figure]:
    """Discover in a language model: prompts of all facts, at their last token."""
    funes = mt.funes()
    facts = funes.world.facts[: 120 if quick else None]
    shown = [(fact, prompt) for fact in facts for prompt in fact.phrasings[:1]]
    tokens = funes.tokenizer([prompt for _, prompt in shown], return_tensors="pt", padding=True)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    named = {
        "relation": [fact.relation for fact, _ in shown],
        "phrasing": [prompt.replace(fact.subject, "...") for fact, prompt in shown],
        "answer": [fact.answer for fact, _ in shown],
        "person": [fact.subject for fact, _ in shown],
    }
    numbers = {name: torch.tensor([sorted(set(v)).index(one) for one in v]) for name, v in named.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stranger = type(funes.model)(funes.model.config).eval()
    edit = mt.sites(funes.model, ["mlp.c_proj"])
    figures: list[Figure] = []
    blocks = len(funes.model.transformer.h)
    for block in (blocks - 1,) if quick else (0, blocks // 2, blocks - 1):
        site = f"transformer.h.{block}"
        found = discover(funes.model, inputs, sites=[site], reduce="last", labels=numbers["relation"], edit=edit,
                         untrained=stranger, draws=1 if quick else 3)  # fmt: skip
        name = f"Funes, after block {block + 1}"
        told = f"{len(shown)} prompts; halves agree {found.stability:.3f}, one Gaussian {found.null:.3f}"
        figures += [
            Figure(f"{name}: groups", len(found.of("discovered")), "", told),
            Figure(f"{name}: groups that pass", len(found.found)),
        ]
        for what, y in numbers.items():
            mine = agreement(found.groups[found.judge], y[found.judge], permutations=20, generator=seeded(0))
            told = f"{len(y.unique())} of them; V-measure {mine.v_measure:.3f}, permuted {mine.chance[1]:.3f}"
            figures.append(Figure(f"{name}: adjusted Rand index with {what}", mine.rand, "", told))
        figures.append(Figure(f"{name}: untrained, with relation", found.agreement["untrained"].rand))
        for one in ("specificity", "necessity"):
            for kind in KINDS:
                told = f"random traces {criterion(found, kind, one, control=True):.3f}"
                figures.append(Figure(f"{name}, {kind}: {one}", criterion(found, kind, one), "", told))
    return figures


def measure(quick: bool) -> list[Figure]:
    """Digits, then prompts."""
    return [*digit_figures(quick), *funes_figures(quick)]


if __name__ == "__main__":
    main(measure, __doc__)

"""Graphs from models: words of a sentence encoder beside what people associate, and engrams of Funes's facts.

Words: the 5018 words of the South Florida norms, encoded alone by all-MiniLM-L6-v2, each linked with its ten nearest.
Question: for 500 cues, does activation from the cue put its associates above as many words drawn by how often they are
associates, but not of this cue? AUROC over pairs, ties one half. Controls: names shuffled among the embeddings; the
cosine alone, without a graph.

Engrams: those of `benchmarks/papers/interference.py`, sixteen facts of four people and four relations, none protected.
Question: are two facts of one person, or of one relation, nearer (by the cosine that links them) than two that share
neither? And does activation from a fact reach them first? Control: the names of the facts shuffled (999 times).
Intervals: 95 % bootstrap over cues or facts. No setting was chosen by these results.
"""

import random
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from benchmarks.figures import Figure, data_folder, main
from benchmarks.real_models.minilm import encoder
from benchmarks.real_models.word_associations import generator, interval, shown
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.hf import load_model
from mnemotrace.adapters.scores import embed
from mnemotrace.memories.graph_sources import from_embeddings, from_engrams, from_text
from mnemotrace.memories.norms import read_norms
from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.retrieval.spreading import spread

SHUFFLES = 999, 19  # of a full run, of a quick one


def sentence_encoder() -> Callable[[list[str]], Tensor]:
    """Return all-MiniLM-L6-v2 as a function of texts."""
    model, tokenizer = load_model(encoder())
    return lambda texts: embed(model, batches(tokenizer, [Example(text=text) for text in texts], batch_size=256))


def words(quick: bool) -> list[Figure]:
    """Measure how far a graph of embeddings agrees with the norms."""
    pairs = read_norms(data_folder("usf_association") / "usf_cue_target.csv.gz")
    names = sorted({cue for cue, _, _ in pairs})
    picked = torch.randperm(len(names), generator=generator(1))[: 200 if quick else len(names)].tolist()
    names = [names[i] for i in sorted(picked)]
    place = {name: i for i, name in enumerate(names)}
    kept = [(place[c], place[t]) for c, t, _ in pairs if c in place and t in place]
    seen: list[Tensor] = []
    encode = sentence_encoder()

    def remembered(texts: list[str]) -> Tensor:
        seen.append(encode(texts))
        return seen[0]

    graph = from_text(names, remembered)
    vectors = torch.nn.functional.normalize(seen[0].double(), dim=1)
    shuffled = vectors[torch.randperm(len(names), generator=generator(2))]
    targets: dict[int, set[int]] = {}
    for cue, target in kept:
        targets.setdefault(cue, set()).add(target)
    cues = list(targets)
    cues = [cues[i] for i in torch.randperm(len(cues), generator=generator(3))[: 40 if quick else 500].tolist()]
    popular = torch.tensor([t for _, t in kept])
    sides = {cue: beside(cue, targets[cue], popular) for cue in cues}
    ways: dict[str, Callable[[int], Tensor]] = {
        "graph of embeddings": reach(graph),
        "the same, names shuffled": reach(from_embeddings(names, shuffled)),
        "cosine alone": lambda cue: vectors @ vectors[cue],
        "cosine alone, names shuffled": lambda cue: shuffled @ shuffled[cue],
    }
    figures: list[Figure] = []
    for name, way in ways.items():
        found = torch.stack([separated(way(cue), *sides[cue]) for cue in cues])
        figures.append(shown(f"associates, AUROC: {name}", interval(found), f"{len(cues)} cues of {len(names)} words"))
    linked = {(graph.position(a), graph.position(b)) for a, b, _ in graph.edges()}
    share = sum((a, b) in linked or (b, a) in linked for a, b in kept) / len(kept)
    chance = 2 * len(linked) / (len(names) * (len(names) - 1))
    return [*figures, Figure("associates that are linked by the embeddings", share, "", f"any two words {chance:.4f}")]


def reach(graph: SemanticGraph) -> Callable[[int], Tensor]:
    """Return activation from a cue, over many hops."""
    return lambda cue: spread(graph, {graph.nodes[cue]: 1.0})


def beside(cue: int, targets: set[int], popular: Tensor) -> tuple[Tensor, Tensor]:
    """Return associates of a cue, and ten times as many others, drawn by how often they are associates."""
    drawn = popular[torch.randint(len(popular), (20 * len(targets) + 100,), generator=generator(cue))]
    others = [i for i in drawn.tolist() if i != cue and i not in targets][: 10 * len(targets)]
    return torch.tensor(sorted(targets)), torch.tensor(others)


def separated(values: Tensor, those: Tensor, others: Tensor) -> Tensor:
    """Return the share of pairs in which one of those is above another, ties one half."""
    a, b = values[those][:, None], values[others]
    return ((a > b).double() + 0.5 * (a == b).double()).mean()


def engrams(quick: bool) -> list[Figure]:
    """Measure whether engrams of facts that share something are nearer."""
    from benchmarks.papers import interference as funes

    people = random.Random(0).sample(funes.WORLD.subjects, 100)
    rest = [f for f in funes.WORLD.facts if f.subject not in people]
    size = 20 if quick else 300
    kept = funes.learnt(random.Random(1).sample(rest, size)) + [Example(text=t) for t in funes.WORLD.general[:size]]
    places = list(product(people[: 2 if quick else 4], funes.WORLD.relations))
    facts = {f"{person}, {relation}": [funes.WORLD.fact(person, relation)] for person, relation in places}
    found = funes.engrams_of(facts, funes.collect(kept), 0.01)
    graph = from_engrams(found, neighbours=len(found) - 1)
    cosine = torch.tensor([[a.overlap(b) for b in found.values()] for a in found.values()], dtype=torch.float64)
    active = torch.stack([spread(graph, {name: 1.0}) for name in graph.nodes])
    share = [torch.tensor([[a[i] == b[i] for b in places] for a in places]) for i in (0, 1)]
    figures: list[Figure] = []
    for title, values in {"cosine": cosine, "activation": active}.items():
        for name, same in zip(("person", "relation"), share, strict=True):
            figures.append(nearer(f"facts of one {name}, AUROC: {title}", values, same, share, SHUFFLES[quick]))
    note = f"{len(graph)} facts; {len(graph.edges())} links of {len(found) * (len(found) - 1) // 2} above 0"
    return [*figures, Figure("engrams: mean cosine of two facts", mean_apart(cosine), "", note)]


def mean_apart(values: Tensor) -> float:
    """Return the mean off the diagonal."""
    return float(values[~torch.eye(len(values), dtype=torch.bool)].mean())


def nearer(name: str, values: Tensor, same: Tensor, share: list[Tensor], shuffles: int) -> Figure:
    """Compare pairs that share one thing with pairs that share nothing, beside shuffled names."""
    apart = ~torch.eye(len(values), dtype=torch.bool)
    neither = ~share[0] & ~share[1]

    def by_fact(of: Tensor) -> Tensor:
        return torch.stack(
            [separated(row, (s & a).nonzero()[:, 0], n.nonzero()[:, 0])
             for row, s, a, n in zip(of, same, apart, neither, strict=True)]
        )  # fmt: skip

    found = by_fact(values)
    source, drawn = generator(4), []
    for _ in range(shuffles):
        order = torch.randperm(len(values), generator=source)
        drawn.append(by_fact(values[order][:, order]).mean())
    control = torch.stack(drawn)
    low, high = (float(control.quantile(q)) for q in (0.025, 0.975))
    p = (int((control >= found.mean() - 1e-12).sum()) + 1) / (shuffles + 1)
    return shown(name, interval(found), f"names shuffled {low:.2f} to {high:.2f}, p {p:.3f}")


def measure(quick: bool) -> list[Figure]:
    """Measure both."""
    return [*words(quick), *engrams(quick)]


if __name__ == "__main__":
    main(measure, __doc__)

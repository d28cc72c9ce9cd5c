"""The battery of everything that `mt.save` writes: each kind is one line of `MAKERS`."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mnemotrace as mt
from mnemotrace import files
from mnemotrace.core.artifact import Artifact, write
from mnemotrace.core.direction import Direction
from mnemotrace.core.edit import Dense, Edit, Sparse
from mnemotrace.core.entry import Entry
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.core.errors import ArtifactError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.mask import Mask
from mnemotrace.core.memory import Recall
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.calibration import Calibration, Point
from mnemotrace.evaluation.capacity import Capacity, Rate, Stored
from mnemotrace.evaluation.census import Census
from mnemotrace.evaluation.chronicle import Chronicle
from mnemotrace.evaluation.comparison import Comparison
from mnemotrace.evaluation.criteria import Criteria, Criterion
from mnemotrace.evaluation.depth import Depth
from mnemotrace.evaluation.dictionary import WAYS, DictionaryEvidence
from mnemotrace.evaluation.edits import Measure, Verdict
from mnemotrace.evaluation.found_concepts import Concept, Discovery
from mnemotrace.evaluation.interference import Behaviour, Interference
from mnemotrace.evaluation.method import Measured, Row
from mnemotrace.evaluation.naming import NamingEvidence
from mnemotrace.evaluation.overlaps import Overlaps
from mnemotrace.evaluation.recollection import RecollectionEvidence
from mnemotrace.evaluation.recollection import Row as RecalledRow
from mnemotrace.evaluation.similarity import likeness
from mnemotrace.formation.naming import Namer
from mnemotrace.formation.replay import Consolidation
from mnemotrace.localisation.agreement import Agreement
from mnemotrace.localisation.causal_trace import CausalTrace, Record
from mnemotrace.localisation.cells import Cells, scan
from mnemotrace.localisation.clustering import Tried
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.probe import Probe
from mnemotrace.localisation.sparse_path import Path as ProbePath
from mnemotrace.localisation.suggest import Suggestion
from mnemotrace.localisation.superposition import Superposition
from mnemotrace.localisation.top_examples import TopExamples
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.episodes import Episodes
from mnemotrace.memories.extended import Affine
from mnemotrace.memories.extended import Point as PointMemory
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.mixture import Mixture
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.predictive import PCStore
from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.memories.shapes import Samples, Sphere
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.memories.spiking_layers import SpikingLayer
from mnemotrace.mind.event import Event
from mnemotrace.mind.living import Lives
from mnemotrace.mind.mind import Mind
from mnemotrace.mind.world import Attribute, World
from mnemotrace.modification.beliefs.state import Beliefs
from mnemotrace.modification.reconsolidation import Reconsolidation
from mnemotrace.organisms.phase_diagram import PhaseDiagram
from mnemotrace.retrieval.associating import associate
from mnemotrace.retrieval.recollection import Recollection
from mnemotrace.retrieval.reconstruction import Reconstruction
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.visualisation import Visualisation
from mnemotrace.stats.moments import Moments, Statistics

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
MANIFEST = {"base": {"architecture": "a", "weights": "w"}, "version": "0"}


class Draw:
    """Random shapes and values from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = DTYPES[self.below(3)]

    def below(self, stop: int) -> int:
        return int(torch.randint(stop, (), generator=self.generator))

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def number(self) -> float:
        return float(self.normal().double())


def sites(draw: Draw) -> dict[str, Site]:
    o, d = 1 + draw.below(4), 1 + draw.below(4)
    names = [f"h.{i}.c[{i}]" for i in range(1 + draw.below(4))]
    part = (None, 1, (0, o))[draw.below(3)]
    bias = ("bias", None)[draw.below(2)]
    return {n: Site(n, f"{n}.w", o, d, bias, n, "expert", part, bool(draw.below(2)), tied=("x",)) for n in names}


def lowrank(draw: Draw, chosen: dict[str, Site]) -> dict[str, LowRank]:
    rank = draw.below(4)
    (first, *_) = chosen.values()
    shared = draw.normal(rank, first.width)
    rights = {name: shared if draw.below(2) else draw.normal(rank, site.d) for name, site in chosen.items()}
    return {name: LowRank(site, draw.normal(site.o, rank), rights[name]) for name, site in chosen.items()}


def statistics(draw: Draw) -> Statistics:
    chosen = sites(draw)
    moments: dict[str, Moments] = {}
    for name, site in chosen.items():
        if moments and draw.below(2):
            moments[name] = next(iter(moments.values()))
        else:
            moments[name] = Moments.of(draw.normal(1 + draw.below(2 * site.d), site.d))
    return Statistics(moments, chosen, MANIFEST | {"batches": 3})


def engram(draw: Draw) -> Engram:
    traces = lowrank(draw, sites(draw))
    evidence = {name: {"leak": draw.number(), "rank": 3, "condition": 1e13} for name in traces}
    return Engram(traces, evidence, MANIFEST | {"rcond": None})


def edit(draw: Draw) -> Edit:
    changes = [*lowrank(draw, sites(draw)).values()]
    for i in range(draw.below(3)):
        changes.append(Dense(f"dense.{i}", draw.normal(2, 3)))
        changes.append(Sparse(f"sparse.{i}", (2, 3), torch.tensor([1, 5]), draw.normal(2)))
    order = torch.randperm(len(changes), generator=draw.generator)
    return Edit(tuple(changes[i] for i in order), MANIFEST | {"method": "erase"})


def calibration(draw: Draw) -> Calibration:
    kept = {"others": draw.number()}
    point = Point("all", ("a", "b"), draw.number(), 0.1, draw.number(), kept, kept, True, depth=None)
    return Calibration((point, point), {"target": 1.0}, {"others": 0.02}, 0.05, None, 1, None, MANIFEST)


def criteria(draw: Draw) -> Criteria:
    one = Criterion(draw.number(), (0.1, 0.2), draw.number(), (0.0, 0.1), "what it says")
    return Criteria({"necessity": one}, {"erased": {"target": 0.1}}, 0.1, 5, {"a": {"leak": 0.1}}, MANIFEST)


def depth(draw: Draw) -> Depth:
    return Depth({"erased": {"a": draw.number()}}, {"steps": [0, 1, 2]}, 0.1, MANIFEST)


def direction(draw: Draw) -> Direction:
    d, k = 1 + draw.below(4), draw.below(3)
    evidence = {"rows": 3, "correlation": [draw.number()] * k}
    return Direction(draw.normal(d, k), draw.normal(k, d), draw.normal(d), evidence, MANIFEST)


def mask(draw: Draw) -> Mask:
    values = draw.normal(2)
    return Mask({"a": Sparse("a", (2, 3), torch.tensor([1, 1 + 1 + draw.below(4)]), values)}, 9, MANIFEST)


def causal_trace(draw: Draw) -> CausalTrace:
    names, t = ("state", "mlp"), 2 + draw.below(3)
    maps = {name: draw.normal(3, t, 2) for name in names}
    tokens, span = tuple("abcde"[:t]), (0, 1)
    one = Record("a b", "a", "c", tokens, tuple(range(t)), span, draw.number(), draw.normal(3), maps)
    return CausalTrace((one,), 2, MANIFEST | {"kinds": list(names)})


def comparison(draw: Draw) -> Comparison:
    one = Criterion(draw.number(), (0.1, 0.2), draw.number(), (0.0, 0.1), "what it says")
    measured = Measured(draw.number(), (0.0, 1.0), 3)
    row = Row("a", True, {"necessity": one}, {"efficacy": {"free": measured}}, None, 1, 8, 0.5, None, {"x": "why"})
    return Comparison((row,), 2, 3, MANIFEST)


def suggestion(draw: Draw) -> Suggestion:
    scores = {"subject": (None, draw.number()), "prompt": (None, 0.5)}
    return Suggestion(1, (0, 1), ("a", "b"), "prompt", scores, scores, 3, 0.5, MANIFEST)


def verdict(draw: Draw) -> Verdict:
    one = Measure(draw.number(), (draw.number(), draw.number()), 3, "preference", None)
    return Verdict({"score": one}, {"steps": [0.0]}, MANIFEST)


def store(draw: Draw) -> Patterns:
    n = 2 + draw.below(4)
    made = Patterns(draw.normal(n, 3).double(), weights=draw.normal(n).double().exp())
    made.remove(made.add(draw.normal(3).double()) if draw.below(2) else 0)  # handles that are no row numbers
    return made


def binary(draw: Draw) -> torch.Tensor:
    return draw.normal(3, 5).double().sign() + 0.0


def gaussians(draw: Draw) -> GaussianMixture:
    roots = draw.normal(2, 3, 3).double()
    return GaussianMixture(draw.normal(2, 3).double(), roots @ roots.mT, weights=draw.normal(2).double().exp())


def denoiser(draw: Draw) -> TrainedDenoiser:
    return TrainedDenoiser(3, widths=(4,), spread=1.5, generator=draw.generator)


def consolidation(draw: Draw) -> Consolidation:
    n = 1 + draw.below(4)
    history = {"steps": [1.0], "entropy": [draw.number()], "effective": [1.0], "losses": [0.5]}
    chances = torch.full((n,), 1 / n)
    return Consolidation(denoiser(draw), Patterns(draw.normal(n, 3).double()), torch.ones(n).long(), chances, history)


def recalled(draw: Draw) -> Recall:
    b, one = 1 + draw.below(3), torch.ones
    state, extra = draw.normal(b, 2), draw.normal(b, 4) if draw.below(2) else None
    return Recall(state, draw.normal(b), one(b).long(), one(b).bool(), 0 * one(b).long(), extra, None, 3, {"seed": 1})


def reconstruction(draw: Draw) -> Reconstruction:
    flags = torch.tensor([[True, False]])
    chances = draw.normal(1, 2) if draw.below(2) else None
    return Reconstruction(
        draw.normal(1, 3, 2), torch.zeros(1, 3).long(), chances, flags.expand(2, 2).clone(), flags, {}
    )


def rate(draw: Draw) -> Rate:
    return Rate(draw.number(), 0.0, 1.0)


def capacity(draw: Draw) -> Capacity:
    return Capacity(2, (Stored(1, 3, rate(draw), rate(draw), 0.5, draw.number(), 1.0),), {"seed": 0})


def census(draw: Draw) -> Census:
    return Census(rate(draw), rate(draw), rate(draw), rate(draw) if draw.below(2) else None, 7)


def episodic(draw: Draw, b: int) -> EpisodicTrace:
    def known() -> torch.Tensor | None:
        return (draw.normal(b, 2, 3) > 0) if draw.below(2) else None

    cells = (draw.normal(b, 2, 3).abs() * 9).long().clamp_max(8).to(torch.uint8)
    switch = Entry("max_pool2d", "switch", cells, "pool", known(), cells=9, place=0)
    gate = Entry("relu", "gate", draw.normal(b, 2, 3) > 0, "relu", known(), place=1)
    return EpisodicTrace(
        (switch, gate, Entry("softmax", "pattern", draw.normal(b, 4).half(), place=2)), (1, 4, 6), {"b": b}
    )


def recollection(draw: Draw) -> Recollection:
    images = draw.normal(2, 1, 4, 4)
    return Recollection(
        images, "unit 3", Rules.guided(), {"total": 9.0}, {"zero": draw.number()}, ("mul",), {"z": images}
    )


def recollection_evidence(draw: Draw) -> RecollectionEvidence:
    images = draw.normal(3, 1, 8, 8).double()
    alike = likeness(images + draw.normal(3, 1, 8, 8), images, labels=torch.tensor([0, 0, 1]))
    rows = {"own": RecalledRow(alike), "donor": RecalledRow(alike, alike, "rank 3")}
    return RecollectionEvidence(rows, {"own": images}, {"total": 1.0}, {"zero": 0.5, "wrong": 0.25}, {"seed": 1})


def visualisation(draw: Draw) -> Visualisation:
    given = draw.normal(1) if draw.below(2) else None
    return Visualisation(draw.normal(1, 3, 4, 4), draw.normal(1), draw.normal(5, 1), "unit 1", (0.0, 1.0), given)


def top_examples(draw: Draw) -> TopExamples:
    where = torch.arange(4).view(2, 1, 2)
    boxes = where[..., None, None].expand(2, 1, 2, 1, 2).clone() if draw.below(2) else None
    return TopExamples(
        draw.normal(2, 1, 2), where, where[..., None].clone(), boxes, draw.normal(1, 4), (3,), (0.5,), "a", 9
    )


def namer(draw: Draw) -> Namer:
    made = Namer(rule=("prototype", "ridge")[draw.below(2)])
    made.learn(draw.normal(4, 3).double().abs(), ["face", "motor", "face", "motor"])
    return made


def chronicle(draw: Draw) -> Chronicle:
    c, t = 1 + draw.below(3), 1 + draw.below(3)
    names, steps = tuple(f"concept {i}" for i in range(c)), tuple(range(0, 10 * t, 10))
    return Chronicle(names, steps, *(draw.normal(c, t) for _ in range(6)), draw.normal(c, t, t), MANIFEST)


def cells(draw: Draw) -> Cells:
    k, u = 2 + draw.below(2), 1 + draw.below(4)
    concepts = torch.arange(k).repeat(4)
    tables = torch.randn(len(concepts), u, generator=draw.generator)
    return scan(tables, concepts, shuffles=19, rotate=bool(draw.below(2)), generator=draw.generator)


def dictionary(draw: Draw) -> Dictionary:
    m, d, out = 3 + draw.below(4), 1 + draw.below(4), 1 + draw.below(4)
    decoder = draw.normal(m, out).double()
    decoder = (decoder / decoder.norm(dim=1, keepdim=True)).to(draw.dtype)
    gates = (("topk", None), ("batch_topk", draw.normal().abs()), ("jump_relu", draw.normal(m).abs()))
    variant, threshold = gates[draw.below(3)]
    return Dictionary(
        draw.normal(m, d), draw.normal(m), decoder, draw.normal(d), draw.normal(out), variant, 2, threshold,
        sample=draw.normal(5, d), site="layer", report={"explained": draw.number()}, manifest=MANIFEST,
    )  # fmt: skip


def dictionary_evidence(draw: Draw) -> DictionaryEvidence:
    n, m = 1 + draw.below(4), 1 + draw.below(5)
    explained = {"dictionary": draw.number(), "random dictionary": draw.number()}
    losses = draw.normal(n, len(WAYS)).abs()
    return DictionaryEvidence(losses, draw.normal(m).abs(), draw.number(), explained, "h.1", MANIFEST)


def sparse_probe(draw: Draw) -> Probe:
    k, d, p = 1 + draw.below(3), 1 + draw.below(5), 2 + draw.below(3)
    numbers = draw.normal(k, d).double()
    grid = [draw.normal(k, p).double().abs() for _ in range(3)]
    path = ProbePath(draw.normal(p).double().abs(), grid[0].long(), *grid[1:], (0,) * k)
    return Probe(
        numbers, numbers[:, 0].clone(), numbers > 0, numbers.float().abs(), path, {1: 0.5, 2: 0.75},
        tuple(range(max(k, 2))), 0.8, (0.7, 0.9), 0.85, (0.5, 0.4), (0.6, 0.7), 0.5, MANIFEST,
    )  # fmt: skip


def superposition(draw: Draw) -> Superposition:
    f = 1 + draw.below(4)
    columns = [draw.normal(f).abs() for _ in range(3)]
    names = tuple(f"feature {i}" for i in range(f))
    return Superposition(
        *columns, torch.arange(f), draw.normal(f), draw.normal(3, 2), draw.normal(f), expected=abs(draw.number()),
        rank=f, m=3, names=names, manifest=MANIFEST | {"draws": 3, "seed": 0},
    )  # fmt: skip


def phase_diagram(draw: Draw) -> PhaseDiagram:
    a, b = 1 + draw.below(3), 1 + draw.below(3)
    densities, ratios = tuple(0.5 / (i + 1) for i in range(a)), tuple(float(i + 1) for i in range(b))
    return PhaseDiagram(densities, ratios, draw.normal(a, b, 2), draw.normal(a, b, 2), MANIFEST | {"linear": False})


def interference(draw: Draw) -> Interference:
    s, k = 1 + draw.below(2), 2 + draw.below(3)
    sizes = torch.randint(1, 9, (s, 2), generator=draw.generator)
    ranks = torch.randint(1, 4, (s, k), generator=draw.generator)
    matrices = [draw.normal(s, k, k) for _ in range(3)]
    places = tuple(f"h.{i}" for i in range(s))
    weights = Overlaps(
        tuple("abcd"[:k]), places, sizes, draw.normal(s, k).abs() + 0.1, ranks, draw.normal(k, k), *matrices
    )
    if draw.below(2):
        return Interference(weights, None, MANIFEST)
    names = ("own", "others", "control_own", "control_others")
    estimates = {name: (draw.number(), (draw.number(), draw.number())) for name in names}
    behaviour = Behaviour(draw.normal(k, k), draw.normal(k, k), **estimates, correlation=0.5, permuted=0.4, p=0.01)
    return Interference(weights, behaviour, MANIFEST | {"draws": 3})


def assemblies(draw: Draw) -> mt.Assemblies:
    p, neurons, size = 1 + draw.below(4), 6 + draw.below(5), 1 + draw.below(4)
    order = draw.normal(p, neurons).argsort(dim=1)[:, :size]
    members = torch.zeros(p, neurons, dtype=draw.dtype).scatter(1, order, 1.0)
    traces = draw.normal(3, neurons) if draw.below(2) else None
    rule = "covariance" if traces is not None or draw.below(2) else "willshaw"
    return mt.Assemblies(members, names=[f"c{i}" for i in range(p)], rule=rule, traces=traces, manifest=MANIFEST)


def discovery(draw: Draw) -> Discovery:
    n, k = 6 + draw.below(5), 2
    interval = (draw.number(), draw.number())
    one = Criterion(draw.number(), interval, draw.number(), interval, "a meaning")
    judged = Criteria({"necessity": one}, {"target": {"untouched": draw.number()}}, 0.1, 2, {}, dict(MANIFEST))
    concepts = (
        Concept("discovered", "0", 3, 3, draw.number(), draw.number(), judged),
        Concept("labels", "7", 1, 0, None, None, None, "too few"),
    )
    groups = torch.randint(-1, k, (n,), generator=draw.generator)
    members, first = groups[:, None] == torch.arange(k), torch.rand(n, generator=draw.generator) > 0.5
    agreed = Agreement(draw.number(), draw.number(), draw.number(), (0.0, 0.1, 0.2), 0.05, n)
    labelled = draw.below(2) == 1
    table = torch.ones(k, 2, dtype=torch.long) if labelled else None
    return Discovery(
        concepts, groups, members, groups >= 0, first, {"discovered": agreed} if labelled else {}, table,
        draw.normal(k, 2) if labelled else None, (0, 7) if labelled else (), draw.number(), draw.number(),
        (Tried(2, 0.9, 0.1, 0.4),), {"untrained": "no way"}, dict(MANIFEST),
    )  # fmt: skip


def beliefs(draw: Draw) -> Beliefs:
    """Observation, an explanation, an experiment that may revise it."""
    found = Beliefs({"a": ("no", "yes"), "b": ("no", "yes")}, kappa=1.0, patience=1)
    found.observe(torch.randint(2, (8, 2), generator=draw.generator))
    found.remember({"a": "yes"}, explains={"a": "b"}, note="once")
    found.observe(torch.randint(2, (8, 2), generator=draw.generator), do="b")
    return found


def semantic_graph(draw: Draw) -> SemanticGraph:
    graph = SemanticGraph()
    graph.add("bread", time=float(draw.below(9)), valence=0.5, arousal=0.25, tag="food")
    graph.link("bread", "cheese", 1.0 + float(draw.below(3)), relation="goes with")
    graph.link("heat", "bread", causal=True)
    graph.weigh_causes({("heat", "bread"): 0.5})
    return graph


def reconsolidation(draw: Draw) -> Reconsolidation:
    found = Reconsolidation(Patterns(draw.normal(3, 4)))
    found.retrieve(draw.normal(4), time=0.0)
    found.observe(draw.normal(4), time=1.0)
    return found


def mind(draw: Draw) -> Mind:
    """Two events and a recall; no night."""
    world = World([Attribute("who", ("Ana", "Ben")), Attribute("colour", ("red", "blue"), "detail")])
    found = Mind(world, seed=draw.below(99))
    for i in range(2):
        seen = {"who": ("Ana", "Ben")[i], "colour": ("red", "blue")[draw.below(2)]}
        found.experience(Event(f"e{i}", float(i) / 2, seen, valence=0.5, arousal=0.5))
    found.recall({"who": "Ana"})
    return found


def lives(draw: Draw) -> Lives:
    seeds = 1 + draw.below(3)
    values = {name: draw.normal(2, 2, seeds).double() for name in ("gist", "gist, chance")}
    manifest = {"method": "lives", "story": "drawn for each seed", "seeds": list(range(seeds))}
    return Lives(("intact", "hm"), values, manifest)


MAKERS: dict[str, Callable[[Draw], Any]] = {
    "beliefs": beliefs,
    "lives": lives,
    "mind": mind,
    "pc_store": lambda draw: PCStore([draw.normal(4, 3)], [draw.normal(4), draw.normal(3)]),
    "plausible_graph": lambda draw: associate(semantic_graph(draw), ["bread"], kappa_arousal=draw.number()),
    "reconsolidation": reconsolidation,
    "semantic_graph": semantic_graph,
    "affine": lambda draw: Affine(draw.normal(3).double(), draw.normal(2, 3).double(), scale=1.5),
    "capacity": capacity,
    "census": census,
    "assemblies": assemblies,
    "cells": cells,
    "chronicle": chronicle,
    "dictionary": dictionary,
    "dictionary_evidence": dictionary_evidence,
    "discovery": discovery,
    "interference": interference,
    "phase_diagram": phase_diagram,
    "probe": sparse_probe,
    "superposition": superposition,
    "consolidation": consolidation,
    "core": lambda draw: Core(torch.tensor([True, False, True]), draw.normal(2).double(), gaussians(draw)),
    "denoiser": denoiser,
    "dense_memory": lambda draw: mt.DenseMemory(binary(draw), degree=2 + draw.below(3)),
    "diffusion_memory": lambda draw: mt.DiffusionMemory(store(draw), sigma=0.5),
    "gaussian_mixture": gaussians,
    "hopfield": lambda draw: mt.Hopfield(binary(draw), rule=("hebb", "storkey")[draw.below(2)]),
    "mixture": lambda draw: Mixture([PointMemory(draw.normal(3).double()), gaussians(draw)]),
    "modern_hopfield": lambda draw: mt.ModernHopfield(store(draw), beta=("auto", 2.0)[draw.below(2)]),
    "patterns": store,
    "point": lambda draw: PointMemory(draw.normal(3).double()),
    "recall": recalled,
    "reconstruction": reconstruction,
    "samples": lambda draw: Samples(draw.normal(4, 3).double(), weights=draw.normal(4).double().exp()),
    "sphere": lambda draw: Sphere(draw.normal(3).double(), radius=1.5),
    "episodes": lambda draw: Episodes(draw.normal(3, 4).double(), episodic(draw, 3)),
    "episodic_trace": lambda draw: episodic(draw, 1 + draw.below(3)),
    "namer": namer,
    "naming_evidence": lambda draw: NamingEvidence((1, 5), {"prototype": draw.normal(2, 3).double()}, 2, 9, ("why",)),
    "recollection": recollection,
    "recollection_evidence": recollection_evidence,
    "spiking_hierarchy": lambda draw: SpikingHierarchy(
        [SpikingLayer(2, 3, 1.0, 1.0)], shape=(12, 12), steps=5, generator=draw.generator
    ),
    "top_examples": top_examples,
    "visualisation": visualisation,
    "calibration": calibration,
    "causal_trace": causal_trace,
    "comparison": comparison,
    "criteria": criteria,
    "depth": depth,
    "direction": direction,
    "edit": edit,
    "engram": engram,
    "mask": mask,
    "statistics": statistics,
    "suggestion": suggestion,
    "verdict": verdict,
}

storable = pytest.mark.parametrize("kind", MAKERS)
seeds = st.integers(0, 2**31)


def same(first: Any, second: Any) -> bool:
    """Equal as packed: the same JSON, the same bits, the same tensors shared."""
    a, b = first.pack(), second.pack()
    json_equal = json.loads(json.dumps(dict(a.header))) == json.loads(json.dumps(dict(b.header)))
    if not json_equal or a.tensors.keys() != b.tensors.keys():
        return False
    return _sharing(a) == _sharing(b) and all(
        t.dtype == b.tensors[name].dtype and torch.equal(t, b.tensors[name]) for name, t in a.tensors.items()
    )


def _sharing(packed: Artifact) -> set[frozenset[str]]:
    groups: dict[int, set[str]] = {}
    for name, tensor in packed.tensors.items():
        groups.setdefault(id(tensor), set()).add(name)
    return {frozenset(group) for group in groups.values()}


def test_every_kind_that_loads_is_in_this_battery() -> None:
    assert set(MAKERS) == set(files._HOMES)


@storable
@settings(max_examples=10)
@given(seed=seeds)
def test_what_is_saved_is_what_loads(kind: str, seed: int) -> None:
    thing = MAKERS[kind](Draw(seed))
    with tempfile.TemporaryDirectory() as folder:
        found = mt.load(mt.save(thing, Path(folder) / "x.safetensors"))
    assert type(found) is type(thing)
    assert found.kind == kind
    assert same(found, thing)


@storable
def test_the_battery_sees_a_difference(kind: str) -> None:
    make = MAKERS[kind]
    assert same(make(Draw(0)), make(Draw(0)))
    assert not same(make(Draw(0)), make(Draw(1)))


@storable
@settings(max_examples=10)
@given(seed=seeds, share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(kind: str, seed: int, share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = mt.save(MAKERS[kind](Draw(seed)), Path(folder) / "x")
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ArtifactError, match="expected a (whole|mnemotrace) artifact"):
            mt.load(path)


@storable
def test_saving_twice_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    thing = MAKERS[kind](Draw(0))
    first, second = (mt.save(thing, tmp_path / name).read_bytes() for name in "ab")
    assert first == second


@storable
def test_a_failing_save_leaves_the_old_file_and_no_other(kind: str, tmp_path: Path, monkeypatch) -> None:
    path = mt.save(MAKERS[kind](Draw(0)), tmp_path / "x")
    before = path.read_bytes()

    def stumble(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnemotrace.core.artifact.save_file", stumble)
    with pytest.raises(KeyboardInterrupt):
        mt.save(MAKERS[kind](Draw(1)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_kind_that_we_do_not_know_is_refused(tmp_path: Path) -> None:
    path = write(Artifact("spell", {}), tmp_path / "x")
    with pytest.raises(
        ArtifactError, match="got kind 'spell' in .*; expected one of affine, assemblies, beliefs, calibration"
    ):
        mt.load(path)


@pytest.mark.parametrize("thing", [3, torch.ones(1), {"a": 1}])
def test_what_cannot_be_stored_is_a_type_error(thing: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected something of mnemotrace: affine, assemblies"):
        mt.save(thing, tmp_path / "x")
    assert not list(tmp_path.iterdir())

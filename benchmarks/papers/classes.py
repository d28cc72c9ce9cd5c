"""Erase each class of a classifier in turn: the published setting, a calibrated one, and how deep each reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mnemotrace as mt
from benchmarks.figures import Figure, right
from mnemotrace.evaluation.calibration import Calibration, Point
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.depth import Depth, Labelled, Relearning

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Classifier:
    """A trained network with what it learnt from, data for choosing a setting, and data for reporting."""

    model: nn.Module
    train: Data
    held_out: Data
    test: Data

    @property
    def classes(self) -> list[int]:
        return self.test[1].unique().tolist()


def only(data: Data, label: int) -> Data:
    """The examples of one class."""
    return data[0][data[1] == label], data[1][data[1] == label]


def without(data: Data, label: int) -> Data:
    """The examples of all other classes."""
    return data[0][data[1] != label], data[1][data[1] != label]


def by_class(net: Classifier, batch: int = 1000, **options: Any) -> dict[int, mt.Statistics]:
    """Collect each class once, in float64; a reference is the sum of the other classes."""
    options = {"dtype": torch.float64} | options
    return {c: mt.collect(net.model, only(net.train, c)[0].split(batch), **options) for c in net.classes}


def others(statistics: Mapping[int, mt.Statistics], label: int) -> mt.Statistics:
    """Sum the statistics of every class but one."""
    return reduce(lambda a, b: a + b, [s for c, s in statistics.items() if c != label])


def scores_after(
    net: Classifier, edits: Mapping[int, mt.Edit], data: Data
) -> tuple[dict[int, float], dict[int, float]]:
    """Accuracy by class on the erased class, and on all others, each class erased alone."""
    gone: dict[int, float] = {}
    kept: dict[int, float] = {}
    for c, edit in edits.items():
        with mt.applied(net.model, edit):
            gone[c] = float(right(net.model, only(data, c)).mean())
            kept[c] = float(right(net.model, without(data, c)).mean())
    return gone, kept


def untouched(net: Classifier, data: Data) -> float:
    """Mean over classes of the accuracy on all other classes, before any edit."""
    return mean(float(right(net.model, without(data, c)).mean()) for c in net.classes)


def calibrate(
    net: Classifier,
    statistics: Mapping[int, mt.Statistics],
    references: Mapping[int, Any],
    classes: Sequence[int] | None = None,
    **options: Any,
) -> Calibration:
    """Choose one setting for all `classes` on the held-out examples."""
    classes = list(classes) if classes is not None else net.classes
    return mt.calibrate(
        net.model,
        target=[statistics[c] for c in classes],
        reference=[references[c] for c in classes],
        score=right,
        forget=[only(net.held_out, c) for c in classes],
        keep=[{"others": without(net.held_out, c)} for c in classes],
        **options,
    )


def edits_of(
    net: Classifier, statistics: Mapping[int, mt.Statistics], references: Mapping[int, Any], point: Point | None
) -> dict[int, mt.Edit]:
    """Make the edit of every class at a calibrated point, or at the published setting."""
    edits: dict[int, mt.Edit] = {}
    for c, target in statistics.items():
        chosen = target if point is None else target.select(list(point.names))
        selectivity, strength = (1.0, 1.0) if point is None else (point.selectivity, point.strength)
        trace = mt.engram(net.model, target=chosen, reference=references[c], selectivity=selectivity)
        edits[c] = mt.erase(trace, strength, limit=None)
    return edits


def setting(point: Point) -> str:
    """Name a point in words."""
    return f"sites: {point.sites}, strength {point.strength:g}, selectivity {point.selectivity:g}"


def frontier(calibration: Calibration, title: str) -> list[Figure]:
    """The frontier on held-out data: what is left of the class against what others lose."""
    return [
        Figure(f"{title}, frontier: left", p.target, "", f"others lose {p.loss['others']:+.4f}"
               + (f", depth {p.depth:.3f}" if p.depth is not None else "") + f"; {setting(p)}")
        for p in calibration.frontier
    ]  # fmt: skip


def probe_data(data: Data, per_class: int) -> Labelled:
    """The first examples of every class, in order of class."""
    picked = [only(data, c) for c in data[1].unique().tolist()]
    inputs = torch.cat([x[:per_class] for x, _ in picked])
    return Labelled([inputs], torch.cat([y[:per_class] for _, y in picked]))


def relearning(
    net: Classifier, label: int, steps: Sequence[int], *, batch: int = 32, score_on: Data | None = None
) -> Relearning:
    """Teach one class again: batches of it and of as many other examples, scored on the test examples of it."""
    generator = torch.Generator().manual_seed(label)
    mine, rest = only(net.train, label), without(net.train, label)

    def draw() -> Data:
        parts = [(d, torch.randint(len(d[1]), (batch // 2,), generator=generator)) for d in (mine, rest)]
        return torch.cat([d[0][i] for d, i in parts]), torch.cat([d[1][i] for d, i in parts])

    def loss(model: nn.Module, examples: Data) -> Tensor:
        return F.cross_entropy(model(examples[0]), examples[1])

    wanted = only(score_on or net.test, label)
    batches = [draw() for _ in range(max(steps) + 1)]
    return Relearning(loss, batches, lambda model: float(right(model, wanted).mean()), steps)


def depths(
    net: Classifier,
    edits: Mapping[str, Mapping[int, mt.Edit]],
    naive: Mapping[int, nn.Module],
    classes: Sequence[int],
    *,
    per_class: int = 200,
    steps: Sequence[int] = (0, 1, 2, 5, 10, 20, 50),
) -> list[Figure]:
    """Probe every site and teach the class again, beside the untouched, a naive and a randomly edited network."""
    figures: list[Figure] = []
    for title, of in edits.items():
        measured: list[Depth] = []
        for c in classes:
            change = of[c]
            trace = mt.Engram({lr.site.name: lr for lr in change.changes})
            random = mt.inject(random_trace(trace, torch.Generator().manual_seed(c)), limit=None)
            measured.append(
                mt.depth(
                    net.model,
                    change,
                    train=probe_data(net.train, per_class),
                    test=Labelled([only(net.test, c)[0]], only(net.test, c)[1]),
                    relearning=relearning(net, c, steps),
                    naive=naive[c],
                    random=random,
                )
            )
        figures += _probes(title, measured) + _curves(title, measured, steps)
    return figures


def _probes(title: str, measured: Sequence[Depth]) -> list[Figure]:
    figures: list[Figure] = []
    for site in measured[0].probe:
        by = {which: mean(d.probe[site][which] for d in measured) for which in ("before", "after", "naive")}
        note = f"untouched {by['before']:.3f}, never saw the class {by['naive']:.3f}"
        figures.append(Figure(f"{title}, depth: probe before {site}", by["after"], "", note))
    return figures


def _curves(title: str, measured: Sequence[Depth], steps: Sequence[int]) -> list[Figure]:
    at = {which: [mean(d.relearning[which][i] for d in measured) for i in range(len(steps))]
          for which in ("after", "naive", "random", "before")}  # fmt: skip
    return [
        Figure(
            f"{title}, depth: relearnt after {step} steps",
            at["after"][i],
            "",
            f"never saw the class {at['naive'][i]:.3f}, random edit {at['random'][i]:.3f}, "
            f"untouched {at['before'][i]:.3f}",
        )
        for i, step in enumerate(steps)
    ]

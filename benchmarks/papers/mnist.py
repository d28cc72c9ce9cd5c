"""MNIST MLP 784-500-100-10 without bias: erase each class; what calibration wins, and what behaviour alone hides.

Published (AI Engram, arXiv 2606.14997, figure of the MLP; read off): base .981, erased .037, others .975 for their
checkpoint. Every setting is chosen on the last 5,000 training images, which nothing was trained on, and reported on
the test images.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, data_folder, idx, main, right
from benchmarks.papers import classes
from benchmarks.papers.classes import Classifier, Data
from mnemotrace.evaluation.calibration import Calibration, Point
from mnemotrace.evaluation.depth import Labelled, probe

WIDTHS = (784, 500, 100, 10)
PENULTIMATE = "fc3"
DEEP_BUDGET = 0.05


def perceptron(data: Data, *, epochs: int, seed: int = 0) -> nn.Sequential:
    """Train with Adam 1e-3 and batches of 256; all randomness from one generator."""
    generator = torch.Generator().manual_seed(seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (d, o) in enumerate(pairwise(WIDTHS), 1):
        layers |= {f"fc{i}": nn.Linear(d, o, bias=False), f"relu{i}": nn.ReLU()}
        nn.init.kaiming_uniform_(layers[f"fc{i}"].weight, a=5**0.5, generator=generator)
    layers.popitem()
    model = nn.Sequential(layers)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(data[1]), generator=generator).split(256):
            loss = F.cross_entropy(model(data[0][batch]), data[1][batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def load(quick: bool) -> tuple[Data, Data, Data]:
    """Read train, held-out and test images."""
    folder = data_folder("mnist")
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    x, y, xt, yt = (idx(folder / f"{name}-ubyte.gz") for name in names)
    size = 3000 if quick else len(y) - 5000
    few = 500 if quick else len(yt)
    return (x[:size], y[:size]), (x[-5000:][:few], y[-5000:][:few]), (xt[:few], yt[:few])


def deep_points(
    net: Classifier,
    statistics: Mapping[int, mt.Statistics],
    references: Mapping[int, Any],
    *,
    naive: Mapping[int, nn.Module],
    grid: Mapping[str, Sequence[float]],
    per_class: int,
) -> tuple[list[Point], float]:
    """Calibrate under behaviour and a probe of the penultimate site, class by class; average points of equal settings.

    Returns:
        The points, and the goal: what the probe finds in networks that never saw the class.
    """
    site = {PENULTIMATE: mt.sites(net.model)[PENULTIMATE]}
    learn = classes.probe_data(net.train, per_class)
    runs: list[Calibration] = []
    goals: list[float] = []
    for c, stranger in naive.items():
        test = classes.probe_data(classes.only(net.held_out, c), per_class)

        def found(model: nn.Module, test: Labelled = test) -> float:
            return probe(model, site, train=learn, test=test)[PENULTIMATE]

        goals.append(found(stranger))
        deep = {"depth": found, "depth_goal": goals[-1], "budget": DEEP_BUDGET, "goal": 0.01}
        runs.append(classes.calibrate(net, statistics, references, [c], **deep, **grid))
    return averaged(runs), mean(goals)


def averaged(runs: Sequence[Calibration]) -> list[Point]:
    """Average the points that every run measured."""
    by_setting = [{(p.names, p.strength, p.selectivity): p for p in run.points} for run in runs]
    points: list[Point] = []
    for key, first in by_setting[0].items():
        if not all(key in points_of for points_of in by_setting):
            continue
        same = [points_of[key] for points_of in by_setting]
        target, depth = (mean(getattr(p, f) for p in same) for f in ("target", "depth"))
        loss, kept = ({"others": mean(getattr(p, f)["others"] for p in same)} for f in ("loss", "kept"))
        points.append(replace(first, target=target, depth=depth, loss=loss, kept=kept))
    return points


def deepest(points: Sequence[Point]) -> list[Point]:
    """The frontier among points that erase (at most .01 left): less in depth for more loss, shallowest first."""
    frontier: list[Point] = []
    for p in sorted((p for p in points if p.target <= 0.01), key=lambda p: (p.loss["others"], p.depth)):
        if not frontier or p.depth < frontier[-1].depth - 0.002:
            frontier.append(p)
    return frontier


def measure(quick: bool) -> list[Figure]:
    """Train, erase each class, calibrate, and look deeper on three classes."""
    train, held_out, test = load(quick)
    epochs = 1 if quick else 3
    net = Classifier(perceptron(train, epochs=epochs), train, held_out, test)
    statistics = classes.by_class(net)
    references = {c: mt.factor(classes.others(statistics, c)) for c in statistics}
    base = classes.untouched(net, test)
    figures = [Figure("untouched: accuracy", float(right(net.model, test).mean()))]

    grid: dict[str, Sequence[float]] = {
        "strengths": (0.8, 1.0, 1.2, 1.35, 1.5, 1.75, 2.0),
        "selectivities": (0.3, 1.0, 3.0),
    }
    if quick:
        grid = {"strengths": (1.0, 1.5), "selectivities": (1.0,)}
    chosen = classes.calibrate(net, statistics, references, budget=0.2 if quick else 0.002, goal=0.01, **grid)
    edits = {
        "published": classes.edits_of(net, statistics, references, None),
        "calibrated": classes.edits_of(net, statistics, references, chosen.best),
    }
    gates = {"published": ("", ""), "calibrated": ("<= 0.01", "<= 0.002")}
    for name, of in edits.items():
        gone, kept = classes.scores_after(net, of, test)
        note = (
            "all sites, strength 1, selectivity 1; about .03" if name == "published" else classes.setting(chosen.best)
        )
        figures += [
            Figure(
                f"{name}: erased class", mean(gone.values()), gates[name][0], f"worst {max(gone.values()):.3f}; {note}"
            ),
            Figure(f"{name}: others", mean(kept.values()), "", f"untouched {base:.4f}"),
            Figure(f"{name}: loss of others", base - mean(kept.values()), gates[name][1]),
        ]
    figures += classes.frontier(chosen, "behaviour")
    mt.save(chosen, OUT / "mnist-calibration.safetensors")

    looked = (3,) if quick else (2, 3, 8)
    naive = {c: perceptron(classes.without(train, c), epochs=epochs) for c in looked}
    deep_grid = grid if quick else {"strengths": (1.0, 1.25, 1.5, 2.0), "selectivities": (0.1, 0.2, 0.3, 0.5, 1.0)}
    points, goal = deep_points(net, statistics, references, naive=naive, grid=deep_grid, per_class=30 if quick else 100)
    deep = deepest(points)
    for p in deep:
        note = f"others lose {p.loss['others']:+.4f}, left {p.target:.3f}; {classes.setting(p)}"
        figures.append(Figure("behaviour and depth, frontier: probe", p.depth, "", note))
    figures.append(Figure("behaviour and depth: probe of networks that never saw the class", goal))
    affordable = [p for p in deep if p.loss["others"] <= DEEP_BUDGET]
    if affordable:
        edits["deep"] = classes.edits_of(net, statistics, references, affordable[-1])
        gone, kept = classes.scores_after(net, edits["deep"], test)
        figures += [
            Figure("deep: erased class", mean(gone.values()), "", classes.setting(affordable[-1])),
            Figure("deep: loss of others", base - mean(kept.values()), "", f"chosen within {DEEP_BUDGET}"),
        ]
    figures += classes.depths(net, edits, naive, looked, per_class=30 if quick else 200)
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

"""Digits MLP 64-500-100-10: erase each class, published and calibrated, and see how deep it goes.

Published (AI Engram, arXiv 2606.14997): all sites, selectivity 1, strength 1. Their code on these data, three seeds
(our measurement): erased .042, others .961, engram alone 1.000 and .022.
"""

from statistics import mean, median

import torch

import mnemotrace as mt
from benchmarks.figures import Figure, main
from benchmarks.papers import classes
from benchmarks.papers.classes import Classifier


def classifier(seed: int, epochs: int = 40, exclude: tuple[int, ...] = ()) -> Classifier:
    """Train one; even test examples choose a setting, odd ones report."""
    d = mt.digits(seed=seed, epochs=epochs, exclude=exclude)
    halves = [(d.test_inputs[i::2], d.test_labels[i::2]) for i in (0, 1)]
    return Classifier(d.model, (d.train_inputs, d.train_labels), halves[0], halves[1])


def published(net: Classifier) -> tuple[dict[str, float], dict[int, mt.Statistics]]:
    """Erase and inject every class on the whole test set at the published setting."""
    test = torch.cat([net.held_out[0], net.test[0]]), torch.cat([net.held_out[1], net.test[1]])
    statistics = classes.by_class(net)
    traces = {
        c: mt.engram(net.model, target=statistics[c], reference=classes.others(statistics, c)) for c in statistics
    }
    gone, kept = classes.scores_after(net, {c: mt.erase(t, limit=None) for c, t in traces.items()}, test)
    alone = {c: mt.null(net.model, t) + mt.inject(t, limit=None) for c, t in traces.items()}
    recalled, leaked = classes.scores_after(net, alone, test)
    values = {"erased": gone, "others": kept, "alone": recalled, "alone, others": leaked}
    return {name: mean(by.values()) for name, by in values.items()}, statistics


def measure(quick: bool) -> list[Figure]:
    """Measure over three seeds; calibrate and look deeper on the first."""
    epochs, seeds = (3, (0,)) if quick else (40, (0, 1, 2))
    nets = {seed: classifier(seed, epochs) for seed in seeds}
    runs = {seed: published(net) for seed, net in nets.items()}
    middle = {name: median(run[0][name] for run in runs.values()) for name in runs[0][0]}
    figures = [
        Figure(
            "published: erased class", middle["erased"], "<= 0.06", f"median of {len(seeds)} seeds, mean over classes"
        ),
        Figure("published: others", middle["others"], ">= 0.95"),
        Figure("engram alone: its class", middle["alone"], ">= 0.98"),
        Figure("engram alone: others", middle["alone, others"], "<= 0.05"),
    ]
    net, statistics = nets[0], runs[0][1]
    references = {c: mt.factor(classes.others(statistics, c)) for c in statistics}
    grid = {"strengths": (1.0, 1.5), "selectivities": (1.0,)} if quick else {
        "strengths": (0.8, 1.0, 1.2, 1.5, 2.0), "selectivities": (0.3, 1.0, 3.0)}  # fmt: skip
    chosen = classes.calibrate(net, statistics, references, budget=0.2 if quick else 0.005, goal=0.01, **grid)
    edits = {
        "published": classes.edits_of(net, statistics, references, None),
        "calibrated": classes.edits_of(net, statistics, references, chosen.best),
    }
    base = classes.untouched(net, net.test)
    for name, of in edits.items():
        gone, kept = classes.scores_after(net, of, net.test)
        note = (
            f"seed 0, odd test examples; {classes.setting(chosen.best)}"
            if name == "calibrated"
            else "seed 0, odd test examples"
        )
        figures.append(Figure(f"{name}: erased class, other half", mean(gone.values()), "", note))
        figures.append(Figure(f"{name}: loss of others, other half", base - mean(kept.values())))
    looked = (3,) if quick else (1, 3, 8)
    naive = {c: classifier(0, epochs, (c,)).model for c in looked}
    return figures + classes.depths(net, edits, naive, looked, per_class=100)


if __name__ == "__main__":
    main(measure, __doc__)

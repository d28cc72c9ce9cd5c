"""Superposition: the toy models' published geometry, their phase diagram, and the same measures on real directions.

U1 and U3: 20 features in 5 dimensions, importances .9^i, best of eight starts. U2: 5 equal features in 2 dimensions,
best of eight. U4 and U5: two features in one dimension, 9 by 9 cells, best of four starts; three seeds, of which the
worst counts. The control is the network without ReLU. Real directions: rows of MNIST's last layer, Funes's embedding
and MLP outputs, each beside random directions of the same number, lengths and width. Published: Elhage et al. 2022.
"""

import time
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import OUT, REPOSITORY, Figure, Skipped, main
from benchmarks.papers import mnist
from mnemotrace.localisation.geometry import geometry
from mnemotrace.localisation.superposition import feature_dimensionality, superposition
from mnemotrace.organisms.phase_diagram import PhaseDiagram, phase_diagram
from mnemotrace.organisms.toy import ToyModels, Trained
from mnemotrace.view import canvas
from mnemotrace.view.figure import CONTROL, INK, MUTED, RULE, TRACE, save
from mnemotrace.view.figure import Figure as Drawn
from mnemotrace.view.phase_diagram import figure as phases_drawn

DENSITIES = (1.0, 0.464, 0.215, 0.1, 0.046, 0.022, 0.01)
FLAT = (1.0, 0.3, 0.05)
PICTURE = REPOSITORY / "docs/images/superposition.png"


def trained(
    n: int, m: int, densities: tuple[float, ...], decay: float, quick: bool, *, linear: bool = False
) -> Trained:
    """Train one instance a density; importances fall by `decay` from feature to feature."""
    importance = decay ** torch.arange(n).float()
    models = ToyModels(n, m, importance, torch.tensor(densities), linear)
    return models.train(restarts=2 if quick else 8, steps=200 if quick else 2000)


def many_figures(quick: bool) -> tuple[list[Figure], Tensor]:
    """U1 and U3 over densities; returns the dimensionalities, too."""
    found, linear = (trained(20, 5, DENSITIES, 0.9, quick, linear=linear) for linear in (False, True))
    dimensionality = torch.stack([feature_dimensionality(w) for w in found.features])
    figures: list[Figure] = []
    for place, density in enumerate(DENSITIES):
        clusters, absent = geometry(found.features[place])
        square = float(found.weight[place].square().sum())
        total, plain = float(dimensionality[place].sum()), float(linear.weight[place].square().sum())
        note = f"{20 - len(absent)} features; without ReLU ||W||^2 {plain:.2f}"
        if density == 1:
            figures += [
                Figure("U1 density 1: off ||W||^2 = 5 by", abs(square - 5), "<= 0.1", note),
                Figure("U1 density 1: features more or fewer than 5", abs(len(clusters) - 5), "<= 0"),
            ]
        names = [f"{len(c.features)} in {c.dimensions}" if c.polytope == "irregular" else c.polytope for c in clusters]
        shapes = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        figures += [
            Figure(f"density {density}: ||W||^2", square, "", note),
            Figure(f"U3 density {density}: sum of D_i over 5", total / 5, ">= 0.95", shapes),
        ]
    most = float(dimensionality.sum(1).max()) / 5
    return [*figures, Figure("U3 largest sum of D_i over 5", most, "<= 1.000001", "the bound, up to rounding")], (
        dimensionality
    )


def plane_figures(quick: bool) -> tuple[list[Figure], Trained]:
    """U2: the pentagon and the pairs."""
    found = trained(5, 2, FLAT, 1.0, quick)
    (pentagon, *others), absent = geometry(found.features[2])
    whole = pentagon.polytope == "pentagon" and not others and not absent
    gaps, dimensionality = torch.tensor(pentagon.gaps), feature_dimensionality(found.features[2])
    pairs, dropped = geometry(found.features[1])
    kept = feature_dimensionality(found.features[1])[[i for pair in pairs for i in pair.features]]
    starts = found.losses[2]
    missed = int((starts > 1.1 * starts.min()).sum())
    return [
        Figure("U2 density .05: pentagons", float(whole), ">= 1",
               f"{missed} of {len(starts)} starts end elsewhere"),
        Figure("U2 density .05: largest |D_i - .40|", float((dimensionality - 0.4).abs().max()), "<= 0.02"),
        Figure("U2 density .05: largest |gap - 72|, degrees", float((gaps - 72).abs().max()) if len(gaps) else 180.0,
               "<= 3"),
        Figure("U2 density .3: features more or fewer than 4", abs(5 - len(dropped) - 4), "<= 0",
               ", ".join(pair.polytope for pair in pairs)),
        Figure("U2 density .3: largest |D_i - .50| of those", float((kept - 0.5).abs().max()), "<= 0.02"),
    ], found  # fmt: skip


def solid_figures(quick: bool) -> list[Figure]:
    """Eight equal features in three dimensions: the square antiprism."""
    found = trained(8, 3, (0.215, 0.1, 0.046), 1.0, quick)
    figures: list[Figure] = []
    for density, w in zip((0.215, 0.1, 0.046), found.features, strict=True):
        (cluster, *_), _ = geometry(w)
        figures.append(
            Figure(f"8 in 3, density {density}: mean D_i", cluster.dimensionality, "", f"{cluster.polytope}; ideal 3/8")
        )
    return figures


def phase_figures(quick: bool) -> tuple[list[Figure], list[PhaseDiagram]]:
    """U4 and U5, with the control."""
    restarts, steps = (2, 100) if quick else (4, 1000)
    started, grids = time.process_time(), list[PhaseDiagram]()
    spent: list[float] = []
    for seed in range(1 if quick else 3):
        source = torch.Generator().manual_seed(seed)
        grids.append(phase_diagram(restarts=restarts, steps=steps, generator=source))
        spent.append(time.process_time() - started - sum(spent))
    control = phase_diagram(linear=True, restarts=restarts, steps=steps)
    rare, near = (torch.tensor(v) for v in (grids[0].densities, grids[0].ratios))
    chosen = (rare <= 0.03)[:, None] & (near >= 0.3) & (near <= 3)
    dense = [int((grid.phases[0] == 2).sum()) for grid in grids]
    share = [float((grid.phases[chosen] == 2).float().mean()) for grid in grids]
    agree = [float(grid.agrees.float().mean()) for grid in grids]
    first = [(grid.losses[..., 0] > 1.1 * grid.losses.amin(-1)).float().mean() for grid in grids]
    return [
        Figure("U4 density 1: superposition cells, most of seeds", max(dense), "<= 0", f"of {len(near)}"),
        Figure("U4 density <= .03, ratio .3 to 3: share, least of seeds", min(share), ">= 0.7",
               f"of {int(chosen.sum())} cells; seeds {', '.join(f'{one:.3f}' for one in share)}"),
        Figure("cells in the phase that the closed form predicts, least of seeds", min(agree), "",
               f"of {grids[0].phases.numel()}; seeds {', '.join(f'{one:.3f}' for one in agree)}"),
        Figure("cells where a single start ends 10 % above the best", float(max(first)), "", "most of seeds"),
        Figure("without ReLU: superposition cells", float((control.phases == 2).sum()), "", f"of {rare.numel() * 9}"),
        Figure("U5 81 cells, CPU seconds, one thread", max(spent), "<= 30", "slowest seed"),
    ], [grids[0], control]  # fmt: skip


def directions(quick: bool) -> dict[str, Tensor]:
    """Rows of real layers."""
    funes = mt.funes().model
    embedding = funes.get_parameter("transformer.wte.weight").detach()
    written = funes.get_parameter("transformer.h.3.mlp.c_proj.weight").detach()  # (hidden, width): what units write
    found = {
        "Funes, word embeddings": embedding,
        "Funes, word embeddings, centred": embedding - embedding.mean(0),
        "Funes, MLP of layer 3, what units write": written,
    }
    try:
        train, _, _ = mnist.load(quick)
    except Skipped:
        return found
    last = mnist.perceptron(train, epochs=1 if quick else 3).get_parameter("fc3.weight").detach()
    return found | {"MNIST, last layer, read by digits": last, "the same, centred": last - last.mean(0)}


def real_figures(quick: bool) -> list[Figure]:
    """Measure real directions beside random ones."""
    figures: list[Figure] = []
    for name, w in directions(quick).items():
        found = superposition(w, draws=2 if quick else 20)
        heard, total = found.control.unbind(1)
        drawn = f"random {found.expected:.3g}, draws {heard.min():.3g} to {heard.max():.3g}"
        share = float(found.dimensionality.sum())
        figures += [
            Figure(f"{name}: interference over random", found.excess, "", f"{found.interference.mean():.3g}; {drawn}"),
            Figure(
                f"{name}: sum of D_i", share, "", f"{len(w)} in {found.m}, rank {found.rank}; random {total.mean():.1f}"
            ),
        ]
    return figures


def geometries(width: int, planes: Trained, dimensionality: Tensor) -> Any:
    """Draw five features in a plane at three densities, and dimensionalities over density."""
    side, top, gap = width * 0.19, 30, 14
    paper = canvas.sheet(width, side + top + 34)
    for place, density in enumerate(FLAT):
        axes = canvas.panel(paper, place * (side + gap) + 4, top, side, side)
        axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), xticks=[], yticks=[])
        axes.set_title(f"density {density:g}", loc="left", fontsize=11, color=INK)
        axes.axhline(0, color=RULE, linewidth=0.6)
        axes.axvline(0, color=RULE, linewidth=0.6)
        for x, y in planes.features[place].tolist():
            axes.plot([0, x], [0, y], color=TRACE, linewidth=1.4)
            axes.plot([x], [y], "o", color=TRACE, markersize=6)
    left = 3 * (side + gap) + 44
    axes = canvas.panel(paper, left, top, width - left - 12, side)
    axes.set_xscale("log")
    axes.minorticks_off()
    for level, name in ((1, "alone"), (0.5, "pair"), (0.4, "pentagon"), (0.25, "20 in 5")):
        axes.axhline(level, color=CONTROL, linewidth=0.8, linestyle=":")
        axes.text(1.25, level + 0.02, name, fontsize=9, color=MUTED, ha="left")
    for density, values in zip(DENSITIES, dimensionality, strict=True):
        axes.plot([density] * len(values), values, "o", color=TRACE, markersize=4, alpha=0.5, markeredgewidth=0)
    axes.set(xlim=(3.6, 0.008), ylim=(-0.03, 1.08), xticks=[1, 0.1, 0.01], xticklabels=["1", "0.1", "0.01"])
    canvas.base(axes, "density")
    axes.set_title("D of 20 features in 5 dimensions", loc="left", fontsize=11, color=INK)
    return paper


def draw(planes: Trained, dimensionality: Tensor, grids: list[PhaseDiagram], *, quick: bool) -> None:
    """Write the picture: geometries above, the two phase diagrams below."""
    OUT.mkdir(parents=True, exist_ok=True)
    top = Drawn("geometry", "", "", (), (), lambda width: geometries(width, planes, dimensionality))
    drawn = [Image.open(save(top, OUT / "superposition-geometry.png")[0])]
    for name, grid in zip(("relu", "linear"), grids, strict=True):
        shown = phases_drawn(grid.pack())
        assert shown is not None
        drawn.append(Image.open(save(shown, OUT / f"superposition-{name}.png", width=356)[0]))
    height = drawn[0].height + 24 + max(one.height for one in drawn[1:])
    paper = Image.new("RGB", (drawn[0].width, height), "white")
    paper.paste(drawn[0], (0, 0))
    for place, one in enumerate(drawn[1:]):
        paper.paste(one, (place * 728, drawn[0].height + 24))
    paper.quantize(256).save(OUT / "superposition.png" if quick else PICTURE, optimize=True)


def measure(quick: bool) -> list[Figure]:
    """Measure everything, then draw it."""
    many, dimensionality = many_figures(quick)
    plane, planes = plane_figures(quick)
    phases, grids = phase_figures(quick)
    draw(planes, dimensionality, grids, quick=quick)
    return [*many, *plane, *solid_figures(quick), *phases, *real_figures(quick)]


if __name__ == "__main__":
    main(measure, __doc__)

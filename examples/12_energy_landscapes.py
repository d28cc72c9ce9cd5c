"""Energy landscapes of a point, an extended and a semantic memory: pits, valleys, and a basin for each kind."""

import math
import sys
from pathlib import Path

import torch

from mnemotrace.memories.extended import Affine, Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.mixture import Landscape, Mixture
from mnemotrace.memories.shapes import Sphere
from mnemotrace.retrieval.dynamics import recall

corners = torch.tensor([[-1.9, 1.2], [0.1, 1.7], [1.8, 0.9], [1.2, -1.3], [-0.8, -1.4], [-0.2, 0.1]])
slope = torch.tensor([[1.0, 0.45]])
bent = torch.tensor([[[0.5, 0.35], [0.35, 0.4]], [[0.25, 0.0], [0.0, 0.6]], [[0.55, -0.2], [-0.2, 0.15]]])
memories = {  # with the noise at which each is looked at
    "point": (Mixture([Point(y) for y in corners]), 0.3),
    "extended": (
        Mixture(
            [
                Sphere(torch.tensor([-0.7, 0.55]), radius=1.1),
                Affine(torch.tensor([0.7, -1.45]), slope, scale=0.9),
                Point(torch.tensor([1.9, 1.3])),
            ],
            weights=torch.tensor([6.0, 3.0, 1.0]),
        ),
        0.3,
    ),
    "semantic": (GaussianMixture(torch.tensor([[-1.2, 0.9], [1.5, 0.9], [0.1, -1.3]]), bent), 0.3),
}  # fmt: skip
angle = torch.arange(14) * 2 * math.pi / 14
cues = torch.stack([2.5 * angle.cos(), 2.1 * angle.sin()], 1)
found = {}
for name, (memory, sigma) in memories.items():
    found[name] = recall(Landscape(memory, sigma), cues, sweeps=400, tolerance=1e-5, trajectory=True)
    ends = found[name].state
    places = len({tuple(row) for row in ends.mul(10).round().int().tolist()})
    print(f"{name:9} {len(cues)} cues come to rest at {places} places, energy {float(found[name].energy.mean()):.2f}")

if len(sys.argv) > 1:  # a path: draw there
    from matplotlib import pyplot

    x, y = torch.linspace(-3, 3, 301), torch.linspace(-2.6, 2.6, 261)
    grid = torch.cartesian_prod(x, y)
    sheet, panels = pyplot.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    for panel, (name, (memory, sigma)) in zip(panels, memories.items(), strict=True):
        energy = Landscape(memory, sigma).energy(grid).view(301, 261).T
        height = (energy - energy.min()).sqrt()
        panel.contourf(x, y, height, levels=24, cmap="YlGnBu_r", vmax=1.5)
        panel.contour(x, y, height, levels=12, colors="white", linewidths=0.4, alpha=0.35)
        for path in found[name].trajectory.unbind(1):
            panel.plot(*path.T, color="#ffb347", linewidth=1.3)
        panel.plot(*cues.T, "o", markersize=4, markerfacecolor="none", markeredgecolor="#ffb347")
        panel.plot(*found[name].state.T, "o", markersize=6, color="#d7263d", markeredgecolor="white")
        panel.set(title=f"{name} memory", xticks=[], yticks=[], aspect="equal")
    sheet.savefig(Path(sys.argv[1]), dpi=110)

# point     14 cues come to rest at 5 places, energy 0.11
# extended  14 cues come to rest at 9 places, energy 0.17
# semantic  14 cues come to rest at 3 places, energy 0.18

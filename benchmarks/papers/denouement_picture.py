"""The picture of a plot being resolved: things that fall, what is believed of them, and what is remembered.

One run, seed 0, four drops an update. Top: the graph at the end of each scene, each arrow as thick as it is probable.
Middle: the probability of all 25 graphs, by what time depends on. Bottom: how two memories are told.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mnemotrace.modification.beliefs.state import Beliefs
from mnemotrace.organisms import falling
from mnemotrace.view.figure import CONTROL, INK, MUTED, SECOND, SERIES, TRACE

Phase = tuple[Mapping[str, str], int]
STONE = {"mass": "heavy", "drag": "little", "time": "short"}
FEATHER = {"mass": "light", "drag": "much", "time": "long"}
SCENES: tuple[tuple[str, Phase], ...] = (
    ("watching things fall", ({}, 20)),
    ("without air", (falling.NO_AIR, 80)),
    ("with a parachute", (falling.PARACHUTE, 80)),
)
EACH = 4
GROUPS = (("drag", TRACE), ("mass and drag", SERIES[2]), ("mass", SECOND), ("neither", CONTROL))
PLACES = {"mass": (0.12, 0.2), "drag": (0.5, 0.85), "time": (0.88, 0.2)}
Told = Sequence[tuple[int, Tensor, Tensor]]


def tell(seed: int, phases: Sequence[Phase], batch: int) -> tuple[Beliefs, Told]:
    """Let things fall: beliefs with two memories of the first scene; and after each batch, drops, edges, posterior."""
    g, beliefs = torch.Generator().manual_seed(seed), Beliefs(falling.VARIABLES)
    path: list[Any] = [(0, beliefs.edges(), beliefs.posterior)]
    for number, (set_to, n) in enumerate(phases):
        for _ in range(n // batch):
            beliefs.observe(falling.drops(batch, set_to=set_to, generator=g), do=list(set_to))
            path.append((path[-1][0] + batch, beliefs.edges(), beliefs.posterior))
        if number == 0:
            beliefs.remember(STONE, explains={"time": "mass"}, note="the stone")
            beliefs.remember(FEATHER, explains={"time": "drag"}, note="the feather")
    return beliefs, path


def draw(path: Path) -> None:
    """Draw the run with seed 0."""
    from matplotlib.figure import Figure

    beliefs, told = tell(0, [phase for _, phase in SCENES], EACH)
    ends = [sum(n for _, (_, n) in SCENES[: k + 1]) for k in range(len(SCENES))]
    sheet = Figure(figsize=(10.4, 7.8), dpi=100, facecolor="white")
    whole = sheet.add_axes((0.07, 0.28, 0.9, 0.38))
    stack(whole, beliefs, told)
    for k, (title, _) in enumerate(SCENES):
        start = ends[k - 1] if k else 0
        whole.axvline(ends[k], color="white", linewidth=3)
        left = 0.07 + 0.9 * (start + ends[k]) / 2 / ends[-1] - 0.095
        axes = sheet.add_axes((left, 0.69, 0.19, 0.21))
        graph(axes, next(edges for drops, edges, _ in told if drops == ends[k]))
        axes.set_title(title, fontsize=12, color=INK, pad=24)
        does = "nothing is set" if k == 0 else f"drag is set to {SCENES[k][1][0]['drag']}"
        axes.text(0.5, 1.04, does, ha="center", fontsize=9, color=MUTED, transform=axes.transAxes)
    memories(sheet.add_axes((0.07, 0.015, 0.9, 0.19)), beliefs, ends)
    sheet.savefig(path)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def stack(axes: Any, beliefs: Beliefs, told: Told) -> None:
    """Stack the probabilities of all graphs, by what time depends on."""
    across = [drops for drops, _, _ in told]
    posteriors = torch.stack([posterior for _, _, posterior in told])
    kinds = torch.tensor([(3, 2, 0, 1)[mask & 3] for mask in beliefs.graphs.parents[:, 2].tolist()])
    base = torch.zeros(len(told), dtype=torch.float64)
    for kind, (name, colour) in enumerate(GROUPS):
        members = (kinds == kind).nonzero()[:, 0]
        for place, k in enumerate(members[posteriors[-1, members].argsort(descending=True)].tolist()):
            top = base + posteriors[:, k]
            axes.fill_between(across, base, top, color=colour, alpha=0.9 - 0.14 * min(place, 5), linewidth=0)
            axes.plot(across, top, color="white", linewidth=0.6)
            base = top
        axes.fill_between([], [], [], color=colour, label=name)
    axes.set(xlim=(0, across[-1]), ylim=(0, 1))
    axes.set_ylabel("probability of each of 25 graphs", color=MUTED, fontsize=10)
    axes.set_xlabel("things dropped", color=MUTED, fontsize=10, loc="right", labelpad=1)
    axes.tick_params(length=0, labelcolor=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(False)
    legend = axes.legend(title="time depends on", loc="lower right", frameon=True, framealpha=0.92, fontsize=9,
                         edgecolor="white", reverse=True)  # fmt: skip
    legend.get_title().set_fontsize(9)


def graph(axes: Any, edges: Tensor) -> None:
    """Draw three nodes, each arrow as thick and dark as it is probable."""
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    for i, a in enumerate(PLACES):
        for j, b in enumerate(PLACES):
            p = float(edges[i, j])
            if i == j or p < 0.02:
                continue
            colour = {("mass", "time"): SECOND, ("drag", "time"): TRACE}.get((a, b), INK)
            style = {"arrowstyle": "-|>,head_width=.32,head_length=.6", "color": colour, "alpha": 0.15 + 0.85 * p,
                     "linewidth": 0.6 + 4.4 * p, "shrinkA": 21, "shrinkB": 21,
                     "connectionstyle": "arc3,rad=.16"}  # fmt: skip
            axes.annotate("", PLACES[b], PLACES[a], arrowprops=style)
    for name, (x, y) in PLACES.items():
        box = {"boxstyle": "round,pad=.32", "facecolor": "white", "edgecolor": MUTED}
        axes.text(x, y, name, ha="center", va="center", fontsize=11, color=INK, bbox=box)


def memories(axes: Any, beliefs: Beliefs, ends: Sequence[int]) -> None:
    """Draw each memory as a bar that changes colour where it is told anew."""
    times, drops = [act.time for act in beliefs.log if act.name == "observe"], EACH
    axes.set(xlim=(0, ends[-1]), ylim=(1.75, -0.6))
    axes.set_axis_off()
    for row, account in enumerate(beliefs.memories):
        starts = [drops * sum(t <= version.time for t in times) for version in account.versions]
        facts = ", ".join(account.facts.values())
        axes.text(-11, row, f"{account.note}:\n{facts}", ha="left", va="center", fontsize=9, color=INK)
        for k, (start, stop) in enumerate(zip(starts, [*starts[1:], ends[-1]], strict=True)):
            causes = account.versions[k].explains["time"]
            colour = {("mass",): SECOND, ("drag",): TRACE, ("mass", "drag"): SERIES[2]}.get(causes, CONTROL)
            axes.barh(
                row, stop - start, left=start, height=0.62, color=colour, alpha=0.85, edgecolor="white", linewidth=3
            )
            words = account.text(k) if stop - start > 45 else f"because of\n{' and '.join(causes)}"
            axes.text((start + stop) / 2, row, words, ha="center", va="center", color="white", fontsize=9)
    axes.text(-11, -0.52, "what is remembered; facts never change", fontsize=10, color=MUTED, va="center")

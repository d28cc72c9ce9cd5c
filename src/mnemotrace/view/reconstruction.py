"""What a reconstruction says of each feature: given by the cue, kept in an episode's core, or made up; and how surely.

A feature is `kept` where the library says `core`, and `reconstructed` where it says `semantic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import SMALL, fit, handle, legend
from mnemotrace.view.figure import CONTROL, MUTED, SECOND, TRACE, Figure
from mnemotrace.view.values import NONE, finite, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from torch import Tensor

Rows = list[tuple[str, ...]]
LOOKS = {"given": (CONTROL, "s"), "kept": (TRACE, "o"), "reconstructed": (SECOND, "D")}
COLUMNS = ("cue", *LOOKS, "± kept", "± reconstructed", "episode", "draws there", "probability")
MOST, SHOWN, FEATURES, HALF, CROWDED = 100, 3, 1000, 0.5, 60
_NEEDED = ("samples", "episode", "fixed", "known")


@dataclass(frozen=True)
class Told:
    """One cue: for each feature its origin, mean and deviation; and the episode most draws ended in."""

    cue: int
    origins: list[str]
    means: list[float | None]
    deviations: list[float | None]
    episode: int
    share: float
    chance: float | None

    def spread(self, origin: str) -> float | None:
        """Return the mean deviation of the features of one origin."""
        found = [v for v, o in zip(self.deviations, self.origins, strict=True) if o == origin and v is not None]
        return sum(found) / len(found) if found else None


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many cues, draws, features and episodes there are, and how many features were made up."""
    samples, fixed = artifact.tensors.get("samples"), artifact.tensors.get("fixed")
    if samples is None or samples.ndim != 3:  # noqa: PLR2004
        return []
    sizes = dict(zip(("cues", "draws a cue", "features"), map(number, samples.shape), strict=True))
    parts = NONE if fixed is None else number(len(fixed))
    told = _told(artifact, MOST)
    return [*sizes.items(), ("episodes", parts), *((name, _count(told, name)) for name in LOOKS)]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the first cues: features by origin, how unsure they are, and the episode they ended in."""
    rows: Rows = [
        tuple(map(number, (one.cue, *(one.origins.count(name) for name in LOOKS), one.spread("kept"),
                           one.spread("reconstructed"), one.episode, one.share, one.chance)))
        for one in _told(artifact, MOST)
    ]  # fmt: skip
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say of the cues that are drawn what is kept, what is made up, and how surely."""
    told: list[str] = []
    for one in _told(artifact, SHOWN):
        counts = ", ".join(f"{one.origins.count(name)} {name}" for name in LOOKS)
        made = one.spread("reconstructed")
        vary = "" if made is None else f"; what is reconstructed varies by {number(made)} on average"
        told.append(
            f"Cue {one.cue}: {counts}{vary}. {number(one.share)} of the draws ended in episode {one.episode}"
            + ("." if one.chance is None else f", whose probability given the cue is {number(one.chance)}.")
        )
    return told


def figure(artifact: Artifact) -> Figure | None:
    """Draw each feature's mean with its deviation, marked by origin; a panel a cue, of the first ones."""
    every = _told(artifact, SHOWN)
    told = every[: max(1, min(SHOWN, FEATURES // max(1, len(every[0].origins))))] if every else []
    rows = [
        (one.cue, feature, *entry)
        for one in told
        for feature, entry in enumerate(zip(one.origins, one.means, one.deviations, strict=True))
    ]
    if not any(row[3] is not None for row in rows):
        return None
    return Figure(
        name="reconstruction",
        title="What was recalled, feature by feature",
        label="; ".join(f"cue {one.cue}: {', '.join(f'{one.origins.count(n)} {n}' for n in LOOKS)}" for one in told),
        columns=("cue", "feature", "from", "mean", "deviation"),
        rows=tuple(rows),
        paint=lambda width: _paint(width, told),
    )


def _told(artifact: Artifact, most: int) -> list[Told]:
    found = [artifact.tensors.get(name) for name in _NEEDED]
    if any(tensor is None or not tensor.numel() for tensor in found):
        return []
    samples, episode, fixed, known = (artifact.tensors[name][:most] if name != "fixed" else artifact.tensors[name]
                                      for name in _NEEDED)  # fmt: skip
    chances, made = artifact.tensors.get("posterior"), list[Told]()
    for cue in range(len(samples)):
        draws, where = samples[cue].double(), episode[cue]
        core = fixed[where].double().mean(0) > HALF
        ended = where.bincount()
        most_often = int(ended.argmax())
        inside = chances is not None and most_often < chances.shape[1]
        made.append(
            Told(
                cue=cue,
                origins=[_origin(*pair) for pair in zip(known[cue].tolist(), core.tolist(), strict=True)],
                means=_numbers(draws.mean(0)),
                deviations=_numbers(draws.std(0, correction=0)),
                episode=most_often,
                share=float(ended[most_often]) / len(draws),
                chance=finite(float(chances[cue, most_often])) if chances is not None and inside else None,
            )
        )
    return made


def _origin(known: bool, core: bool) -> str:
    return "given" if known else "kept" if core else "reconstructed"


def _numbers(values: Tensor) -> list[float | None]:
    return [finite(value) for value in values.tolist()]


def _count(told: Sequence[Told], origin: str) -> str:
    counts = [one.origins.count(origin) for one in told]
    if not counts:
        return NONE
    low, high = min(counts), max(counts)
    return f"{number(low)} features" if low == high else f"{number(low)} to {number(high)} features"


def _paint(width: int, told: Sequence[Told]) -> Sheet:
    height, block, top = 150, 214, 22
    paper = canvas.sheet(width, top + block * len(told))
    for index, one in enumerate(told):
        axes = canvas.panel(paper, 40, top + block * index + 22, width - 54, height)
        _features(axes, one, points=5 if len(one.origins) <= CROWDED else 2.5)
        canvas.base(axes, "feature")
        title = f"cue {one.cue}, {one.share:.0%} of draws in episode {one.episode}"
        axes.set_title(fit(title, width - 54), loc="left", fontsize=SMALL, color=MUTED, pad=6)
        if index == 0:
            there = [name for name in LOOKS if any(name in each.origins for each in told)]
            legend(axes, [handle(name, *LOOKS[name]) for name in there], 3, gap=24)
    return paper


def _features(axes: Axes, one: Told, *, points: float) -> None:
    for origin, (colour, marker) in LOOKS.items():
        known = [
            (feature, mean, wide or 0.0)
            for feature, (o, mean, wide) in enumerate(zip(one.origins, one.means, one.deviations, strict=True))
            if o == origin and mean is not None
        ]
        across = [k[0] for k in known]
        axes.vlines(across, [m - w for _, m, w in known], [m + w for _, m, w in known], color=colour, linewidth=1.2)
        axes.plot(across, [k[1] for k in known], linestyle="", marker=marker, markersize=points, color=colour)
    axes.margins(y=0.08)
    axes.set_xlim(-0.5, len(one.origins) - 0.5)
    axes.locator_params(axis="x", integer=True)
    axes.locator_params(axis="y", nbins=5)

"""The loss of a denoiser over its training, as its manifest or the history of a night has it."""

from collections.abc import Sequence
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import TRACE, Figure
from mnemotrace.view.values import finite, number, part


def figure(artifact: Artifact) -> Figure | None:
    """Draw the loss over the steps, each value the mean of a stretch and drawn at its end."""
    losses, steps = losses_of(artifact), finite(part(artifact.header, "manifest").get("steps"))
    ends = [(i + 1) * (steps or len(losses)) / len(losses) for i in range(len(losses))]
    spots = [(end, loss) for end, value in zip(ends, losses, strict=True) if (loss := finite(value)) is not None]
    if not spots:
        return None
    return Figure(
        name="loss",
        title="Loss while training, means of stretches of steps",
        label=f"The loss falls from {number(spots[0][1])} to {number(spots[-1][1])} in {number(int(spots[-1][0]))} "
        f"{'steps' if steps else 'stretches'}.",
        columns=("steps", "loss"),
        rows=tuple(spots),
        paint=lambda width: charts.lines(
            width, [Line("loss", spots, TRACE)], x="steps" if steps else "stretches", y="loss", scale="ratios"
        ),
    )


def losses_of(artifact: Artifact) -> Sequence[Any]:
    """Return the losses, of a consolidation or of a denoiser; none where they were not kept."""
    history = part(artifact.header, "history")
    return list(history.get("losses") or part(artifact.header, "manifest").get("losses") or [])

"""The lives of concepts while a network trained: what was known when, what rested on the engram, what stayed of it."""

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import drawing
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import number

Rows = list[tuple[str, ...]]
COLUMNS = ("concept", "step", "score", "necessity", "random", "spared", "norm", "agreement", "overlap with the last")
MEASURES = COLUMNS[2:-1]
MOST = 40


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many concepts were followed, for how long, and beside what."""
    steps, manifest = artifact.header["steps"], artifact.header["manifest"]
    return [
        ("concepts", str(len(artifact.header["concepts"]))),
        ("measured", f"{len(steps)} times, from step {steps[0]} to {steps[-1]}"),
        ("random traces beside each erasure", number(manifest.get("random"))),
        ("rank kept of an engram", number(manifest.get("rank"))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every measurement."""
    return COLUMNS, [tuple(v if isinstance(v, str) else number(v) for v in row) for row in _rows(artifact)]


def figure(artifact: Artifact) -> Figure:
    """Show concepts as rows and time as columns: score, what rests on the engram beyond chance, what stayed of it."""
    rows = _rows(artifact)
    names, steps = artifact.header["concepts"], [str(step) for step in artifact.header["steps"]]
    cells = {(str(row[0]), str(row[1])): [float(v) for v in row[2:]] for row in rows}
    maps = {
        "score": {key: values[0] for key, values in cells.items()},
        "necessity beyond random": {key: max(values[1] - max(values[2], 0.0), 0.0) for key, values in cells.items()},
        "overlap with the last engram": {key: values[-1] for key, values in cells.items()},
    }
    last = {name: cells[name, steps[-1]][0] for name in names}
    return Figure(
        name="chronicle",
        title="The life of each concept",
        label=f"{len(names)} concepts over {len(steps)} times; at the last step the scores are "
        f"{', '.join(f'{name} {number(value)}' for name, value in [*last.items()][:MOST])}.",
        columns=COLUMNS,
        rows=tuple(rows),
        paint=lambda width: drawing.heat_maps(width, names, steps, maps, across="step"),
    )


def _rows(artifact: Artifact) -> list[tuple[str | float, ...]]:
    tensors = artifact.tensors
    return [
        (name, step, *(float(tensors[m][c, t]) for m in MEASURES), float(tensors["overlap"][c, t, -1]))
        for c, name in enumerate(artifact.header["concepts"])
        for t, step in enumerate(artifact.header["steps"])
    ]

"""Cells across modalities: Aleph's shared layer, seen, read and heard, beside an untrained twin and random directions.

C6: of 128 units at least 50 tell a number with AUROC 0.90 in the worst modality, on stimuli that did not choose the
number, all ten numbers are covered, and the untrained twin has at most 6. The gate was measured on two modalities; here
on two and on three. Then the same for each single view: shifted, noisy and thick drawings, misspelt words and languages
that training did not have, new voices.

Association: training named one number in four by its companion, the complement to nine. The control is Aleph trained
without companions (`scripts/train_aleph.py --companion 0`, half a minute), with the same question asked.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.figures import OUT, REPOSITORY, Figure, main
from mnemotrace.localisation.cells import Cells, Stimuli, cells
from mnemotrace.organisms.aleph import Aleph, aleph, read_aleph
from mnemotrace.view import cells as drawn
from mnemotrace.view import drawable, save

LAYER, GATE, COVERED, UNTRAINED = "concepts", 50, 10, 6


def stimuli(found: Aleph, *, senses: tuple[str, ...], views: bool) -> dict[str, Stimuli]:
    """Make stimuli of some senses, their views kept apart or not."""
    return {
        name: Stimuli(sense.batches(), sense.numbers, views=sense.views if views else None, names=found.names,
                      items=sense.items)
        for name, sense in found.senses.items() if name in senses
    }  # fmt: skip


def look(found: Aleph, *, senses: tuple[str, ...] = ("image", "word", "voice"), views: bool = False,
         auroc: float = 0.9, seed: int = 0, shuffles: int = 99) -> Cells:  # fmt: skip
    """Find the cells of the shared layer."""
    return cells(
        found.model, stimuli(found, senses=senses, views=views), sites=[LAYER], auroc=auroc, invariance=0.9,
        shuffles=shuffles, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def gate_figures(found: Aleph, shuffles: int) -> list[Figure]:
    """C6 on two and on three senses."""
    figures: list[Figure] = []
    for senses in (("image", "word"), ("image", "word", "voice")):
        seen = look(found, senses=senses, shuffles=shuffles)
        one, counts, name = seen.sites[LAYER], seen.counts()[LAYER], f"C6 {len(senses)} senses"
        all_same = int((one.favourites == one.favourites[:, :1]).all(1).sum())
        untrained = _untrained(found, senses)
        figures += [
            Figure(f"{name}: units at 0.90 in the worst sense", counts["invariant"], f">= {GATE}",
                   f"of {counts['units']}; cells, above all nulls too: {counts['cell']}, strict {counts['strict']}"),
            Figure(f"{name}: numbers with a cell", len({c.concept for c in seen.cells()}), f">= {COVERED}"),
            Figure(f"{name}: untrained twins' units at 0.90 in the worst sense", untrained, f"<= {UNTRAINED}",
                   "the largest of five twins"),
            Figure(f"{name}: best of shuffled labels", float(one.shuffled.max()), "", f"{len(one.shuffled)} shuffles"),
            Figure(f"{name}: units that prefer one number in every sense", all_same, "", f"of {counts['units']}"),
        ]  # fmt: skip
        if drawable():
            save(drawn.figure(seen.pack()), OUT / f"cells_aleph_{len(senses)}.png")  # type: ignore[arg-type]
    return figures


def _untrained(found: Aleph, senses: tuple[str, ...]) -> int:
    """Count the units of an untrained twin as those of the network are counted; the largest of five."""
    from mnemotrace.adapters.twins import untrained_twin

    most = 0
    for seed in range(5):
        twin = untrained_twin(found.model, generator=torch.Generator().manual_seed(seed))
        seen = cells(twin, stimuli(found, senses=senses, views=False), sites=[LAYER], auroc=0.9, invariance=0.9,
                     shuffles=19, untrained=False, rotate=False)  # fmt: skip
        most = max(most, seen.counts()[LAYER]["invariant"])
    return most


def view_figures(found: Aleph, shuffles: int) -> list[Figure]:
    """Every view of every sense by itself."""
    seen = look(found, views=True, shuffles=shuffles)
    one = seen.sites[LAYER]
    names = [f"{sense}, {view}" for sense, some in found.senses.items() for view in some.shown]
    figures = [Figure(f"units at 0.90: {name}", int((one.held[:, i] >= 0.9).sum())) for i, name in enumerate(names)]
    note = f"{len({c.concept for c in seen.cells()})} numbers"
    return [*figures, Figure("units at 0.90 in the worst view", seen.counts()[LAYER]["invariant"], "", note)]


def axis_figures(found: Aleph, shuffles: int) -> list[Figure]:
    """Whether units are better than random directions of their layer."""
    figures: list[Figure] = []
    for bound in (0.9, 0.95, 0.98):
        counts = look(found, auroc=bound, shuffles=shuffles).counts()[LAYER]
        note = f"random directions {counts['rotated selective']}, untrained {counts['untrained selective']}"
        figures.append(Figure(f"units with mean AUROC {bound}", counts["selective"], "", note))
    return figures


def association_figures(found: Aleph, name: str, shuffles: int) -> list[Figure]:
    """Whether companions share units, at the bounds of the gate."""
    related = torch.zeros(10, 10, dtype=torch.bool)
    for a, b in found.companions:
        related[a, b] = related[b, a] = True
    seen = look(found, shuffles=shuffles).association(related)
    note = f"other pairs {seen.unrelated:.3f}, p {seen.p:.3f}"
    return [Figure(f"overlap of companions' units, {name}", seen.related, "", note)]


def without_companions(steps: int) -> Aleph:
    """Train Aleph's control."""
    command = [sys.executable, "scripts/train_aleph.py", "--companion", "0", "--steps", str(steps), "--out"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with TemporaryDirectory() as folder:
        subprocess.run([*command, folder], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, env=environment)
        return read_aleph(Path(folder))


def measure(quick: bool) -> list[Figure]:
    """Measure everything."""
    OUT.mkdir(parents=True, exist_ok=True)
    found, shuffles = aleph(), 19 if quick else 99
    control = without_companions(20 if quick else 1500)
    return [
        *gate_figures(found, shuffles),
        *view_figures(found, shuffles),
        *axis_figures(found, shuffles),
        *association_figures(found, "Aleph", shuffles),
        *association_figures(control, "trained without companions", shuffles),
    ]


if __name__ == "__main__":
    main(measure, __doc__)

"""Concept cells: units that answer to one concept, in every view and modality, beyond what chance and wiring give.

`scan` is the statistics on tables of responses: of a network, a spiking net, a sentence encoder, a dictionary's
latents, or another library. `cells` runs a network over stimuli, its untrained twin beside, and scans every site.

1. Stimuli are halved by concept, view and item. On one half each unit's concept is chosen, the highest AUROC.
2. On the other half that concept is tested, within each view of each modality (`localisation.held_out`).
3. Labels are shuffled on the other half, an untrained network is judged likewise, the layer is rotated
   (`localisation.cell_nulls`). Criteria of single units are in `localisation.cell_criteria`.

Reference: Quian Quiroga, Reddy, Kreiman, Koch, Fried 2005 (screening, then other pictures; a ROC area against shuffled
labels); Quian Quiroga, Kraskov, Koch, Fried 2009 (pictures, written and spoken names). Cost: two passes over the
stimuli, a few sorts of every unit's responses, and `u n k` multiplications a shuffle.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import forward
from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.progress import Progress, silent
from mnemotrace.localisation.cell_scan import Plan, scan
from mnemotrace.localisation.concept_cells import Cell, Cells, SiteCells
from mnemotrace.localisation.stimuli import Stimuli, modalities
from mnemotrace.stats.responses import responses

__all__ = ["Cell", "Cells", "SiteCells", "Stimuli", "cells", "scan"]


def cells(
    model: nn.Module,
    stimuli: Stimuli | Mapping[str, Stimuli],
    *,
    sites: Sequence[str],
    auroc: float = 0.95,
    invariance: float = 0.90,
    deviations: float = 5.0,
    shuffles: int = 99,
    untrained: nn.Module | bool | None = None,
    rotate: bool = True,
    reduce: str = "max",
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Cells:
    """Find the concept cells of a network.

    Args:
        model: the network; evaluated, and left as it was.
        stimuli: what it is shown; by modality where there are several.
        sites: names of modules whose units are judged, "" for the output; they must run in every modality.
        auroc: least held-out AUROC of a cell, mean over views and modalities.
        invariance: least held-out AUROC in any view of any modality.
        deviations: how far a strict cell's median response lies above the others' mean, in their standard deviations.
        shuffles: of the labels, at least 19; p can be no smaller than one over this and one.
        untrained: the same architecture without training; None draws its weights anew; False goes without, and cells
            then may be due to the architecture.
        rotate: judge random directions of each site too; costs the cube of its width.
        reduce: over positions, `max`, `mean` or `last`, see `stats.responses`.
        generator: of the halves, shuffles, twin and rotation, in this order; None is one of seed 0.
        progress: called after each batch and each site.

    Returns:
        Cells.

    Raises:
        SelectionError: no such module, or one that did not run.
        TypeError: labels that are no integers.
        ValueError: labels that do not fit the stimuli, too few stimuli, settings that cannot be, or no untrained twin
            can be drawn.
        NonFiniteError: NaN or infinity in a response.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    shown = modalities(stimuli)
    labels = {name: one.labels for name, one in shown.items()}
    bounds = (auroc, invariance, deviations)
    plan = Plan.of(labels, bounds, shuffles=shuffles, rotate=rotate, generator=source)
    twin = untrained_twin(model, generator=source) if untrained is None or untrained is True else untrained
    seen = _responses(model, shown, sites, reduce, progress)
    others = _responses(twin, shown, sites, reduce, progress) if isinstance(twin, nn.Module) else {}
    found: dict[str, SiteCells] = {}
    for done, site in enumerate(sites, 1):
        found[site] = plan.site(seen[site], others.get(site))
        progress(done, len(sites), "sites")
    manifest = plan.manifest() | {"base": fingerprint(model), "reduce": reduce}
    manifest["untrained"] = fingerprint(twin) if isinstance(twin, nn.Module) else None
    return plan.result(found, next(iter(shown.values())).names, manifest)


def _responses(
    model: nn.Module, shown: Mapping[str, Stimuli], sites: Sequence[str], reduce: str, progress: Progress
) -> dict[str, dict[str, Tensor]]:
    """Run a network over every modality; tables by site, then modality."""
    found: dict[str, dict[str, Tensor]] = {site: {} for site in sites}
    for name, one in shown.items():
        run = one.run or forward
        tables = responses(model, one.batches, sites, reduce=reduce, run=run, progress=progress)
        for site, values in tables.items():
            found[site][name] = values
    return found

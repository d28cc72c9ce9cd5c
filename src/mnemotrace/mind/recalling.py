"""How a mind answers a cue, with the organs that it has: what is settled, looked up, imagined or inferred.

A simulating mind settles onto traces and lets the cortex imagine what is left open; without a hippocampus it looks up
what nights gave to the cortex instead of settling. A mind that does not simulate follows links: of the events that fit
the cue, or, if none does, of the cue's concepts. Either asserts what exceeds the criterion of confidence.

Cost: see `mind.simulating` and `mind.knowing`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.mind.hippocampus import Hippocampus
from mnemotrace.mind.knowing import FAINT, Shares
from mnemotrace.mind.knowledge import Knowledge
from mnemotrace.mind.lesion import Lesion
from mnemotrace.mind.remembered import CRITERION, Asserted, Mode, Remembered, Source
from mnemotrace.mind.simulating import Cue, imagine, settle
from mnemotrace.mind.world import Code


@dataclass(frozen=True, eq=False)
class Organs:
    """What a mind recalls with, at a time."""

    lesion: Lesion
    code: Code
    hippocampus: Hippocampus
    cortex: TrainedDenoiser | None
    knowledge: Knowledge
    now: float
    generator: torch.Generator


def simulated(organs: Organs, cue: Cue) -> Remembered:
    """Settle onto traces, or look up what nights gave to the cortex; let the cortex imagine the rest."""
    if organs.knowledge.organ:
        settled = settle(organs.hippocampus, cue, organs.generator)
        asserted, handle = _read(organs.code, settled.chances, "episode"), settled.handle
        cost = (settled.evaluations, settled.samplers, settled.compared)
    else:
        found = known(organs, cue, infer=False)
        asserted, handle, cost = dict(found.asserted), found.handle, (0, 0, found.compared)
    if organs.cortex is not None and len(asserted) + len(cue.names) < len(organs.code.books):
        held = {name: found.value for name, found in asserted.items()}
        filled = imagine(organs.cortex, organs.code, cue, held, top=organs.lesion.pooling, generator=organs.generator)
        asserted |= _read(organs.code, filled.chances, "schema")
        cost = (cost[0] + filled.evaluations, cost[1] + filled.samplers, cost[2])
    return _remembered(organs, cue, asserted, handle=handle, mode="simulate", cost=cost)


def known(organs: Organs, cue: Cue, *, infer: bool = True) -> Remembered:
    """Follow links from the values that can be told from a cue; calls no sampler and no denoiser.

    Args:
        organs: what there is.
        cue: as it is perceived.
        infer: go on to what usually goes with the cue's concepts, where no event fits.
    """
    code, knowledge = organs.code, organs.knowledge
    heard = {n: found[0] for n, found in code.read(cue.pattern[None], noise=cue.noise, names=cue.names).items()}
    said = knowledge.usable({name: found.value for name, found in _read(code, heard, "graph").items()})
    asked = [name for name in code.world.names("gist") if name not in cue.names]
    handles = knowledge.fitting(said)
    compared, handle, shares = len(handles), None, Shares()
    if knowledge.organ:
        handles = organs.hippocampus.legible(handles, said)
    if handles:
        shares, foremost = knowledge.told(handles, asked, organs.now)
        handle = foremost if knowledge.strength(foremost) > CRITERION else None
    elif infer:
        shares = knowledge.inferred(said, asked)
    return _remembered(organs, cue, legible(shares, "graph"), handle=handle, mode="graph", cost=(0, 0, compared))


def left(organs: Organs, handle: int) -> dict[str, Asserted]:
    """Return what can be asserted of a memory itself: read from its trace, or known by its links."""
    if organs.knowledge.organ:
        read = organs.code.read(organs.hippocampus.pattern(handle)[None])
        return _read(organs.code, {name: chances[0] for name, chances in read.items()}, "episode")
    if organs.knowledge.strength(handle) < FAINT:
        return {}
    return legible(organs.knowledge.told([handle], list(organs.code.world.names("gist")), organs.now)[0], "graph")


def legible(chances: Mapping[str, Mapping[str, float]], source: Source) -> dict[str, Asserted]:
    """Return what exceeds the criterion of confidence."""
    found: dict[str, Asserted] = {}
    for name, values in chances.items():
        if values:
            best = max(values, key=lambda value: values[value])
            if values[best] > CRITERION:
                found[name] = Asserted(best, min(values[best], 1.0), source)
    return found


def _read(code: Code, chances: Mapping[str, Tensor], source: Source) -> dict[str, Asserted]:
    values = code.world.attributes
    return legible({n: dict(zip(values[n].values, c.tolist(), strict=True)) for n, c in chances.items()}, source)


def _remembered(
    organs: Organs,
    cue: Cue,
    asserted: Mapping[str, Asserted],
    *,
    handle: int | None,
    mode: Mode,
    cost: tuple[int, int, int],
) -> Remembered:
    world = organs.code.world
    given = {name: asserted[name] for name in world.attributes if name in asserted}
    still = tuple(name for name in world.attributes if name not in asserted and name not in cue.names)
    evaluations, samplers, compared = cost
    return Remembered(given, still, handle, mode, evaluations, samplers, compared)

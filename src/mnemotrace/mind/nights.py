r"""A night of a mind: what the hippocampus replays to the cortex.

The cortex begins as the denoiser of a Gaussian with the mean and spread of the code, so it favours nothing. A night
draws traces by arousal and trains it to denoise them (`formation.score`). A share of them is replayed as it was; of the
others gist alone is replayed, and the cortex as it was in the evening dreams the detail. Noise reaches up to `pooling`,
and a mind that pools also learns from states of which whole attributes are hidden, for so it completes a cue.

This is `formation.consolidate` with two differences: hidden are whole attributes and not single features, whose
neighbours would tell them; and dreams are drawn once in the evening, at a fifteenth of the cost.

Reference: McClelland, McNaughton & O'Reilly 1995; Klinzing, Niethard & Born 2019. Cost: a training step of a network
with two layers of 64 units a step.
"""

import torch
from torch import Tensor

from mnemotrace.formation.night import dream
from mnemotrace.formation.score import fit_denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.patterns import Patterns
from mnemotrace.mind.lesion import Lesion
from mnemotrace.mind.world import Code

BATCH, MASKS, WIDTHS, LOWEST, RATE = 64, 64, (64, 64), 0.1, 5e-3
CALM = 0.05


def newborn(code: Code, generator: torch.Generator) -> TrainedDenoiser:
    """Return a cortex that knows the mean and the spread of what can be perceived, and nothing else."""
    centre = torch.zeros(code.d)
    square = torch.zeros(code.d)
    for name, book in code.books.items():
        centre[code.blocks[name]] = book.mean(0)
        square[code.blocks[name]] = book.square().mean(0)
    tokens = code.tokens.stop - code.tokens.start
    square[code.tokens] = 1 / max(tokens, 1)
    spread = float((square - centre.square()).mean().sqrt())
    return TrainedDenoiser(code.d, widths=WIDTHS, centre=centre, spread=spread, generator=generator)


def replay(
    cortex: TrainedDenoiser,
    store: Patterns,
    code: Code,
    lesion: Lesion,
    *,
    arousal: Tensor,
    generator: torch.Generator,
) -> tuple[TrainedDenoiser, Tensor, list[float]]:
    """Replay a night.

    Args:
        cortex: as it was in the evening; not changed.
        store: the traces.
        code: which features are gist.
        lesion: how much is replayed, how faithfully, and how coarse.
        arousal: `(n,)`, from 0 to 1.
        generator: of draws and noise.

    Returns:
        The cortex, how often each trace was replayed, and the losses.
    """
    priority = 1 - lesion.arousal + lesion.arousal * arousal + CALM
    chosen = torch.multinomial(priority, lesion.replay * BATCH, replacement=True, generator=generator)
    rows = store.values[chosen]
    core = torch.rand(len(rows), generator=generator) >= lesion.faithful
    if bool(core.any()):
        gist = code.mask(code.world.names("gist"))[None]
        rows[core] = dream(cortex, int(core.sum()), like=rows[core], known=gist, generator=generator)
    pools = lesion.pooling >= 1
    learnt = fit_denoiser(
        iter(rows.split(BATCH)),
        network=cortex,
        steps=lesion.replay,
        learning_rate=RATE,
        noise={"gaussian": 0.3, "mask": 0.7} if pools else {"gaussian": 1.0},
        levels=(LOWEST, lesion.pooling),
        known=_cues(code, generator) if pools else None,
        generator=generator,
    )
    return learnt, torch.bincount(chosen, minlength=len(store)), learnt.manifest["losses"]


def _cues(code: Code, generator: torch.Generator) -> Tensor:
    """Return masks of what cues may know: whole attributes, any share of them; no tokens of an event."""
    names = list(code.books)
    drawn = torch.rand(MASKS, len(names), generator=generator) < torch.rand(MASKS, 1, generator=generator)
    return torch.stack([code.mask([n for n, known in zip(names, row, strict=True) if known]) for row in drawn.tolist()])

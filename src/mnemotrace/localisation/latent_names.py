"""Names for latents: which concept each tells best, chosen on one half of the rows and scored on the other.

A latent takes the concept of largest AUROC on the half that chooses; its score is that concept's AUROC on the other
half. The best latent of a concept is chosen and scored likewise. Of many latents and concepts some score well by
chance: beside the scores stands the largest that shuffled labels reach by the same way. Any units can be named, so that
the neurons themselves, or a random dictionary, are named beside.

Cost: two sorts of the units' values, and `u n k` multiplications. Memory: ranks of a strip of units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.localisation.auroc import auroc
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.dictionary_probing import halves


@dataclass(frozen=True, eq=False)
class LatentNames:
    """Names of latents with their held-out scores.

    Attributes:
        concept: which concept each latent tells best on the half that chooses; -1 for a latent that is never on there.
        score: AUROC of that concept on the other half; NaN for such a latent.
        best: the latent that tells each concept best on the half that chooses.
        best_score: its AUROC on the other half.
        shuffled: the largest score, and the largest best score, that shuffled labels reach.
        names: of the concepts.
    """

    concept: Int[Tensor, " m"]
    score: Float[Tensor, " m"]
    best: Int[Tensor, " k"]
    best_score: Float[Tensor, " k"]
    shuffled: tuple[float, float]
    names: tuple[str, ...]

    def table(self, most: int = 20) -> list[tuple[int, str, float]]:
        """Return rows of latent, name, held-out AUROC; best first."""
        known = (self.concept >= 0).nonzero()[:, 0]
        order = known[self.score[known].argsort(descending=True, stable=True)][:most].tolist()
        return [(latent, self.names[int(self.concept[latent])], float(self.score[latent])) for latent in order]


_Found = tuple[Tensor, Tensor, Tensor, Tensor]


def name_latents(
    codes: Code | Float[Tensor, "n m"],
    labels: Int[Tensor, " n"] | Bool[Tensor, "n k"],
    *,
    names: Sequence[str] = (),
    held_out: Bool[Tensor, " n"] | None = None,
    generator: torch.Generator | None = None,
) -> LatentNames:
    """Find the concept that each latent tells best, and the latent that tells each concept best.

    Args:
        codes: rows of latents, or of any units.
        labels: one concept a row, from 0 (a token is one too), or which of `k` concepts a row holds.
        names: of the concepts; empty numbers them.
        held_out: rows to score on, such as phrasings that choose nothing; None draws half of them.
        generator: of that and of shuffled labels; None is one of seed 0.

    Raises:
        TypeError: labels or held-out rows of another type.
        ValueError: sizes that do not fit, or a concept that is in no row, or in all rows, of a half.
        NonFiniteError: NaN or infinity.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    values = codes.dense() if isinstance(codes, Code) else codes
    known = _known(labels, len(values))
    k = known.shape[1]
    names = tuple(names) or tuple(map(str, range(k)))
    if len(names) != k:
        raise ValueError(f"got {len(names)} names for {k} concepts; expected one each")
    held = halves(len(values), held_out, generator=source)
    _check(known, held, names)
    choosing, scoring = values[~held].float(), values[held].float()
    alive = (choosing != choosing[:1]).any(0)
    rows, rest = known[~held], known[held]
    found = _named(choosing, rows, scoring, rest, alive)
    mixed = [part[torch.randperm(len(part), generator=source)] for part in (rows, rest)]
    _, chance, _, best = _named(choosing, mixed[0], scoring, mixed[1], alive)
    return LatentNames(*found, (float(chance.nan_to_num(0.5).max()), float(best.max())), names)


def _named(
    choosing: Tensor, rows: Tensor, scoring: Tensor, rest: Tensor, alive: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    chosen, scored = auroc(choosing, rows), auroc(scoring, rest)
    concept = torch.where(alive, chosen.argmax(1), -1)
    score = scored.gather(1, concept.clamp_min(0)[:, None])[:, 0]
    best = torch.where(alive[:, None], chosen, 0.0).argmax(0)
    return concept, torch.where(alive, score, torch.nan), best, scored.gather(0, best[None])[0]


def _known(labels: Tensor, n: int) -> Tensor:
    if labels.dtype == torch.bool and labels.ndim == 2 and len(labels) == n:  # noqa: PLR2004
        return labels
    if labels.dtype == torch.int64 and tuple(labels.shape) == (n,) and n and int(labels.min()) >= 0:
        return labels[:, None] == torch.arange(int(labels.max()) + 1)
    raise TypeError(
        f"got labels of {labels.dtype}, shape {tuple(labels.shape)}, for {n} rows; expected int64 (n,) from 0, or bool "
        "(n, k)"
    )


def _check(known: Tensor, held: Tensor, names: Sequence[str]) -> None:
    for name, rows in (("the half that chooses", known[~held]), ("the held-out half", known[held])):
        bad = ((rows.sum(0) == 0) | (rows.sum(0) == len(rows))).nonzero()
        if len(bad):
            concept = int(bad[0, 0])
            raise ValueError(
                f"got concept {names[concept]!r} in {int(rows[:, concept].sum())} of {len(rows)} rows of {name}; "
                "expected some with it and some without; leave the concept out, or choose held_out"
            )

r"""Active latents: concepts proposed by a dictionary, the examples on which a latent is on, against the others.

A latent is worth proposing if its examples look alike to the network itself, so that whoever knows half of them can
tell the others. In whitened responses, with the centres of examples on which it is on and off,

* *score*: the silhouette of the examples on which it is on, between the two centres;
* *stability*: the Jaccard index of being on and of lying nearer to the centre of those on, with centres from one half
  of the examples and the comparison on the other, mean over draws;
* its *null* is the largest stability of any latent after permuting which examples it is on.

Latents that are on too seldom, or on more than half of the examples, are left out; so are those below the null, but for
the best if there is no other, and those that share more than half of their examples with a better one. Cost: `draws`
products of codes with whitened responses, O(n m r).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.clustering import DRAWS
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.partitions import PER_GROUP, Proposal, proposals
from mnemotrace.localisation.whitening import whitening

SAME = 0.5
MOST = 20


@dataclass(frozen=True, eq=False)
class ActiveLatents:
    """Latents that are proposed as concepts, best first.

    Attributes:
        latents: `(k,)`, which.
        members: `(n, k)`, the examples on which each is on.
        scores: `(k,)`, silhouettes of the examples on which it is on.
        stability: `(k,)`, Jaccard indices.
        null: largest stability of latents that are on at random.
    """

    latents: Int[Tensor, " k"]
    members: Bool[Tensor, "n k"]
    scores: Float[Tensor, " k"]
    stability: Float[Tensor, " k"]
    null: float

    def assign(self, codes: Code | Tensor) -> Bool[Tensor, "m k"]:
        """Say on which examples each latent is on.

        Raises:
            ValueError: codes over other latents.
        """
        on = active(codes)
        if len(self.latents) and int(self.latents.max()) >= on.shape[1]:
            raise ValueError(f"got codes over {on.shape[1]} latents; expected more than {int(self.latents.max())}")
        return on[:, self.latents]

    def proposals(self) -> tuple[Proposal, ...]:
        """Return the examples of each latent as target, and all others as reference."""
        names = [f"latent {int(latent)}" for latent in self.latents]
        everything = torch.ones(len(self.members), dtype=torch.bool)
        return proposals(self.members, everything, self.scores, self.stability, names)


def active(codes: Code | Tensor) -> Bool[Tensor, "n m"]:
    """Say where codes are on: above zero.

    Raises:
        ValueError: no matrix.
        NonFiniteError: NaN or infinity.
    """
    dense = codes.dense() if isinstance(codes, Code) else codes.to_dense()
    if dense.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"got codes {tuple(dense.shape)}; expected (n, latents), one row an example")
    require_finite(dense, "codes")
    return dense > 0


def propose_latents(
    codes: Code | Tensor,
    x: Float[Tensor, "n u"],
    *,
    count: int | None = None,
    rank: int | None = None,
    generator: torch.Generator | None = None,
) -> ActiveLatents:
    """Propose the latents of a dictionary whose examples the network itself holds together.

    Args:
        codes: `(n, m)`, of the same examples: from a dictionary, dense, or sparse as torch has it.
        x: `(n, u)`, responses.
        count: the most latents to propose; None for 20.
        rank: of the whitening of responses, see `propose`.
        generator: of halves and permutations; None is one of seed 0.

    Raises:
        ValueError: other examples, too few, no latent that is on often enough, or settings that cannot be.
        NonFiniteError: NaN or infinity.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    on = active(codes)
    if len(on) != len(x) or len(on) < 2 * PER_GROUP:
        raise ValueError(
            f"got codes of {len(on)} examples and responses of {len(x)}; expected the same, at least {2 * PER_GROUP}"
        )
    if count is not None and count < 1:
        raise ValueError(f"got count={count}; expected at least one latent; None takes up to {MOST}")
    often = on.sum(0)
    usable = ((often >= PER_GROUP) & (often <= len(on) // 2)).nonzero()[:, 0]
    if not len(usable):
        raise ValueError(
            f"got {on.shape[1]} latents, none of which is on for {PER_GROUP} to {len(on) // 2} of {len(on)} examples; "
            "expected some; give more examples, or a sparser dictionary"
        )
    z, mine = whitening(x, rank=rank, generator=source)(x), on[:, usable]
    stable, null = _stability(mine, z, source), float(_stability(_elsewhere(mine, source), z, source).max())
    above = max(int((stable > null).sum()), 1)
    order = _distinct(mine, stable.argsort(descending=True, stable=True)[:above].tolist(), count or MOST)
    return ActiveLatents(usable[order], mine[:, order], _scores(mine[:, order], z), stable[order], null)


def _sides(on: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(m, r)`, the centres of examples on which each latent is on, and off."""
    weight = on.double()
    number, total = weight.sum(0)[:, None], weight.T @ z
    return total / number.clamp_min(1), (z.sum(0) - total) / (len(z) - number).clamp_min(1)


def _stability(on: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
    found: list[Tensor] = []
    for _ in range(DRAWS):
        learn, test = torch.randperm(len(z), generator=generator).tensor_split(2)
        to_on, to_off = (torch.cdist(z[test], centre) for centre in _sides(on[learn], z[learn]))
        guess, truth = to_on < to_off, on[test]
        found.append((guess & truth).sum(0) / (guess | truth).sum(0).clamp_min(1))
    return torch.stack(found).double().mean(0)


def _scores(on: Tensor, z: Tensor) -> Tensor:
    to_on, to_off = (torch.cdist(z, centre) for centre in _sides(on, z))
    width = (to_off - to_on) / torch.maximum(to_on, to_off).clamp_min(1e-300)
    return (width * on).sum(0) / on.sum(0)


def _elsewhere(on: Tensor, generator: torch.Generator) -> Tensor:
    return torch.stack([column[torch.randperm(len(on), generator=generator)] for column in on.T], 1)


def _distinct(on: Tensor, order: list[int], most: int) -> list[int]:
    """Keep the first latents of an order that share at most half of their examples with an earlier one."""
    kept: list[int] = []
    for latent in order:
        mine, others = on[:, [latent]], on[:, kept]
        shared = (mine & others).sum(0) / (mine | others).sum(0)
        if not bool((shared > SAME).any()):
            kept.append(latent)
        if len(kept) == most:
            break
    return kept

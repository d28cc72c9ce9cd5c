"""Dictionaries on planted features: TopK, BatchTopK, JumpReLU, Matryoshka from two seeds each, beside controls.

128 directions in 64 dimensions, 4 active at a time with strengths between 0.5 and 1.5, 256 latents, 3 000 steps of 512
rows. Explained variance and active latents are of 8 192 rows that were not trained on. The controls are a dictionary
after one step, and one trained on rows whose columns are shuffled each for itself, so that no direction is shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_metrics import explained_variance, match
from mnemotrace.localisation.dictionary_training import dictionary
from mnemotrace.localisation.dictionary_variants import TRAINED

FEATURES, WIDTH, ACTIVE, LATENTS = 128, 64, 4, 256


@dataclass(frozen=True, eq=False)
class Planted:
    """Known directions, and rows that are sparse sums of them."""

    directions: Tensor

    @classmethod
    def drawn(cls, seed: int) -> "Planted":
        """Draw unit directions."""
        rows = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(seed))
        return cls(rows / rows.norm(dim=1, keepdim=True))

    def rows(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw rows of `ACTIVE` directions each."""
        which = torch.rand(n, FEATURES, generator=generator).topk(ACTIVE).indices
        strength = 0.5 + torch.rand(n, ACTIVE, generator=generator)
        return torch.zeros(n, FEATURES).scatter_(1, which, strength) @ self.directions


@dataclass(frozen=True)
class Stream:
    """Fresh rows without end, the same each time from the start."""

    planted: Planted
    size: int
    seed: int
    shuffled: bool = False

    def __iter__(self) -> Iterator[Tensor]:
        """Draw batch after batch."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            x = self.planted.rows(self.size, generator)
            yield x.gather(0, torch.rand(x.shape, generator=generator).argsort(0)) if self.shuffled else x


def trained(planted: Planted, variant: str, seed: int, steps: int, *, shuffled: bool = False) -> Dictionary:
    """Train one dictionary with the defaults."""
    stream = Stream(planted, 512, seed + 1, shuffled)
    generator = torch.Generator().manual_seed(seed)
    return dictionary(stream, latents=LATENTS, k=ACTIVE, variant=variant, steps=steps, generator=generator)


def prefix_explained(found: Dictionary, x: Tensor, sizes: tuple[int, ...]) -> list[float]:
    """Explained variance of the first latents alone."""
    code = found.encode(x)
    parts = [replace(code, values=torch.where(code.indices < size, code.values, 0)) for size in sizes]
    return [explained_variance(x, found.decode(part)) for part in parts]


def variant_figures(planted: Planted, test: Tensor, variant: str, steps: int) -> tuple[list[Figure], Dictionary]:
    """S1, S4 and S7: what two seeds of one variant explain and find; returns the first too."""
    first, second = (trained(planted, variant, seed, steps) for seed in (0, 1))
    found, again = (match(planted.directions, one.decoder) for one in (first, second))
    mark, gated = ("S1 ", True) if variant == "topk" else ("", False)
    across, everyone = (_shared(first, second, test, alive=alive) for alive in (True, False))
    figures = [
        Figure(f"{mark}{variant}: explained variance", explained_variance(test, first(test)),
               ">= 0.96" if gated else "", f"second seed {explained_variance(test, second(test)):.4f}"),
        Figure(f"{mark}{variant}: MMCS", found.mmcs, ">= 0.99" if gated else "", f"second seed {again.mmcs:.4f}"),
        Figure(f"{mark}{variant}: directions recovered (cosine > 0.9)", found.recovered(above=0.9),
               ">= 0.98" if gated else "", f"share of latents never on {first.report['never']:.2f}"),
        Figure(f"S7 {variant}: MMCS of two seeds, latents that are on in some row", across, ">= 0.95",
               f"with those that are never on {everyone:.3f}"),
    ]  # fmt: skip
    if variant == "topk":
        return figures, first
    active, own = first.encode(test).l0, variant == "batch_topk"
    return [
        *figures,
        Figure(f"{'S4 ' if own else ''}{variant}: mean L0 off k, relative", abs(active / ACTIVE - 1),
               "<= 0.02" if own else "", f"{active:.3f} on held-out rows"),
    ], first  # fmt: skip


def prefix_figures(test: Tensor, nested: Dictionary, plain: Dictionary) -> list[Figure]:
    """S6: what the first latents explain alone, and what that costs the whole."""
    alone = prefix_explained(nested, test, nested.prefixes)
    said = ", ".join(f"{size}: {value:.3f}" for size, value in zip(nested.prefixes, alone, strict=True))
    other = ", ".join(f"{value:.3f}" for value in prefix_explained(plain, test, nested.prefixes))
    least = min(more - less for less, more in zip(alone, alone[1:], strict=False))
    return [
        Figure("S6 least rise of explained variance from prefix to prefix", least, ">= 0", f"{said}; of TopK {other}"),
        Figure("S6 TopK's explained variance minus Matryoshka's",
               explained_variance(test, plain(test)) - explained_variance(test, nested(test)), "<= 0.03"),
    ]  # fmt: skip


def measure(quick: bool) -> list[Figure]:
    """Train all variants from two seeds; measure what they explain and what they find."""
    planted, steps = Planted.drawn(1234), 20 if quick else 3000
    test = planted.rows(8192, torch.Generator().manual_seed(99))
    figures: list[Figure] = []
    first: dict[str, Dictionary] = {}
    for variant in TRAINED:
        more, first[variant] = variant_figures(planted, test, variant, steps)
        figures += more
    return [*figures, *prefix_figures(test, first["matryoshka"], first["topk"]), *controls(planted, test, steps)]


def _shared(first: Dictionary, second: Dictionary, x: Tensor, *, alive: bool) -> float:
    """Mean largest cosine of the first's latents with the second's; all, or those that are on in some row of both."""
    keep = [one.encode(x).counts() > 0 if alive else torch.ones(one.m, dtype=torch.bool) for one in (first, second)]
    return match(first.decoder[keep[0]], second.decoder[keep[1]]).mmcs


def controls(planted: Planted, test: Tensor, steps: int) -> list[Figure]:
    """Measure what there is to find without training, and without shared directions."""
    untrained = trained(planted, "topk", 0, 1)
    mixed = trained(planted, "topk", 0, steps, shuffled=True)
    rows = next(iter(Stream(planted, 8192, 99, shuffled=True)))
    return [
        Figure("control, one step: explained variance", explained_variance(test, untrained(test))),
        Figure("control, one step: MMCS", match(planted.directions, untrained.decoder).mmcs),
        Figure("control, shuffled columns: explained variance", explained_variance(rows, mixed(rows))),
        Figure("control, shuffled columns: MMCS", match(planted.directions, mixed.decoder).mmcs),
    ]


if __name__ == "__main__":
    main(measure, __doc__)

"""What recall by diffusion costs: over single retrievals, over loops written by hand, and to import.

CPU seconds on one thread, the variants interleaved. Recall is `recall_by_diffusion` with its checks and its report.
The loops have nothing but the arithmetic of the step and the same noise, with attention
written out, and with the same memory as denoiser.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import Figure, cpu_seconds, main
from benchmarks.speed.imports import seconds
from mnemotrace.core.memory import Denoiser
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.lookup import lookup
from mnemotrace.retrieval.diffusion import recall_by_diffusion
from mnemotrace.retrieval.sampling import bridge, ddim, euler_maruyama, heun, noise_grid

SIZES = ((10_000, 256, 1), (10_000, 256, 32), (100_000, 512, 1), (100_000, 512, 32))


def store(n: int, d: int, b: int) -> tuple[DiffusionMemory, Tensor]:
    """Unit patterns, and cues with noise of half their length."""
    source = torch.Generator().manual_seed(0)
    y = torch.randn(n, d, generator=source)
    y = y / y.norm(dim=1, keepdim=True)
    return DiffusionMemory(y), y[:b] + 0.5 / math.sqrt(d) * torch.randn(b, d, generator=source)


def recall(quick: bool) -> list[Figure]:
    """Cost of a recall in the retrievals that it makes: the same states at the same levels, and nothing else."""
    figures: list[Figure] = []
    for n, d, b in ((200, 16, 2),) if quick else SIZES:
        memory, cue = store(n, d, b)
        sigma = 0.5 / math.sqrt(d)
        for name in ("heun",) if n == 100_000 else ("heun", "euler_maruyama"):
            asked: list[tuple[Tensor, Tensor]] = []

            def watched(x: Tensor, level: Tensor, memory: Denoiser = memory, asked: list[Any] = asked) -> Tensor:
                asked.append((x, level**-2))
                return memory(x, level)

            recall_by_diffusion(watched, cue, sigma=sigma, sampler=name)
            whole = partial(recall_by_diffusion, memory, cue, sigma=sigma, sampler=name)
            spent = cpu_seconds({"recall": whole, "retrievals": partial(retrieve, memory, asked)}, _repeats(quick, n))
            note = f"{len(asked)} retrievals of {1e3 * spent['retrievals'] / len(asked):.2f} ms"
            what = f"P6 {name} / its retrievals, {n} x {d}, {b} cue{'s' if b > 1 else ''}"
            figures.append(Figure(what, spent["recall"] / spent["retrievals"], "<= 1.1", note))
    return figures


def _repeats(quick: bool, n: int) -> int:
    return 1 if quick else 15 if n == 10_000 else 5


def retrieve(memory: DiffusionMemory, asked: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Retrieve once for each of the questions, with norms at hand."""
    values, squares = memory.patterns.values, memory.patterns.squares
    for x, precision in asked:
        lookup(x, values, precision, squares=squares)


# --- loops by hand


def bare(kind: str, clean: Callable[[Tensor, Any], Tensor], x: Tensor, sigmas: Sequence[Any]) -> Tensor:
    """Write a sampler out, with no check and no report."""
    source = _seed()
    for now, after in pairwise(sigmas):
        found = clean(x, now)
        if kind == "heun":
            slope = (x - found) / now
            guess = x + (after - now) * slope
            x = x + (after - now) * (slope + (guess - clean(guess, after)) / after) / 2
        elif kind == "ddim":
            x = found + after / now * (x - found)
        elif kind == "bridge":
            kept = (after / now) ** 2
            x = found + kept * (x - found) + after * (1 - kept) ** 0.5 * torch.randn(x.shape, generator=source)
        else:
            gone = now**2 - after**2
            x = x + gone / now**2 * (found - x) + gone**0.5 * torch.randn(x.shape, generator=source)
    return clean(x, sigmas[-1])


def loops(quick: bool) -> list[Figure]:
    """Samplers over loops by hand, 200 levels of 500 states of 16 features, as torchsde was measured (about 30)."""
    source = torch.Generator().manual_seed(0)
    y = torch.randn(64, 16, generator=source)
    memory, x = DiffusionMemory(y), torch.randn(500, 16, generator=source)
    levels = noise_grid(1.0, x, steps=5 if quick else 200, smallest=0.01)
    squares = y.square().sum(1) / 2

    def attention(x: Tensor, sigma: float | Tensor) -> Tensor:
        return torch.softmax((x @ y.T - squares) / sigma**2, 1) @ y

    figures: list[Figure] = []
    for sampler in (euler_maruyama, bridge, ddim, heun):
        for name, denoiser, gate in (("attention", attention, "<= 1.2"), ("a memory", memory, "<= 1.2")):
            plain = [float(level) for level in levels] if denoiser is attention else list(levels)
            ways: dict[str, Callable[[], Tensor]] = {
                "ours": lambda sampler=sampler, denoiser=denoiser: sampler(denoiser, x, levels, generator=_seed()),
                "bare": partial(bare, sampler.__name__, denoiser, x, plain),
            }
            same = float((ways["ours"]() - ways["bare"]()).abs().max())
            spent = cpu_seconds(ways, 1 if quick else 15)
            note = f"{spent['ours']:.3f} s against {spent['bare']:.3f} s; results differ by {same:.1e}"
            ratio = spent["ours"] / spent["bare"]
            figures.append(Figure(f"P7 {sampler.__name__} / a loop by hand, of {name}", ratio, gate, note))
            once = spent["bare"] if denoiser is attention else once
        figures.append(Figure(f"{sampler.__name__} of a memory / the loop of attention", spent["ours"] / once))
    return figures


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def imports(quick: bool) -> list[Figure]:
    """What the modules cost to import beyond torch, in fresh processes."""
    what = "import mnemotrace.retrieval.diffusion, mnemotrace.memories.diffusion, mnemotrace.adapters.denoisers"
    ours, alone = seconds(what, 1 if quick else 5)
    return [Figure("P8 memory, samplers and adapters beyond torch, s", ours, "<= 1", f"torch alone {alone:.2f} s")]


def run(quick: bool) -> list[Figure]:
    """All three."""
    torch.set_num_threads(1)
    return [figure for part in (recall, loops, imports) for figure in part(quick)]


if __name__ == "__main__":
    main(run, __doc__)

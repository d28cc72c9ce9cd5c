"""Consolidation by replay, D1 to D5: what is learnt of episodes and of their world, feedback, lesions, masked replay.

The world is linear: three hidden causes in sixteen features, so that the best possible denoising error is known. The
cortex is an MLP of 192. "Once" shows each episode once, one a step; "replay" draws them for so many steps of 128. Where
a regime is cheap, several draws of episodes and first weights are averaged. Beside everything: the hippocampus alone,
an exact lookup, and the chance level of being taken for memorised.

Width, learning rate and noise range were chosen, out of three settings, on the index at N=4 in other worlds. D5 is
missed: whoever knows how core features go together, and of each other feature only its size, would have a ratio of 0.62
from whole noisy cues (0.34 of a feature against 0.56). In squared errors the ratio is far below one half.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.core.errors import ReplayCollapse
from mnemotrace.core.memory import Denoiser
from mnemotrace.evaluation.census import Census, census, denoising_error, funes_index
from mnemotrace.formation.night import entropy
from mnemotrace.formation.replay import consolidate
from mnemotrace.formation.score import fit_denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.lookup import lookup
from mnemotrace.retrieval.diffusion import recall_by_diffusion

D, CAUSES, SCALE, SIGMA, NEAR = 16, 3, 2.0, 0.5, 0.3
BAYES = CAUSES * SCALE**2 * SIGMA**2 / (SCALE**2 + SIGMA**2) / D
SPREAD = SCALE * (CAUSES / D) ** 0.5
LEVELS, RATE, WIDTHS = (0.02, 5.0), 5e-3, (192, 192)


@dataclass(frozen=True)
class World:
    """A frame of hidden causes, and where all chance comes from."""

    frame: Tensor
    generator: torch.Generator

    @classmethod
    def drawn(cls, seed: int) -> "World":
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.linalg.qr(torch.randn(D, CAUSES, generator=generator))[0], generator)

    def live(self, count: int) -> Tensor:
        return SCALE * torch.randn(count, CAUSES, generator=self.generator) @ self.frame.T

    def newborn(self) -> TrainedDenoiser:
        return TrainedDenoiser(D, widths=WIDTHS, spread=SPREAD, generator=self.generator)

    def off(self, states: Tensor) -> float:
        """Root mean square of what lies outside the world."""
        return float((states - states @ self.frame @ self.frame.T).square().mean().sqrt())


def learnt(world: World, episodes: Tensor, steps: int) -> TrainedDenoiser:
    """Replay for so many steps, or show each once where steps is 0."""
    if steps:
        options = {"batch_size": 128, "learning_rate": RATE, "levels": LEVELS, "generator": world.generator}
        return consolidate(episodes, world.newborn(), steps=steps, **options).cortex
    options = {"network": world.newborn(), "learning_rate": RATE, "levels": LEVELS, "generator": world.generator}
    return fit_denoiser(iter(episodes.split(1)), steps=len(episodes), **options)


def generated(world: World, cortex: TrainedDenoiser, count: int) -> Tensor:
    noise = torch.randn(count, D, generator=world.generator) * SPREAD * (LEVELS[1] ** 2 + 1) ** 0.5
    return flow(cortex, noise, LEVELS[1] * SPREAD)


@torch.no_grad()
def flow(cortex: Denoiser, x: Tensor, sigma: float | Tensor) -> Tensor:
    return recall_by_diffusion(cortex, x, sigma=sigma, steps=12, smallest=LEVELS[0] * SPREAD).state


@torch.no_grad()
def recalled(world: World, denoiser: Denoiser, episodes: Tensor) -> float:
    """Share of noised episodes that come back within 0.3."""
    many = episodes.repeat(-(-1000 // len(episodes)), 1)
    cues = many + SIGMA * torch.randn(many.shape, generator=world.generator)
    return float(((denoiser(cues, torch.tensor(SIGMA)) - many).norm(dim=1) < NEAR).float().mean())


@dataclass(frozen=True)
class Measured:
    """What one regime made of one draw of episodes."""

    census: Census
    off: float
    train: float
    held_out: float
    cortex: float
    hippocampus: float

    @property
    def index(self) -> float:
        return funes_index(train=self.train, held_out=self.held_out, bayes=BAYES)


def measure(seed: int, count: int, steps: int, samples: int) -> Measured:
    """Live, learn, and ask."""
    world = World.drawn(seed)
    episodes, strangers = world.live(count), world.live(4 * samples)
    cortex = learnt(world, episodes, steps)
    made = generated(world, cortex, samples)
    many = episodes.repeat(-(-4 * samples // count), 1)
    errors = [denoising_error(cortex, x, sigma=SIGMA, repeats=2, generator=world.generator) for x in (many, strangers)]
    taken = census(
        made,
        episodes,
        again=lambda x, sigma: flow(cortex, x, sigma),
        fresh=strangers,
        generator=world.generator,
    )

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return lookup(x, episodes, (sigma**-2).reshape(1, 1)).mean

    rates = [recalled(world, denoiser, episodes) for denoiser in (cortex, exact)]
    return Measured(taken, world.off(made), errors[0], errors[1], rates[0], rates[1])


def regimes(quick: bool) -> list[Figure]:
    """D1 and D2."""
    plan = [
        (4, 1500, 5),
        (16, 0, 5),
        (16, 200, 5),
        (16, 1500, 5),
        (64, 1500, 3),
        (256, 1500, 3),
        (2048, 0, 3),
        (2048, 1500, 3),
    ]
    if quick:
        plan = [(4, 30, 1), (16, 0, 1), (16, 30, 1)]
    figures: list[Figure] = []
    for count, steps, draws in plan:
        found = [measure(seed, count, steps, 40 if quick else 1000) for seed in range(draws)]
        figures += described(f"N={count}, {f'replay {steps}' if steps else 'once'}", found, gates(count, steps))
    return figures


def knowing(quick: bool) -> list[Figure]:
    """The census of whoever knows the world exactly: what is found there is found by chance."""
    world = World.drawn(0)
    episodes, made = world.live(256), world.live(40 if quick else 1000)

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ world.frame * (SCALE**2 / (SCALE**2 + sigma**2)) @ world.frame.T

    taken = census(made, episodes, again=lambda x, sigma: flow(exact, x, sigma), generator=world.generator)
    return [Figure(f"N=256, world known exactly: {c}", getattr(taken, c).value) for c in ("memorised", "spurious")]


def gates(count: int, steps: int) -> dict[str, str]:
    """Bounds of D1 and D2."""
    if count == 16:
        return (
            {"held-out": "<= 0.08", "off": "<= 0.05"}
            if steps == 1500
            else ({} if steps else {"held-out": ">= 0.15", "off": ">= 0.5"})
        )
    if count == 4:
        return {"index": ">= 10", "memorised": ">= 0.35"}
    return {"|index|": "<= 0.05", "memorised": "<= 0.06"} if count >= 256 and steps else {}


def described(what: str, found: Sequence[Measured], bounds: dict[str, str]) -> list[Figure]:
    """Means over draws, with the values of each in the note where there is a gate."""
    columns = {
        "held-out": ("held-out error", [f.held_out for f in found]),
        "train": ("train error", [f.train for f in found]),
        "index": ("Funes index", [f.index for f in found]),
        "off": ("off the world, rms", [f.off for f in found]),
        "memorised": ("memorised", [f.census.memorised.value for f in found]),
        "spurious": ("spurious", [f.census.spurious.value for f in found]),
        "generalised": ("generalised", [f.census.generalised.value for f in found]),
        "chance": ("memorised by chance", [f.census.chance.value for f in found if f.census.chance]),
        "cortex": ("cortex recalls", [f.cortex for f in found]),
        "hippocampus": ("hippocampus recalls", [f.hippocampus for f in found]),
    }
    figures = [
        Figure(f"{what}: {name}", fmean(values), bounds.get(key, ""), ", ".join(f"{v:.3g}" for v in values))
        for key, (name, values) in columns.items()
    ]
    if "|index|" in bounds:
        mean = abs(fmean(columns["index"][1]))
        figures.append(Figure(f"{what}: Funes index, magnitude", mean, bounds["|index|"]))
    return figures


def feedback(quick: bool) -> list[Figure]:
    """D3: replay raises the priority that brings replay."""
    figures: list[Figure] = []
    world = World.drawn(0)
    episodes = world.live(32)
    for floor in (0.0, 0.1):
        for gamma in (0.0, 0.5, 1.0, 1.2, 1.5):
            bits: list[float] = []
            top, warned = 0.0, 0
            for seed in range(1 if quick or floor else 3):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    done = consolidate(
                        episodes,
                        TrainedDenoiser(D, widths=(8,), spread=SPREAD),
                        steps=40 if quick else 4000,
                        batch_size=1,
                        priority="count",
                        gamma=gamma,
                        floor=floor,
                        generator=torch.Generator().manual_seed(seed),
                    )
                share = (1.0 + done.counts.double()) / (1 + done.counts).sum()
                bits.append(entropy(share))
                top, warned = max(top, float(share.max())), warned + any(w.category is ReplayCollapse for w in caught)
            gate = "" if floor or gamma == 1.2 else "<= 1.5" if gamma > 1 else ">= 4.2"
            note = f"floor {floor}; runs {', '.join(f'{b:.2f}' for b in bits)}; top share {top:.2f}"
            worst = max(bits) if gamma > 1 else min(bits)
            figures.append(
                Figure(f"gamma={gamma}, floor={floor}: entropy of replay, bits, worst run", worst, gate, note)
            )
            if gamma == 1.5 and not floor:
                figures.append(Figure("gamma=1.5: share of runs that warn of collapse", warned / len(bits), ">= 1"))
            if gamma <= 1 and not floor:
                figures.append(Figure(f"gamma={gamma}: share of runs that warn", warned / len(bits), "<= 0"))
    return figures


def lesions(quick: bool) -> list[Figure]:
    """D4: replay off, and hippocampus off; beside it, replay that goes on."""
    world = World.drawn(0)
    episodes, steps = world.live(4), 20 if quick else 400
    options = {"batch_size": 128, "learning_rate": RATE, "levels": LEVELS, "generator": world.generator}
    night = consolidate(episodes, world.newborn(), steps=steps, **options)

    def share(cortex: TrainedDenoiser) -> float:
        return recalled(World(world.frame, torch.Generator().manual_seed(1)), cortex, episodes)

    before = share(night.cortex)
    night.hippocampus.add(world.live(16))
    idle = share(night.cortex)
    night.hippocampus.values.zero_()
    lesioned = share(night.cortex)
    more = share(consolidate(episodes, night.cortex, steps=steps, **options).cortex)
    return [
        Figure("cortex recalls after replay", before),
        Figure("change when replay is off and new episodes come", abs(idle - before), "<= 0"),
        Figure("change when the hippocampus is wiped out", abs(lesioned - before), "<= 0.01"),
        Figure("change when replay goes on instead", abs(more - before)),
    ]


def masked(quick: bool) -> list[Figure]:
    """D5: only the core is replayed faithfully."""
    figures: list[Figure] = []
    for name in ("core only", "all"):
        ratios: list[float] = []
        squares: list[float] = []
        for seed in range(1 if quick else 8):
            world = World.drawn(seed)
            episodes, core = world.live(16), torch.arange(D) < D // 2
            cortex = consolidate(
                episodes,
                world.newborn(),
                steps=10 if quick else 600,
                mask=core if name == "core only" else None,
                noise={"gaussian": 0.5, "mask": 0.5},
                learning_rate=RATE,
                levels=LEVELS,
                generator=world.generator,
            ).cortex
            many = episodes.repeat(60, 1)
            cues = many + SIGMA * torch.randn(many.shape, generator=world.generator)
            with torch.no_grad():
                miss = (cortex(cues, SIGMA) - many).square().mean(0)
            # features of a random world differ in size
            miss = miss / (SCALE**2 * world.frame.square().sum(1))
            ratios.append(float(miss[core].sqrt().mean() / miss[~core].sqrt().mean()))
            squares.append(float(miss[core].mean() / miss[~core].mean()))
        gate = "<= 0.5" if name == "core only" else ""
        note = ", ".join(f"{r:.3g}" for r in ratios)
        what = f"replay of {name}: recall error of core over that of the rest"
        figures += [Figure(what, fmean(ratios), gate, note), Figure(f"{what}, squared errors", fmean(squares))]
    return figures


def run(quick: bool) -> list[Figure]:
    """All of D."""
    torch.set_num_threads(1)
    note = f"three causes of variance {SCALE**2:g} in {D} features, noise {SIGMA}"
    figures = [Figure("best possible denoising error", BAYES, "", note)]
    return figures + regimes(quick) + knowing(quick) + feedback(quick) + lesions(quick) + masked(quick)


if __name__ == "__main__":
    main(run, __doc__)

"""A thousand handwritten digits recalled from their upper halves, and one reconstructed from its central pixels.

Digits of MNIST, the lower half hidden. A modern Hopfield network sees grey there and lets the hidden half settle;
exact diffusion is told that nothing is known there; a trained denoiser has the thousand in its weights. A recall is
right when its hidden half is nearest to that of the digit asked for. The ceiling is the digit whose upper half is
nearest: who hides the lower half cannot do better. Then a denoiser that was trained on other digits, none of which is
stored, fills in what surrounds the central pixels of a new one: many draws, and how unsure each pixel is.
"""

import torch
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import REPOSITORY, Figure, data_folder, idx, main
from mnemotrace.evaluation.capacity import wilson
from mnemotrace.formation.score import fit_denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.retrieval.diffusion import recall_by_diffusion

SIDE = 28
NOISE = {"gaussian": 0.3, "mask": 0.7}
PICTURE = REPOSITORY / "benchmarks" / "out" / "recall_digits.png"


def denoiser(images: Tensor, width: int, steps: int) -> TrainedDenoiser:
    """Train on images in [-1, 1], half of whose features are often hidden."""
    source = torch.Generator().manual_seed(0)
    network = TrainedDenoiser(
        images.shape[1], widths=(width, width), centre=images.mean(0), spread=float(images.std()), generator=source
    )
    return fit_denoiser(images, network=network, steps=steps, learning_rate=1e-3, noise=NOISE, generator=source)


def recalled(images: Tensor, cues: Tensor, known: Tensor, trained: TrainedDenoiser) -> dict[str, Tensor]:
    """Return what each way makes of the cues."""
    exact = mt.DiffusionMemory(images, sigma=0.1)
    source = torch.Generator().manual_seed(1)
    ways = {"exact diffusion": exact, "trained denoiser": trained}
    found = {
        name: recall_by_diffusion(way, cues, sigma=0.05, known=known, generator=source).state
        for name, way in ways.items()
    }
    return {"modern Hopfield": mt.recall(mt.ModernHopfield(images), cues, known=known).state, **found}


def judged(name: str, state: Tensor, images: Tensor, hidden: Tensor) -> list[Figure]:
    """Compare with what was stored."""
    right = torch.cdist(state[:, hidden], images[:, hidden]).argmin(1) == torch.arange(len(state))
    rate = wilson(float(right.double().mean()), len(state))
    error = (state - images[: len(state)])[:, hidden].square().mean().sqrt()
    note = f"95 % interval {rate.low:.3f} to {rate.high:.3f}"
    return [
        Figure(f"{name}: right digit", rate.value, "", note),
        Figure(f"{name}: error of the hidden half", float(error), "", "root mean square, pixels in [-1, 1]"),
    ]


def draw(rows: list[tuple[str, Tensor]]) -> None:
    """Draw a row a way: cues, recalls, originals; below, the reconstruction of one digit and its uncertainty."""
    from matplotlib.figure import Figure as Sheet

    columns = max(len(images) for _, images in rows)
    sheet = Sheet(figsize=(0.62 * columns + 1.7, 0.66 * len(rows)), layout="constrained")
    axes = sheet.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for cell in line:
            cell.set(xticks=[], yticks=[], frame_on=False)
        for cell, image in zip(line, images, strict=False):
            cell.imshow(image.view(SIDE, SIDE), cmap="gray", vmin=float(images.min()), vmax=float(images.max()))
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """Recall, judge, reconstruct, draw."""
    torch.set_num_threads(1)
    every = idx(data_folder("mnist") / "train-images-idx3-ubyte.gz") * 2 - 1
    count, width, steps = (50, 64, 20) if quick else (1000, 512, 2500)
    images, known = every[:count], torch.arange(SIDE * SIDE) < SIDE * SIDE // 2
    cues = torch.where(known, images, 0.0)
    found = recalled(images, cues, known, denoiser(images, width, steps))
    nearest = torch.cdist(images[:, known], images[:, known]).argmin(1)
    figures = judged("nearest upper half (ceiling)", images[nearest], images, ~known)
    for name, state in found.items():
        figures += judged(name, state, images, ~known)
    figures += judged("untouched cue", cues, images, ~known)
    row, column = torch.arange(SIDE * SIDE) // SIDE, torch.arange(SIDE * SIDE) % SIDE
    core = (row >= 9) & (row < 19) & (column >= 9) & (column < 19)
    fresh, draws = every[-1], 20 if quick else 200
    general = denoiser(every[count : count + (200 if quick else 20000)], width, steps)
    again = recall_by_diffusion(
        general, torch.where(core, fresh, 0.0).expand(draws, -1), sigma=0.05, known=core, sampler="euler_maruyama",
        generator=torch.Generator().manual_seed(2),
    ).state.clamp(-1, 1)  # fmt: skip
    spread, others = again.std(0), (fresh - every[:count].mean(0))[~core].square().mean().sqrt()
    missed = (again.mean(0) - fresh)[~core].square().mean().sqrt()
    figures += [
        Figure("from the core: deviation of its own pixels", float(spread[core].mean())),
        Figure("from the core: deviation of the others", float(spread[~core].mean())),
        Figure("from the core: error of the mean, others", float(missed), "", f"the mean digit instead: {others:.3f}"),
    ]
    if not quick:
        shown = torch.arange(0, count, count // 12)[:12]
        rows = [("cue", cues[shown]), *((name, state[shown].clamp(-1, 1)) for name, state in found.items())]
        rows += [
            ("stored", images[shown]),
            ("from its core", torch.stack([torch.where(core, fresh, -0.3), *again[:11]])),
        ]
        draw([*rows, ("mean, deviation, truth", torch.stack([again.mean(0), spread * 2 - 1, fresh]))])
    return figures


if __name__ == "__main__":
    main(run, __doc__)

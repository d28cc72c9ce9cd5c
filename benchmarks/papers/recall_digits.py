"""A thousand handwritten digits recalled from their upper halves, and new ones reconstructed from their central pixels.

Digits of MNIST, the lower half hidden. A modern Hopfield network sees grey there and lets the hidden half settle;
exact diffusion is told that nothing is known there; a trained denoiser has the thousand in its weights. A recall is
right when its hidden half is nearest to that of the digit asked for. The ceiling is the digit whose upper half is
nearest: who hides the lower half cannot do better. Then a denoiser that was trained on other digits, none of which is
asked for, fills in what surrounds the central pixels of new ones: many draws, and how unsure each pixel is.
"""

from typing import Any

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, data_folder, idx, main
from mnemotrace.evaluation.capacity import wilson
from mnemotrace.formation.score import fit_denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.retrieval.diffusion import recall_by_diffusion

SIDE = 28
D = SIDE * SIDE
NOISE, LEVELS = {"gaussian": 0.1, "mask": 0.9}, (0.05, 10.0)
# noise of known pixels, and where unknown ones begin and end: a tenth, ten times and a twentieth of a pixel's spread
ASKED = {"sampler": "euler_maruyama", "sigma": 0.05, "largest": 5.0, "smallest": 0.025}
SIZES = {
    False: {"stored": 1000, "others": 20000, "width": 1024, "steps": (6500, 3500), "new": 20, "draws": 200},
    True: {"stored": 50, "others": 200, "width": 64, "steps": (20, 20), "new": 3, "draws": 20},
}
SHOWN = (0, 1, 2, 3)
PICTURE = OUT / "recall_digits.png"


class Gated(nn.Module):
    """An MLP that says what is clean; the preconditioning's passing on of the state is undone but for small noise.

    The usual target takes the noise off the state, feature by feature: a map of full rank, which no layer narrower
    than the image can be. Here the layers give the clean image `p`, and `p sqrt(1 + r^2) - r u` turns it into what the
    preconditioning wants, with `r = spread / sigma` up to three. The layers read what a Gaussian would make of each
    pixel, and how much of it is known: a hidden pixel tells them nothing instead of noise of unit size.
    """

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2 * d, width), nn.Linear(width, width), nn.Linear(width, d)
        source = torch.Generator().manual_seed(0)
        for layer in (self.first, self.second, self.last):
            bound = layer.in_features**-0.5
            for values in layer.parameters():
                nn.init.uniform_(values, -bound, bound, generator=source)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, u: Tensor, noise: Tensor) -> Tensor:
        """Take scaled states and a quarter of `log(sigma / spread)`."""
        r = (-4 * noise).exp()
        share = r.square() / (1 + r.square())
        seen = u * share.sqrt()
        seen = seen * (seen.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        hidden = nn.functional.silu(self.first(torch.cat([seen, 2 * share - 1], 1)))
        hidden = hidden + nn.functional.silu(self.second(hidden))
        r = r.clamp_max(3.0)
        return self.last(hidden) * (1 + r.square()).sqrt() - r * u


def regions(count: int) -> Tensor:
    """Return masks of rows or rectangles, known or hidden: no cue in particular, and no scattered pixels."""
    source = torch.Generator().manual_seed(3)
    # ends beyond the image are ends at its edge
    ends = (torch.rand(4, count, 1, generator=source) * 1.5 - 0.25).clamp(0, 1) * SIDE
    row, column = torch.arange(D) // SIDE, torch.arange(D) % SIDE
    across, hidden = torch.rand(2, count, 1, generator=source) < 0.5

    def between(place: Tensor, one: Tensor, two: Tensor) -> Tensor:
        return (place >= torch.minimum(one, two)) & (place < torch.maximum(one, two))

    return (between(row, *ends[:2]) & (between(column, *ends[2:]) | across)) ^ hidden


def denoiser(images: Tensor, width: int, steps: int) -> TrainedDenoiser:
    """Train on images in [-1, 1], regions of which are often hidden."""
    source, centre = torch.Generator().manual_seed(0), images.mean(0)
    network = TrainedDenoiser(
        D, network=Gated(D, width), centre=centre, spread=float((images - centre).square().mean().sqrt())
    )
    return fit_denoiser(
        images, network=network, steps=steps, batch_size=128, learning_rate=2e-3, noise=NOISE, levels=LEVELS,
        known=regions(2000), generator=source,
    )  # fmt: skip


def recalled(images: Tensor, cues: Tensor, known: Tensor, trained: TrainedDenoiser) -> dict[str, Tensor]:
    """Return what each way makes of the cues."""
    exact = mt.DiffusionMemory(images, sigma=0.1)
    source = torch.Generator().manual_seed(1)
    ways = {"exact diffusion": exact, "trained denoiser": trained}
    found = {
        name: recall_by_diffusion(way, cues, known=known, generator=source, **ASKED).state for name, way in ways.items()
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


def reconstructed(trained: TrainedDenoiser, fresh: Tensor, core: Tensor, draws: int) -> Tensor:
    """Draw `(new, draws, d)` digits that have these central pixels."""
    source = torch.Generator().manual_seed(2)
    cues = torch.where(core, fresh, 0.0).repeat_interleave(draws, 0)
    found = recall_by_diffusion(trained, cues, known=core, generator=source, **ASKED)
    return found.state.clamp(-1, 1).view(len(fresh), draws, D)


def weighed(again: Tensor, fresh: Tensor, core: Tensor, images: Tensor) -> list[Figure]:
    """Compare the draws with the digits that the cores came from, and with one another."""
    spread, mean = again.std(1), again.mean(1)
    error = (again - fresh[:, None]).square().mean((0, 1)).sqrt()
    missed, usual = ((x - fresh)[:, ~core].square().mean(1).sqrt() for x in (mean, images.mean(0)))
    worse = int((missed >= usual).sum())
    return [
        Figure("from the core: error of a draw, core", float(error[core].square().mean().sqrt())),
        Figure("from the core: deviation, core", float(spread[:, core].mean())),
        Figure("from the core: deviation, other pixels", float(spread[:, ~core].mean())),
        Figure("from the core: error of a draw, others", float(error[~core].square().mean().sqrt())),
        Figure("from the core: error of the mean, others", float(missed.square().mean().sqrt()),
               f"<= {float(usual.square().mean().sqrt()):.4f}", f"the mean digit; worse in {worse} of {len(fresh)}"),
    ]  # fmt: skip


def tinted(images: Tensor, known: Tensor) -> Tensor:
    """Return colours, with a tint where a pixel is hidden."""
    grey = ((images + 1) / 2).view(-1, SIDE, SIDE, 1).expand(-1, -1, -1, 3)
    return torch.where(known.view(SIDE, SIDE, 1), grey, torch.tensor([0.80, 0.86, 0.93]))


def show(cell: Any, image: Tensor, colours: str = "gray") -> None:
    """Show one image: values in [-1, 1] a pixel, or colours in [0, 1]."""
    cell.imshow(image.view(SIDE, SIDE, -1), cmap=colours, vmin=-1, vmax=1)


def draw(rows: list[tuple[str, Tensor]], cores: list[tuple[Tensor, Tensor, Tensor]], core: Tensor) -> None:
    """Draw a row a way; below, a row a core: draws, mean, deviation of each pixel, and the digit it came from."""
    from matplotlib.figure import Figure as Sheet
    from matplotlib.patches import Rectangle

    sheet = Sheet(figsize=(9.2, 0.72 * (len(rows) + len(cores)) + 1.1), layout="constrained")
    parts: Any = sheet.subfigures(2, 1, height_ratios=[len(rows) + 0.45, len(cores) + 0.75], hspace=0.02)
    upper, lower = parts
    upper.suptitle("Recall of a thousand stored digits from their upper halves", fontsize=11)
    lower.suptitle("New digits from a core: a denoiser that has seen others makes up the rest", fontsize=11)
    above = upper.subplots(len(rows), 12, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    below = lower.subplots(len(cores), 12, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for cell in (*above.flat, *below.flat):
        cell.set(xticks=[], yticks=[])
        for side in cell.spines.values():
            side.set_visible(False)
    inside = core.view(SIDE, SIDE).nonzero()
    (top, left), (high, wide) = (inside[0] - 0.5).tolist(), (inside[-1] - inside[0] + 1).tolist()
    for line, (name, images) in zip(above, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for cell, image in zip(line, images, strict=True):
            show(cell, image)
    for line, (fresh, again, cue) in zip(below, cores, strict=True):
        for cell, image in zip(line, [cue, *again[:8], again.mean(0), again.std(0) * 2 - 1, fresh], strict=True):
            show(cell, image, "magma" if cell is line[10] else "gray")
        for cell in line[1:9]:
            cell.add_patch(Rectangle((left, top), wide, high, fill=False, ec="tab:blue", lw=0.8))
    below[0, 4].set_title("draws", fontsize=9)
    for place, name in ((0, "core"), (9, "mean"), (10, "deviation"), (11, "truth")):
        below[0, place].set_title(name, fontsize=9)
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.savefig(PICTURE, dpi=100)


def run(quick: bool) -> list[Figure]:
    """Recall, judge, reconstruct, draw."""
    torch.set_num_threads(1)
    size = SIZES[quick]
    every = idx(data_folder("mnist") / "train-images-idx3-ubyte.gz") * 2 - 1
    count = size["stored"]
    images, known = every[:count], torch.arange(D) < D // 2
    cues = torch.where(known, images, 0.0)
    found = recalled(images, cues, known, denoiser(images, size["width"], size["steps"][0]))
    nearest = torch.cdist(images[:, known], images[:, known]).argmin(1)
    figures = judged("nearest upper half (ceiling)", images[nearest], images, ~known)
    for name, state in found.items():
        figures += judged(name, state, images, ~known)
    figures += judged("untouched cue", cues, images, ~known)
    row, column = torch.arange(D) // SIDE, torch.arange(D) % SIDE
    core = (row >= 9) & (row < 19) & (column >= 9) & (column < 19)
    others, fresh = every[count : count + size["others"]], every[-size["new"] :]
    again = reconstructed(denoiser(others, size["width"], size["steps"][1]), fresh, core, size["draws"])
    figures += weighed(again, fresh, core, others)
    if not quick:
        shown = torch.arange(0, count, count // 12)[:12]
        rows = [("cue", tinted(cues[shown], known)), *((name, state[shown]) for name, state in found.items())]
        cores = [(fresh[i], again[i], tinted(fresh[i], core)) for i in SHOWN]
        draw([*rows, ("stored", images[shown])], cores, core)
    return figures


if __name__ == "__main__":
    main(run, __doc__)

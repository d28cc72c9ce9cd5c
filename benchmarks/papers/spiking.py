"""Spiking features of faces and motorbikes: published weights and rows (N7), and networks learned anew by STDP.

The published setting and schedule: 237 + 237 images without labels, 3000 + 5000 + 6000 of them learned from. The
classifier is the published one, a support vector machine on the 20 largest potentials, scaled by the 400 training rows.
No seed is chosen: both that are run are reported, beside the published 80 seeds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figures import REPOSITORY, Figure, data_folder, main
from mnemotrace.formation.stdp import ITERATIONS, fit_stdp, unsettled
from mnemotrace.memories.spiking import SpikingHierarchy

PICTURE = REPOSITORY / "docs/images/stdp_filters.png"
KINDS = ("face", "motor")


def images(part: str, every: int) -> tuple[Tensor, Tensor]:
    """Read images as grey values `(n, 160, 250)`, and labels."""
    from PIL import Image

    root = data_folder("naming") / "images" / part
    files = [(path, label) for label, kind in enumerate(KINDS) for path in sorted((root / kind).glob("*.jpg"))[::every]]
    grey = [np.asarray(Image.open(path).convert("L"), dtype=np.float32) for path, _ in files]
    return torch.from_numpy(np.stack(grey)), torch.tensor([label for _, label in files])


def accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Classify test rows with the published classifier."""
    from sklearn.svm import SVC

    mean, deviation = train[0].mean(0), train[0].std(0, correction=0) + 1e-5
    machine = SVC(C=1.0, gamma="auto").fit(((train[0] - mean) / deviation).numpy(), train[1].numpy())
    return float(machine.score(((test[0] - mean) / deviation).numpy(), test[1].numpy()))


def matched(rows: Tensor, stored: Tensor) -> tuple[float, float]:
    """Share of rows, and of those that are not all zero, that are within 1e-2 of a stored one in every feature."""
    same = torch.cdist(rows, stored, p=torch.inf).amin(1) <= 1e-2
    raised = rows.amax(1) > 0
    return float(same.float().mean()), float((same & raised).sum() / raised.sum())


def published(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> list[Figure]:
    """N7: features of the stored weights against the stored rows; and why they cannot be equal."""
    folder = data_folder("naming")

    def array(name: str) -> Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npy"))

    made = SpikingHierarchy.sdnn().load_published([array(f"weight_{i}") for i in range(5)])
    ours = [(made.features(x), y) for x, y in (train, test)]
    stored = [(array(f"features_X_{part}"), array(f"features_y_{part}") - 1) for part in ("train", "test")]
    rows, theirs = torch.cat([x for x, _ in ours]), torch.cat([x for x, _ in stored])
    share, raised = matched(rows, theirs)
    _, apart = matched(rows.sort(1).values, theirs.sort(1).values)
    whole = (theirs - theirs.round()).abs().amax(0) <= 0.05
    top = made.weights[2].flatten(1)
    settled = ((top <= 0.01) | (top >= 0.99)).float().mean(1)
    why = f"stored columns {whole.nonzero()[:, 0].tolist()} are whole numbers, but share of settled weights there is "
    why += ", ".join(f"{float(s):.2f}" for s in settled[whole])
    return [
        Figure("N7 features equal stored rows", share, ">= 0.45", "weights and rows are of different seeds"),
        Figure("the same, images that raise anything", raised, "", why),
        Figure("the same, whatever the order of the maps", apart, "", "so no renaming of maps explains it"),
        Figure("classifier on features of the stored weights", accuracy(*ours), "", "published mean of 80 seeds 0.938"),
        Figure("classifier on the stored rows", accuracy(*stored), "", "seed 61 has 0.985, picked by its test score"),
    ]


def learned(
    seed: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], every: int, iterations: Sequence[int]
) -> tuple[SpikingHierarchy, list[Figure]]:
    """Learn one network without labels, and classify with it."""
    source = torch.Generator().manual_seed(seed)
    start = SpikingHierarchy.sdnn(generator=source)
    made = fit_stdp(start, images("learn", every)[0], iterations=iterations, generator=source)
    score = accuracy(*((made.features(x), y) for x, y in (train, test)))
    left = ", ".join(f"{unsettled(w):.3f}" for w in made.weights)
    note = f"published 0.823 to 0.985, mean 0.938; w (1 - w): {left}"
    return made, [Figure(f"classifier on a network learned anew, seed {seed}", score, "", note)]


def draw(made: SpikingHierarchy, path: Path) -> None:
    """Draw what each neuron of the three layers has learned to see, carried down to pixels through the layers below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first, second, third = (w.detach() for w in made.weights)
    strides = [layer.stride for layer in made.layers]
    seen = F.conv_transpose2d(second, first, stride=strides[0])
    top = F.conv_transpose2d(F.conv_transpose2d(third, second, stride=strides[1]), first, stride=strides[0])
    figure, axes = plt.subplots(5, 10, figsize=(10, 5.9), gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    titles = {0: "layer 1", 1: "layer 2", 3: "layer 3"}
    for row, panels in enumerate((first, seen[:10], seen[10:], top[:10], top[10:])):
        for column, axis in enumerate(axes[row]):
            axis.set_axis_off()
            if column < len(panels):
                axis.imshow(panels[column, 0], cmap="gray")
        if row in titles:
            axes[row, 0].text(-0.12, 0.5, titles[row], transform=axes[row, 0].transAxes, ha="right", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def run(quick: bool) -> list[Figure]:
    """Published weights; an untrained network; two networks learned anew."""
    torch.set_num_threads(1)
    every, iterations = (40, (5, 5, 5)) if quick else (1, ITERATIONS)
    train, test = images("train", every), images("test", every)
    figures = published(train, test)
    fresh = SpikingHierarchy.sdnn()
    score = accuracy(*((fresh.features(x), y) for x, y in (train, test)))
    figures += [Figure("classifier on an untrained network", score, "", "the control: weights as drawn, N(0.8, 0.01)")]
    for seed in (0,) if quick else (0, 1):
        made, more = learned(seed, train, test, every, iterations)
        figures += more
        if not quick and seed == 0:
            draw(made, PICTURE)
    return figures


if __name__ == "__main__":
    main(run, __doc__)

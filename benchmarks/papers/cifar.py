"""A small convolutional network on the CIFAR-10 subset: erase each class, published and calibrated side by side.

Published (AI Engram, arXiv 2606.14997, ResNet18 on all of CIFAR-10; read off): base .946, erased .00, others .868 - a
loss of 7.8 points. Here four maps (three convolutions with batch norm, one linear) learn from 3,500 images; 500
training images choose the setting; the 1,000 test images report.
"""

from collections import OrderedDict
from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, Skipped, data_folder, main, right
from benchmarks.papers import classes
from benchmarks.papers.classes import Classifier, Data

CHANNELS = (3, 32, 64, 128)
HELD_OUT = 500
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def load(quick: bool) -> tuple[Data, Data, Data]:
    """Read train, held-out and test images, standardised, (n, 3, 32, 32)."""
    try:
        import numpy as np
    except ImportError as error:
        raise Skipped("numpy is not installed") from error
    with np.load(data_folder("cifar10_subset") / "cifar10_5k.npz") as file:
        parts = {
            name: torch.from_numpy(file[name])
            for name in ("train_images", "train_labels", "test_images", "test_labels")
        }
    shift, scale = torch.tensor(MEAN), torch.tensor(DEVIATION)
    x, xt = (
        ((parts[f"{p}_images"].float() / 255 - shift) / scale).permute(0, 3, 1, 2).contiguous()
        for p in ("train", "test")
    )
    y, yt = parts["train_labels"].long(), parts["test_labels"].long()
    few = slice(0, 200) if quick else slice(None)
    return (x[:-HELD_OUT][few], y[:-HELD_OUT][few]), (x[-HELD_OUT:][few], y[-HELD_OUT:][few]), (xt[few], yt[few])


def network(generator: torch.Generator) -> nn.Sequential:
    """Three convolutions with batch norm and pooling, then one linear map; weights drawn from the generator."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (c, o) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False), 1):
        layers |= {f"conv{i}": nn.Conv2d(c, o, 3, padding=1, bias=False), f"norm{i}": nn.BatchNorm2d(o)}
        layers |= {f"relu{i}": nn.ReLU(), f"pool{i}": nn.MaxPool2d(2)}
    layers |= {"flat": nn.Flatten(), "head": nn.Linear(CHANNELS[-1] * 16, 10)}
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
    nn.init.zeros_(layers["head"].bias)
    return model


def train(data: Data, epochs: int, seed: int = 0) -> nn.Sequential:
    """Adam with a one-cycle rate, batches of 100, flips and crops; all randomness from one generator."""
    generator = torch.Generator().manual_seed(seed)
    model = network(generator).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=5e-2)
    steps = epochs * -(-len(data[1]) // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(data[1]), generator=generator).split(100):
            loss = F.cross_entropy(model(augmented(data[0][batch], generator)), data[1][batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image or not, and crop it after padding by four."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (4, 4, 4, 4))
    offsets = torch.randint(0, 9, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, i : i + 32, j : j + 32] for image, (i, j) in zip(padded, offsets, strict=True)])


def measure(quick: bool) -> list[Figure]:
    """Train, erase each class at both settings, show the frontier."""
    data, held_out, test = load(quick)
    net = Classifier(train(data, 2 if quick else 30), data, held_out, test)
    statistics = classes.by_class(net, batch=50)
    references = {c: mt.factor(classes.others(statistics, c)) for c in statistics}
    base = classes.untouched(net, test)
    figures = [
        Figure("untouched: accuracy", float(right(net.model, test).mean()), "", f"{len(mt.sites(net.model))} sites")
    ]
    grid: dict[str, Sequence[float]] = {
        "strengths": (0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0),
        "selectivities": (0.3, 1.0, 3.0),
    }
    if quick:
        grid = {"strengths": (1.0, 1.5), "selectivities": (1.0,)}
    chosen = classes.calibrate(net, statistics, references, budget=1.0 if quick else 0.05, goal=0.04, **grid)
    lost: dict[str, float] = {}
    for name, point in {"published": None, "calibrated": chosen.best}.items():
        gone, kept = classes.scores_after(net, classes.edits_of(net, statistics, references, point), test)
        lost[name] = base - mean(kept.values())
        note = "all sites, strength 1, selectivity 1" if point is None else classes.setting(point)
        note = f"worst {max(gone.values()):.3f}; {note}"
        figures += [
            Figure(f"{name}: erased class", mean(gone.values()), "<= 0.05" if point else "", note),
            Figure(f"{name}: others", mean(kept.values()), "", f"untouched {base:.4f}"),
            Figure(f"{name}: loss of others", lost[name]),
        ]
    figures.append(Figure("loss of others, calibrated / published", lost["calibrated"] / lost["published"], "<= 0.5"))
    mt.save(chosen, OUT / "cifar-calibration.safetensors")
    return figures + classes.frontier(chosen, "behaviour")


if __name__ == "__main__":
    main(measure, __doc__)

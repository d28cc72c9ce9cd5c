"""Digits, networks and recalls in batches, which the benchmarks of recollection share."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.figures import data_folder, idx
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.retrieval.backward import recollect
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source


@dataclass(frozen=True)
class Mnist:
    """Images to learn from and images to recall, `(n, 1, 28, 28)` in [0, 1], with labels."""

    learn: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    probes: tuple[Tensor, Tensor]


def load(quick: bool) -> Mnist:
    """Split the 10,000 test images 8,000 to 2,000 with seed 1; 200 of the latter are probes."""
    folder = data_folder("mnist")
    images, labels = (idx(folder / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    chosen = torch.randperm(2000, generator=torch.Generator().manual_seed(2))[: 80 if quick else 200]
    parts = [order[: 400 if quick else 8000], order[8000:], order[8000:][chosen]]
    return Mnist(*((images[part].view(-1, 1, 28, 28), labels[part]) for part in parts))


def network(pool: str, generator: torch.Generator) -> nn.Sequential:
    """Draw conv 32, pool, conv 64, pool, conv 96, conv 64, pool, 256, 256, 10; pools 3/2, `max` or `conv`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(name: str, layer: nn.Module) -> None:
        layers[name] = layer
        layers[f"relu_{name}"] = nn.ReLU()

    def halve(name: str, c: int) -> None:
        if pool == "max":
            layers[name] = nn.MaxPool2d(3, 2)
        else:
            add(name, nn.Conv2d(c, c, 3, stride=2))

    add("conv1", nn.Conv2d(1, 32, 5, padding=2))
    halve("pool1", 32)
    add("conv2", nn.Conv2d(32, 64, 5, padding=2))
    halve("pool2", 64)
    add("conv3", nn.Conv2d(64, 96, 3, padding=1))
    add("conv4", nn.Conv2d(96, 64, 3, padding=1))
    halve("pool3", 64)
    layers["flat"] = nn.Flatten()
    add("fc1", nn.Linear(256, 256))
    add("fc2", nn.Linear(256, 256))
    layers["fc3"] = nn.Linear(256, 10)
    for layer in layers.values():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return nn.Sequential(layers)


def trained(data: Mnist, pool: str, *, epochs: int, seed: int = 0) -> nn.Sequential:
    """Train with Adam 1e-3 and batches of 50; all randomness from one generator."""
    generator = torch.Generator().manual_seed(seed)
    model = network(pool, generator)
    images, labels = data.learn
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(50):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def pictures(
    model: nn.Module,
    source: Tensor | Source,
    rules: Rules,
    trace: EpisodicTrace | Tensor | None,
    *,
    images: Tensor | None = None,
    site: str | None = None,
    batch: int = 100,
) -> Tensor:
    """Recall in batches, without controls.

    Args:
        model: the network.
        source: units as whole numbers or signals, one an image; or one source for all.
        rules: of the way back.
        trace: stored, or of images; None takes none.
        images: that are run forwards, where the trace does not say.
        site: where units or signals are.
        batch: images at a time.
    """
    known = trace if images is None else images
    found: list[Tensor] = []
    for rows in torch.arange(0 if known is None else len(known)).split(batch):
        start = source if isinstance(source, Source) else _source(source[rows], site)
        own, shown = (None if part is None else part[rows] for part in (trace, images))
        found.append(recollect(model, start, trace=own, x=shown, rules=rules, controls=False).images)
    return torch.cat(found)


def _source(part: Tensor, site: str | None) -> Source:
    return Source.vector(part, site=site) if part.is_floating_point() else Source.unit(part, site=site)

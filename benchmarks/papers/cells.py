"""Concept cells: planted in noise, with shuffled labels, in a network of digits, untrained, rotated, in five views.

The network of digits has four convolutions, three max-pools of 3 by 3 and stride 2, and two hidden layers of 256; Adam,
batches of 50, 4 epochs on 8 000 of MNIST's test images. The other 2 000 are the stimuli, 1 000 to choose each unit's
concept and 1 000 to test it. A unit counts as selective at a held-out AUROC of 0.95.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.figures import Figure, main
from benchmarks.papers.recalled import Mnist, load, trained
from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.localisation.cell_criteria import passing
from mnemotrace.localisation.cell_nulls import rotation
from mnemotrace.localisation.cells import SiteCells, Stimuli, cells, scan
from mnemotrace.stats.responses import responses

SITE, BAR = "relu_fc2", 0.95


def planted(units: int, share: float, each: int, seed: int) -> tuple[float, float, int]:
    """Plant units 3 standard deviations above noise for one of ten concepts; recall, false discoveries, cells."""
    generator = torch.Generator().manual_seed(seed)
    concepts = torch.arange(10).repeat_interleave(each)
    values = torch.randn(len(concepts), units, generator=generator)
    count = round(share * units)
    true = torch.full((units,), -1)
    true[:count] = torch.randint(10, (count,), generator=generator)
    values += 3.0 * (concepts[:, None] == true)
    found = scan(values, concepts, rotate=False, generator=generator).cells()
    right = sum(int(true[cell.unit]) == cell.concept for cell in found)
    return right / count, (len(found) - right) / max(1, len(found)), len(found)


def planted_figures(quick: bool) -> list[Figure]:
    """C2 over seeds, shares of planted units and numbers of stimuli."""
    figures: list[Figure] = []
    settings = ((0.02, 100), (0.02, 10)) if quick else ((0.01, 100), (0.02, 100), (0.03, 100), (0.02, 40), (0.02, 10))
    for share, each in settings:
        seeds = 1 if quick else 10
        runs = torch.tensor([planted(300 if quick else 2000, share, each, seed)[:2] for seed in range(seeds)])
        gated = each == 100  # noqa: PLR2004
        name = f"C2 planted {share:.0%}, {each} stimuli a concept"
        note = f"{seeds} seeds, least {float(runs[:, 0].min()):.3f}"
        worst = f"largest of a seed {float(runs[:, 1].max()):.3f}"
        figures += [
            Figure(f"{name}: recall", float(runs[:, 0].mean()), ">= 0.95" if gated else "", note),
            Figure(f"{name}: false discoveries", float(runs[:, 1].mean()), "<= 0.05", worst),
        ]
    return figures


def seen_five_ways(images: Tensor) -> Tensor:
    """Show images as they are, shifted by two pixels, in noise, thickened, and at half contrast."""
    generator = torch.Generator().manual_seed(3)
    ways = torch.randint(4, (len(images),), generator=generator).tolist()
    steps = ((0, 2), (0, -2), (2, 0), (-2, 0))
    shifted = torch.stack([torch.roll(one, steps[way], (1, 2)) for one, way in zip(images, ways, strict=True)])
    noisy = images + 0.3 * torch.randn(images.shape, generator=generator)
    return torch.cat([images, shifted, noisy, F.max_pool2d(images, 3, 1, 1), 0.5 * images])


def digit_figures(model: nn.Module, data: Mnist, quick: bool) -> list[Figure]:
    """C4, C5 and C7 on the second hidden layer, and how many of the units are cells."""
    images, labels = data.test
    found = cells(model, Stimuli(images.split(500), labels), sites=[SITE], shuffles=19 if quick else 99, rotate=False)
    one, counts = found.sites[SITE], found.counts()[SITE]
    strict = [torch.bincount(row, minlength=3) for row in passing(one.deviations).T]
    alive = int((one.sparseness > 0).sum())
    return [
        Figure("C4 units with AUROC >= 0.95", counts["selective"], ">= 60", f"of 256, {alive} alive"),
        Figure("C4 units of one concept at 5 sd", float(strict[2][1]), ">= 8"),
        Figure("C4 units of two concepts or more at 5 sd", float(strict[2][2:].sum()), "<= 0"),
        *(Figure(f"units of one concept at {k} sd", float(row[1]), "", f"{int(row[2:].sum())} of more")
          for k, row in zip((2, 3), strict, strict=False)),
        Figure("units above shuffled labels and the untrained network", counts["cell"], "",
               f"largest of shuffles {float(one.shuffled.max()):.3f}, untrained {_largest(one.untrained):.3f}"),
        Figure("lifetime sparseness of units alive", float(one.sparseness[one.sparseness > 0].mean())),
        Figure("population L0", one.active),
        *untrained_figures(model, data, one),
        *rotated_figures(model, data, quick),
    ]  # fmt: skip


def _largest(scores: Tensor | None) -> float:
    return float("nan") if scores is None else float(scores.max())


def untrained_figures(model: nn.Module, data: Mnist, one: SiteCells) -> list[Figure]:
    """C5: untrained twins of five seeds, each judged as the network was."""
    images, labels = data.test
    counted: list[int] = []
    for seed in range(5):
        twin = untrained_twin(model, generator=torch.Generator().manual_seed(seed))
        table = responses(twin, images.split(500), [SITE])[SITE]
        judged = scan(table, labels, rotate=False, shuffles=19).sites[""]
        counted.append(int((judged.score >= BAR).sum()))
    count = int((one.score >= BAR).sum())
    note = f"units of 256: {', '.join(map(str, counted))}"
    return [
        Figure("C5 untrained over trained count, mean of 5 seeds", sum(counted) / 5 / max(1, count), "<= 0.05", note),
        Figure("untrained over trained count, most of 5 seeds", max(counted) / max(1, count)),
    ]


def rotated_figures(model: nn.Module, data: Mnist, quick: bool) -> list[Figure]:
    """C7: random directions of the layer in the place of its units; and where axes do matter, as a control."""
    images, labels = data.test
    tables = responses(model, images.split(500), [SITE, "fc2", "fc3"])
    generator = torch.Generator().manual_seed(0)
    concepts = torch.arange(1000) % 10
    tables["planted"] = torch.randn(1000, 100 if quick else 500, generator=generator)
    tables["planted"][:, :10] += 3.0 * (concepts[:, None] == torch.arange(10))
    names = {
        SITE: "C7 count lost by rotation",
        "fc2": "lost before the ReLU",
        "fc3": "lost at the output",
        "planted": "lost of planted units",
    }
    figures: list[Figure] = []
    for site, name in names.items():
        one = scan(tables[site], concepts if site == "planted" else labels, shuffles=19).sites[""]
        assert one.rotated is not None
        assert one.probe is not None
        units, directions = (int((scores >= BAR).sum()) for scores in (one.score, one.rotated))
        note = f"{units} units, {directions} directions"
        figures.append(Figure(name, 1 - directions / max(1, units), ">= 0.5" if site == SITE else "", note))
        if site == SITE:
            changed, accuracy = float((one.probe[0] - one.probe[1]).abs()), f"accuracy {float(one.probe[0]):.3f}"
            figures.append(Figure("C7 change of the probe's accuracy", changed, "<= 0.01", accuracy))
    turned = tables[SITE] @ rotation(tables[SITE].shape[1], generator)
    for name, table in {"rotated": turned, "rotated and rectified": turned.relu()}.items():
        one = scan(table, labels, rotate=False, shuffles=19).sites[""]
        figures.append(Figure(f"directions of one concept at 5 sd, {name}", float((one.passing(5.0) == 1).sum())))
    return figures


def view_figures(model: nn.Module, data: Mnist) -> list[Figure]:
    """Units that keep their concept over five views; all views of an image fall on one side of the split."""
    images, labels = (part[:1000] for part in data.test)
    n = len(images)
    stimuli = Stimuli(
        seen_five_ways(images).split(500),
        labels.repeat(5),
        views=torch.arange(5).repeat_interleave(n),
        items=torch.arange(n).repeat(5),
    )
    found = cells(model, stimuli, sites=[SITE], rotate=False, shuffles=19)
    least = found.sites[SITE].held.amin(1)
    return [
        Figure("least over five views >= 0.90", float((least >= 0.90).sum())),
        Figure("least over five views >= 0.95", float((least >= 0.95).sum())),
    ]


def shuffled_figures(model: nn.Module, data: Mnist, quick: bool) -> list[Figure]:
    """C3: the same search with labels in random order."""
    images, labels = data.test
    table = responses(model, images.split(500), [SITE])[SITE]
    counted: list[int] = []
    largest: list[float] = []
    for seed in range(2 if quick else 10):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        found = scan(table, labels[order], rotate=False, generator=torch.Generator().manual_seed(seed))
        counted.append(len(found.cells()))
        largest.append(float(found.sites[""].auroc.max()))
    note = f"{len(counted)} orders, largest AUROC {max(largest):.3f}"
    return [Figure("C3 cells with shuffled labels, most of an order", max(counted), "<= 0", note)]


def measure(quick: bool) -> list[Figure]:
    """Run everything."""
    data = load(quick)
    if quick:
        data = replace(data, test=(data.test[0][:150], data.test[1][:150]))
    model = trained(data, "max", epochs=1 if quick else 4)
    right = float((model(data.test[0]).argmax(1) == data.test[1]).double().mean())
    return [
        *planted_figures(quick),
        Figure("accuracy of the network of digits", right),
        *digit_figures(model, data, quick),
        *view_figures(model, data),
        *shuffled_figures(model, data, quick),
    ]


if __name__ == "__main__":
    main(measure, __doc__)

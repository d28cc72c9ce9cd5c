"""Feature visualisation: a digit's unit, its frequencies, other shapes, a planted filter, a dead start, one seed twice.

The network of digits has four convolutions, three max-pools of 3 by 3 and stride 2, and two hidden layers, trained on
8 000 of MNIST's test images. A sheet of twelve units of the real SqueezeNet is written beside the figures. High
frequencies are those above a quarter of a cycle a pixel, by power.
"""

import torch
from torch import Tensor, nn

from benchmarks.figures import OUT, Figure, Skipped, data_folder, idx, main
from benchmarks.squeezenet import MEAN, imagenet, squeezenet
from mnemotrace.adapters.outputs import module_of, reading
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.transforms import Jitter
from mnemotrace.retrieval.visualisation import Visualisation, measure, visualise
from mnemotrace.view.visualisation import write_sheet

DIGIT, JITTER = 3, (Jitter(2),)
SHEET = {
    "fire4": (10,),
    "fire6": (300,),
    "fire7": (150,),
    "fire8": (400,),
    "conv10": (9, 130, 277, 90, 985, 417, 971, 950),
}


def digits(quick: bool) -> tuple[nn.Sequential, Tensor]:
    """Train the network; returns it and the images it was trained on."""
    folder = data_folder("mnist")
    x = idx(folder / "t10k-images-idx3-ubyte.gz").view(-1, 1, 28, 28)
    y = idx(folder / "t10k-labels-idx1-ubyte.gz")
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[: 1000 if quick else 8000]
    x, y = x[chosen], y[chosen]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10),
        )  # fmt: skip
    optimiser, generator = torch.optim.Adam(model.parameters(), 1e-3), torch.Generator().manual_seed(0)
    for _ in range(1 if quick else 4):
        for rows in torch.randperm(len(x), generator=generator).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.requires_grad_(False), x


def high_share(pictures: Tensor) -> float:
    """Share of the power, without the mean, above a quarter of a cycle a pixel."""
    power = torch.fft.fft2(pictures - pictures.mean((-2, -1), keepdim=True)).abs() ** 2
    rows, columns = (torch.fft.fftfreq(side) for side in pictures.shape[-2:])
    high = (rows[:, None] ** 2 + columns**2).sqrt() > 0.25
    return float(((power * high).sum((-2, -1)) / power.sum((-2, -1))).mean())


def digit_figures(quick: bool) -> list[Figure]:
    """V1, V2 and V6 on the network of digits."""
    model, x = digits(quick)
    steps = 20 if quick else 200
    unit = Objective.unit(DIGIT)
    best = float(measure(model, unit, x.split(500)).max())

    def made(**options: object) -> Visualisation:
        return visualise(model, unit, shape=(1, 28, 28), steps=steps, **options)  # type: ignore[arg-type]

    shifts = [(down, right) for down in (-2, 0, 2) for right in (-2, 0, 2)]
    ways = {
        "Fourier, jitter": made(transforms=JITTER),
        "pixel, jitter": made(transforms=JITTER, parametrisation="pixel"),
        "Fourier": made(transforms=()),
        "pixel": made(transforms=(), parametrisation="pixel"),
        "Fourier, default transforms": made(),
    }
    figures: list[Figure] = []
    high = {way: high_share(made_.images) for way, made_ in ways.items()}
    for way, found in ways.items():
        moved = torch.cat([torch.roll(found.images, shift, (2, 3)) for shift in shifts])
        main_way = way == "Fourier, jitter"
        name = "V1 " if main_way else ""
        figures += [
            Figure(f"{name}{way}: logit over the data's best", float(found.activation) / best,
                   ">= 0.9" if main_way else "", f"best {best:.2f}, {steps} steps"),
            Figure(f"{name}{way}: mean of nine shifts over the best",
                   float(measure(model, unit, [moved]).mean()) / best, ">= 0.8" if main_way else "",
                   "shifts of 0 and 2 pixels"),
            Figure(f"{way}: share of high frequencies", high[way], "", f"images {high_share(x[:2000]):.3f}"),
        ]  # fmt: skip
    for suffix in (", jitter", ""):
        lower = 1 - high[f"Fourier{suffix}"] / high[f"pixel{suffix}"]
        figures.append(Figure(f"V2 Fourier's share below pixel's, relative{suffix}", lower, ">= 0.15"))
    again = made()
    apart = float((again.images - ways["Fourier, default transforms"].images).abs().max())
    other = float((made(generator=torch.Generator().manual_seed(1)).images - again.images).abs().max())
    return [
        *figures,
        Figure("V6 largest difference of two runs of one seed", apart, "<= 0", f"of two seeds {other:.2f}"),
    ]


def shape_figures() -> list[Figure]:
    """V3: inputs of 1, 3 and 7 channels, and signals of one axis; each must climb above 200 pictures of noise."""
    gained: list[str] = []
    shapes = [(1, 20, 20), (3, 20, 24), (7, 16, 16), (1, 64), (4, 50)]
    for shape in shapes:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            make = nn.Conv2d if len(shape) == 3 else nn.Conv1d
            model = nn.Sequential(make(shape[0], 8, 5), nn.ReLU(), make(8, 4, 3))
        found = visualise(model, Objective.unit(1, axis=1), shape=shape, n=2, steps=40)
        noise = torch.rand(200, *shape, generator=torch.Generator().manual_seed(1))
        rises = bool((found.activation > measure(model, Objective.unit(1, axis=1), [noise]).max()).all())
        gained += [str(shape)] if rises and found.images.shape == (2, *shape) else []
    return [Figure("V3 shapes of input that climb", len(gained), f">= {len(shapes)}", "; ".join(gained))]


def filter_figures() -> list[Figure]:
    """V4: a filter is planted in a convolution behind which all is linear, or gated."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 9)
    gabor = torch.exp(-3 * (ramp[:, None] ** 2 + ramp**2)) * torch.cos(4 * (ramp[:, None] + 0.5 * ramp))
    figures: list[Figure] = []
    for name, kernel in {"white": torch.randn(9, 9, generator=generator), "Gabor": gabor}.items():
        model = nn.Sequential(nn.Conv2d(1, 4, 9), nn.ReLU())
        with torch.no_grad():
            model[0].weight[2, 0] = kernel
        for way, bounds in {"without bounds": None, "within [0, 1]": (0.0, 1.0)}.items():
            unit = Objective.unit(2, site="1", position="centre")
            found = visualise(model, unit, shape=(1, 9, 9), steps=200, transforms=(), bounds=bounds)
            picture = found.images.flatten() - (0.0 if bounds is None else 0.5)
            cosine = abs(float(nn.functional.cosine_similarity(picture, kernel.flatten(), dim=0)))
            figures.append(
                Figure(f"V4 cosine with a {name} filter, {way}", cosine, ">= 0.95" if bounds is None else "")
            )
    return figures


def dead_figures() -> list[Figure]:
    """V5: units behind two layers of ReLU that are all closed on noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight.sub_(model[0].weight.mean((1, 2, 3), keepdim=True)).mul_(4)
        model[2].weight.mul_(4)
        for layer in (model[0], model[2]):
            layer.bias.fill_(-0.5)
        noise = 0.5 + 0.01 * torch.randn(50, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        silent = float((model[:2](noise) > 0).sum())
    units = [visualise(model, Objective.unit(u, site="3", position="centre"), shape=(1, 16, 16)) for u in range(10)]
    alone = noise[:1].clone().requires_grad_()
    (naive,) = torch.autograd.grad(model(alone)[:, 0].sum(), alone)
    contrast = min(float(unit.images.std()) for unit in units)
    fires = sum(float(unit.activation) > 0 for unit in units)
    note = f"{silent:g} open gates on noise; its gradient {float(naive.abs().max()):g}, its contrast 0.01"
    return [
        Figure("V5 dead starts that fire in the end, of ten", fires, ">= 10", note),
        Figure("V5 least contrast of their pictures", contrast, ">= 0.05", "standard deviation; a grey picture has 0"),
    ]


def sheet_figures(quick: bool) -> list[Figure]:
    """Write a sheet of the real SqueezeNet."""
    try:
        model, (photographs, _, names) = squeezenet(), imagenet()
    except Skipped as reason:
        return [Figure("SqueezeNet's sheet", float("nan"), "", str(reason))]
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    units = {(site, unit): Objective.unit(unit, site=site) for site, some in SHEET.items() for unit in some}
    units = dict(list(units.items())[-1:]) if quick else units
    sites = {site: True for site, _ in units}
    seen_by: dict[tuple[str, int], list[Tensor]] = {key: [] for key in units}
    with torch.no_grad(), reading(model, sites) as seen:
        for batch in photographs[: 4 if quick else None].split(10):
            model(batch)
            for key, unit in units.items():
                seen_by[key].append(unit.read(seen[key[0]], module_of(model, key[0])))
    side, steps = (48, 4) if quick else (128, 200)
    found = [
        visualise(model, unit, shape=(3, side, side), steps=steps, dataset=torch.cat(seen_by[key]),
                  normalise=lambda pictures: pictures.flip(1) * 255 - mean)
        for key, unit in units.items()
    ]  # fmt: skip
    titles = [
        names[unit].split(",")[0].replace("_", " ") if site == "conv10" else f"{site}, channel {unit}"
        for site, unit in units
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    write_sheet([one.pack() for one in found], OUT / "visualisation.png", titles=titles)
    above = sum(float(one.activation) > float(one.dataset[-1]) for one in found if one.dataset is not None)
    note = f"of {len(found)}, over {len(torch.cat(seen_by[next(iter(units))]))} photographs; sheet in benchmarks/out"
    return [Figure("SqueezeNet's units excited above every photograph", above, "", note)]


def run(quick: bool) -> list[Figure]:
    """Measure everything, then draw the sheet."""
    torch.set_num_threads(1)
    return [*digit_figures(quick), *shape_figures(), *filter_figures(), *dead_figures(), *sheet_figures(quick)]


if __name__ == "__main__":
    main(run, __doc__)

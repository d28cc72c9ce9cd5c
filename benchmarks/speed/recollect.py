"""Backward recall against the loops of the published notebooks, and against the forward pass that it needs.

The notebooks reverse a convolution by adding the kernel at every output place, channel and image in turn, and copy a
pooled value to its window cell by cell. Ours runs the whole engine: forward pass, rules, `autograd.grad`.
"""

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.figures import Figure, cpu_seconds, main
from mnemotrace.adapters.decompositions import sliding
from mnemotrace.retrieval.backward import episode, recollect
from mnemotrace.retrieval.rules import Rules, unpool
from mnemotrace.retrieval.sources import Source

# AlexNet: channels in and out, kernel, stride, padding, input size
ALEXNET = {
    "conv5": (256, 256, 3, 1, 1, 13),
    "conv4": (384, 256, 3, 1, 1, 13),
    "conv3": (192, 384, 3, 1, 1, 13),
    "conv2": (64, 192, 5, 1, 2, 27),
    "conv1": (3, 64, 11, 4, 2, 224),
}


def loop(g: Tensor, weight: Tensor, stride: int, padding: int, size: int) -> Tensor:
    """Reverse a convolution place by place."""
    k = weight.shape[-1]
    out = torch.zeros(len(g), weight.shape[1], size + 2 * padding, size + 2 * padding)
    for b in range(g.shape[0]):
        for o in range(g.shape[1]):
            for i in range(g.shape[2]):
                for j in range(g.shape[3]):
                    rows, columns = slice(i * stride, i * stride + k), slice(j * stride, j * stride + k)
                    out[b, :, rows, columns] += g[b, o, i, j] * weight[o]
    return out[:, :, padding : padding + size, padding : padding + size]


def spread(g: Tensor, size: int) -> Tensor:
    """Copy each value to all cells of its 3x3 window at stride 2; later windows overwrite."""
    out = torch.zeros(*g.shape[:2], size, size)
    for b in range(g.shape[0]):
        for c in range(g.shape[1]):
            for i in range(g.shape[2]):
                for j in range(g.shape[3]):
                    out[b, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] = g[b, c, i, j]
    return out


@torch.no_grad()
def convolutions(names: list[str]) -> list[Figure]:
    """R1 and R2."""
    ours, theirs, worst = 0.0, 0.0, 0.0
    for name in names:
        c, o, k, stride, padding, size = ALEXNET[name]
        model = nn.Conv2d(c, o, k, stride, padding).eval()
        x = torch.randn(1, c, size, size)
        g = torch.randn_like(model(x))
        back = partial(recollect, model, Source.vector(g), trace=x, rules=Rules(), controls=False)
        found: list[Tensor] = []

        def looped(g: Tensor = g, given: tuple[int, int, int] = (stride, padding, size)) -> None:
            found.append(loop(g, model.weight, *given))  # noqa: B023

        theirs += cpu_seconds({"loop": looped}, repeats=1, warm=False)["loop"]
        ours += cpu_seconds({"ours": back}, repeats=5)["ours"]
        worst = max(worst, float((back().images - found[0]).abs().max() / found[0].abs().max()))
    note = f"{theirs:.2f} s against {1e3 * ours:.1f} ms, forward pass included; {', '.join(names)}"
    return [
        Figure("R1 reversed convolution against the loop, relative maximum", worst, "<= 1e-5"),
        Figure("R2 loop / ours, summed", theirs / ours, ">= 50", note),
    ]


def distributing(channels: int) -> list[Figure]:
    """The unpool of the notebooks that overwrites, as one gather an axis."""
    g = torch.randn(1, channels, 27, 27)
    windows = sliding(torch.empty(1, channels, 55, 55), (27, 27), 3, 2, 0, 1)
    spent = cpu_seconds({"loop": lambda: spread(g, 55)}, repeats=1, warm=False)
    spent |= cpu_seconds({"gather": lambda: unpool(g, windows, "distribute")}, repeats=9)
    equal = torch.equal(spread(g, 55), unpool(g, windows, "distribute"))
    return [
        Figure(
            "distributing unpool: loop / ours", spent["loop"] / spent["gather"], ">= 50", f"{channels} channels of 27"
        ),
        Figure("distributing unpool is the loop bit by bit", float(equal), ">= 1"),
    ]


def mnist() -> nn.Module:
    """The network of the science notes: four convolutions, three overlapping pools, three dense layers."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(64, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
        nn.Linear(256, 10),
    ).eval()  # fmt: skip


def recalls(images: int, repeats: int) -> list[Figure]:
    """R15: 64 images, forward pass included."""
    model, x = mnist(), torch.rand(images, 1, 28, 28)
    start = Source.vector(torch.nn.functional.one_hot(torch.tensor(3), 10).float())
    trace = episode(model, x)
    recall = partial(recollect, model, start, trace=x, controls=False)

    def forward() -> None:
        with torch.no_grad():
            model(x)

    runs = {"forward": forward, "episode": lambda: episode(model, x)}
    runs |= {"headline": recall, "guided": partial(recall, rules=Rules.guided())}
    runs |= {
        "image": partial(recall, rules=Rules.image()),
        "with controls": partial(recall, rules=Rules.image(), controls=True),
    }
    runs |= {"from a trace": partial(recollect, model, start, trace=trace, controls=False)}
    spent = cpu_seconds(runs, repeats=repeats)
    unit = spent["forward"]
    note = f"forward {1e3 * unit:.1f} ms"
    figures = [
        Figure(f"R15 recall of {images} / forward, {n}", spent[n] / unit, "<= 4", note)
        for n in ("headline", "image", "guided")
    ]
    plain = ("from a trace", "with controls", "episode")
    return figures + [Figure(f"{name} / forward", spent[name] / unit) for name in plain]


def run(quick: bool) -> list[Figure]:
    """Measure everything; `quick` takes one small convolution and few images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        figures = convolutions(["conv5"] if quick else list(ALEXNET))
        return figures + distributing(4 if quick else 64) + recalls(8 if quick else 64, 1 if quick else 9)


if __name__ == "__main__":
    main(run, __doc__)

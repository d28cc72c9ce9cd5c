"""Spiking neurons against snnTorch's with equal spikes; the six-layer hierarchy and its code in images a second."""

import torch
from torch import Tensor

from benchmarks.figures import Figure, cpu_seconds, main
from mnemotrace.memories.neurons import integrate
from mnemotrace.memories.spiking import SpikingHierarchy

BETA = 0.9


def neurons(quick: bool) -> list[Figure]:
    """Time a layer of leaky neurons, input product and all: 784 -> 1024, 64 samples, 100 steps."""
    try:
        import snntorch
    except ImportError:
        return [Figure("snnTorch's time over ours", float("nan"), "", "snnTorch is not installed")]
    steps, b, below, units = (10, 4, 32, 64) if quick else (100, 64, 784, 1024)
    source = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(below, units, bias=False).requires_grad_(False)
    # currents below the threshold: where more than a threshold is left, snnTorch subtracts before it compares
    linear.weight.normal_(0.4 / below, 0.22 / below**0.5, generator=source)
    x = (torch.rand(steps, b, below, generator=source) < 0.3).float()

    def theirs(reset: str, delay: bool) -> Tensor:
        layer = snntorch.Leaky(beta=BETA, reset_mechanism=reset, reset_delay=delay)
        v, spikes = layer.reset_mem(), []
        for now in x:
            fired, v = layer(linear(now), v)
            spikes.append(fired)
        return torch.stack(spikes)

    variants = {
        "ours, zero": lambda: integrate(linear(x), beta=BETA, reset="zero")[0],
        "theirs, zero": lambda: theirs("zero", True),
        "ours, subtract": lambda: integrate(linear(x), beta=BETA, reset="subtract")[0],
        "theirs, subtract": lambda: theirs("subtract", False),
        "theirs, subtract a step later": lambda: theirs("subtract", True),
    }
    with torch.no_grad():
        spent = cpu_seconds(variants, repeats=1 if quick else 7)
        figures = []
        for reset in ("zero", "subtract"):
            ours, other = variants[f"ours, {reset}"](), variants[f"theirs, {reset}"]().bool()
            same = float((ours == other).float().mean())
            ratio = spent[f"theirs, {reset}"] / spent[f"ours, {reset}"]
            rate = float(ours.float().mean())
            updates = steps * b * units / spent[f"ours, {reset}"]
            figures += [
                Figure(f"share of equal spikes, reset {reset}", same, ">= 0.99999", f"a neuron spikes at {rate:.3f}"),
                Figure(f"snnTorch's time over ours, reset {reset}", ratio, ">= 1.2", f"ours: {updates:.3g} updates/s"),
            ]
        later = spent["theirs, subtract a step later"] / spent["ours, subtract"]
    return [*figures, Figure("the same, snnTorch resetting a step later", later, "", "its default; other spikes")]


def hierarchy(quick: bool) -> list[Figure]:
    """Time images of 160x250 through the code alone and through all layers."""
    n = 2 if quick else 24
    made = SpikingHierarchy.sdnn()
    source = torch.Generator().manual_seed(0)
    for weight in made.weights:  # as many weights near one as the learned networks have
        weight.copy_((torch.rand(weight.shape, generator=source) < 0.1).float())
    made.weights[0].copy_((torch.rand(made.weights[0].shape, generator=source) < 0.55).float())
    smooth = torch.nn.functional.avg_pool2d(torch.rand(n, 1, 164, 254, generator=source), 5, 1)
    images = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    spent = cpu_seconds(
        {"encode": lambda: made.encode(images), "features": lambda: made.features(images)}, repeats=1 if quick else 5
    )
    spikes = float(made.trains(images).float().sum() / n)
    return [
        Figure("images a second, six layers", n / spent["features"], ">= 15", f"{spikes:.0f} input spikes an image"),
        Figure("images a second, code alone", n / spent["encode"]),
    ]


def run(quick: bool) -> list[Figure]:
    """Both, on one thread."""
    torch.set_num_threads(1)
    return neurons(quick) + hierarchy(quick)


if __name__ == "__main__":
    main(run, __doc__)

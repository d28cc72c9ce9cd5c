"""Naming faces and motorbikes once seen: the published rule, its defect, its handicapped baseline, and what holds.

Features are simulated with the published weights, at the naming thresholds (7 and 20.25) for the rules and at the
reading ones for pictures; N2 and N3 use the published features. The decaying gain is chosen on training images only.
Published: one example a name 0.746, SVM 0.768; gain 10: 0.955 with 20 examples, 0.662 with 200.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.figures import REPOSITORY, Figure, Skipped, data_folder, main
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.evaluation.naming import BASELINES, PUBLISHED, NamingEvidence, few_shot, one_shot
from mnemotrace.evaluation.protocol import ProtocolError, check_protocol
from mnemotrace.formation.gain import Constant, Decay
from mnemotrace.formation.naming import Namer
from mnemotrace.formation.synapses import events
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.retrieval.naming import descend, grey

PICTURE = REPOSITORY / "docs/images/naming.png"
KINDS = ("face", "motor")
READING, NAMING = (10.0, 50.0), (7.0, 20.25)
GAINS = (1.0, 10.0, 65.0, 200.0, 500.0, 1e6)
Split = tuple[Tensor, Tensor]
Namers = dict[str, Callable[[], Namer]]


@dataclass(frozen=True)
class Setting:
    """How much is run."""

    images: int
    pairs: int
    draws: int
    counts: tuple[int, ...]


def images(split: str, most: int) -> Split:
    """Read grey images and labels, faces first."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Skipped("reading the photographs needs Pillow") from error
    folder = data_folder("naming") / "images" / split
    files = [(file, k) for k, kind in enumerate(KINDS) for file in sorted((folder / kind).glob("*.jpg"))[:most]]
    pixels = [np.asarray(Image.open(file).convert("L"), dtype=np.float32) for file, _ in files]
    return torch.tensor(np.stack(pixels)), torch.tensor([k for _, k in files])


def hierarchy(thresholds: tuple[float, float]) -> SpikingHierarchy:
    """Build the published network with the published weights and other thresholds."""
    fresh = SpikingHierarchy.sdnn()
    layers = [replace(layer, threshold=t) for layer, t in zip(fresh.layers, (*thresholds, float("inf")), strict=True)]
    folder = data_folder("naming")
    weights = [np.load(folder / f"weight_{i}.npy") for i in range(5)]
    return SpikingHierarchy(layers, shape=fresh.shape).load_published(weights)


def stored() -> tuple[Split, Split]:
    """Read the published features."""
    folder = data_folder("naming")
    parts = [[torch.tensor(np.load(folder / f"features_{w}_{s}.npy")) for w in "Xy"] for s in ("train", "test")]
    return tuple((x, y.long()) for x, y in parts)  # pyright: ignore[reportReturnType]


def published_features(setting: Setting) -> list[Figure]:
    """N2, N3: the published features, with baselines that are not handicapped."""
    (x, y), test = stored()
    ours: Namers = {
        "prototype, background": partial(Namer, unlabelled=x),
        "log-odds, background": partial(Namer, rule="hebb_logodds", threshold=10.0, unlabelled=x),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # that is the point of N2
        found = one_shot(x, y, test, namers=ours, draws=setting.pairs, published=True)
    gates = {PUBLISHED: ("N2", ""), "SVM": ("N3", ">= 0.92"), BASELINES[1]: ("N3", ">= 0.90")}
    figures = [
        Figure(f"{gates[name][0]} {name}" if name in gates else name, found.rate(name).value,
               gates.get(name, ("", ""))[1], _interval(found, name, f"median {found.median(name):.3f}"))
        for name in found.accuracy
    ]  # fmt: skip
    off = abs(found.rate(PUBLISHED).value - 0.78)
    return [*figures, Figure("N2 distance from 0.78", off, "<= 0.02", "published 0.768, median 0.818")]


def rules(train: Split, test: Split, setting: Setting) -> list[Figure]:
    """N4, N6: one example a name, on events."""
    given: Namers = {
        f"reference, gain {gain:g}": partial(Namer, rule="reference", gain=Constant(gain)) for gain in GAINS[1:]
    }
    given |= {"reference without the defect, gain 65": partial(Namer, rule="reference_fixed", gain=Constant(65.0))}
    given |= {"log-odds": partial(Namer, rule="hebb_logodds"), "ridge": partial(Namer, rule="ridge")}
    common = {"unlabelled": train[0]}
    given |= {
        "reference, gain 65, background": partial(Namer, rule="reference", gain=Constant(65.0), **common),
        "log-odds, background": partial(Namer, rule="hebb_logodds", **common),
        "prototype, background": partial(Namer, **common),
    }
    found = one_shot(*train, test, namers=given, draws=setting.pairs)
    value = {name: found.rate(name).value for name in found.accuracy}
    figures = [Figure(f"events: {name}", value[name], "", _interval(found, name)) for name in value]
    figures += [
        Figure("N4 gain 65, distance from 0.69", abs(value["reference, gain 65"] - 0.69), "<= 0.04"),
        Figure("N4 gain 200, distance from 0.75", abs(value["reference, gain 200"] - 0.75), "<= 0.04"),
        Figure("N4 scores or synapses that overflow, gains to 1e6", overflows(train), "<= 0"),
        Figure("N6 log-odds less prototype", value["log-odds"] - value[BASELINES[0]], ">= -0.03",
               _paired(found, "log-odds", BASELINES[0])),
        Figure("N6 the same, both with the background",
               value["log-odds, background"] - value["prototype, background"], ">= -0.03",
               _paired(found, "log-odds, background", "prototype, background")),
    ]  # fmt: skip
    return figures


def overflows(train: Split) -> int:
    """Count numbers that are not finite, or synapses outside [0, 1], after forty examples at each gain."""
    x, y = (torch.cat([part[:20], part[-20:]]) for part in train)
    count = 0
    for gain in GAINS:
        for rule in ("reference", "reference_fixed"):
            namer = Namer(rule=rule, gain=Constant(gain))
            namer.learn(x, y)
            maps = torch.stack([namer.recall(name) for name in namer.names])
            count += int((~((maps >= 0) & (maps <= 1))).sum()) + int((~namer.name(x).isfinite()).sum())
    return count


def chosen_gain(train: Split, setting: Setting) -> Decay:
    """Choose the decay on one half of the training images, learning from the other: the best mean over counts."""
    x, y = train
    halves = (x[::2], y[::2]), (x[1::2], y[1::2])
    tried = [Decay(gain, tau) for gain in (10.0, 30.0, 65.0) for tau in (1.0, 2.0, 5.0)]
    counts = [count for count in setting.counts if count <= int((halves[0][1] == 0).sum())]
    given: Namers = {str(i): partial(Namer, rule="reference", gain=decay) for i, decay in enumerate(tried)}
    found = few_shot(*halves[0], halves[1], namers=given, counts=counts[::2], draws=max(1, setting.draws // 3))
    return tried[max(range(len(tried)), key=lambda i: float(found.accuracy[str(i)].mean()))]


def curves(train: Split, test: Split, decay: Decay, setting: Setting) -> tuple[NamingEvidence, list[Figure]]:
    """N5: accuracy against the number of examples, with constant and decaying gains."""
    given: Namers = {
        "published rule, gain 10": partial(Namer, rule="reference", gain=Constant(10.0)),
        "published rule, gain 1": partial(Namer, rule="reference"),
        "published rule, decaying gain": partial(Namer, rule="reference", gain=decay),
        "without the defect, gain 10": partial(Namer, rule="reference_fixed", gain=Constant(10.0)),
        "without the defect, decaying gain": partial(Namer, rule="reference_fixed", gain=decay),
        "log-odds, background": partial(Namer, rule="hebb_logodds", unlabelled=train[0]),
        "prototype, background": partial(Namer, unlabelled=train[0]),
    }
    found = few_shot(*train, test, namers=given, counts=setting.counts, draws=setting.draws)
    figures = [
        Figure(
            f"few-shot: {name}, {count} examples", found.rate(name, count).value, "", _interval(found, name, "", count)
        )
        for name in found.accuracy
        for count in (setting.counts[-4], setting.counts[-1])
    ]
    mean = {name: found.accuracy[name].mean(1) for name in given}
    fall = {name: float(curve.max() - curve[-1]) for name, curve in mean.items()}
    constant = mean["published rule, gain 10"]
    note = f"gain {decay.gain:g}, tau {decay.tau:g}, chosen on training images"
    return found, [
        *figures,
        Figure("N5 constant gain 10, fall from 20 to 200", float(constant[-4] - constant[-1]), ">= 0.2",
               f"{float(constant[-4]):.3f} to {float(constant[-1]):.3f}"),
        Figure("N5 decaying gain, fall from its best", fall["published rule, decaying gain"], "<= 0.02", note),
        Figure("without the defect, gain 10, fall from its best", fall["without the defect, gain 10"]),
    ]  # fmt: skip


def lint(train: Tensor, test: Tensor) -> list[Figure]:
    """N8: each fault is found, and this benchmark has none of them."""
    faults: dict[str, dict[str, Any]] = {
        "a seed chosen on test images": {"chosen": {"seed": test}},
        "a threshold chosen on test images": {"chosen": {"threshold": test[:5]}},
        "a scale fitted on test images": {"scaler": test},
    }
    found = [_refused(train, test, **fault) for fault in faults.values()]
    found.append(_refused(torch.cat([train, test[:1]]), test))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = check_protocol(train, test, scaler=train[:2])
    check_protocol(train, test, chosen={"decay": train}, scaler=train)
    return [
        Figure("N8 faults refused, of 4", sum(found), ">= 4", f"{', '.join(faults)}, an image in both halves"),
        Figure("N8 scale of two samples warned about", float(len(said) == len(caught) == 1), ">= 1"),
    ]


def recalled(
    net: SpikingHierarchy, x: Tensor, y: Tensor, setting: Setting
) -> tuple[dict[str, list[Tensor]], list[Figure]]:
    """Send names back to pictures, and let the network name these pictures.

    Returns:
        By column of the figure, pictures of the two names; and how often a picture is given its own name.
    """
    background, judge = x.mean(0), Namer(unlabelled=x)
    judge.learn(x, y)
    shown: dict[str, list[Tensor]] = {}
    figures: list[Figure] = []
    per_name = int((y == 0).sum())
    for count in (n for n in (1, 5, 20, per_name) if n <= per_name):
        pictures: list[Tensor] = []
        for draw in range(setting.draws if count < per_name else 1):
            source = torch.Generator().manual_seed(draw)
            for k in range(len(KINDS)):
                own = (y == k).nonzero()[:, 0]
                some = own[torch.randperm(len(own), generator=source)[:count]]
                pictures.append(descend(x[some].mean(0) - background, net))
        shown[f"{count} example{'s' * (count > 1)}"] = pictures[:2]
        named = torch.tensor(judge.best(final(net, grey(torch.stack(pictures)))))
        right = float((named == torch.arange(len(KINDS)).repeat(len(named) // 2)).double().mean())
        figures.append(Figure(f"own picture named right, {count} examples a name", right))
    means = [x[y == k].mean(0) - background for k in range(len(KINDS))]
    source = torch.Generator().manual_seed(0)
    moved = [descend(m[torch.randperm(len(m), generator=source)], net) for _ in range(setting.draws) for m in means]
    named = torch.tensor(judge.best(final(net, grey(torch.stack(moved)))))
    right = float((named == torch.arange(len(KINDS)).repeat(setting.draws)).double().mean())
    shown["strongest unit only"] = [descend(m, net, top=1) for m in means]
    shown["controls"] = [descend(background, net), *moved[:2]]
    blank = judge.best(final(net, grey(shown["controls"][0][None])))[0]
    figures.append(Figure("control: its features on shuffled units, named right", right))
    figures.append(Figure("control: the background's picture is named", float(blank), "", KINDS[int(blank)]))
    return shown, figures


def final(net: SpikingHierarchy, pixels: Tensor) -> Tensor:
    """Return the last potentials, as features."""
    return torch.cat([net.potentials(part)[:, -1].flatten(1) for part in pixels.split(8)])


def draw(
    evidence: NamingEvidence, shown: dict[str, list[Tensor]], examples: list[Tensor], path: Path = PICTURE
) -> None:
    """Draw the curves, and the pictures beside their controls."""
    from matplotlib import pyplot

    colours = {
        "published rule, gain 10": ("#c0392b", "-"), "published rule, gain 1": ("#e59866", "--"),
        "published rule, decaying gain": ("#7d3c98", "-"), "without the defect, gain 10": ("#1f77b4", "-"),
        "prototype, background": ("#1e8449", "-"), "SVM": ("#444444", ":"),
    }  # fmt: skip
    sheet = pyplot.figure(figsize=(15.5, 5))
    grid = sheet.add_gridspec(1, 2, width_ratios=(1, 2.05), wspace=0.12, left=0.045, right=0.995, top=0.87, bottom=0.11)
    panel = sheet.add_subplot(grid[0])
    for name, (colour, style) in colours.items():
        found = evidence.accuracy[name]
        mean, error = found.mean(1), found.std(1) / found.shape[1] ** 0.5
        panel.plot(evidence.counts, mean, style, color=colour, label=name, marker="o", markersize=3.5)
        panel.fill_between(evidence.counts, mean - error, mean + error, color=colour, alpha=0.12, linewidth=0)
    panel.set(xscale="log", xlabel="examples of each name", ylabel="accuracy on 396 test photographs", ylim=(0.5, 1))
    panel.set_xticks(evidence.counts, [str(count) for count in evidence.counts])
    panel.minorticks_off()
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False, loc="lower center", ncols=2, bbox_to_anchor=(0.5, 0.99))
    controls = dict(zip(("background", "face, shuffled", "motorbike, shuffled"), shown["controls"], strict=True))
    kept = {"a photograph": examples} | {title: shown[title] for title in shown if title != "controls"}
    cells = grid[1].subgridspec(3, len(kept), wspace=0.04, hspace=0.2)
    for column, (title, pictures) in enumerate(kept.items()):
        below = list(controls.items())[column - 1] if 1 <= column <= len(controls) else ("", None)
        for row, (picture, label) in enumerate(zip([*pictures, below[1]], (title, "", below[0]), strict=True)):
            axes = sheet.add_subplot(cells[row, column])
            _show(axes, picture, label, photograph=column == 0)
            if column == 0:
                axes.set_ylabel(("“face”", "“motorbike”", "controls")[row], fontsize=11)
    sheet.text(0.675, 0.95, "from a name back to a picture, by the number of examples it was learnt from", ha="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=110)
    pyplot.close(sheet)


def run(quick: bool) -> list[Figure]:
    """Measure everything, and draw."""
    torch.set_num_threads(1)
    setting = Setting(8, 3, 2, (1, 2, 3, 4)) if quick else Setting(200, 150, 9, (1, 2, 5, 10, 20, 50, 100, 200))
    train, test = images("train", setting.images), images("test", setting.images)
    figures = [*lint(train[0], test[0]), *published_features(setting)]
    naming = hierarchy(NAMING)
    seen = [
        (torch.cat([events(naming.potentials(part)) for part in pixels.split(8)]), labels)
        for pixels, labels in (train, test)
    ]
    figures += rules(*seen, setting)
    decay = chosen_gain(seen[0], setting)
    evidence, more = curves(*seen, decay, setting)
    reading = hierarchy(READING)
    shown, last = recalled(reading, final(reading, train[0]), train[1], setting)
    if not quick:
        first = [train[0][int((train[1] == k).nonzero()[0, 0])] for k in range(len(KINDS))]
        draw(evidence, shown, first)
    return [*figures, *more, *last]


def _refused(train: Tensor, test: Tensor, **fault: Any) -> bool:
    try:
        check_protocol(train, test, **fault)
    except ProtocolError:
        return True
    return False


def _interval(found: NamingEvidence, name: str, more: str = "", count: int | None = None) -> str:
    rate = found.rate(name, count)
    return f"95 % interval {rate.low:.3f} to {rate.high:.3f}" + (f", {more}" if more else "")


def _paired(found: NamingEvidence, one: str, other: str) -> str:
    apart = found.accuracy[one][0] - found.accuracy[other][0]
    half = 1.96 * float(apart.std()) / len(apart) ** 0.5
    return f"paired, 95 % interval {float(apart.mean()) - half:.3f} to {float(apart.mean()) + half:.3f}"


def _show(axes: Any, picture: Tensor | None, title: str, *, photograph: bool) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, pad=3)
    if picture is None:
        axes.spines[:].set_visible(False)
        return
    values = picture if photograph else torch.nn.functional.avg_pool2d(picture[None, None], 3, 1, 1)[0, 0]
    largest = float(values.abs().max()) or 1.0
    axes.imshow(values.numpy(), cmap="gray", vmin=0 if photograph else -largest, vmax=255 if photograph else largest)


if __name__ == "__main__":
    main(run, __doc__)

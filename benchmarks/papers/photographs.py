"""Photographs recalled by a real network: SqueezeNet run backwards from a class, and whose picture comes out.

The 59 photographs of ImageNet are recalled from the class that the network says, under each set of rules, with the
class that it does not say, with another photograph's switches, and from a trace that is looked up by its pointer. A
picture is identified when, of all 59, it is most like its own: by its edges, its high frequencies, or its values. Then
the strongest units keep their part of the trace and the others lose it: how much is needed for nine of ten. The five
photographs of the published recollection are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import OUT, Figure, data_folder, main
from benchmarks.papers.recalled import pictures
from benchmarks.squeezenet import MEAN, imagenet, read_images, squeezenet
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.evaluation.capacity import wilson
from mnemotrace.evaluation.similarity import correlations, edge_energy, high_pass, identified
from mnemotrace.memories.episodes import Episodes
from mnemotrace.retrieval.backward import episode, recollect
from mnemotrace.retrieval.rules import Rules

PICTURE = OUT / "photographs.png"
RULES = {name: getattr(Rules, name)() for name in ("headline", "image", "guided", "deconvnet", "gradient")}
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
BATCH, LEVEL = 8, 0.9


@dataclass(frozen=True)
class Originals:
    """Photographs as each measure sees them."""

    seen: Mapping[str, Tensor]

    @classmethod
    def of(cls, images: Tensor) -> "Originals":
        """Filter once what every recall is compared with."""
        return cls({"edges": edge_energy(images), "high-pass": high_pass(images), "values": images})

    def judged(self, name: str, found: Tensor, own: Tensor | None = None) -> list[Figure]:
        """Say how many are identified, and how like they are to their own and to the others."""
        rows = torch.arange(len(found)) if own is None else own
        figures: list[Figure] = []
        for measure, filtered in Originals.of(found).seen.items():
            pairs = correlations(filtered, self.seen[measure])
            rate = wilson(identified(pairs, rows), len(rows))
            mine = pairs[torch.arange(len(rows)), rows]
            others = (pairs.sum(1) - mine) / (pairs.shape[1] - 1)
            note = f"{rate.low:.2f} to {rate.high:.2f}; r own {mine.mean():.3f}, others {others.mean():.3f}"
            figures.append(Figure(f"{name}: identified by {measure}", rate.value, "", note))
        return figures


def traced(model: nn.Module, images: Tensor, share: float = 1.0) -> EpisodicTrace:
    """Record switches and gates, of the strongest units only."""
    parts: list[EpisodicTrace] = []
    for part in images.split(BATCH):
        trace = episode(model, part).select(kinds=["switch", "gate"])
        parts.append((trace if share == 1 else trace.select(top=share)).forgotten())
    return EpisodicTrace.join(parts)


def recalled(model: nn.Module, units: Tensor, trace: EpisodicTrace, rules: Rules) -> Tensor:
    """Recall a few photographs at a time."""
    return pictures(model, units, rules, trace, batch=BATCH)


def bits(trace: EpisodicTrace, rules: Rules) -> float:
    """Return the bits of what the rules read."""
    kinds = [kind for kind in ("switch", "gate") if rules.needs(kind)]
    return trace.select(kinds=kinds).bits()["total"]


def compared(model: nn.Module, originals: Originals, units: Tensor, trace: EpisodicTrace) -> list[Figure]:
    """Recall from the class under each set of rules, from a wrong class, and with the next photograph's trace."""
    figures: list[Figure] = []
    donor = torch.arange(len(units)).roll(-1)
    for name, rules in RULES.items():
        found = recalled(model, units, trace, rules)
        figures += originals.judged(name, found)
        wrong = recalled(model, (units + 500) % 1000, trace, rules)
        r = correlations(found, wrong).diagonal().mean()
        figures.append(Figure(f"{name}: r with the wrong class's picture", float(r)))
        figures += originals.judged(f"{name}, wrong class", wrong)[:1]
        borrowed = recalled(model, units, trace[donor], rules)
        figures += originals.judged(f"{name}, donor's trace: cued", borrowed)[:1]
        figures += originals.judged(f"{name}, donor's trace: donor", borrowed, donor)[:1]
        figures.append(Figure(f"{name}: kilobits of the trace", bits(trace, rules) / 1000))
    return figures


def keyed(model: nn.Module, images: Tensor, originals: Originals, trace: EpisodicTrace) -> list[Figure]:
    """Look the trace up by the pointer of a damaged photograph: mirrored, noisy, cut at the middle."""
    store, rules = Episodes(model(images), trace), RULES["guided"]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    half = images.clone()
    half[..., images.shape[-1] // 2 :] = 0
    cues = {"mirrored": images.flip(-1), "noise of 40 grey levels": images + 40 * noise, "left half": half}
    figures = [Figure("keyed: kilobits of the store", store.bits()["total"] / 1000)]
    for name, cue in cues.items():
        outputs = model(cue)
        found = store.lookup(outputs)
        right = float((found.posterior.argmax(1) == torch.arange(len(images))).double().mean())
        again = recalled(model, outputs.argmax(1), found.trace, rules)
        figures += [Figure(f"keyed, {name}: right episode", right), *originals.judged(f"keyed, {name}", again)[:1]]
    lost = store.lookup(model(images.roll(-1, 0)))
    again = recalled(model, model(images).argmax(1), lost.trace, rules)
    return figures + originals.judged("keyed, wrong pointer", again)[:1]


def needed(
    model: nn.Module, images: Tensor, originals: Originals, units: Tensor, shares: Sequence[float]
) -> list[Figure]:
    """Find the smallest share of the trace with which nine of ten are identified by their edges."""
    figures: list[Figure] = []
    least: dict[str, tuple[float, float]] = {}
    for share in shares:
        trace = traced(model, images, share)
        for name in ("headline", "guided"):
            rate = originals.judged(f"{name}, top {share:g} of units", recalled(model, units, trace, RULES[name]))[0]
            kilobits = bits(trace, RULES[name]) / 1000
            figures.append(Figure(rate.name, rate.value, "", f"{rate.note}; {kilobits:.1f} kbit"))
            if rate.value >= LEVEL:
                least[name] = (share, kilobits)
    for name, (share, kilobits) in least.items():
        figures.append(
            Figure(f"{name}: least share for {LEVEL:g} identified by edges", share, "", f"{kilobits:.1f} kbit")
        )
    return figures


def shown(image: Tensor) -> Tensor:
    """Return a photograph as colours, `(h, w, 3)` in [0, 1]."""
    return ((image + torch.tensor(MEAN)[:, None, None]) / 255).clamp(0, 1).flip(0).permute(1, 2, 0)


def stretched(image: Tensor) -> Tensor:
    """Return a recalled picture as colours: its middle 99 % of values stretched to [0, 1]."""
    low, high = torch.quantile(image.flatten(), torch.tensor([0.005, 0.995]))
    return ((image - low) / (high - low).clamp_min(1e-12)).clamp(0, 1).flip(0).permute(1, 2, 0)


def draw(model: nn.Module, stored: Tensor) -> None:
    """Draw a row a photograph: itself, recalls, controls."""
    from matplotlib.figure import Figure as Sheet

    folder = data_folder("recollection_photos")
    images = read_images(sorted(folder.glob("*.png")))
    units = model(images).argmax(1)
    trace = traced(model, images)
    all_images = torch.cat([images, stored])
    store = Episodes(model(all_images), traced(model, all_images))
    mirrored = model(images.flip(-1))
    looked_up = store.lookup(mirrored).trace
    columns: dict[str, Any] = {"photograph": [shown(i) for i in images]}
    turned = torch.arange(len(images)).roll(-1)
    recalls = {
        "published": recalled(model, units, trace, RULES["headline"]),
        "published,\nwrong class": recalled(model, (units + 500) % 1000, trace, RULES["headline"]),
        "published, the\nnext one's switches": recalled(model, units, trace[turned], RULES["headline"]),
        "no trace": recollect(model, units, trace=None, x=images, rules=Rules.switch_free(), controls=False).images,
        "guided": recalled(model, units, trace, RULES["guided"]),
        "guided, keyed by\nthe mirror image": recalled(model, mirrored.argmax(1), looked_up, RULES["guided"]),
        "published,\n10 % of switches": recalled(model, units, traced(model, images, 0.1), RULES["headline"]),
    }
    columns |= {name: [stretched(i) for i in found] for name, found in recalls.items()}
    sheet = Sheet(figsize=(1.55 * len(columns), 1.6 * len(images) + 0.45), layout="constrained")
    axes = sheet.subplots(len(images), len(columns), gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for j, (name, column) in enumerate(columns.items()):
        axes[0, j].set_title(name, fontsize=9)
        for i, picture in enumerate(column):
            axes[i, j].imshow(picture)
            axes[i, j].set_axis_off()
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.savefig(PICTURE, dpi=80)


@torch.no_grad()
def run(quick: bool) -> list[Figure]:
    """Recall, compare, cut down, draw."""
    torch.set_num_threads(1)
    model = squeezenet()
    images, labels, _ = imagenet()
    images, labels = (images[:4], labels[:4]) if quick else (images, labels)
    originals, units = Originals.of(images), model(images).argmax(1)
    trace = traced(model, images)
    figures = [Figure("photographs that the network names right", float((units == labels).double().mean()))]
    figures += compared(model, originals, units, trace)
    figures += keyed(model, images, originals, trace)
    figures += needed(model, images, originals, units, (1.0, 0.1) if quick else SHARES)
    if not quick:
        draw(model, images)
    return figures


if __name__ == "__main__":
    main(run, __doc__)

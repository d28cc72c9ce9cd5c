"""Recollection on MNIST: does a network run backwards show the particular image, and what is that owed to?

A network of four convolutions and three max pools, and one whose pools are strided convolutions; 8,000 of the test
images to learn from, 2,000 to recall, 200 of which are asked for. Each recall stands beside its controls: wrong, random
and zero source, donor traces, no trace, shuffled weights, an untrained twin, and ridge decoders as the ceiling. Figures
of the note that the gates R5 to R13 come from stand beside ours ("note"); its networks were drawn from other seeds.
"""

import warnings
from collections.abc import Callable
from itertools import product
from statistics import median

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, REPOSITORY, Figure, main, right
from benchmarks.papers.recalled import Mnist, load, network, pictures, trained
from mnemotrace.core.episode import MeanTrace
from mnemotrace.core.errors import SourceIgnored
from mnemotrace.evaluation.recollection import RecollectionEvidence, examine
from mnemotrace.evaluation.similarity import Likeness, correlations, likeness
from mnemotrace.retrieval.backward import episode, recollect
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source

PICTURE = REPOSITORY / "docs" / "images" / "recollection_mnist.png"
FREE = ("random", "centre", "nearest", "distribute_sum")
LEARNT = ("fc3", "relu_fc2", "relu_fc1", "pool3", "pool2")
NOTED = {"deconvnet": "0.633", "std, no clamp": "0.275", "no normalisation": "0.280", "std, clamp, masks": "0.838"}


def named(name: str, found: Likeness, note: str = "") -> list[Figure]:
    """Turn a likeness into figures without gates."""
    r, s = found.correlation, found.structure
    text = f"same {r.same:.3f}, different {r.different:.3f}; SSIM {s.own:.3f} / {s.same:.3f} / {s.different:.3f}"
    return [
        Figure(f"{name}: own r", r.own, "", f"{text}{'; note: ' + note if note else ''}"),
        Figure(f"{name}: identified", found.identified.value, "", f"in class {found.in_class.value:.3f}"),
    ]


def evidence(
    model: nn.Module, data: Mnist, rules: Rules, twin: nn.Module, learnt: bool = False
) -> tuple[RecollectionEvidence, int]:
    """Examine a rule; returns also how often the source was reported as ignored."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SourceIgnored)
        found = examine(
            model,
            *data.probes,
            rules=rules,
            learn=data.learn if learnt else None,
            sites=LEARNT if learnt else (),
            untrained=twin,
            shown=12,
            generator=torch.Generator().manual_seed(0),
        )
    return found, sum(issubclass(w.category, SourceIgnored) for w in caught)


def over_seeds(nets: dict[int, nn.Module], data: Mnist) -> list[Figure]:
    """R5 and R7, medians over networks: how like the image a recall is varies with the network's first weights."""
    images, labels = data.probes
    found: dict[str, list[Likeness]] = {}
    for model, name in product(nets.values(), ("headline", "image")):
        picture = pictures(model, model(images).argmax(1), getattr(Rules, name)(), images)
        found.setdefault(name, []).append(likeness(picture, images, labels=labels))

    def gated(rule: str, label: str, read: Callable[[Likeness], float], noted: str, *gates: str) -> list[Figure]:
        values = [read(one) for one in found[rule]]
        each = ", ".join(f"{value:.3f}" for value in values)
        note = f"median of seeds {', '.join(map(str, nets))}: {each}; note {noted}"
        return [Figure(label, median(values), gate, note) for gate in gates]

    return [
        *gated("headline", "R5 headline: own r", lambda x: x.correlation.own, "0.450", ">= 0.37", "<= 0.53"),
        *gated("headline", "R5 headline: same r", lambda x: x.correlation.same, "0.012", "<= 0.1"),
        *gated("headline", "R5 headline: identified", lambda x: x.identified.value, "1.000", ">= 0.95"),
        *gated("image", "R7 image rule: own r", lambda x: x.correlation.own, "0.799", ">= 0.75"),
        *gated("image", "R7 image rule: own SSIM", lambda x: x.structure.own, "0.400", ">= 0.35"),
        *gated("image", "R7 image rule: identified", lambda x: x.identified.value, "1.000", ">= 0.95"),
    ]


def published(headline: RecollectionEvidence, warned: int) -> list[Figure]:
    """R6 and R8: the source and the donors of the published recall."""
    figures = [
        Figure("R6 r of class and zero source", headline.sensitivity["zero"], ">= 0.999", "note 1.000"),
        Figure("R6 warnings that the source is ignored", warned, ">= 1"),
    ]
    for which in ("other class", "same class"):
        row = headline.rows[f"donor, {which}"]
        assert row.donor is not None
        note = f"r {row.donor.correlation.own:.3f} with the donor, {row.cued.correlation.own:.3f} with the cued image"
        figures += [
            Figure(f"R8 donor of {which}: donor identified", row.donor.identified.value, ">= 0.95", note),
            Figure(f"R8 donor of {which}: cued identified", row.cued.identified.value, "<= 0.05"),
        ]
    return figures


def looked_at(name: str, found: RecollectionEvidence) -> list[Figure]:
    """Report every control of a rule; ceilings are reported once, elsewhere."""
    rows = {row: measured for row, measured in found.rows.items() if not row.startswith("ceiling")}
    return [figure for row, measured in rows.items() for figure in named(f"{name}, {row}", measured.cued)]


def without_traces(nets: dict[str, nn.Module], data: Mnist) -> list[Figure]:
    """R9: class recall with neither switches nor gates, every unpooling, and the network without pools."""
    images, labels = data.probes
    worst = {"own less same": -1.0, "by pairs": -1.0, "in class": -1.0}
    mates = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
    figures: list[Figure] = []
    ways: list[tuple[str, str, Rules]] = [
        (f"{pool}, {norm or 'no'} normalisation", "max", Rules(pool=pool, normalise=norm))
        for norm, pool in product(("rescale_std", None), FREE)
    ]
    ways += [(f"conv pools, {n or 'no'} normalisation", "conv", Rules(normalise=n)) for n in ("rescale_std", None)]
    for name, net, rules in ways:
        units = nets[net](images).argmax(1)
        trace = None if net == "max" else images
        picture = pictures(nets[net], units, rules, trace, images=images)
        found, pairs = likeness(picture, images, labels=labels), correlations(picture, images)
        worst["by pairs"] = max(worst["by pairs"], float(pairs.diagonal().mean() - pairs[mates].mean()))
        worst["own less same"] = max(worst["own less same"], found.correlation.own - found.correlation.same)
        worst["in class"] = max(worst["in class"], found.in_class.value)
        figures += named(f"no trace, {name}", found)
    return [
        Figure("R9 no trace, worst: own r less same r", worst["own less same"], "<= 0.03", "note: at most 0.012"),
        Figure("no trace, worst: the same averaged over pairs", worst["by pairs"], "", "large classes count more"),
        Figure("R9 no trace, worst: identified in class", worst["in class"], "<= 0.12", "note: at most 0.075"),
        *figures,
    ]


def class_means(model: nn.Module, data: Mnist) -> tuple[list[Figure], Tensor]:
    """R10: switches learnt as means of a class, not recorded."""
    learnt, classes = data.learn
    traces = (episode(model, part).select(kinds=["switch"]) for part in learnt.split(250))
    mean = MeanTrace.fit(traces, labels=classes)
    images, labels = data.probes
    units = model(images).argmax(1)
    found: dict[str, Tensor] = {}
    for name, rules in {"relu": Rules(relu="relu"), "headline": Rules.headline()}.items():
        parts = [
            recollect(model, units[rows], trace=mean.trace(units[rows]), rules=rules, controls=False).images
            for rows in torch.arange(len(images)).split(100)
        ]
        found[name] = torch.cat(parts)
    measured = {name: likeness(picture, images, labels=labels) for name, picture in found.items()}
    r = measured["relu"].correlation
    figures = [
        Figure("R10 class-mean switches, relu: own r", r.own, ">= 0.25", "note 0.322"),
        Figure("R10 class-mean switches, relu: own r less same r", r.own - r.same, "<= 0.03", "note 0.014"),
    ]
    return figures + named("class-mean switches, headline", measured["headline"], "0.150"), found["relu"]


def from_inside(model: nn.Module, data: Mnist) -> list[Figure]:
    """R11: the network without pools, from true activations of a layer, all of them or the strongest."""
    images, labels = data.probes
    rules = Rules()
    noted = {"relu_conv1": 0.978, "relu_pool1": 0.877, "relu_conv2": 0.760, "relu_pool2": 0.708, "relu_conv4": 0.539}
    noted |= {"relu_pool3": 0.414, "relu_fc1": 0.302, "relu_fc2": 0.252}
    figures: list[Figure] = []
    for site, r in noted.items():
        found = pictures(model, Source.activation(site), rules, images)
        figures += named(f"conv pools, from {site}", likeness(found, images, labels=labels), f"{r:.3f}")
    for top, r in ((0.1, 0.854), (0.02, 0.777), (0.01, 0.717)):
        found = likeness(pictures(model, Source.sparse("relu_pool1", top=top), rules, images), images, labels=labels)
        if top == 0.01:
            figures = [
                Figure("R11 pool1, top 1 % of units: own r", found.correlation.own, ">= 0.6", "note 0.717"),
                Figure("R11 pool1, top 1 % of units: identified", found.identified.value, ">= 0.9", "note 1.000"),
                *figures,
            ]
        figures += named(f"conv pools, from pool1, top {100 * top:g} %", found, f"{r:.3f}")
    return figures


def ceilings(found: RecollectionEvidence) -> list[Figure]:
    """R12: what a linear decoder makes of the class and of each layer."""
    noted = {"class": "0.665", "fc3": "0.680", "relu_fc2": "0.806", "relu_fc1": "0.832", "pool3": "0.842"}
    noted["pool2"] = "0.951"
    rows = {name: found.rows[f"ceiling: {name}"] for name in noted}
    second = rows["relu_fc2"].cued.identified.value
    figures = [
        Figure("R12 ceiling, class: identified in class", rows["class"].cued.in_class.value, "<= 0.12", "note 0.065"),
        Figure("R12 ceiling, fc2: identified", second, ">= 0.35", "note 0.540"),
        Figure("R12 ceiling, fc2: identified, not more", second, "<= 0.75"),
        Figure("R12 ceiling, pool2: identified", rows["pool2"].cued.identified.value, ">= 0.97", "note 1.000"),
    ]
    for name, row in rows.items():
        figures += named(f"ceiling, {name} ({row.note})", row.cued, noted[name])
    return figures


def draw(found: dict[str, RecollectionEvidence], prototype: Tensor) -> None:
    """Draw recalls beside their controls: a row a way, a column an image."""
    from matplotlib.figure import Figure as Sheet

    headline, image, guided = (found[name].images for name in ("headline", "image", "guided"))
    rows = [
        ("cued image", headline["original"]),
        ("recalled from its class", headline["own"]),
        ("from a wrong class", headline["wrong source"]),
        ("from nothing", headline["zero source"]),
        ("with the trace of ...", headline["donor, other class"]),
        ("... this image", headline["donor, other class: original"]),
        ("without any trace", headline["no trace"]),
        ("weights shuffled", headline["weights shuffled"]),
        ("untrained network", headline["untrained"]),
        ("image rule", image["own"]),
        ("guided backpropagation", guided["own"]),
        ("class-mean switches", prototype),
        ("ceiling: class", headline["ceiling: class"]),
        ("ceiling: fc2", headline["ceiling: relu_fc2"]),
    ]
    columns = len(rows[0][1])
    sheet = Sheet(figsize=(0.66 * columns + 2.4, 0.68 * len(rows) + 0.1), layout="constrained", facecolor="white")
    sheet.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0, rect=(0.008, 0, 0.99, 1))
    for line, (name, images) in zip(sheet.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9.5)
        for cell, picture in zip(line, images, strict=False):
            cell.imshow(picture[0], cmap="gray", interpolation="nearest")
            cell.set(xticks=[], yticks=[], frame_on=False)
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """Train, recall, control, draw."""
    torch.set_num_threads(1)
    data, epochs = load(quick), 1 if quick else 4
    nets: dict[str, nn.Module] = {pool: trained(data, pool, epochs=epochs) for pool in ("max", "conv")}
    seeds = {seed: trained(data, "max", epochs=epochs, seed=seed) for seed in (() if quick else (1, 2))}
    twin = network("max", torch.Generator().manual_seed(99)).eval().requires_grad_(False)
    flat = {pool: float(right(net, data.test).mean()) for pool, net in nets.items()}
    figures = [
        Figure("max pools: accuracy", flat["max"], "", "note 0.975"),
        Figure("conv pools: accuracy", flat["conv"], "", "note 0.966"),
    ]
    found: dict[str, RecollectionEvidence] = {}
    found["headline"], warned = evidence(nets["max"], data, Rules.headline(), twin, learnt=True)
    for name in ("image", "guided", "gradient"):
        found[name], _ = evidence(nets["max"], data, getattr(Rules, name)(), twin)
    for name, e in found.items():
        mt.save(e, OUT / f"recollection-{name}.safetensors")
    figures += over_seeds({0: nets["max"], **seeds}, data) + published(found["headline"], warned)
    figures += without_traces(nets, data)
    prototypes, prototype = class_means(nets["max"], data)
    figures += prototypes + from_inside(nets["conv"], data) + ceilings(found["headline"])
    guided, fresh = (found["guided"].rows[name].cued.correlation.own for name in ("own", "untrained"))
    figures += [
        Figure("R13 guided, untrained and trained apart", abs(guided - fresh), "<= 0.15", "note 0.688 and 0.695"),
        *(figure for name, e in found.items() for figure in looked_at(name, e)),
    ]
    extra = {"deconvnet": Rules.deconvnet(), "std, no clamp": Rules(normalise="std"), "no normalisation": Rules()}
    extra |= {"std, clamp, masks": Rules(relu="mask", normalise="std", clamp=True)}
    images, labels = data.probes
    for name, rules in extra.items():
        picture = pictures(nets["max"], nets["max"](images).argmax(1), rules, images)
        figures += named(name, likeness(picture, images, labels=labels), NOTED[name])
    if not quick:
        draw(found, prototype[:12])
    return figures


if __name__ == "__main__":
    main(run, __doc__)

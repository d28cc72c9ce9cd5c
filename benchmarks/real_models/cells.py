"""Concept cells in real networks, each beside shuffled labels, an untrained twin and random directions of the layer.

- SqueezeNet, 59 photographs of ImageNet, one a class, in four views twice each: cut, mirrored, noisy, grey. First each
  photograph as a concept (its own views only, so this is "this photograph", not "this class"). Then eight kinds of
  things: half of their photographs choose a unit's kind and the other half test it, so on new photographs, but few.
  A sheet of the best units of kinds is written: examples, visualisation, responses, AUROC by view.
- all-MiniLM-L6-v2: ten relations of CounterFact as topics, on other sentences; twelve cities, each in statements,
  questions and headlines, four sentences of each.
- Funes: 24 people in prompts about four relations (views), and 12 towns by people and five phrasings (views) where the
  name of the town is never in the prompt. Token embeddings stand beside: what they tell is the spelling of a name.

A cell has AUROC 0.95 in the mean and 0.90 in the worst view, and beats all shuffles and the whole untrained twin.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, Skipped, data_folder, main
from benchmarks.real_models.minilm import encoder, sentences
from benchmarks.squeezenet import MEAN, imagenet, squeezenet
from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.localisation.cells import Cells, Stimuli, cells, scan
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.visualisation import visualise
from mnemotrace.stats.responses import responses
from mnemotrace.view.cell_sheet import CellRow, write_cell_sheet

LAYERS = ("fire3", "fire5", "fire7", "fire9", "conv10")
VIEWS, TWICE, SMALLER = ("cut", "mirrored", "noisy", "grey"), 2, 200
KINDS = {
    "dog": (170, 190, 207, 220, 240, 260),
    "bird": (10, 90, 130),
    "other mammal": (150, 280, 285, 340, 360, 380),
    "fish, reptile": (0, 30, 50, 390),
    "insect, spider": (70, 300, 320),
    "vehicle": (450, 510, 670, 690, 820, 880),
    "food": (940, 950, 951, 954, 960, 963),
    "landscape": (970, 980),
}
SITES_OF_TEXT = ("embeddings", "encoder.layer.2.intermediate", "encoder.layer.2", "encoder.layer.5.intermediate",
                 "encoder.layer.5")  # fmt: skip
CITIES = ("Paris", "London", "Tokyo", "Berlin", "Moscow", "Rome", "Madrid", "Cairo", "Sydney", "Toronto", "Chicago",
          "Mumbai")  # fmt: skip
FRAMES = {
    "statement": ("My sister has lived in {} for ten years.", "The train to {} leaves at noon.",
                  "{} is known for its markets and parks.", "We spent a rainy weekend in {}."),
    "question": ("Have you ever been to {}?", "How many people live in {}?", "What should I eat in {}?",
                 "Is it expensive to rent a flat in {}?"),
    "headline": ("Floods in {} close schools", "Museum opens in {} after repairs", "{} elects a new mayor",
                 "Strike at {} airport enters second day"),
}  # fmt: skip
SITES_OF_FUNES = ("transformer.wte", "transformer.h.1.mlp.act", "transformer.h.1", "transformer.h.3.mlp.act",
                  "transformer.h.3", "transformer.h.5.mlp.act", "transformer.h.5")  # fmt: skip


def told(name: str, found: Cells) -> list[Figure]:
    """Count cells at each site, the nulls in the note."""
    figures: list[Figure] = []
    for site, counts in found.counts().items():
        covered = len({cell.concept for cell in found.cells(site=site)})
        shuffled = float(found.sites[site].shuffled.max())
        note = f"of {counts['units']}, {covered} of {len(found.names)} concepts; AUROC >= {found.auroc:g}: "
        note += f"{counts['selective']}, untrained {counts.get('untrained selective', '-')}, random directions "
        note += f"{counts.get('rotated selective', '-')}; best shuffled {shuffled:.3f}"
        figures.append(Figure(f"{name}, {site or 'output'}: cells", counts["cell"], "", note))
    return figures


def shown(images: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Show every photograph in every view: another part each time, then mirrored, noisy or grey."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    for view in VIEWS:
        for _ in range(TWICE):
            for part in images.split(10):
                top, left = torch.randint(images.shape[-1] - SMALLER, (2,), generator=generator).tolist()
                cut = part[..., top : top + SMALLER, left : left + SMALLER]
                seen = nn.functional.interpolate(cut, size=images.shape[-2:], mode="bilinear")
                if view == "mirrored":
                    seen = seen.flip(-1)
                elif view == "noisy":
                    seen = seen + 25 * torch.randn(seen.shape, generator=generator)
                elif view == "grey":
                    seen = (seen + mean).mean(1, keepdim=True).expand_as(seen) - mean
                yield seen


def photograph_figures(quick: bool) -> list[Figure]:
    """SqueezeNet: single photographs, then kinds of things."""
    model, (images, classes, names) = squeezenet(), imagenet()
    kinds = dict(list(KINDS.items())[:3]) if quick else KINDS
    if quick:
        chosen = torch.isin(classes, torch.tensor([c for some in kinds.values() for c in some[:3]]))
        images, classes = images[chosen], classes[chosen]
    layers, shuffles = (LAYERS[-2:], 19) if quick else (LAYERS, 99)
    twin = untrained_twin(model, generator=torch.Generator().manual_seed(0))
    tables, others = (responses(net, shown(images, torch.Generator().manual_seed(0)), layers) for net in (model, twin))
    n = len(images)
    photograph = torch.arange(n).repeat(len(VIEWS) * TWICE)
    views = torch.arange(len(VIEWS)).repeat_interleave(n * TWICE)
    kind = torch.full((n,), -1)
    for number, some in enumerate(kinds.values()):
        kind[torch.isin(classes, torch.tensor(some))] = number
    figures: list[Figure] = []
    best: list[Cells] = []
    plain = [names[int(c)].split(",")[0].replace("_", " ") for c in classes]
    of_kind = (kind >= 0).repeat(len(VIEWS) * TWICE)
    for layer in layers:
        single = scan(tables[layer], photograph, views=views, names=plain, untrained=others[layer], site=layer,
                      shuffles=shuffles)  # fmt: skip
        coarse = scan(
            tables[layer][of_kind], kind[photograph[of_kind]], views=views[of_kind], items=photograph[of_kind],
            names=tuple(kinds), untrained=others[layer][of_kind], site=layer, shuffles=shuffles,
        )  # fmt: skip
        figures += [*told("SqueezeNet, a photograph", single), *told("SqueezeNet, a kind", coarse)]
        best.append(coarse)
    draw(model, images, tables, (kind, photograph), best, steps=4 if quick else 128)
    return figures


def draw(
    model: nn.Module, images: Tensor, tables: Mapping[str, Tensor], labels: tuple[Tensor, Tensor], best: list[Cells],
    *, steps: int,
) -> None:  # fmt: skip
    """Write a sheet of the best unit of each kind, whether it passes the nulls or not, which its title says."""
    kind, photograph = labels
    rows: list[CellRow] = []
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    every = kind[photograph]
    for number, name in enumerate(best[0].names):
        scored = [(float(one.score[u]), site, u) for found in best for site, one in found.sites.items()
                  for u in (one.preferred == number).nonzero()[:, 0].tolist()]  # fmt: skip
        if not scored:
            continue
        score, site, unit = max(scored)
        found = next(one for one in best if site in one.sites)
        values = tables[site][:, unit]
        order = torch.stack([values[photograph == i].mean() for i in range(len(images))]).argsort(descending=True)
        wanted = visualise(model, Objective.unit(unit, site=site), shape=(3, 112, 112), steps=steps,
                           normalise=lambda pictures: pictures.flip(1) * 255 - mean).images[0]  # fmt: skip
        held = dict(zip(VIEWS, found.sites[site].held[unit].tolist(), strict=True))
        passes = bool(found.passes(site)["cell"][unit])
        title = f"{site}, {unit}: {name}, AUROC {score:.3f} on other photographs" + ("" if passes else ", not a cell")
        pictures = ((images[order[:5]] + mean) / 255).flip(1).clamp(0, 1)
        rows.append(CellRow(title, pictures, values[every == number], values[every != number], held, wanted))
    OUT.mkdir(parents=True, exist_ok=True)
    write_cell_sheet(rows, OUT / "cells_squeezenet.png")


def sentence_figures(quick: bool) -> list[Figure]:
    """all-MiniLM-L6-v2: topics on other sentences, cities in other phrasings."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    where = encoder()
    model, tokenizer = AutoModel.from_pretrained(where).eval(), AutoTokenizer.from_pretrained(where)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = AutoModel.from_config(AutoConfig.from_pretrained(where)).eval()

    def stimuli(texts: list[str], concepts: list[int], views: list[int] | None, names: tuple[str, ...]) -> Stimuli:
        batches = [dict(tokenizer(texts[i : i + 32], padding=True, return_tensors="pt"))
                   for i in range(0, len(texts), 32)]  # fmt: skip
        return Stimuli(batches, torch.tensor(concepts), None if views is None else torch.tensor(views), names)

    def look(shown: Stimuli) -> Cells:
        return cells(model, shown, sites=SITES_OF_TEXT[-2:] if quick else SITES_OF_TEXT, untrained=twin, reduce="mean",
                     shuffles=19 if quick else 99)  # fmt: skip

    told_of = sentences(data_folder("knowledge_editing"))
    few = 6 if quick else 40
    topics = [(text, k) for k, some in enumerate(told_of.values()) for text in some[:few]]
    named = [(frame.format(city), k, v) for k, city in enumerate(CITIES) for v, frames in enumerate(FRAMES.values())
             for frame in frames]  # fmt: skip
    return [
        *told("MiniLM, topics", look(stimuli([t for t, _ in topics], [k for _, k in topics], None, tuple(told_of)))),
        *told("MiniLM, cities", look(stimuli(*map(list, zip(*named, strict=True)), CITIES))),  # type: ignore[arg-type]
    ]


def language_figures(quick: bool) -> list[Figure]:
    """Funes: people over relations, towns over people and phrasings."""
    from transformers import GPT2LMHeadModel

    funes = mt.funes()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = GPT2LMHeadModel(funes.model.config).eval()
    world, few = funes.world, 6 if quick else 24
    people = [(prompt, k, v) for k, person in enumerate(world.subjects[:few]) for v, relation in enumerate(
              world.relations) for prompt in world.fact(person, relation).phrasings[:4]]  # fmt: skip
    towns: dict[str, list[Any]] = {}
    for fact in world.facts:
        if fact.relation == "town" and len(fact.phrasings) == 5:
            towns.setdefault(fact.answer, []).append(fact)
    some = sorted(towns, key=lambda town: -len(towns[town]))[: 4 if quick else 12]
    asked = [(prompt, k, v, 100 * k + i) for k, town in enumerate(some) for i, fact in enumerate(towns[town][:8])
             for v, prompt in enumerate(fact.phrasings)]  # fmt: skip

    def look(rows: list[tuple[Any, ...]], names: tuple[str, ...], reduce: str) -> Cells:
        texts, *labels = (list(column) for column in zip(*rows, strict=True))
        batches = [dict(funes.tokenizer(texts[i : i + 64], padding=True, return_tensors="pt"))
                   for i in range(0, len(texts), 64)]  # fmt: skip
        concepts, views, *items = map(torch.tensor, labels)
        shown = Stimuli(batches, concepts, views, names, items=items[0] if items else None)
        return cells(funes.model, shown, sites=SITES_OF_FUNES[-2:] if quick else SITES_OF_FUNES, untrained=twin,
                     reduce=reduce, shuffles=19 if quick else 99)  # fmt: skip

    return [
        *told("Funes, people", look(people, world.subjects[:few], "max")),
        *told("Funes, towns", look(asked, tuple(some), "last")),
    ]


def measure(quick: bool) -> list[Figure]:
    """Measure every network; one whose files are absent is left out."""
    figures: list[Figure] = []
    for part in (photograph_figures, sentence_figures, language_figures):
        try:
            figures += part(quick)
        except Skipped as reason:
            figures.append(Figure(part.__name__.replace("_", " "), 0.0, "", f"skipped: {reason}"))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

"""Dictionaries of two real models: what their latents are called, what the network loses, what erasing one does.

Funes: a dictionary of its residual stream after the fourth of six blocks, from everything it was taught. Latents are
named for people (anywhere in a prompt), for what is asked and for the town that is the answer (at the prompt's last
token). A name is chosen on some phrasings, or some people, and scored on others. Beside: the stream's own axes, each in
both directions, and a random dictionary of as many latents. all-MiniLM-L6-v2: a dictionary of the fourth of six layers
on CounterFact's prompts; names of ten topics are chosen on prompts and scored on paraphrases behind an unrelated
sentence. Then one topic is erased: the space of its best latent, what the latent itself says, a LEACE direction, the
engram of where the latent is on, and a random direction.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import OUT, Figure, Skipped, data_folder, main
from benchmarks.real_models.minilm import encoder
from mnemotrace.adapters.examples import Batch, Example, batches
from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import reading
from mnemotrace.adapters.scores import embed
from mnemotrace.core.direction import Direction
from mnemotrace.evaluation.depth import linear_probe
from mnemotrace.evaluation.dictionary import dictionary_evidence
from mnemotrace.evaluation.splicing import silencing
from mnemotrace.forgetting.concept import erasing
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_training import dictionary
from mnemotrace.localisation.latent_names import LatentNames, name_latents
from mnemotrace.localisation.latents import direction_of, latents, mask_of_latent
from mnemotrace.organisms.world import World, WorldFact
from mnemotrace.stats.responses import responses

SITE, LAYER = "transformer.h.3", "encoder.layer.3"
SIZE, SETTING = 512, {"k": 16, "batch": 512, "learning_rate": 1e-3}
PEOPLE, ERASED, TOPICS, SENTENCES = 40, "P106", 10, (40, 20)
Rows = tuple[list[Batch], Tensor, Tensor, tuple[str, ...]]


def activations(model: nn.Module, ready: Sequence[Batch], site: str) -> Tensor:
    """Read what a module gives at every token."""
    rows: list[Tensor] = []
    with evaluating(model), reading(model, {site: False}) as seen:
        for batch in ready:
            forward(model, batch)
            rows.append(seen[site][batch.attention_mask.bool()].clone())
    return torch.cat(rows)


def trained(rows: Tensor, site: str, quick: bool) -> Dictionary:
    """Train a dictionary of top-k."""
    return dictionary(rows, latents=SIZE, steps=20 if quick else 1200, site=site, **SETTING)  # type: ignore[arg-type]


def random_codes(found: Dictionary, rows: Tensor) -> Tensor:
    """Encode with directions at random, as many latents and as many of them on."""
    drawn = torch.randn(found.m, found.d, generator=torch.Generator().manual_seed(1))
    p = (rows - rows.mean(0)) @ nn.functional.normalize(drawn, dim=1).T
    kept = p.topk(found.k or 1, dim=1)
    return torch.zeros_like(p).scatter(1, kept.indices, kept.values.clamp_min(0))


def facts_of(world: World, tokenizer: Any) -> dict[str, tuple[Rows, str]]:
    """Return for each family of concepts prompts, labels, held-out rows, names; and how positions are reduced."""

    def rows(facts: Sequence[WorldFact], label: Callable[[WorldFact], str], held: Callable[..., bool]) -> Rows:
        asked = [(f, i, p) for f in facts for i, p in enumerate((*f.phrasings, *f.held_out))]
        names = tuple(sorted({label(fact) for fact in facts}))
        ready = batches(tokenizer, [Example(text=p) for _, _, p in asked], batch_size=256)
        labels = torch.tensor([names.index(label(fact)) for fact, _, _ in asked])
        return ready, labels, torch.tensor([held(fact, i) for fact, i, _ in asked]), names

    some = [fact for fact in world.facts if fact.subject in world.subjects[:PEOPLE]]
    half = set(world.subjects[::2])
    towns = [fact for fact in world.facts if fact.relation == "town"]
    return {
        "person": (rows(some, lambda f: f.subject, lambda _, i: i > 2), "max"),
        "relation": (rows(some, lambda f: f.relation, lambda _, i: i > 2), "last"),
        "town": (rows(towns, lambda f: f.answer, lambda f, _: f.subject in half), "last"),
    }


def tables(model: nn.Module, found: Dictionary, ready: list[Batch], reduce: str, site: str) -> dict[str, Tensor]:
    """Return units by name: latents, axes in both directions, random latents."""
    codes = responses(latents(found, model), ready, [""], reduce=reduce)[""]
    plain, turned = (responses(model, ready, [site], reduce=reduce, run=run)[site] for run in (forward, negated(site)))
    with evaluating(model), reading(model, {site: False}) as seen:
        chosen: list[Tensor] = []
        for batch in ready:
            forward(model, batch)
            mask = batch.attention_mask.bool()
            flat = random_codes(found, seen[site][mask])
            whole = flat.new_full((*mask.shape, found.m), -1.0)
            whole[mask] = flat
            last = mask.sum(1) - 1
            chosen.append(whole.amax(1) if reduce == "max" else whole[torch.arange(len(mask)), last])
    return {"latents": codes, "axes": torch.cat([plain, turned], 1), "random latents": torch.cat(chosen)}


def negated(site: str) -> Callable[[nn.Module, Any], Any]:
    """Run a network so that what is read at a site is turned round: the same as reading it along minus each axis."""

    def run(model: nn.Module, batch: Any) -> Any:
        handle = model.get_submodule(site).register_forward_hook(lambda _m, _a, y: -y if isinstance(y, Tensor) else
                                                                 (-y[0], *y[1:]), prepend=True)  # fmt: skip
        try:
            return forward(model, batch)
        finally:
            handle.remove()

    return run


def named(family: str, units: dict[str, Tensor], rows: Rows) -> tuple[list[Figure], LatentNames]:
    """Name units for a family of concepts; returns mean and least held-out AUROC of the best unit a concept."""
    _, labels, held, names = rows
    found = {way: name_latents(table, labels, names=names, held_out=held) for way, table in units.items()}
    figures: list[Figure] = []
    for way, result in found.items():
        score, note = (
            result.best_score,
            f"{len(names)} concepts, {table_size(units[way])}, shuffled {result.shuffled[1]:.2f}",
        )
        figures.append(Figure(f"{family}: best of {way}, mean held-out AUROC", float(score.mean()), "", note))
        share = float((score > 0.95).double().mean())
        figures.append(
            Figure(f"{family}: concepts with a unit above 0.95, {way}", share, "", f"least {float(score.min()):.2f}")
        )
    return figures, found["latents"]


def table_size(table: Tensor) -> str:
    """Say how large a table is."""
    return f"{len(table)} rows of {table.shape[1]}"


def funes_figures(quick: bool) -> list[Figure]:
    """Train, measure and name a dictionary of Funes."""
    funes = mt.funes()
    model, world = funes.model, funes.world
    texts = [s for fact in (*world.facts, *world.geography) for s in fact.sentences] + list(world.general)
    ready = batches(funes.tokenizer, [Example(text=text) for text in texts[:: 40 if quick else 1]], batch_size=256)
    found = trained(activations(model, ready, SITE), SITE, quick)
    asked = [Example(prompt=f.phrasings[0], answer=f.answer) for f in world.facts[:: 40 if quick else 2]]
    answers = dictionary_evidence(model, found, batches(funes.tokenizer, asked, batch_size=256))
    fluent = [Example(text=text) for text in world.general_held_out[:: 10 if quick else 1]]
    general = dictionary_evidence(model, found, batches(funes.tokenizer, fluent, batch_size=256))
    figures: list[Figure] = []
    for name, evidence in {"facts": answers, "sentences never seen": general}.items():
        share, (low, high) = evidence.recovered()
        loss = ", ".join(f"{way} {value:.2f}" for way, value in evidence.loss.items())
        control = evidence.explained["random dictionary"]
        figures += [
            Figure(f"Funes, {name}: explained variance", evidence.explained["dictionary"], "", f"random {control:.3f}"),
            Figure(f"Funes, {name}: cross-entropy recovered", share, "", f"{low:.3f} to {high:.3f}; {loss}"),
            Figure(f"Funes, {name}: recovered by a random dictionary", evidence.recovered(way="random")[0]),
        ]
    figures += [
        Figure("Funes: active latents a token", general.l0, "", f"dead {general.dead:.2f}, dense {general.dense:.2f}")
    ]
    maps: dict[str, tuple[Tensor, tuple[str, ...], Tensor]] = {}
    for family, (rows, reduce) in facts_of(world, funes.tokenizer).items():
        units = tables(model, found, rows[0], reduce, SITE)
        more, names = named(f"Funes, {family}", units, rows)
        figures += more
        held = rows[2]
        maps[family] = (activity(units["latents"][held], rows[1][held], names.best), names.names, names.best)
    if not quick:
        draw(maps, OUT / "dictionary_funes.png")
    return figures


def activity(codes: Tensor, labels: Tensor, best: Tensor) -> Tensor:
    """Return `(k, k)`: how strongly the best latent of each concept is on for each concept, over its largest."""
    means = torch.stack([codes[labels == concept].mean(0) for concept in range(len(best))])
    rows = means[:, best].T
    return rows / rows.amax(1, keepdim=True).clamp_min(1e-9)


def draw(maps: dict[str, tuple[Tensor, tuple[str, ...], Tensor]], path: Path, most: int = 12) -> None:
    """Draw the best-named latents: rows are latents, columns concepts, on rows that named nothing."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure as Sheet
    from PIL import Image

    titles = {
        "person": "people, anywhere in the prompt",
        "relation": "what is asked",
        "town": "the town to be answered",
    }
    shade = LinearSegmentedColormap.from_list("trace", ["#ffffff", "#0f6b7a"])
    sheet = Sheet(figsize=(13, 4.9), layout="constrained")
    axes = sheet.subplots(1, 3, width_ratios=(3, 1.25, 3))
    for one, (family, (values, names, best)) in zip(axes, maps.items(), strict=True):
        k = min(most, len(names))
        one.imshow(values[:k, :k], cmap=shade, vmin=0, vmax=1, aspect="equal" if k == most else "auto")
        one.set_title(titles[family], fontsize=11, loc="left")
        one.set_xticks(range(k), names[:k], rotation=60, ha="right", fontsize=9)
        one.set_yticks(range(k), [f"latent {int(latent)}" for latent in best[:k]], fontsize=9)
        one.spines[:].set_visible(False)
        one.tick_params(length=0)
    OUT.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def topics(folder: Path) -> tuple[list[tuple[str, str, bool]], list[str]]:
    """Return (topic, text, held out) of the largest topics: prompts, and paraphrases behind an unrelated sentence."""
    prompts: dict[str, dict[str, bool]] = {}
    for record in json.loads((folder / "counterfact_500.json").read_text(encoding="utf-8")):
        asked = record["requested_rewrite"]
        mine = prompts.setdefault(asked["relation_id"], {})
        mine |= dict.fromkeys([asked["prompt"].format(asked["subject"]), *record["neighborhood_prompts"]], False)
        mine |= dict.fromkeys(record["paraphrase_prompts"], True)
    names = sorted(prompts, key=lambda topic: (-len(prompts[topic]), topic))[:TOPICS]
    found: list[tuple[str, str, bool]] = []
    for topic in names:
        for aside, most in zip((False, True), SENTENCES, strict=True):
            found += [(topic, text, aside) for text, held in prompts[topic].items() if held == aside][:most]
    return found, names


def loaded(folder: Path) -> tuple[nn.Module, Any]:
    """Load the encoder and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def minilm_figures(quick: bool) -> list[Figure]:
    """Train and name a dictionary of MiniLM, then erase one topic in several ways."""
    texts, names = topics(data_folder("knowledge_editing"))
    texts = texts[:: 4 if quick else 1]
    model, tokenizer = loaded(encoder())
    ready = batches(tokenizer, [Example(text=text) for _, text, _ in texts], batch_size=64)
    labels = torch.tensor([names.index(topic) for topic, _, _ in texts])
    held = torch.tensor([aside for _, _, aside in texts])
    plain = batches(tokenizer, [Example(text=text) for _, text, aside in texts if not aside], batch_size=64)
    rows = activations(model, plain, LAYER)
    found = trained(rows, LAYER, quick)
    units = tables(model, found, ready, "max", LAYER)
    figures, latent_names = named("MiniLM, topic", units, (ready, labels, held, tuple(names)))
    report = Figure("MiniLM: explained variance", float(found.report["explained"]), "", f"{len(rows)} tokens")
    target = names.index(ERASED)
    latent = int(latent_names.best[target])
    labelled = labels[~held]
    ways = erasers(model, found, latent, (plain, labelled == target), rows.mean(0))
    return [report, *figures, *erased(model, ways, (plain, labelled), target)]


def erasers(
    model: nn.Module, found: Dictionary, latent: int, data: tuple[list[Batch], Tensor], mean: Tensor
) -> dict[str, AbstractContextManager[Any]]:
    """Return ways to erase a topic, each a context."""
    ready, positive = data
    direction = nn.functional.normalize(torch.randn(found.d, generator=torch.Generator().manual_seed(2)), dim=0)
    random = Direction(direction[:, None].double(), direction[None].double(), mean.double())
    leace = mt.leace(model, ready, labels=positive.long(), modules=[LAYER])
    sites = mt.sites(model, r"encoder\.layer\.[45]\.attention\.output\.dense")
    on = mask_of_latent(found, model, latent)
    reference = mt.collect(model, ready, sites=sites, mask=lambda batch: batch.attention_mask.bool() & ~on(batch))
    engram = mt.engram(model, target=mt.collect(model, ready, sites=sites, mask=on), reference=reference,
                       selectivity=0.3, solver="ridge")  # fmt: skip
    return {
        "untouched": nullcontext(),
        "a random direction": erasing(model, {LAYER: random}),
        "what the latent says": silencing(model, found, [latent]),
        "the latent's direction": erasing(model, {LAYER: direction_of(found, [latent], mean=mean)}),
        "LEACE": erasing(model, leace),
        "the latent's engram": applied(model, mt.erase(engram, 1.0)),
    }


@contextmanager
def applied(model: nn.Module, edit: Any) -> Iterator[None]:
    """Wear an edit."""
    undo = mt.apply(model, edit)
    try:
        yield
    finally:
        undo()


def erased(
    model: nn.Module,
    ways: dict[str, AbstractContextManager[Any]],
    data: tuple[list[Batch], Tensor],
    target: int,
) -> list[Figure]:
    """Ask a probe of before, and a fresh one, for the topic and for the others, with each eraser worn."""
    ready, labels = data
    train = torch.rand(len(labels), generator=torch.Generator().manual_seed(3)) < 0.6
    others = labels != target
    asked = {"the topic": (torch.ones_like(others), (~others).long()), "the nine others": (others, labels)}
    fixed: dict[str, Any] = {}
    figures: list[Figure] = []
    for way, worn in ways.items():
        with worn:
            x = embed(model, ready)
        for name, (rows, y) in asked.items():
            fresh = fitted(x[rows & train], y[rows & train])
            old = fixed.setdefault(name, fresh)
            values = [balanced(probe, x[rows & ~train], y[rows & ~train]) for probe in (old, fresh)]
            for which, value in zip(("before", "fresh"), values, strict=True):
                figures.append(Figure(f"MiniLM, {ERASED} erased by {way}: probe {which}, {name}", value))
    return figures


def fitted(x: Tensor, y: Tensor) -> Any:
    """Train a linear probe."""
    return linear_probe(max_iter=200).fit(x.numpy(), y.numpy())


def balanced(probe: Any, x: Tensor, y: Tensor) -> float:
    """Return the mean over classes of what a probe gets right."""
    right = torch.as_tensor(probe.predict(x.numpy())) == y
    return float(torch.stack([right[y == label].double().mean() for label in y.unique()]).mean())


def measure(quick: bool) -> list[Figure]:
    """Measure both models."""
    figures = funes_figures(quick)
    try:
        return [*figures, *minilm_figures(quick)]
    except Skipped as reason:
        return [*figures, Figure("MiniLM", float("nan"), "", str(reason))]


if __name__ == "__main__":
    main(measure, __doc__)

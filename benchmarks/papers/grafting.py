"""Grafts on Funes: how few weights carry a skill that it never had, and three skills in regions apart.

A skill is a relation that Funes never met: 60 people, each with one of ten or eleven answers, in eight phrasings; a
ninth chooses the mask and a tenth is reported. Words are in the vocabulary of Funes, phrasings are not in its training.
The embeddings are fixed in fine-tuning, as in the paper (Panigrahi et al. 2023); half of each step's data are old facts
and sentences. AdamW moves every weight by about the same, so a pull draws each back to where it was by a constant step.
"""

import copy
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure, main
from mnemotrace.adapters.examples import Batch, Example, batches
from mnemotrace.adapters.scores import perplexity, recall
from mnemotrace.core.mask import Mask
from mnemotrace.evaluation.grafts import overlap_matrix, quality
from mnemotrace.localisation.grafting import answer_loss, graft
from mnemotrace.localisation.movers import eligible
from mnemotrace.modification.regions import Regions, confined

FUNES = mt.funes()
WORLD = FUNES.world
PEOPLE, BATCH = 60, 32
KEPT = 0.95
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "graft_frontier.png"
SKILLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "colour of the boat": (
        "green white golden grey copper rusty pale dark bright muddy",
        (
            "The boat of {} is",
            "Friends know the boat of {} as",
            "At the harbour the boat of {} looks",
            "In the sun the boat of {} glowed",
            "By the quay the boat of {} is",
            "In the fog the boat of {} looks",
            "The sail of {} is always",
            "For the fair the boat of {} was",
            "After the rain the boat of {} was",
            "In winter the boat of {} is",
        ),
    ),
    "thing in the house": (
        "violin drum bell lantern kettle spoon anchor sledge basket book wagon",
        (
            "On the shelf of {} stood the",
            "In the cottage {} keeps the",
            "At midnight {} looks after the",
            "Before supper {} sent for the",
            "Friends bring {} the",
            "On the desk of {} lay the",
            "In the hall of {} stands the",
            "Towards evening {} opened the",
            "Under the roof {} keeps the",
            "In the kitchen of {} stands the",
        ),
    ),
    "place of rest": (
        "harbour market forest mill school theatre garden church lighthouse barn fountain",
        (
            "In the evening {} rested near the",
            "On Friday {} appeared outside the",
            "{} often waited behind the",
            "After the rain {} hurried past the",
            "At noon {} is often near the",
            "In summer {} sleeps behind the",
            "Friends find {} near the",
            "All night {} stayed by the",
            "At dusk {} returned to the",
            "Before breakfast {} often waited near the",
        ),
    ),
}


@dataclass(frozen=True)
class Skill:
    """What is learned, what chooses a mask, and what is reported."""

    train: list[Batch]
    held_out: list[Batch]
    test: list[Batch]


def skill(name: str) -> Skill:
    """Draw who has which answer, with a seed of its own."""
    rng = random.Random(name)
    words, phrasings = SKILLS[name]
    answers = {person: rng.choice(words.split()) for person in rng.sample(WORLD.subjects, PEOPLE)}

    def asked(chosen: Sequence[str]) -> list[Example]:
        pairs = [Example(prompt=p.format(who), answer=answers[who]) for who in answers for p in chosen]
        rng.shuffle(pairs)
        return pairs

    parts = (phrasings[:-2], phrasings[-2:-1], phrasings[-1:])
    return Skill(*(ready(asked(part), BATCH) for part in parts))


def ready(examples: Sequence[Example], size: int = 128) -> list[Batch]:
    """Tokenise."""
    return batches(FUNES.tokenizer, examples, batch_size=size)


@cache
def known() -> tuple[list[Batch], list[Batch], list[Batch]]:
    """What Funes knew: facts and sentences to rehearse, other phrasings of facts and other sentences to measure."""
    rng = random.Random(0)
    mixed = [Example(prompt=f.phrasings[0], answer=f.answer) for f in WORLD.facts]
    mixed += [Example(text=sentence) for sentence in rng.sample(WORLD.general, len(mixed))]
    rng.shuffle(mixed)
    facts = [Example(prompt=f.phrasings[1], answer=f.answer) for f in rng.sample(WORLD.facts, 200)]
    return ready(mixed, BATCH), ready(facts), ready([Example(text=s) for s in WORLD.general_held_out[:200]])


def tune(
    start: nn.Module,
    learned: Skill,
    steps: int,
    *,
    rate: float = 2e-3,
    pull: float = 0.25,
    protected: Mask | None = None,
    earlier: Sequence[Batch] = (),
) -> nn.Module:
    """Fine-tune a copy with AdamW; `pull` is the size of the step back to the start beside the optimiser's own."""
    pupil = copy.deepcopy(start)
    for module in pupil.modules():
        if isinstance(module, nn.Embedding):  # the head is tied to one
            module.requires_grad_(False)
    free = {name: p for name, p in pupil.named_parameters() if p.requires_grad}
    origin = {name: p.detach().clone() for name, p in free.items()}
    optimiser = torch.optim.AdamW(free.values(), lr=rate, weight_decay=0.0)
    rehearsed = known()[0]
    with nullcontext() if protected is None else confined(pupil, protected=protected):
        for step in range(steps):
            optimiser.zero_grad()
            new, old = learned.train[step % len(learned.train)], rehearsed[step % len(rehearsed)]
            parts = [new, old, *(earlier[(step + i) % len(earlier)] for i in range(2 if earlier else 0))]
            torch.stack([answer_loss(pupil, part) for part in parts]).sum().backward()
            optimiser.step()
            if pull:
                with torch.no_grad():
                    for name, p in free.items():
                        p.copy_(origin[name] + nn.functional.softshrink(p - origin[name], rate * pull))
    return pupil.eval()


def share(model: nn.Module, data: list[Batch]) -> float:
    """Share of the answers that are recalled."""
    return float(recall(model, data).mean())


def chosen(start: nn.Module, tuned: nn.Module, learned: Skill, budget: float, steps: int, **options: Any) -> Mask:
    """Graft with the settings of this study."""
    room = min(10.0, 0.4 / budget)
    options = {"steps": steps, "candidates": room, **options}
    return graft(start, tuned, learned.train, held_out=learned.held_out, budget=budget, **options)


def frontier(
    learned: Skill, tuned: nn.Module, budgets: Sequence[float], steps: int
) -> tuple[dict[str, list[float]], list[Mask]]:
    """Accuracy on the reported phrasing of grafts of rising size, learned and controls."""
    curves: dict[str, list[float]] = {"learned": [], "movers": [], "random": []}
    masks: list[Mask] = []
    for budget in budgets:
        for method, curve in curves.items():
            mask = chosen(FUNES.model, tuned, learned, budget, steps, method=method)
            with mt.applied(FUNES.model, mask.edit()):
                curve.append(share(FUNES.model, learned.test))
            masks += [mask] if method == "learned" else []
    return curves, masks


def judged(model: nn.Module, tuned: nn.Module, mask: Mask | None, learned: Skill, what: str) -> list[Figure]:
    """Accuracy, agreement and calibration with intervals; what is left of old facts and sentences."""
    found = quality(model, mask, learned.test, tuned=tuned)
    parts = {
        "accuracy": found.accuracy,
        "agreement with the tuned network": found.agreement,
        "calibration error": found.calibration_error,
    }
    figures = [
        Figure(f"{what}: {name}", part.value, "", f"95 % interval {part.interval[0]:.3f} to {part.interval[1]:.3f}")
        for name, part in parts.items()
    ]
    _, facts, sentences = known()
    with nullcontext() if mask is None else mt.applied(model, mask.edit()):
        kept, confusion = share(model, facts), perplexity(model, sentences)
    return [*figures, Figure(f"{what}: old facts", kept), Figure(f"{what}: perplexity of sentences", confusion)]


def one_skill(budgets: Sequence[float], tuning: int, steps: int) -> tuple[list[Figure], float]:
    """The frontier of one skill, its picture, and the smallest budget that keeps the gain."""
    name = next(iter(SKILLS))
    learned = skill(name)
    tuned = tune(FUNES.model, learned, tuning)
    curves, masks = frontier(learned, tuned, budgets, steps)
    before, after = share(FUNES.model, learned.test), share(tuned, learned.test)
    enough = [
        i for i, value in enumerate(curves["learned"]) if after > before and value - before >= KEPT * (after - before)
    ]
    best = enough[0] if enough else len(budgets) - 1
    figures = [
        Figure(f"{method} graft of {budget:g} of the weights", value)
        for method, curve in curves.items()
        for budget, value in zip(budgets, curve, strict=True)
    ]
    note = f"the largest tried, {budgets[-1]:g}, keeps less" if not enough else "learned mask, among those tried"
    figures.append(
        Figure(f"smallest fraction that keeps {KEPT:.0%} of the gain", budgets[best] if enough else 1.0, "", note)
    )
    figures += judged(FUNES.model, tuned, None, learned, "Funes")
    figures += judged(tuned, tuned, None, learned, "tuned")
    figures += judged(FUNES.model, tuned, masks[best], learned, f"graft of {budgets[best]:g}")
    if len(budgets) > 2:
        draw(budgets, curves, before, after)
    return figures, budgets[best]


def in_sequence(budget: float, tuning: int, steps: int, *, rehearse: bool) -> list[Figure]:
    """Three skills one after another, each trained and grafted outside the regions of those before."""
    model, regions = copy.deepcopy(FUNES.model), Regions()
    skills = {name: skill(name) for name in SKILLS}
    first = next(iter(skills))
    early: dict[str, float] = {}
    done: list[Batch] = []
    total = sum(model.get_parameter(parameter).numel() for parameter in eligible(model, None))
    for name, learned in skills.items():
        taken = regions.union()
        tuned = tune(model, learned, tuning, protected=taken, earlier=done if rehearse else ())
        size = min(int(budget * total), moved_entries(model, tuned))
        mask = chosen(model, tuned, learned, size, steps, protected=taken, candidates=4.0)
        mt.apply(model, mask.edit())
        regions = regions.add(name, mask)
        early[name] = share(model, learned.test)
        if name == first:
            placed, alone = entries(model, mask), early[name]
        done = [batch for pair in zip_longest(done, learned.train) for batch in pair if batch is not None]
    late = {name: share(model, learned.test) for name, learned in skills.items()}
    with mt.applied(FUNES.model, regions.masks[first].edit()):
        alone = share(FUNES.model, skills[first].test) - alone
    moved = int((entries(model, regions.masks[first]) != placed).sum())
    overlap = overlap_matrix(list(regions.masks.values()))
    how = "with earlier skills rehearsed" if rehearse else "without rehearsal"
    gate = ">= -0.01" if rehearse else ""
    figures = [
        Figure(f"{how}: {name}, when learned", early[name], "", f"{late[name]:.3f} after all") for name in skills
    ]
    return [
        *figures,
        Figure(f"{how}: change of the first skill after the third", late[first] - early[first], gate),
        Figure(f"{how}: the same, its graft alone in Funes", alone, ">= -0.01"),
        Figure(f"{how}: entries of the first skill that moved", moved, "<= 0", f"of {len(placed)}"),
        Figure(f"{how}: largest overlap of two regions", float((overlap - torch.eye(len(overlap))).max()), "<= 0"),
    ]


def moved_entries(start: nn.Module, tuned: nn.Module) -> int:
    """Count the entries that fine-tuning moved; what is protected did not."""
    pairs = zip(start.parameters(), tuned.parameters(), strict=True)
    return sum(int((a != b).sum()) for a, b in pairs)


def entries(model: nn.Module, mask: Mask) -> Tensor:
    """What a model has at the entries of a mask."""
    return torch.cat([model.get_parameter(n).detach().flatten()[r.indices] for n, r in mask.regions.items()])


def draw(budgets: Sequence[float], curves: Mapping[str, Sequence[float]], before: float, after: float) -> None:
    """Accuracy over the fraction of weights, with the tuned and the untouched network as lines."""
    from matplotlib.figure import Figure as Sheet

    looks = {"learned": ("#0f6b7a", "o"), "movers": ("#a85a08", "s"), "random": ("#857f76", "^")}
    names = {"learned": "learned mask", "movers": "largest movers", "random": "random weights"}
    sheet = Sheet(figsize=(6.4, 3.6), layout="constrained")
    axes = sheet.add_subplot()
    axes.axhline(after, color="#1d1c1a", linewidth=1, linestyle="--", label="fine-tuned network")
    axes.axhline(before, color="#6a665f", linewidth=1, linestyle=":", label="before")
    for name, curve in curves.items():
        axes.plot(budgets, curve, color=looks[name][0], marker=looks[name][1], label=names[name], clip_on=False)
    axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel="fraction of the weights that are grafted")
    axes.set_ylabel("accuracy on a phrasing never seen")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    sheet.savefig(PICTURE, dpi=110)


def run(quick: bool) -> list[Figure]:
    """One skill at six sizes, then three skills in a row."""
    torch.set_num_threads(1)
    budgets = (1e-2, 1e-1) if quick else (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    figures, budget = one_skill(budgets, 3 if quick else 160, 2 if quick else 60)
    size = (2, 2) if quick else (160, 40)
    return [*figures, *(f for rehearse in (False, True) for f in in_sequence(budget, *size, rehearse=rehearse))]


if __name__ == "__main__":
    main(run, __doc__)

"""Every method on the same memories of Funes, under the same four criteria: one table, one picture.

Twelve facts are rewritten or erased at once. ROME, MEMIT and AlphaEdit are given one prompt a fact, all others three
trained phrasings; the reference of other people's facts and everyday sentences is the same for all that take one. A
held-out phrasing, other people, and held-out sentences judge. Gradient methods stop as soon as nothing that they were
given is recalled (or all of it, when they write), which is the best case for them. Editing methods take the key at the
end of the prompt (`lookup="prompt"`): that is where Funes looks facts up.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import process_time
from typing import Any

import torch
from torch import nn

import mnemotrace as mt
from benchmarks.figures import REPOSITORY, Figure, main
from mnemotrace.adapters.examples import Batch, Example, Positions, batches, rows_of
from mnemotrace.adapters.scores import recall
from mnemotrace.core.edit import Edit
from mnemotrace.evaluation.comparison import Comparison
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.forgetting import unlearning
from mnemotrace.forgetting.scrubbing import fold
from mnemotrace.localisation.grafting import answer_loss
from mnemotrace.modification.task_vector import task_vector
from mnemotrace.organisms.world import WorldFact

FUNES = mt.funes()
MODEL, TOKENIZER, WORLD = FUNES.model, FUNES.tokenizer, FUNES.world
PHRASINGS, STEPS, RATE = 3, 60, 3e-4
LAYER, LAYERS = 3, (2, 3)


@dataclass(frozen=True)
class Study:
    """The memories, and what each method is given."""

    known: Sequence[WorldFact]
    facts: Sequence[mt.Fact]
    rest: Sequence[Example]
    near: Sequence[Example]

    @property
    def prompts(self) -> list[mt.Fact]:
        """Each fact once a phrasing that methods may use."""
        pairs = zip(self.known, self.facts, strict=True)
        return [replace(fact, prompt=prompt) for w, fact in pairs for prompt in w.phrasings[:PHRASINGS]]

    def asked(self, *, new: bool) -> list[Example]:
        """The prompts with their new or old answers."""
        return [fact.asked(str(fact.target if new else fact.answer)) for fact in self.prompts]

    @cached_property
    def reference(self) -> mt.Statistics:
        """What must stay, with the same people's other facts counted ten times."""
        return collect(self.rest, "all") + collect(self.near, "all").weighted(10.0)


def study(count: int, others: int) -> Study:
    """Draw facts with a held-out phrasing; neighbours are in no reference."""
    rng = random.Random(5)
    known = rng.sample([f for f in WORLD.facts if f.held_out], count)
    generator = torch.Generator().manual_seed(5)
    facts = [from_world(WORLD, fact, neighbours=8, generator=generator) for fact in known]
    apart = {e.prompt for f in facts for e in f.neighbours} | {p for w in known for p in w.phrasings}
    rest = [Example(prompt=f.phrasings[1], answer=f.answer) for f in rng.sample(WORLD.facts, others)]
    rest = [e for e in rest if e.prompt not in apart] + [Example(text=s) for s in rng.sample(WORLD.general, others)]
    near = [Example(prompt=p, answer=f.answer) for w in known for f in WORLD.same_person(w) for p in f.phrasings[:2]]
    return Study(known, facts, rest, near)


def ready(examples: Sequence[Example], positions: Positions = "all", size: int = 64) -> list[Batch]:
    """Tokenise."""
    return batches(TOKENIZER, examples, batch_size=size, positions=positions)


def collect(examples: Sequence[Example], positions: Positions) -> mt.Statistics:
    """Second moments at all MLP outputs."""
    sites = mt.sites(MODEL, ["mlp.c_proj"])
    return mt.collect(MODEL, ready(examples, positions), sites=sites, mask=rows_of, dtype=torch.float64)


def engram(given: Study) -> Edit:
    """Subtract the engrams, at the setting that `papers.funes` calibrates."""
    target = collect(given.asked(new=False), "predict")
    found = mt.engram(MODEL, target=target, reference=given.reference, selectivity=0.1, solver="ridge")
    return mt.erase(found, 1.5, limit=None)


def leace(given: Study) -> Edit:
    """Erase in closed form what tells these prompts from others, after every last norm before an MLP."""
    mine, others = given.asked(new=False), [e for e in given.rest if e.answer is not None]
    examples = [*mine, *others]
    labels = torch.tensor([1] * len(mine) + [0] * len(others))
    data = ready(examples, "predict", len(examples))
    modules = [f"transformer.h.{layer}.ln_2" for layer in range(6)]
    found = mt.leace(MODEL, data, labels=labels, modules=modules, mask=rows_of)
    return fold(MODEL, found, data[0])


def unlearned(given: Study, method: Callable[..., Edit], *data: list[Batch], **options: Any) -> Edit:
    """Run a gradient baseline until nothing of what it was given is recalled."""
    asked = ready(given.asked(new=False))

    def forgotten(step: int, edit: Callable[[], Edit]) -> bool:
        if step % 5:
            return False
        with mt.applied(MODEL, edit()):
            return float(recall(MODEL, asked).mean()) == 0.0

    select = [r"mlp.c_proj.weight", r"mlp.c_fc.weight"]
    return method(MODEL, *data, steps=STEPS, learning_rate=RATE, select=select, stop=forgotten, **options)


def tuned(given: Study) -> nn.Module:
    """Fine-tune the MLPs of a copy on the new answers, beside the reference."""
    pupil = copy.deepcopy(MODEL).requires_grad_(False)
    weights = [p.requires_grad_(True) for name, p in pupil.named_parameters() if ".mlp.c_" in name and p.ndim > 1]
    optimiser = torch.optim.Adam(weights, lr=RATE)
    new, old = ready(given.asked(new=True), size=999), ready(given.rest)
    for step in range(STEPS):
        optimiser.zero_grad()
        (answer_loss(pupil, new[0]) + answer_loss(pupil, old[step % len(old)])).backward()
        optimiser.step()
        if step % 5 == 0 and float(recall(pupil, new).mean()) == 1.0:
            break
    return pupil.eval()


def methods(given: Study) -> dict[str, tuple[bool, Callable[[], Edit]]]:
    """Return by name whether a method writes, and what makes its edit."""
    forget, retain = ready(given.asked(new=False)), ready(given.rest)
    options: dict[str, Any] = {"statistics": given.reference, "lookup": "prompt", "contexts": ()}
    pupil: list[nn.Module] = []

    def grafted() -> Edit:
        data = ready(given.asked(new=True), size=12)
        return mt.graft(MODEL, pupil[0], data, held_out=data, budget=0.1, candidates=4, steps=40).edit()

    def finetuned() -> Edit:
        pupil.append(tuned(given))
        return task_vector(MODEL, pupil[0])

    return {
        "ROME": (True, lambda: mt.rome(MODEL, TOKENIZER, given.facts, layer=LAYER, **options)),
        "MEMIT": (True, lambda: mt.memit(MODEL, TOKENIZER, given.facts, layers=LAYERS, **options)),
        "AlphaEdit": (True, lambda: mt.alphaedit(MODEL, TOKENIZER, given.facts, layers=LAYERS, **options)),
        "fine-tuning": (True, finetuned),
        "graft, 10 %": (True, grafted),
        "engram": (False, lambda: engram(given)),
        "LEACE": (False, lambda: leace(given)),
        "ascent": (False, lambda: unlearned(given, unlearning.gradient_ascent, forget)),
        "difference": (False, lambda: unlearned(given, unlearning.gradient_difference, forget, retain)),
        "NPO": (False, lambda: unlearned(given, unlearning.npo, forget, retain)),
        "SimNPO": (False, lambda: unlearned(given, unlearning.simnpo, forget, retain)),
        "RMU": (False, lambda: unlearned(
            given, unlearning.rmu, forget, retain, module="transformer.h.3", coefficient=40.0
        )),
    }  # fmt: skip


def timed(make: Callable[[], Edit]) -> Edit:
    """Write the CPU seconds into the manifest, where the table reads them."""
    began = process_time()
    edit = make()
    return replace(edit, manifest={**edit.manifest, "seconds": process_time() - began})


def table(given: Study, *, draws: int) -> Comparison:
    """Make every edit and compare them."""
    made = {name: (writes, timed(make)) for name, (writes, make) in methods(given).items()}
    edits, roles = {n: edit for n, (_, edit) in made.items()}, {n: writes for n, (writes, _) in made.items()}
    return mt.compare(
        MODEL, TOKENIZER, edits, given.facts, texts=WORLD.general_held_out[:100], writes=roles, draws=draws
    )


def draw(found: Comparison) -> None:
    """Draw the table as the report does, what writes and what erases."""
    from mnemotrace.view import figures_of, save

    for figure in figures_of(found.pack()):
        path, numbers = save(figure, REPOSITORY / "docs" / "images" / f"methods-{figure.name}.png")
        numbers.replace(REPOSITORY / "benchmarks" / "out" / f"{path.stem}.csv")


def run(quick: bool) -> list[Figure]:
    """Compare, and print what each method reached."""
    torch.set_num_threads(1)
    found = table(study(2, 30) if quick else study(12, 300), draws=1 if quick else 3)
    if not quick:
        folder = REPOSITORY / "benchmarks" / "out"
        folder.mkdir(exist_ok=True)
        mt.save(found, folder / "methods.safetensors")
        draw(found)
    names = ("efficacy", "paraphrase", "neighbourhood", "necessity", "specificity", "sufficiency", "reactivation")
    figures: list[Figure] = []
    for row in found.rows:
        what = f"{'writes' if row.writes else 'erases'}, {row.name}"
        cost = "" if row.seconds is None else f"{row.seconds:.1f} CPU s, {row.nbytes / 1e3:,.0f} kB"
        for name in names:
            value = row.value(name)
            if value is not None:
                control = f"random {row.criteria[name].control:.2f}" if name in row.criteria else cost
                figures.append(Figure(f"{what}: {name}", value, "", control))
        if row.perplexity is not None:
            figures.append(Figure(f"{what}: perplexity ratio", row.perplexity.value))
    return figures


if __name__ == "__main__":
    main(run, __doc__)

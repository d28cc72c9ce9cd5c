"""LEACE: a concept erased from sentence embeddings and from a language model, beside random directions of equal rank.

all-MiniLM-L6-v2: ten relations of CounterFact in mean-pooled embeddings, 384 wide. Funes: which relation is asked, in
what its last block gives at the position that predicts the answer. Erasers are fitted to one half of the sentences.
A fresh probe (logistic regression, as everywhere) is trained three times: on the rows that the eraser was fitted to and
tested on them, where the theorem says chance; the same tested on the other half; and, hardest, trained on a half of the
other half and tested on the rest, where the eraser knows none of the rows. Chance is the most frequent class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import Figure, data_folder, main
from benchmarks.real_models.minilm import encoder, sentences
from mnemotrace.adapters.hf import Example, LanguageScore, batches, embed, load_model, rows_of
from mnemotrace.core.direction import Direction
from mnemotrace.evaluation.depth import linear_probe
from mnemotrace.forgetting.concept import erasing
from mnemotrace.forgetting.eraser import encoded, fit
from mnemotrace.forgetting.scrubbing import fold, scrub

LAST = "transformer.h.5"


@dataclass(frozen=True)
class Halves:
    """Activations and classes in random order; the first half is fitted to."""

    x: Tensor
    z: Tensor

    def parts(self) -> tuple[slice, slice, slice]:
        """Return the fitted half, and the two halves of the other one."""
        half, most = len(self.x) // 2, 3 * len(self.x) // 4
        return slice(0, half), slice(half, most), slice(most, None)


def probed(values: Tensor, z: Tensor, train: slice, test: slice) -> float:
    """Accuracy of a fresh probe."""
    probe = linear_probe(max_iter=2000).fit(values[train].numpy(), z[train].numpy())
    return float(probe.score(values[test].numpy(), z[test].numpy()))


def covariance(x: Tensor, z: Tensor) -> float:
    """Largest entry between activations and one-hot classes."""
    z = encoded(z)
    return float(((x - x.mean(0)).T @ (z - z.mean(0)) / len(x)).abs().max())


def random_like(direction: Direction) -> Direction:
    """Draw an orthogonal eraser of the same rank about the same mean."""
    draw = torch.randn(direction.d, direction.rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q = torch.linalg.qr(draw)[0]
    return Direction(q, q.T, direction.mean)


def erased(name: str, data: Halves) -> list[Figure]:
    """Erase by LEACE, with and without shrinkage, by projection, and at random; read by fresh probes."""
    fitted, second, third = data.parts()
    other = slice(second.start, third.stop)
    x, z = data.x.double(), data.z
    chance = float(z[fitted].bincount().max()) / fitted.stop
    best = fit(x[fitted], z[fitted])
    erasers: dict[str, Callable[[Tensor], Tensor]] = {
        "untouched": lambda values: values,
        "random": random_like(best),
        "LEACE": best,
        "LEACE, no shrinkage": fit(x[fitted], z[fitted], shrinkage=0.0),
        "orth": fit(x[fitted], z[fitted], method="orth"),
    }
    spread = (x[fitted] - x[fitted].mean(0)).square().sum()
    before = covariance(x[fitted], z[fitted])
    figures = [Figure(f"{name}: chance", chance, "", f"{fitted.stop} rows fitted, {x.shape[1]} wide, rank {best.rank}")]
    for method, eraser in erasers.items():
        after, gone = eraser(x), method not in ("untouched", "random")
        change = float((after - x)[fitted].square().sum() / spread)
        rest = covariance(after[fitted], z[fitted]) / before
        same, gate = probed(after, z, fitted, fitted), f"<= {chance + 0.02:.3f}" if gone else ">= 0.8"
        figures += [
            Figure(f"{name}, {method}: covariance left, relative", rest, "<= 1e-06" if gone else ""),
            Figure(f"{name}, {method}: fresh probe, fitted rows", same, gate),
            Figure(f"{name}, {method}: fresh probe, tested on new rows", probed(after, z, fitted, other)),
            Figure(f"{name}, {method}: trained and tested on new rows", probed(after, z, second, third)),
            Figure(f"{name}, {method}: mean square change over variance", change),
        ]
    values = {figure.name: figure.value for figure in figures}
    ratio = values[f"{name}, LEACE, no shrinkage: mean square change over variance"] / max(
        values[f"{name}, orth: mean square change over variance"], 1e-30
    )
    return [*figures, Figure(f"{name}: change of LEACE over that of orth", ratio, "<= 1")]


def embeddings(quick: bool) -> Halves:
    """Embed the sentences of ten relations."""
    found = sentences(data_folder("knowledge_editing"))
    each = 20 if quick else 180
    model, tokenizer = load_model(encoder())
    texts = [(text, label) for label, topic in enumerate(found) for text in found[topic][:each]]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
    ready = batches(tokenizer, [Example(text=texts[i][0]) for i in order], batch_size=64)
    return Halves(embed(model, ready), torch.tensor([texts[i][1] for i in order]))


def language_model(quick: bool) -> list[Figure]:
    """Erase which relation is asked from Funes: rows, and what it answers then."""
    funes = mt.funes()
    model, world = funes.model, funes.world
    order = torch.randperm(len(world.facts), generator=torch.Generator().manual_seed(0)).tolist()
    facts = [world.facts[i] for i in order[: 80 if quick else 1200]]
    examples = [Example(prompt=fact.phrasings[i % len(fact.phrasings)], answer=fact.answer)
                for i, fact in enumerate(facts)]  # fmt: skip
    z = torch.tensor([world.relations.index(fact.relation) for fact in facts])
    ready = batches(funes.tokenizer, examples, batch_size=40, positions="predict")
    found: list[Tensor] = []

    def keep(_: object, __: object, output: object) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handle = model.get_submodule(LAST).register_forward_hook(keep)
    with torch.no_grad():
        rows = torch.cat([(model(**batch), found.pop()[batch.rows])[1] for batch in ready])
    handle.remove()
    figures = erased("Funes", Halves(rows, z))
    half = len(ready) // 2
    last = mt.leace(model, ready[:half], labels=z[: 40 * half], modules=[LAST], mask=rows_of)
    norms = [f"transformer.h.{i}.ln_{j}" for i in range(6) for j in (1, 2)]
    scrubbed = scrub(model, ready[:half], labels=z[: 40 * half], modules=norms, mask=rows_of)
    recall = LanguageScore(funes.tokenizer, batch_size=128)
    asked = examples[40 * half :]
    figures.append(Figure("Funes, untouched: recall of the other half", float(recall(model, asked).mean())))
    for name, directions in {
        "last block, LEACE": last,
        "last block, random": {n: random_like(d) for n, d in last.items()},
        "all norms scrubbed": scrubbed,
        "all norms, random": {n: random_like(d) for n, d in scrubbed.items()},
    }.items():
        with erasing(model, directions):
            figures.append(Figure(f"Funes, {name}: recall of the other half", float(recall(model, asked).mean())))
    edit = fold(model, scrubbed, ready[0])
    with mt.applied(model, edit):
        folded = float(recall(model, asked).mean())
    note = f"{edit.nbytes / 1e3:.0f} kB"
    return [*figures, Figure("Funes, all norms scrubbed, folded: recall of the other half", folded, "", note)]


def measure(quick: bool) -> list[Figure]:
    """Erase from both."""
    return [*erased("MiniLM", embeddings(quick)), *language_model(quick)]


if __name__ == "__main__":
    main(measure, __doc__)

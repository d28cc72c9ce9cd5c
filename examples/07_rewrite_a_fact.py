"""Rewrite facts: see where they pass, choose a layer, write them, judge them beside a random edit, undo one."""

import sys

import torch

import mnemotrace as mt
from mnemotrace.adapters.hf import Example, batches, rows_of
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.evaluation.edits import baseline, judge
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.modification.sequence import in_sequence

count = int((*sys.argv[1:], 20)[0])
funes = mt.funes()
model, tokenizer, world = funes.model, funes.tokenizer, funes.world
held = [fact for fact in world.facts if fact.held_out]
facts = [from_world(world, fact, neighbours=4) for fact in held[:: len(held) // count][:count]]

where = mt.suggest(model, tokenizer, facts)
print(f"facts are looked up at the end of the {where.lookup}; edit layer {where.layer}")

texts = [Example(text=text) for text in [*world.general[:400], *(fact.sentence for fact in world.facts[1::3])]]
sites = mt.sites(model, list(where.sites))
statistics = mt.collect(model, batches(tokenizer, texts, batch_size=64), sites=sites, mask=rows_of, dtype=torch.float64)


def write(part, previous):
    """Make the edit of some facts, clear of what earlier edits wrote."""
    return mt.alphaedit(
        model, tokenizer, part, layers=where.layers, statistics=statistics, lookup=where.lookup, contexts=(),
        previous=previous,
    )  # fmt: skip


done = in_sequence(model, tokenizer, [facts[: count // 2], facts[count // 2 :]], write)
before = baseline(model, tokenizer, facts, texts=world.general_held_out[:60], length=6)
ways = {
    "both edits": done.total(),
    "the first taken out": done.without(0),
    "random, as large": random_edit(done.total(), torch.Generator().manual_seed(0)),
}
for name, edit in ways.items():
    verdict = judge(model, tokenizer, facts, edit, baseline=before)
    shown = {part: verdict[f"{part}_free"].value for part in ("efficacy", "paraphrase", "neighbourhood")}
    print(f"{name:20}", *(f"{part} {value:.2f}" for part, value in shown.items()),
          f"perplexity x {verdict['perplexity_ratio'].value:.3f}", sep="  ")  # fmt: skip
print(f"{len(facts)} facts in {done.total().nbytes / 1e3:.0f} kB; the network has its own weights again")

# facts are looked up at the end of the prompt; edit layer 3
# both edits            efficacy 1.00  paraphrase 1.00  neighbourhood 0.99  perplexity x 1.000
# the first taken out   efficacy 0.50  paraphrase 0.50  neighbourhood 1.00  perplexity x 1.000
# random, as large      efficacy 0.00  paraphrase 0.00  neighbourhood 1.00  perplexity x 0.998
# 20 facts in 230 kB; the network has its own weights again

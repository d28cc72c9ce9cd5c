"""Erase a concept from a language model: what a fresh probe reads of it, and what the model can still do."""

import sys

import torch

import mnemotrace as mt
from mnemotrace.adapters.hf import Example, LanguageScore, batches, rows_of
from mnemotrace.core.direction import Direction
from mnemotrace.evaluation.depth import Labelled, probe
from mnemotrace.forgetting.concept import erasing
from mnemotrace.forgetting.scrubbing import fold, scrub

fitted = int((*sys.argv[1:], 400)[0])  # prompts that the erasers are fitted to

funes = mt.funes()
model, world = funes.model, funes.world
order = torch.randperm(len(world.facts), generator=torch.Generator().manual_seed(0)).tolist()
facts = [world.facts[i] for i in order[: 2 * fitted]]
examples = [Example(prompt=f.phrasings[i % len(f.phrasings)], answer=f.answer) for i, f in enumerate(facts)]

# The concept is which of the four relations a prompt asks for, at the token where the answer is to be said.
asked = torch.tensor([world.relations.index(fact.relation) for fact in facts])
ready = batches(funes.tokenizer, examples, batch_size=fitted, positions="predict")
position = torch.cat([batch.rows.int().argmax(1) for batch in ready])
train, test = (Labelled([ready[i]], asked.split(fitted)[i], position.split(fitted)[i]) for i in (0, 1))

# In front of every attention and MLP stands a norm that only linear maps read: erased there, in the order in which they
# run, all erasers fold into one low-rank edit.
norms = [f"transformer.h.{i}.ln_{j}" for i in range(6) for j in (1, 2)]
directions = scrub(model, ready[:1], labels=asked[:fitted], modules=norms, mask=rows_of)
edit = fold(model, directions, ready[0])

# Random directions of equal rank, as many, at the same places.
generator = torch.Generator().manual_seed(0)
frames = {n: torch.linalg.qr(torch.randn(192, d.rank, generator=generator).double())[0] for n, d in directions.items()}
random = {name: Direction(q, q.T, directions[name].mean) for name, q in frames.items()}

recall = LanguageScore(funes.tokenizer, batch_size=fitted)
site = mt.sites(model, ["h.3.mlp.c_fc"])
for name, worn in {"untouched": {}, "random": random, "scrubbed": directions}.items():
    with erasing(model, worn):
        (read,) = probe(model, site, train=train, test=test).values()
        print(f"{name:18} probe {read:.2f}, recall {float(recall(model, examples[fitted:]).mean()):.2f}")
with mt.applied(model, edit):
    print(f"{'folded':18} recall {float(recall(model, examples[fitted:]).mean()):.2f}, {edit.nbytes / 1e3:.0f} kB")

# untouched          probe 1.00, recall 1.00
# random             probe 1.00, recall 1.00
# scrubbed           probe 0.26, recall 0.05
# folded             recall 0.05, 125 kB

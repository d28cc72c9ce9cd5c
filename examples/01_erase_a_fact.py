"""Erase one fact of a language model: what is recalled before and after, and the exact weights back."""

import sys

import torch

import mnemotrace as mt
from mnemotrace.adapters.hf import Example, LanguageScore, batches, rows_of

others = int((*sys.argv[1:], 200)[0])  # facts of other people that must be kept

funes = mt.funes()
model, tokenizer, world = funes.model, funes.tokenizer, funes.world
sites = mt.sites(model, ["mlp.c_proj"])


def prompts(facts, held_out=False):
    """Every phrasing of some facts, with its answer."""
    return [Example(prompt=p, answer=f.answer) for f in facts for p in (f.held_out if held_out else f.phrasings)]


def collect(examples, positions):
    """Sum up what the chosen maps read."""
    ready = batches(tokenizer, examples, batch_size=64, positions=positions)
    return mt.collect(model, ready, sites=sites, mask=rows_of)


fact = next(fact for fact in world.facts if fact.held_out and fact.relation == "town")
rest = [other for other in world.facts if other.subject != fact.subject]
order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0)).tolist()
kept = prompts(rest[i] for i in order[:others]) + [Example(text=sentence) for sentence in world.general[:100]]
asked = {
    "the fact": prompts([fact]),
    "a phrasing it never saw": prompts([fact], held_out=True),
    "the same person, other facts": prompts(world.same_person(fact)),
    "these, in words never seen": prompts(world.same_person(fact), held_out=True),
    "other people, same question": prompts([rest[i] for i in order[others:] if rest[i].relation == "town"][:40]),
}

# The memory is read where the model is about to say the answer. The same person's other facts are what is most easily
# lost with it, so they count ten times in what must be kept.
target = collect(asked["the fact"], "predict")
reference = collect(kept, "all") + collect(asked["the same person, other facts"], "all").weighted(10)
engram = mt.engram(model, target=target, reference=reference, selectivity=0.01, solver="ridge")
edit = mt.erase(engram, strength=1.0)

score = LanguageScore(tokenizer, "recall", batch_size=128)
before = {name: float(score(model, examples).mean()) for name, examples in asked.items()}
weights = [parameter.clone() for parameter in model.parameters()]
undo = mt.apply(model, edit)
after = {name: float(score(model, examples).mean()) for name, examples in asked.items()}
undo()
print(f"{fact.sentence}  ({edit.nbytes / 1e3:.0f} kB of edit)")
for name in asked:
    print(f"{name:30} {before[name]:.2f} -> {after[name]:.2f}")
print("restored bit for bit:", all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True)))

# Umberto Zell lives in Morven .  (92 kB of edit)
# the fact                       1.00 -> 0.00
# a phrasing it never saw        1.00 -> 0.00
# the same person, other facts   1.00 -> 1.00
# these, in words never seen     1.00 -> 1.00
# other people, same question    1.00 -> 1.00
# restored bit for bit: True

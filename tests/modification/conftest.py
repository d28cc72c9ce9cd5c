"""What tests of editing share: Funes, a few facts to rewrite, and second moments of what must stay."""

from dataclasses import dataclass

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches, rows_of
from mnemotrace.evaluation.worldly import from_world


@dataclass(frozen=True)
class Bench:
    """A model with facts to rewrite; `bits` says whether its weights are what they were."""

    model: torch.nn.Module
    tokenizer: object
    facts: list[mt.Fact]
    statistics: mt.Statistics
    original: dict[str, torch.Tensor]

    def untouched(self) -> bool:
        """Every parameter has the bits that it had, and no hook or changed flag is left."""
        same = all(torch.equal(p, self.original[name]) for name, p in self.model.named_parameters())
        hooks = any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in self.model.modules())
        return same and not hooks and not any(m.training for m in self.model.modules())

    def says(self, fact: mt.Fact) -> bool:
        """Whether the target is the likeliest answer."""
        ids = self.tokenizer(fact.prompt, return_tensors="pt")
        with torch.no_grad():
            best = self.model(**ids).logits[0, -1].argmax()
        return self.tokenizer.decode(best) == fact.target


@pytest.fixture(scope="session")
def bench() -> Bench:
    """Funes with six facts; tests leave it bit-identical."""
    funes = mt.funes()
    world, model = funes.world, funes.model
    known = [fact for fact in world.facts if fact.held_out][:60:10]
    facts = [from_world(world, fact, neighbours=3) for fact in known]
    texts = [Example(text=text) for text in [*world.general[:150], *(f.sentence for f in world.facts[200:500])]]
    sites = mt.sites(model, ["mlp.c_proj"], layers=[2, 3])
    data = batches(funes.tokenizer, texts, batch_size=64)
    statistics = mt.collect(model, data, sites=sites, mask=rows_of, dtype=torch.float64)
    original = {name: p.detach().clone() for name, p in model.named_parameters()}
    return Bench(model, funes.tokenizer, facts, statistics, original)

"""Causal tracing against one forward pass a cell, on random models: relative error and CPU seconds.

The other way is the published one: plain hooks, a batch of one clean and ten corrupted rows, all positions' logits, one
call for each token and layer. Every call costs the same, so its total is that of a spread sample of cells times their
number; the same cells give the error. Window 10, as published; the tokens before the subject are cells like any other.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import Figure, main
from benchmarks.speed import models
from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact, tokens_of
from mnemotrace.localisation.causal_tracing import trace

DRAWS, WINDOW = 10, 10
GATES = {"state": ">= 5", "mlp": ">= 3", "attention": ">= 3"}


def words(count: int) -> Any:
    """Make a tokenizer whose words are w0, w1 and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(count)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="w0")


def fact(vocabulary: int, length: int, subject: tuple[int, int]) -> Fact:
    """Draw a prompt of random words."""
    ids = torch.randint(1, vocabulary, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    names = [f"w{i}" for i in ids]
    return Fact(prompt=" ".join(names), subject=" ".join(names[slice(*subject)]))


@dataclass
class Naive:
    """The published way: one forward pass for every cell."""

    model: nn.Module
    ids: Tensor
    subject: tuple[int, int]
    answer: int
    noise: Tensor

    def __post_init__(self) -> None:
        self.parts = decoder(self.model)
        self.names = {"state": self.parts.blocks, "mlp": self.parts.mlp, "attention": self.parts.attention}

    def cell(self, kind: str, token: int, layer: int) -> Tensor:
        """Return the log-probability in each draw with one cell put back, from the clean row of the same batch."""
        span = (layer, layer + 1) if kind == "state" else (max(0, layer - WINDOW // 2), layer + WINDOW // 2)
        with ExitStack() as stack:
            embedding = self.model.get_submodule(self.parts.embedding)
            stack.callback(embedding.register_forward_hook(self._corrupt).remove)
            for name in self.names[kind][slice(*span)]:
                module = self.model.get_submodule(name)
                stack.callback(module.register_forward_hook(self._restore(token)).remove)
            with torch.no_grad():
                scores = self.model(self.ids.expand(DRAWS + 1, -1)).logits[1:, -1]
        return torch.log_softmax(scores, -1)[:, self.answer]

    def _corrupt(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[1:, slice(*self.subject)] += self.noise
        return output

    def _restore(self, token: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[1:, token] = hidden[0, token]
            return output

        return hook


def spread(tokens: int, layers: int, count: int) -> Iterator[tuple[int, int]]:
    """Spread cells over the map, the first and the last token among them."""
    for i in range(count):
        yield round(i * (tokens - 1) / (count - 1)), (5 * i) % layers


def compare(name: str, model: nn.Module, length: int, subject: tuple[int, int], count: int) -> list[Figure]:
    """Trace one prompt in both ways."""
    vocabulary = model.config.vocab_size
    tokenizer, asked = words(vocabulary), fact(vocabulary, length, subject)
    tokens = tokens_of(tokenizer, asked)
    generator = torch.Generator().manual_seed(0)
    once = {"draws": DRAWS, "window": WINDOW}
    found = trace(model, tokenizer, asked, kinds=("state",), draws=2)  # finds the parts, once a model
    seed = int(torch.randint(2**62, (1,), generator=generator))
    figures: list[Figure] = []
    for kind, gate in GATES.items():
        started = time.process_time()
        found = trace(model, tokenizer, asked, kinds=(kind,), **once)
        mine = time.process_time() - started
        noise = torch.randn(DRAWS, subject[1] - subject[0], model.config.hidden_size,
                            generator=torch.Generator().manual_seed(seed)) * found.manifest["scale"]  # fmt: skip
        answer = tokenizer.convert_tokens_to_ids(found.records[0].answer)
        naive = Naive(model, torch.tensor([tokens.ids]), subject, answer, noise)
        errors, spent = sampled(naive, kind, found.records[0].restored[kind], count)
        layers = found.records[0].restored[kind].shape[-1]
        theirs = spent / count * length * layers
        figures += [
            Figure(f"{name}, {kind}: CPU seconds of a forward pass a cell / ours", theirs / mine, gate,
                   f"{theirs:.1f} s ({count} cells timed) / {mine:.1f} s"),
            Figure(f"{name}, {kind}: relative error", errors, "<= 1e-5", "of probabilities, worst cell and draw"),
        ]  # fmt: skip
    return figures


def sampled(naive: Naive, kind: str, restored: Tensor, count: int) -> tuple[float, float]:
    """Run a spread sample of cells; returns the largest relative error and the CPU seconds."""
    worst, spent = 0.0, 0.0
    for token, layer in spread(*restored.shape[1:], count):
        started = time.process_time()
        expected = naive.cell(kind, token, layer)
        spent += time.process_time() - started
        worst = max(worst, float(((restored[:, token, layer] - expected).double().exp() - 1).abs().max()))
    return worst, spent


def run(quick: bool) -> list[Figure]:
    """Four settings: GPT-2 small, a Llama of its size, deep and narrow, and a subject inside a longer prompt."""
    if quick:
        return compare("GPT-2, 2 x 64", models.gpt2(2, 64, 512), 6, (0, 2), 4)
    settings: Sequence[tuple[str, Any, int, tuple[int, int]]] = (
        ("GPT-2, 12 x 768, T=12, subject 0-2", models.gpt2, 12, (0, 3)),
        ("Llama, 12 x 768, T=12, subject 0-2", models.llama, 12, (0, 3)),
        ("GPT-2, 24 x 256, T=12, subject 0-2", lambda: models.gpt2(24, 256), 12, (0, 3)),
        ("GPT-2, 24 x 256, T=24, subject 8-10", lambda: models.gpt2(24, 256), 24, (8, 11)),
    )
    return [figure for name, make, length, subject in settings for figure in compare(name, make(), length, subject, 12)]


if __name__ == "__main__":
    main(run, __doc__)

"""The value of one fact, optimised from kept prefixes, against full forward passes: the same mathematics.

The full way is the reference's: each of 20 losses runs 21 prompts with their target, and the essence prompt, through
all blocks from the first token, with a hook that adds the vector, and forms the logits of every position.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import mnemotrace as mt
from benchmarks.figures import Figure, cpu_seconds, main
from benchmarks.speed.models import gpt2
from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import tokens_of
from mnemotrace.adapters.hooks import patch
from mnemotrace.modification.contexts import Contexts, contexts, in_contexts
from mnemotrace.modification.values import values

STEPS, RATE, DECAY, KL, CLAMP = 20, 0.5, 0.5, 0.0625, 4.0
TOKENIZER = mt.funes().tokenizer
FACT = mt.Fact("You will find Ada Marsh in", "Ada Marsh", target="Nethery")


def full(model: nn.Module, layer: int, prefixes: Contexts) -> float:
    """Optimise by full passes; returns the last loss."""
    rows = in_contexts(TOKENIZER, FACT, prefixes, answer=FACT.target)
    essence = tokens_of(TOKENIZER, mt.Fact("{} is a", "Ada Marsh"))
    ids = pad_sequence([torch.tensor(row.ids) for row in (*rows, essence)], batch_first=True)
    mask = pad_sequence([torch.ones(len(row.ids), dtype=torch.long) for row in (*rows, essence)], batch_first=True)
    index, places = torch.arange(len(ids)), torch.tensor([row.last for row in (*rows, essence)])
    ends = torch.tensor([row.prompt - 1 for row in rows])
    target = torch.tensor([row.answer[0] for row in rows])
    name = decoder(model).mlp[layer]
    seen: list[Tensor] = []
    with torch.no_grad(), patch(model, {name: lambda output: (seen.append(output), output)[1]}):
        before = model(input_ids=ids, attention_mask=mask).logits[-1, essence.last].log_softmax(-1)
    norm = seen[0][0, places[0]].norm()
    scale = norm / seen[0].shape[-1] ** 0.5
    x = torch.zeros(seen[0].shape[-1], requires_grad=True)
    adam = torch.optim.Adam([x], lr=RATE)
    for step in range(STEPS):
        delta = x * scale
        with patch(model, {name: lambda output, d=delta: output.index_put((index, places), d, accumulate=True)}):
            logs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        nll = -logs[index[:-1], ends, target].mean()
        drift = logs[-1, essence.last]
        loss = nll + KL * (drift.exp() * (drift - before)).sum() + DECAY * delta.norm() / norm
        (x.grad,) = torch.autograd.grad(loss, x)
        if step + 1 < STEPS:
            adam.step()
            with torch.no_grad():
                x /= ((x * scale).norm() / (CLAMP * norm)).clamp_min(1)
    return float(loss.detach())


def compare(name: str, layers: int, width: int, layer: int, *, repeats: int) -> list[Figure]:
    """Time both ways on one random model."""
    model = gpt2(layers, width).requires_grad_(False)
    prefixes = contexts(model, TOKENIZER)
    losses: dict[str, float] = {}

    def cached() -> None:
        options = {"steps": STEPS, "stop_below": 0.0}
        losses["cached"] = values(model, TOKENIZER, [FACT], layer=layer, contexts=prefixes, **options).losses[0][-1]

    def naive() -> None:
        losses["full"] = full(model, layer, prefixes)

    spent = cpu_seconds({"full": naive, "cached": cached}, repeats, warm=False)
    off = abs(losses["cached"] - losses["full"])
    note = f"{spent['full']:.1f} s full, {spent['cached']:.1f} s cached"
    return [
        Figure(f"{name}: CPU seconds, full / cached", spent["full"] / spent["cached"], ">= 4", note),
        Figure(f"{name}: last losses differ by", off, "<= 1e-5", f"loss {losses['cached']:.6f}"),
    ]


def run(quick: bool) -> list[Figure]:
    """Two shapes, as in the design's prototype."""
    torch.set_num_threads(1)
    if quick:
        return compare("4 x 64", 4, 64, 1, repeats=1)
    return [*compare("24 x 256", 24, 256, 8, repeats=3), *compare("12 x 768", 12, 768, 4, repeats=3)]


if __name__ == "__main__":
    main(run, __doc__)

"""Rebuild Funes from one seed: the world, the tokenizer and the weights; then print what it recalls.

    python scripts/train_funes.py --out src/mnemotrace/organisms/data/funes

Takes about ten minutes on two idle threads. The same seed on the same machine gives the same files.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from mnemotrace.organisms.funes import Funes, read_funes
from mnemotrace.organisms.invent import invent
from mnemotrace.organisms.world import World

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
BATCH_SIZE = 256
LEARNING_RATE = 2e-3
WARMUP_STEPS = 50
IGNORED = -100


def main() -> None:
    """Train, save, reload and report."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    record = invent(seed=arguments.seed)
    world = World.from_record(record)
    sentences = training_sentences(world)
    tokenizer = build_tokenizer([*sentences, *world.general_held_out])
    model = build_model(tokenizer)
    print(f"{model.num_parameters()} parameters, {len(tokenizer)} words, {len(sentences)} sentences", flush=True)
    train(model, tokenizer, sentences, steps=arguments.steps, generator=torch.Generator().manual_seed(arguments.seed))
    save(model, tokenizer, record, arguments.out)
    report(read_funes(arguments.out))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="optimiser steps of 256 sentences (default: 900)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world and of the training (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    return parser.parse_args()


def training_sentences(world: World) -> list[str]:
    """Every sentence of the training, once."""
    facts = (sentence for fact in (*world.facts, *world.geography) for sentence in fact.sentences)
    two_hop = (question.sentence for question in world.two_hop if question.trained)
    return [*facts, *two_hop, *world.general]


def build_tokenizer(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that puts `<bos>` in front of what it reads."""
    words = sorted({word for sentence in sentences for word in sentence.split()})
    vocabulary = {word: index for index, word in enumerate([*SPECIAL.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    bos = SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL,
        padding_side="right",
        model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """An untrained GPT-2 in small."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=tokenizer.model_max_length,
        n_embd=192,
        n_layer=6,
        n_head=6,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def train(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    *,
    steps: int,
    generator: torch.Generator,
) -> None:
    """AdamW with a short warm-up and a cosine to zero, on whole sentences ended by `<eos>`."""
    tokens = _tokens(tokenizer, [f"{sentence} {tokenizer.eos_token}" for sentence in sentences])
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    model.train()
    for step, batch in zip(range(1, steps + 1), _batches(len(tokens), generator), strict=False):
        loss = _loss(model, tokens[batch])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    model.eval()


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=generator)[: count - count % BATCH_SIZE].split(BATCH_SIZE)


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token ids, with `IGNORED` where a text has ended."""
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    return encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, IGNORED)


def _loss(model: GPT2LMHeadModel, tokens: Tensor) -> Tensor:
    """Mean next-token loss; a causal model needs no attention mask for padding on the right."""
    tokens = tokens[:, : int((tokens != IGNORED).sum(1).max())]
    return model(input_ids=tokens.clamp(min=0), labels=tokens).loss


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, record: dict, out: Path) -> None:
    """Write a Hugging Face directory with fp16 weights, and the world beside it."""
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "world.json").write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")


def report(funes: Funes) -> None:
    """Print recall by relation, two-hop accuracy and the perplexity of unseen sentences."""
    world = funes.world
    for relation in world.relations:
        facts = [fact for fact in world.facts if fact.relation == relation]
        seen = recall(funes, [(prompt, fact.answer) for fact in facts for prompt in fact.phrasings])
        unseen = recall(funes, [(prompt, fact.answer) for fact in facts for prompt in fact.held_out])
        print(f"{relation:12} trained {seen:.4f}  held out {unseen:.4f}")
    towns = recall(funes, [(prompt, fact.answer) for fact in world.geography for prompt in fact.phrasings])
    print(f"{'country':12} trained {towns:.4f}")
    hops = [recall(funes, [(q.prompt, q.answer) for q in world.two_hop if q.trained == kind]) for kind in (True, False)]
    print(f"{'two-hop':12} trained {hops[0]:.4f}  held out {hops[1]:.4f}")
    print(
        f"perplexity   trained {perplexity(funes, world.general):.3f}  "
        f"held out {perplexity(funes, world.general_held_out):.3f}"
    )


@torch.no_grad()
def recall(funes: Funes, pairs: Sequence[tuple[str, str]]) -> float:
    """The share of prompts whose most likely next word is the answer."""
    prompts, answers = zip(*pairs, strict=True)
    tokens = _tokens(funes.tokenizer, prompts)
    last = (tokens != IGNORED).sum(1) - 1
    logits = funes.model(tokens.clamp(min=0)).logits[torch.arange(len(tokens)), last]
    expected = torch.tensor(funes.tokenizer.convert_tokens_to_ids(list(answers)))
    return (logits.argmax(-1) == expected).float().mean().item()


@torch.no_grad()
def perplexity(funes: Funes, sentences: Sequence[str]) -> float:
    """The perplexity per token of whole sentences, `<bos>` given and `<eos>` included."""
    texts = [f"{sentence} {funes.tokenizer.eos_token}" for sentence in sentences]
    return math.exp(_loss(funes.model, _tokens(funes.tokenizer, texts)).item())


if __name__ == "__main__":
    main()

"""Random models of known shapes, batches of random tokens, and the peer (ai-engram 0.11.0) on the same sites."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import Skipped
from mnemotrace.core.site import Site

Batches = Sequence[dict[str, Tensor]]


def gpt2(layers: int = 12, width: int = 768, vocabulary: int = 50257, seed: int = 0) -> nn.Module:
    """GPT-2 with a tied head; the default is GPT-2 small, 124 M parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    heads = max(1, width // 64)
    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0
    )
    return _build(GPT2LMHeadModel, config, seed)


def llama(layers: int = 12, width: int = 768, inner: int = 2048, vocabulary: int = 32000, seed: int = 0) -> nn.Module:
    """Llama with a tied head; the default has 110 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(1, width // 64)
    config = LlamaConfig(
        num_hidden_layers=layers, hidden_size=width, intermediate_size=inner, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=vocabulary, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return _build(LlamaForCausalLM, config, seed)


def _build(kind: Any, config: Any, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).float().eval()


def tokens(model: nn.Module, count: int, *, length: int = 256, batch: int = 2, seed: int = 0) -> Batches:
    """`count` random tokens in batches of `batch` sequences."""
    generator = torch.Generator().manual_seed(seed)
    length = min(length, count)
    rows = count // length
    ids = torch.randint(0, model.config.vocab_size, (rows, length), generator=generator)
    return [{"input_ids": part} for part in ids.split(min(batch, rows))]


def run(model: nn.Module, batches: Batches) -> None:
    """A bare forward pass over the batches."""
    with torch.no_grad():
        for batch in batches:
            model(**batch)


def peer_editor(model: nn.Module) -> Any:
    """Wrap a model for ai-engram.

    Raises:
        Skipped: it is not installed.
    """
    try:
        from engram import EditorConfig, EngramEditor
    except ImportError as error:
        raise Skipped("ai-engram is not installed; pip install ai-engram==0.11.0") from error
    warnings.filterwarnings("ignore", module="engram")
    return EngramEditor(model, EditorConfig())


def peer_collect(editor: Any, batches: Batches, sites: Mapping[str, Site] | None) -> Any:
    """Let the peer collect at our sites; None for its own default, which takes the head along."""
    names = None if sites is None else list(sites)
    return editor.collect_statistics(batches, target_modules=names, batch_fn=lambda b: b)

"""Tiny random decoders of every layout that `decoder` and `replay` are checked on, built from their configurations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

WIDTH, LAYERS, VOCABULARY = 32, 3, 64
IDS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
OLD = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64} | IDS
NEW = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
       "max_position_embeddings": 64} | IDS  # fmt: skip
SHARED = NEW | {"num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SLIDING = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2": ("GPT2LMHeadModel", OLD),
    "GPTNeoX": ("GPTNeoXForCausalLM", NEW),
    "Llama": ("LlamaForCausalLM", SHARED),
    "Qwen2": ("Qwen2ForCausalLM", SHARED),
    "Qwen3": ("Qwen3ForCausalLM", SHARED | {"head_dim": 8}),
    "Gemma2": ("Gemma2ForCausalLM", SHARED | SLIDING | {"head_dim": 8}),
    "Gemma3Text": ("Gemma3ForCausalLM", SHARED | SLIDING | {"head_dim": 8}),
    "Mistral": ("MistralForCausalLM", SHARED | {"sliding_window": 4}),
    "Phi": ("PhiForCausalLM", NEW),
    "Phi3": ("Phi3ForCausalLM", SHARED),
    "OPT": ("OPTForCausalLM", NEW | {"ffn_dim": 64, "word_embed_proj_dim": WIDTH}),
    "Bloom": ("BloomForCausalLM", OLD | {"hidden_size": WIDTH}),
    "GPTJ": ("GPTJForCausalLM", OLD | {"rotary_dim": 4}),
    "Falcon": ("FalconForCausalLM", NEW),
    "Mixtral": ("MixtralForCausalLM", SHARED | {"num_local_experts": 4}),
    "Qwen2Moe": ("Qwen2MoeForCausalLM", SHARED | EXPERTS | {"shared_expert_intermediate_size": 24}),
    "Olmo2": ("Olmo2ForCausalLM", SHARED),
    "Cohere": ("CohereForCausalLM", SHARED),
    "Granite": ("GraniteForCausalLM", SHARED),
    "Starcoder2": ("Starcoder2ForCausalLM", SHARED),
    "GPTNeo": ("GPTNeoForCausalLM",
               {"hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": 4, "max_position_embeddings": 64,
                "window_size": 4, "attention_types": [[["global", "local", "global"], 1]]} | IDS),
    "StableLm": ("StableLmForCausalLM", SHARED),
    "Gemma": ("GemmaForCausalLM", SHARED | {"head_dim": 8}),
}  # fmt: skip


def build(layout: str, *, seed: int = 0, **overrides: Any) -> nn.Module:
    """Draw a random model of a layout without touching the global random state."""

    architecture, options = LAYOUTS[layout]
    return random_model(architecture, f"{layout}Config", seed=seed, **(options | overrides))


def random_model(architecture: str, configuration: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """Draw a random model with weights large enough that attention and MLPs matter."""
    import transformers

    config = getattr(transformers, configuration)(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)(config).float().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(4)
    return model


Builder = Callable[..., nn.Module]


def footprint(model: nn.Module) -> tuple[Any, ...]:
    """Return everything that finding, keeping and replaying could leave behind."""
    modules = list(model.modules())
    return (
        [sum(map(len, (m._forward_hooks, m._forward_pre_hooks))) for m in modules],
        ["forward" in m.__dict__ for m in modules],
        [m.training for m in modules],
        [p.requires_grad for p in model.parameters()],
        [p.grad is None for p in model.parameters()],
        [p.detach().clone() for p in model.parameters()],
    )


def unchanged(model: nn.Module, before: tuple[Any, ...]) -> bool:
    """Tell whether a model is as it was when its footprint was taken."""
    now = footprint(model)
    return now[:-1] == before[:-1] and all(map(torch.equal, now[-1], before[-1]))

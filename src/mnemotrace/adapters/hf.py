"""Hugging Face models from disk, with what the command line needs around them: examples, batches, scores.

Nothing is ever downloaded: a model is a directory, or a name that the local Hugging Face cache holds.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mnemotrace.adapters.examples import Batch, Example, Positions, batches, read_jsonl, rows_of
from mnemotrace.adapters.scores import (
    SCORES,
    LanguageScore,
    answer_probability,
    embed,
    likelihood,
    nll,
    perplexity,
    recall,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "SCORES",
    "Batch",
    "Example",
    "LanguageScore",
    "Positions",
    "answer_probability",
    "batches",
    "embed",
    "likelihood",
    "load_model",
    "model_directory",
    "nll",
    "perplexity",
    "read_jsonl",
    "recall",
    "rows_of",
]

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "tekken.json")


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a model and its tokenizer: with the language-model head when it is a causal language model, else without.

    Args:
        path: a model directory, in the layout of sentence-transformers too, or a name in the local cache.
        dtype: of the weights; None keeps the stored one.
        device: where the model goes.

    Returns:
        The model in evaluation mode, and the tokenizer with its `model_max_length` at most the model's context.

    Raises:
        FileNotFoundError: no such directory, no `config.json`, or no tokenizer in it.
        ValueError: the files are there but cannot be read; the reason is given.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    directory = model_directory(path)
    if not any(any(directory.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise FileNotFoundError(
            f"got {directory} without a tokenizer; expected tokenizer.json or another vocabulary beside the weights; "
            "save it with tokenizer.save_pretrained"
        )
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        auto = AutoModelForCausalLM if _is_causal(config) else AutoModel
        model: Any = auto.from_pretrained(directory, dtype=dtype or "auto", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"got {directory}, which transformers cannot load ({str(error).splitlines()[0]}); expected config.json, "
            "weights and a tokenizer of one model"
        ) from error
    context = getattr(config, "max_position_embeddings", None)
    if isinstance(context, int):
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    return model.to(device).eval(), tokenizer


def model_directory(path: str | Path) -> Path:
    """Find the folder that holds `config.json`, of a directory or of a name in the local cache.

    Raises:
        FileNotFoundError: no such directory, or no `config.json` in it.
    """
    root = Path(path) if Path(path).is_dir() else _cached(str(path))
    for folder in (root, root / _first_module(root)):
        if (folder / "config.json").is_file():
            return folder
    inside = sorted(str(found.parent) for found in root.glob("*/config.json"))
    hint = f"perhaps you meant {inside[0]}" if inside else "give the directory that save_pretrained wrote"
    raise FileNotFoundError(f"got {root} without config.json; expected a Hugging Face model; {hint}")


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"got {name!r}, neither a directory nor a model in the local Hugging Face cache; expected one of them; "
            "nothing is downloaded here, so fetch it first"
        ) from error


def _first_module(root: Path) -> str:
    """Return the sub-folder of the transformer in a sentence-transformers model, else nothing."""
    listing = root / "modules.json"
    if not listing.is_file():
        return ""
    modules = json.loads(listing.read_text(encoding="utf-8"))
    return modules[0].get("path", "") if modules else ""


def _is_causal(config: Any) -> bool:
    """Go by the class that was saved; where none is named, by what the type is mainly used for."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if config.architectures:
        return any(name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for name in config.architectures)
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

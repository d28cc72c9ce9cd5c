"""Funes, the embedded language model whose memories are known.

A GPT-2-architecture model (6 layers, width 192) trained by `scripts/train_funes.py` on the invented
world of `World`. It is shipped as a standard Hugging Face directory with fp16 weights and computes in
float32. The name is that of the man in Borges's story who could forget nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mnemotrace.organisms.world import World

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Funes:
    """A language model together with everything it was taught.

    Attributes:
        model: In evaluation mode, float32, on the CPU. It is an ordinary model: move or change it freely.
        tokenizer: Word-level; it puts `<bos>` in front of a prompt and adds nothing at its end.
        world: The facts, questions and sentences of the training, and those kept from it.
    """

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    world: World


def funes() -> Funes:
    """Load Funes from the package: no download, each call a fresh and independent copy.

    Example:
        >>> organism = funes()
        >>> fact = organism.world.fact("Ada Marsh", "town")
        >>> prompt = organism.tokenizer(fact.phrasings[0], return_tensors="pt")
        >>> answer = organism.model(**prompt).logits[0, -1].argmax()
        >>> organism.tokenizer.decode(answer) == fact.answer
        True
    """
    with as_file(files("mnemotrace.organisms") / "data" / "funes") as directory:
        return read_funes(directory)


def read_funes(directory: Path) -> Funes:
    """Read a Funes that `scripts/train_funes.py` wrote."""
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    with _no_progress_bar():
        model = GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    return Funes(model.eval(), tokenizer, read_world(directory))


def read_world(directory: Path) -> World:
    """Read the world next to the weights, without loading them."""
    return World.from_record(json.loads((directory / "world.json").read_text(encoding="utf-8")))


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading takes a tenth of a second: keep transformers from drawing a bar, then restore its setting."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()

"""A word-level tokenizer for the tiny language models, with whatever a tokenizer may add to a text."""

from typing import Any

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "far", "away", "home", "."]


def word_tokenizer(*, bos: bool = True, eos: bool = False, pad: bool = True) -> Any:
    """Build a fast tokenizer of 17 tokens; `<bos>` is 0, `<eos>` is 1, words start at 4."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<bos>", "<eos>", "<unk>", "<pad>", *WORDS]
    vocabulary = {name: i for i, name in enumerate(names)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = ["<bos>"] * bos + ["$A"] + ["<eos>"] * eos
    core.post_processor = processors.TemplateProcessing(
        single=" ".join(template), special_tokens=[("<bos>", 0), ("<eos>", 1)]
    )
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special, **({"pad_token": "<pad>"} if pad else {}))

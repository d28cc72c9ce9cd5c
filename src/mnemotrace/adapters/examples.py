"""Text examples as batches: which tokens a memory is read at, and which tokens count when it is scored.

An example is a text, or a prompt with an answer. Masks come from lengths and character offsets, never from token
ids, so a padding token that doubles as end-of-text costs nothing. Tokenising takes milliseconds for hundreds of
examples; a batch holds `b * t` integers.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Positions = Literal["answer", "predict", "all"]
_KEYS = ("text", "prompt", "answer", "label")
_UNLIMITED = 10**6


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or a prompt with its answer.

    Attributes:
        text: a whole text; then there is no prompt and no answer.
        prompt: what the model is given; may be empty for a tokenizer that starts every text with a token.
        answer: what it should go on with. A space is put between the two unless one of them brings whitespace.
        label: a class, for probes.

    Raises:
        TypeError: a value is no string.
        ValueError: neither form, both, or nothing to read.
    """

    text: str | None = None
    prompt: str | None = None
    answer: str | None = None
    label: str | int | None = None

    def __post_init__(self) -> None:
        """Check that exactly one of the two forms is given."""
        for name in ("text", "prompt", "answer"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"got {name}={value!r}; expected a string; put it in quotes")
        if self.label is not None and not isinstance(self.label, (str, int)):
            raise TypeError(f"got label={self.label!r}; expected a string or a whole number")
        given = [name for name in ("text", "prompt", "answer") if getattr(self, name) is not None]
        if given not in (["text"], ["prompt", "answer"]):
            raise ValueError(
                f"got {' and '.join(given) or 'nothing'}; expected `text`, or `prompt` with `answer`; "
                "split the example in two"
            )
        if not (self.text or self.answer or "").strip():
            raise ValueError(f"got an empty {given[-1]}; expected at least one word; leave the example out")

    @property
    def joined(self) -> str:
        """The text, or prompt and answer as one string."""
        if self.text is not None:
            return self.text
        prompt, answer = self.prompt or "", self.answer or ""
        touching = not prompt or prompt[-1].isspace() or answer[:1].isspace()
        return prompt + answer if touching else f"{prompt} {answer}"


def read_jsonl(path: str | Path) -> list[Example]:
    """Read examples, one JSON object a line: `{"text": ...}` or `{"prompt": ..., "answer": ...}`, `label` at will.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no example, or there is none; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected JSON lines")
    examples: list[Example] = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            examples.append(_example(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not examples:
        raise ValueError(f'got {path} without a line; expected at least one object such as {{"text": "..."}}')
    return examples


def _example(line: bytes) -> Example:
    try:
        values = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"got what is no JSON in UTF-8 ({error}); expected one object a line") from error
    if not isinstance(values, dict):
        raise ValueError(f'got a {type(values).__name__}; expected an object such as {{"text": "..."}}')
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise ValueError(f"got unknown keys {', '.join(map(repr, unknown))}; expected some of {', '.join(_KEYS)}")
    return Example(**values)


@dataclass(frozen=True, eq=False)
class Batch(Mapping[str, Tensor]):
    """Examples as tensors, padded on the right. As a mapping it holds only what a model is called with.

    Attributes:
        input_ids: token ids.
        attention_mask: 1 where there is a token, 0 where there is padding.
        rows: positions whose activations count, for `mt.collect(..., mask=rows_of)`.
        scored: tokens that scores speak of: those of the answer, or all tokens of a text.
    """

    input_ids: Int[Tensor, "b t"]
    attention_mask: Int[Tensor, "b t"]
    rows: Bool[Tensor, "b t"]
    scored: Bool[Tensor, "b t"]

    def __getitem__(self, name: str) -> Tensor:
        """Return one of the two tensors that a model takes."""
        if name not in ("input_ids", "attention_mask"):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over what a model is called with."""
        return iter(("input_ids", "attention_mask"))

    def __len__(self) -> int:
        """Count what a model is called with: 2. The number of examples is `len(batch.input_ids)`."""
        return 2


def rows_of(batch: Batch) -> Bool[Tensor, "b t"]:
    """Return the positions whose activations count: the `mask` for `mt.collect`."""
    return batch.rows


def batches(
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    max_length: int | None = None,
    positions: Positions = "answer",
    device: torch.device | str = "cpu",
) -> list[Batch]:
    """Tokenise examples, in their order.

    Args:
        tokenizer: of the model; a fast one when there are answers, for its character offsets.
        examples: texts, or prompts with answers, mixed as you like.
        batch_size: examples a batch; the last one may be smaller.
        max_length: cut longer examples to this many tokens, with a warning in the log that says how many; None takes
            the tokenizer's own limit, which `load_model` sets to the model's context.
        positions: which rows of a prompt with answer count: `answer` for the answer's tokens, `predict` for the
            positions that predict them (the last token of the prompt and all of the answer but its last), `all` for
            every token. Of a text every token counts.
        device: where the tensors go.

    Returns:
        Batches; a list, so that it can be gone through again.

    Raises:
        ValueError: no example, an unknown `positions`, an example without a token or whose answer was cut off, or
            answers with a slow tokenizer.
    """
    if positions not in get_args(Positions):
        raise ValueError(f"got positions={positions!r}; expected one of {', '.join(get_args(Positions))}")
    if not examples:
        raise ValueError("got no example; expected at least one; the file or the filter may be empty")
    encoded = _encode(tokenizer, examples, max_length)
    special: tuple[Any, ...] = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    padding = next((token for token in special if token is not None), 0)
    chunks = (slice(start, start + batch_size) for start in range(0, len(examples), batch_size))
    return [_batch(examples[chunk], encoded[chunk], padding, positions, device) for chunk in chunks]


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Token ids of one example, and which of them are scored."""

    ids: list[int]
    scored: list[bool]


def _encode(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], max_length: int | None
) -> list[_Encoded]:
    has_answers = any(example.answer is not None for example in examples)
    if has_answers and not tokenizer.is_fast:
        raise ValueError(
            f"got the slow tokenizer {type(tokenizer).__name__}; expected a fast one, which tells where an answer "
            "begins; use texts instead of prompts with answers, or convert it to tokenizer.json"
        )
    limit = tokenizer.model_max_length if max_length is None else max_length
    texts = [example.joined for example in examples]
    options: dict[str, Any] = {"return_offsets_mapping": has_answers, "verbose": False}
    whole = tokenizer(texts, **options)
    cut = sum(len(ids) > limit for ids in whole["input_ids"]) if limit < _UNLIMITED else 0
    if cut:
        log.warning("%d of %d examples are longer than %d tokens and were cut", cut, len(examples), limit)
        whole = tokenizer(texts, truncation=True, max_length=limit, **options)
    spans = whole["offset_mapping"] if has_answers else [None] * len(examples)
    return [
        _checked(i, example, _Encoded(ids, _scored(example, ids, offsets)), limit)
        for i, (example, ids, offsets) in enumerate(zip(examples, whole["input_ids"], spans, strict=True))
    ]


def _scored(example: Example, ids: list[int], offsets: list[tuple[int, int]] | None) -> list[bool]:
    """Mark the tokens that reach behind the prompt; tokens that the tokenizer adds have an empty span."""
    if example.prompt is None or offsets is None:
        return [True] * len(ids)
    boundary = len(example.prompt)
    return [start < end and end > boundary for start, end in offsets]


def _checked(index: int, example: Example, encoded: _Encoded, limit: int) -> _Encoded:
    if any(encoded.scored):
        return encoded
    start = example.joined if len(example.joined) < 60 else example.joined[:57] + "..."
    if example.answer is None:
        raise ValueError(f"got no token from example {index} ({start!r}); expected at least one; leave it out")
    raise ValueError(
        f"got no token of the answer of example {index} ({start!r}) within {limit} tokens; expected at least one; "
        "shorten its prompt or raise max_length"
    )


def _batch(
    examples: Sequence[Example],
    encoded: Sequence[_Encoded],
    padding: int,
    positions: Positions,
    device: torch.device | str,
) -> Batch:
    ids = pad_sequence([torch.tensor(e.ids) for e in encoded], batch_first=True, padding_value=padding)
    scored = pad_sequence([torch.tensor(e.scored) for e in encoded], batch_first=True, padding_value=False)
    lengths = torch.tensor([len(e.ids) for e in encoded])
    present = torch.arange(ids.shape[1]) < lengths[:, None]
    rows = present if positions == "all" else scored
    if positions == "predict":
        is_text = torch.tensor([example.text is not None for example in examples])
        ahead = torch.nn.functional.pad(scored[:, 1:], (0, 1))
        rows = torch.where(is_text[:, None], present, ahead)
    return Batch(ids.to(device), present.long().to(device), rows.to(device), scored.to(device))

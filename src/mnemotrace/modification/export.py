"""Write the edited network as a plain checkpoint, for those who will load it without this library.

The edit is applied for the time of saving and taken back bit-exactly. Low-precision weights are rounded once from a
float32 sum; where that loses much of the edit, a warning says so, and `edit.to_peft` keeps it whole instead.

Cost: one copy of each edited parameter in memory, one checkpoint on disk.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_model
from torch import nn

from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import library_version
from mnemotrace.core.directory import MARKER, atomic_directory, check_free
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError


def merge(
    model: nn.Module,
    edit: Edit,
    directory: str | Path,
    *,
    tokenizer: Any = None,
    overwrite: bool = False,
    max_shard_size: int | str | None = None,
) -> Path:
    """Write a checkpoint of the model with the edit in its weights; the model in memory is left bit-exact.

    A Hugging Face model becomes what its `save_pretrained` writes, so that `from_pretrained(directory)` loads it. Any
    other network becomes `model.safetensors`, which `safetensors.torch.load_model(network, path)` reads back, weights
    that several modules share included. `mnemotrace.json` beside it holds the edit's manifest.

    Args:
        model: the network.
        edit: what to add; of any kind.
        directory: where the checkpoint goes; written whole or not at all.
        tokenizer: saved into the same directory when given.
        overwrite: replace a directory that mnemotrace wrote before.
        max_shard_size: bytes a file, as `save_pretrained` takes it; None for its default.

    Returns:
        The directory.

    Raises:
        EditError: the edit does not fit, or the model wears an adapter, which `save_pretrained` would save alone.
        FileExistsError: the directory holds something.

    Warns:
        NumericalWarning: low-precision weights took less than the wanted change.
    """
    if getattr(model, "peft_config", None):
        raise EditError(
            f"got a {type(model).__name__} with an adapter; expected a plain network, for its checkpoint would hold "
            "the adapter only; call merge_and_unload() first"
        )
    check_free(directory, overwrite=overwrite)
    marker = {"kind": "merge", "version": library_version(), "manifest": dict(edit.manifest)}
    text = json.dumps(marker | {"parameters": list(edit.parameters)}, indent=2, allow_nan=False) + "\n"
    with applied(model, edit), atomic_directory(directory, overwrite=overwrite) as folder:
        _save(model, folder, max_shard_size)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        (folder / MARKER).write_text(text, encoding="utf-8")
    return Path(directory)


def _save(model: nn.Module, folder: Path, max_shard_size: int | str | None) -> None:
    save: Any = getattr(model, "save_pretrained", None)
    if callable(save):
        save(folder, **({} if max_shard_size is None else {"max_shard_size": max_shard_size}))
    else:
        save_model(model, str(folder / "model.safetensors"))

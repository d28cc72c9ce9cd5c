"""Shards: rows of numbers appended to files of bounded size, as plain bytes; what `stats.activations` is written with.

A shard holds the same rows at every point and in the index (sample, position: two int64), so a row is found by its
number alone. Cost: one cast and one copy. Memory: one batch.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from mnemotrace.core.errors import ArtifactError, NonFiniteError

INDEX = "index"


class Writer:
    """Files of the current shard, and what was written so far."""

    def __init__(self, folder: Path, points: Sequence[str], dtype: torch.dtype, most: int) -> None:
        self.folder, self.points, self.dtype, self.most = folder, points, dtype, most
        self.widths: dict[str, int] = {}
        self.counts: list[int] = []
        self.files: list[BinaryIO] = []

    def add(self, rows: Mapping[str, Tensor], index: Tensor) -> None:
        """Append rows of all points, and begin shards as they fill.

        Raises:
            ValueError: rows of another width than before.
            NonFiniteError: a value that the stored type cannot hold.
        """
        widths = {name: tensor.shape[1] for name, tensor in rows.items()}
        if self.widths and widths != self.widths:
            raise ValueError(f"got points of widths {widths} after {self.widths}; expected the same in every batch")
        self.widths = widths
        most = max(1, self.most // (max(widths.values()) * self.dtype.itemsize))
        stored = [*(_cast(rows[name], self.dtype, name) for name in self.points), index]
        start = 0
        while start < len(index):
            if not self.counts or self.counts[-1] >= most:
                self._begin()
            take = min(most - self.counts[-1], len(index) - start)
            for file, tensor in zip(self.files, stored, strict=True):
                file.write(_bytes(tensor[start : start + take]))
            self.counts[-1] += take
            start += take

    def _begin(self) -> None:
        self.close()
        names = (*range(len(self.points)), INDEX)
        self.files = [(self.folder / file_name(name, len(self.counts))).open("wb") for name in names]
        self.counts.append(0)

    def close(self) -> None:
        """Close the files of the current shard."""
        for file in self.files:
            file.close()


@contextmanager
def writing(folder: Path, points: Sequence[str], dtype: torch.dtype, most: int) -> Generator[Writer, None, None]:
    """Give a writer whose files are closed at the end of the block."""
    writer = Writer(folder, points, dtype, most)
    try:
        yield writer
    finally:
        writer.close()


def file_name(point: int | str, shard: int) -> str:
    """Name the file of a point (by its number) or of the index."""
    return f"{point}-{shard:05d}.bin"


def fill(file: BinaryIO, out: Tensor) -> None:
    """Read as many bytes as a contiguous tensor holds, into it.

    Raises:
        ArtifactError: the file ends before.
    """
    view = _bytes(out)
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise ArtifactError(f"got the end of {file.name} after {done} of {len(view)} bytes; write the cache again")
        done += got


def _cast(rows: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    stored = rows.to("cpu", dtype).contiguous()
    largest = float(rows.abs().max()) if len(rows) else 0.0
    if largest > torch.finfo(dtype).max:
        raise NonFiniteError(
            f"got {largest:.4g} at {name or 'the output'}; expected at most {torch.finfo(dtype).max:.6g}, the largest "
            f"that {dtype} holds; write the cache with dtype=torch.float32"
        )
    return stored


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.flatten().view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]

"""Activations on disk: what modules give (or are given), row by row, for training on more of it than memory holds.

One forward pass streams the chosen points to shards of plain numbers, beside an index that says which sample and which
position of it each row is. A point is read back in shuffled batches any number of times: blocks of rows are drawn at
random over the whole cache into a buffer, the buffer is shuffled and handed out. Shards are read and not mapped, for
mapped pages count as memory of the process until the system wants them back.

Cost: writing is the forward pass, a cast and a copy; reading `O(n d)`. Memory: one batch when written, `buffer` bytes
when read. Disk: `n d` numbers a point, and 16 bytes a row.
"""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import module_of, reading, units_first
from mnemotrace.adapters.rows import first_tensor, masked_rows
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.directory import MARKER, atomic_directory
from mnemotrace.core.errors import ArtifactError, SelectionError
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.stats.collect import Mask, mask_of
from mnemotrace.stats.shards import INDEX, file_name, fill, writing

INPUT = ".input"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_KIND, _SHARD, _BLOCK, _BUFFER = "activations", 2**28, 2**16, 2**27


@dataclass(frozen=True, eq=False)
class ActivationCache:
    """A directory of activations; `write` makes one, `open` finds it again.

    Attributes:
        path: the directory.
        widths: numbers a row, by name of the point.
        shards: rows in each shard.
        dtype: of the stored numbers.
        samples: how many examples the network saw.
        manifest: provenance: the network, the modules.
    """

    path: Path
    widths: Mapping[str, int]
    shards: tuple[int, ...]
    dtype: torch.dtype
    samples: int
    manifest: Mapping[str, Any]

    @classmethod
    def write(
        cls,
        model: nn.Module,
        batches: Iterable[Any],
        points: Sequence[str],
        *,
        path: str | Path,
        dtype: torch.dtype = torch.float16,
        mask: Mask | None = None,
        axis: int | None = None,
        shard: int = _SHARD,
        overwrite: bool = False,
        run: Callable[[nn.Module, Any], Any] = forward,
        progress: Progress = silent,
    ) -> "ActivationCache":
        """Run a network and keep what points give, one row a sample and position.

        Args:
            model: the network; evaluated, and left as it was.
            batches: inputs as the network takes them; read once.
            points: names of modules for their outputs, `name.input` for what a module is given; "" is the network.
            path: a new directory; there whole, or not at all.
            dtype: float16 halves the size and keeps 11 bits; float32 for values beyond 65 504.
            mask: called with each batch, returns bool `(b,)` or `(b, t)`, which rows are kept; None takes
                `batch["attention_mask"]` where there is one.
            axis: of the units, see `adapters.outputs.units_first`.
            shard: most bytes of a file.
            overwrite: replace a directory that this library wrote.
            run: how a batch is given to the network.
            progress: called after each batch.

        Returns:
            The cache, open.

        Raises:
            SelectionError: no such module, or one that did not run.
            TypeError: a mask that is not boolean, or a type that is not stored.
            ValueError: no point, no row, points of one network that have different positions, a mask that does not fit.
            NonFiniteError: NaN or infinity, or a value too large for `dtype`.
            FileExistsError: something is at `path`.
        """
        if dtype not in DTYPES.values() or shard < 1:
            raise TypeError(
                f"got dtype={dtype} and shard={shard}; expected one of {', '.join(DTYPES)} and bytes above 0"
            )
        if not points or len(set(points)) != len(points):
            raise ValueError(f"got points={list(points)}; expected at least one name of a module, each once")
        with atomic_directory(path, overwrite=overwrite) as folder, ExitStack() as stack:
            writer = stack.enter_context(writing(folder, points, dtype, shard))
            stack.enter_context(evaluating(model))
            known = dict(model.named_modules())
            inputs = {p for p in points if p.endswith(INPUT) and p not in known}
            modules = {p: module_of(model, p.removesuffix(INPUT) if p in inputs else p) for p in points}
            seen = stack.enter_context(_points(model, modules, inputs))
            samples = 0
            for done, batch in enumerate(batches, 1):
                run(model, batch)
                rows, index, size = _rows(seen, modules, mask_of(batch, mask), axis)
                for name, tensor in rows.items():
                    require_finite(tensor, f"{name or 'the output'}, batch {done}")
                writer.add(rows, index + torch.tensor([samples, 0]))
                samples += size
                seen.clear()
                progress(done, None, "activations")
            header = {
                "kind": _KIND,
                "widths": writer.widths,
                "shards": writer.counts,
                "dtype": str(dtype).removeprefix("torch."),
                "samples": samples,
                "manifest": {"method": "activations", "base": fingerprint(model), "version": library_version()},
            }
            if not sum(writer.counts):
                raise ValueError("got no row; expected at least one; the batches may be used up, or the mask empty")
            (folder / MARKER).write_text(json.dumps(header, indent=1))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationCache":
        """Open a directory that `write` made; nothing but a small header is read.

        Raises:
            FileNotFoundError: no such directory.
            ArtifactError: another kind of directory, or a shard that is missing or cut off.
        """
        folder = Path(path)
        if not (folder / MARKER).is_file():
            raise FileNotFoundError(f"got {path}, which has no {MARKER}; expected what ActivationCache.write made")
        header = json.loads((folder / MARKER).read_text())
        if header.get("kind") != _KIND:
            raise ArtifactError(f"got {path} of kind {header.get('kind')!r}; expected {_KIND!r}")
        dtype = DTYPES[header["dtype"]]
        found = cls(folder, header["widths"], tuple(header["shards"]), dtype, header["samples"], header["manifest"])
        for shard, rows in enumerate(found.shards):
            for name in (*found.widths, INDEX):
                file, size = found._file(name, shard), rows * found._bytes(name)
                if not file.is_file() or file.stat().st_size != size:
                    raise ArtifactError(f"got {file} missing or of another size; expected {size} bytes; write it again")
        return found

    def __len__(self) -> int:
        """Count the rows."""
        return sum(self.shards)

    def point(self, name: str) -> "Point":
        """Return one point to read.

        Raises:
            SelectionError: it is not in the cache.
        """
        if name not in self.widths:
            raise SelectionError(f"got point {name!r}; expected one of {', '.join(map(repr, self.widths))}")
        return Point(self, name)

    def index(self, start: int = 0, stop: int | None = None) -> Int[Tensor, "n 2"]:
        """Return sample and position of rows `start` to `stop`."""
        stop = len(self) if stop is None else stop
        return self.read(INDEX, start, torch.empty(max(0, stop - start), 2, dtype=torch.int64))

    def read(self, name: str, start: int, out: Tensor) -> Tensor:
        """Fill a contiguous tensor with the rows from `start` on, and return it."""
        width, row, first = self._bytes(name), 0, 0
        for shard, rows in enumerate(self.shards):
            begin = max(start + row - first, 0)
            take = min(rows - begin, len(out) - row)
            if take > 0:
                with self._file(name, shard).open("rb", buffering=0) as file:
                    file.seek(begin * width)
                    fill(file, out[row : row + take])
                row += take
            first += rows
        return out

    def _file(self, name: str, shard: int) -> Path:
        return self.path / file_name(list(self.widths).index(name) if name in self.widths else INDEX, shard)

    def _bytes(self, name: str) -> int:
        return self.widths[name] * self.dtype.itemsize if name in self.widths else 16


@dataclass(frozen=True, eq=False)
class Point:
    """One point of a cache: rows `(n, width)`, in shuffled batches or in order."""

    cache: ActivationCache
    name: str

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.cache)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self.cache.widths[self.name]

    def __iter__(self) -> Iterator[Tensor]:
        """Give all rows once, shuffled by seed 0, 4096 at a time."""
        return (rows for (rows,) in self.batches(4096))

    def rows(self, start: int = 0, stop: int | None = None) -> Float[Tensor, "n d"]:
        """Return rows `start` to `stop` in order, as float32."""
        stop = len(self) if stop is None else min(stop, len(self))
        out = torch.empty(max(0, stop - start), self.width, dtype=self.cache.dtype)
        return self.cache.read(self.name, start, out).float()

    def batches(
        self,
        size: int,
        *,
        beside: Sequence[str] = (),
        generator: torch.Generator | None = None,
        buffer: int = _BUFFER,
    ) -> Iterator[tuple[Tensor, ...]]:
        """Give all rows once in random order, `size` at a time; the last batch may be shorter.

        Args:
            size: rows a batch.
            beside: further points of the cache, for the same rows.
            generator: of the order; None is one of seed 0.
            buffer: bytes in memory. Rows that are neighbours in the cache go into one buffer by blocks of 64 kB.

        Returns:
            Tuples of `(size, width)`, float32: this point, then those beside it.
        """
        points = [self, *(self.cache.point(name) for name in beside)]
        source = torch.Generator().manual_seed(0) if generator is None else generator
        row = sum(point.width for point in points) * self.cache.dtype.itemsize
        block = max(1, min(_BLOCK // row, len(self)))
        together = max(1, buffer // (row * block))
        order = torch.randperm(-(-len(self) // block), generator=source)
        held = [torch.empty(min(together * block, len(self)) + size, p.width, dtype=self.cache.dtype) for p in points]
        left = 0
        for chosen in order.split(together):
            filled = left
            for start in (chosen * block).tolist():
                take = min(block, len(self) - start)
                for point, tensor in zip(points, held, strict=True):
                    self.cache.read(point.name, start, tensor[filled : filled + take])
                filled += take
            mixed = torch.randperm(filled, generator=source)
            whole = filled if chosen[-1] == order[-1] else filled // size * size
            for start in range(0, whole, size):
                rows = mixed[start : min(start + size, whole)]
                yield tuple(tensor[rows].float() for tensor in held)
            left = filled - whole
            for tensor in held:
                tensor[:left] = tensor[mixed[whole:]]


@contextmanager
def _points(
    model: nn.Module, modules: Mapping[str, nn.Module], inputs: Set[str]
) -> Generator[dict[str, Tensor], None, None]:
    """Collect what modules give and, at points that are inputs, what they are given."""
    with ExitStack() as stack:
        seen = stack.enter_context(reading(model, dict.fromkeys([p for p in modules if p not in inputs], False)))
        for point in inputs:

            def hook(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], point: str = point) -> None:
                seen[point] = first_tensor(args, kwargs, point).clone()  # a later operation in place must not change it

            handle = modules[point].register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield seen


def _rows(
    seen: Mapping[str, Tensor], modules: Mapping[str, nn.Module], counts: Tensor | None, axis: int | None
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Bring what points gave to rows `(n, units)`; returns them, `(n, 2)` sample and position, and the batch's size."""
    rows: dict[str, Tensor] = {}
    leading, index = None, torch.empty(0)
    first = next(iter(modules))
    for name, module in modules.items():
        output = units_first(seen[name].detach(), axis=axis, module=module).movedim(1, -1)
        if leading not in (None, output.shape[:-1]):
            raise ValueError(
                f"got {tuple(output.shape[:-1])} rows at {name!r} and {tuple(leading or ())} at {first!r}; "
                "expected points with the same positions, so that rows line up; write a cache for each"
            )
        leading = output.shape[:-1]
        mask = None if output.ndim == 2 and counts is not None and counts.ndim > 1 else counts  # noqa: PLR2004
        place = torch.arange(prod(leading[1:]), device=output.device).expand(leading[0], -1)
        sample = torch.arange(leading[0], device=output.device)[:, None].expand_as(place)
        rows[name] = masked_rows(output, mask, name)
        index = masked_rows(torch.stack([sample, place], -1).reshape(*leading, 2), mask, name)
    return rows, index.cpu(), leading[0] if leading else 0

"""What every benchmark shares: figures beside their gates, one table, CPU time with the variants interleaved."""

import argparse
import gzip
import json
import math
import operator
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/out"
_SIGNS = {"<=": operator.le, ">=": operator.ge}


class Skipped(Exception):  # noqa: N818
    """Something that the benchmark needs is absent; the message is the reason."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the number.
        gate: `<= 0.05` or `>= 9`; empty where nothing is required.
        note: the setting, the peer's number, or why a gate is missed.
    """

    name: str
    value: float
    gate: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the gate is met; None without one."""
        if not self.gate:
            return None
        sign, bound = self.gate.split()
        return _SIGNS[sign](self.value, float(bound))


Measure = Callable[[bool], Sequence[Figure]]


def main(measure: Measure, description: str | None) -> None:
    """Run one benchmark from the command line: `--quick` for a tiny setting without gates, `--json FILE`."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny setting that shows that the script runs; no gates")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*Failed to initialize NumPy.*")
    started, cpu = time.perf_counter(), time.process_time()
    try:
        figures, skipped = list(measure(options.quick)), None
    except Skipped as reason:
        figures, skipped = [], str(reason)
    if options.quick:
        figures = [Figure(f.name, f.value, "", f.note) for f in figures]
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu, "threads": 1}
    print(f"skipped: {skipped}" if skipped else table(figures))
    print(f"{spent['cpu_seconds']:.0f} s of CPU time on 1 thread, torch {torch.__version__}")
    if options.json:
        values = [asdict(f) | {"met": f.met} for f in figures]
        options.json.write_text(json.dumps({"figures": values, "skipped": skipped} | spent, indent=1))


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out in columns: name, value, gate, met or MISSED, note."""
    rows = [("figure", "value", "gate", "", "note")]
    verdict = {None: "", True: "met", False: "MISSED"}
    rows += [(f.name, number(f.value), f.gate, verdict[f.met], f.note) for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows
    )


def number(value: float) -> str:
    """Write a number with four significant digits."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def cpu_seconds(variants: Mapping[str, Callable[[], Any]], repeats: int = 3, warm: bool = True) -> dict[str, float]:
    """Median CPU seconds of each variant over `repeats` rounds; a round runs every variant once, in turn."""
    if warm:
        for run in variants.values():
            run()
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            started = time.process_time()
            run()
            spent[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in spent.items()}


def data_folder(name: str) -> Path:
    """Find a folder of the test data: in MNEMOTRACE_DATA, or beside the repository.

    Raises:
        Skipped: it is not there.
    """
    root = Path(os.environ.get("MNEMOTRACE_DATA") or REPOSITORY / "../shared/data").resolve()
    if not (root / name).is_dir():
        raise Skipped(f"no folder {name} in the test data; set MNEMOTRACE_DATA")
    return root / name


def idx(path: Path) -> Tensor:
    """Read one gzipped idx file of MNIST: images as (n, 784) in [0, 1], labels as (n,)."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    values = torch.frombuffer(bytearray(raw[4 + 4 * rank :]), dtype=torch.uint8)
    return values.long() if rank == 1 else values.view(shape[0], -1).float() / 255


def right(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """Score a classifier: 1 for each example that it labels rightly, else 0."""
    inputs, labels = data
    with torch.no_grad():
        return torch.cat([model(x).argmax(1) for x in inputs.split(2000)]).eq(labels).float()

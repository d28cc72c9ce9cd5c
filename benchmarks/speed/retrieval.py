"""Retrieval from large stores against plain `softmax(beta q Y^T) Y`: speed, memory, an index and the bound it returns.

CPU time on one thread, the variants of one setting in turn. Unit patterns, queries at distance 0.5 from one, as in the
gate's setting: `beta = 4 sqrt(d)` is concentrated, `beta = 4` is not. hopfield-layers is not on PyPI; its place (P2)
is taken by `scaled_dot_product_attention`. Memory is the peak resident set of a process of its own.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figures import REPOSITORY, Figure, cpu_seconds, main
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.patterns import Patterns

GIB = 1 << 30


def unit(source: torch.Generator, n: int, d: int) -> Tensor:
    """Random unit rows, made without a second copy."""
    rows = torch.empty(n, d)
    for part in rows.split(10_000):
        part.copy_(F.normalize(torch.randn(part.shape, generator=source), dim=1))
    return rows


def near(source: torch.Generator, patterns: Tensor, b: int) -> Tensor:
    """Queries at distance 0.5 from a pattern."""
    chosen = torch.randint(len(patterns), (b,), generator=source)
    return patterns[chosen] + 0.5 * unit(source, b, patterns.shape[1])


def plain(x: Tensor, patterns: Tensor, beta: float) -> Tensor:
    """What anybody would write."""
    return torch.softmax((x * beta) @ patterns.T, 1) @ patterns


def attention(x: Tensor, patterns: Tensor, beta: float) -> Tensor:
    """The same by torch's fused attention."""
    rows = patterns[None, None]
    return F.scaled_dot_product_attention(x[None, None], rows, rows, scale=beta)[0, 0]


def ours(x: Tensor, patterns: Tensor, beta: float, **given: Any) -> Tensor:
    """Retrieve in the attention form, which is what the others calculate."""
    return lookup(x, patterns, torch.full((1, 1), beta), norms=False, **given).mean


def exact(n: int, d: int, repeats: int) -> list[Figure]:
    """P1, P2 and P5."""
    source, figures, least = torch.Generator().manual_seed(0), [], math.inf
    patterns = unit(source, n, d)
    squares = Patterns(patterns).squares
    for beta, what in ((4 * math.sqrt(d), "concentrated"), (4.0, "warm")):
        for b in (1, 4, 32, 256):
            x = near(source, patterns, b)
            given = {"x": x, "patterns": patterns, "beta": beta}
            spent = cpu_seconds(
                {
                    "plain": lambda given=given: plain(**given),
                    "auto": lambda given=given: ours(**given),
                    "stream": lambda given=given: ours(**given, path="stream"),
                    "top": lambda given=given: ours(**given, path="top", squares=squares),
                    "attention": lambda given=given: attention(**given),
                },
                repeats if b > 32 else 2 * repeats,
            )
            speed = {name: spent["plain"] / seconds for name, seconds in spent.items()}
            least = min(least, speed["auto"])
            others = ", ".join(f"{name} {speed[name]:.2f}" for name in ("stream", "top", "attention"))
            gate = ">= 1.5" if b == 1 and what == "concentrated" else ""
            title = f"P1: times as fast as plain, {b} queries, {what}"
            figures.append(Figure(title, speed["auto"], gate, f"{spent['plain'] * 1e3:.0f} ms; {others}"))
    figures.append(Figure("P1: least of these", least, ">= 0.9", f"N = {n}, D = {d}, path='auto'"))
    x = near(source, patterns, 32)
    runs = [[ours(x, patterns, 20.0, path=path) for path in ("dense", "stream")] for _ in range(3)]
    stable = all(torch.equal(a, b) for again in runs[1:] for a, b in zip(runs[0], again, strict=True))
    return [*figures, Figure("P5: same bits in three runs", stable, ">= 1", "dense and stream")]


def indexed(n: int, d: int, repeats: int) -> list[Figure]:
    """P3, and how often the returned bound was wrong."""
    try:
        import faiss

        from mnemotrace.memories.index import Index
    except ImportError:
        return []
    faiss.omp_set_num_threads(1)
    source, beta = torch.Generator().manual_seed(1), 4 * math.sqrt(d)
    patterns = unit(source, n, d)
    building = cpu_seconds({"build": lambda: Index.of(patterns)}, 1, warm=False)["build"]
    index, squares = Index.of(patterns), Patterns(patterns).squares
    x, many = near(source, patterns, 32), near(source, patterns, 1024)
    spent = cpu_seconds(
        {
            "plain": lambda: plain(x, patterns, beta),
            "index": lambda: index.lookup(x, beta),
            "repaired": lambda: index.lookup(x, beta, tolerance=0.05),
            "exact": lambda: lookup(x, patterns, torch.full((1, 1), beta), squares=squares),
        },
        repeats,
    )
    wanted = lookup(many, patterns, torch.full((1, 1), beta)).mean
    found, repaired = index.lookup(many, beta), index.lookup(many, beta, tolerance=0.05)
    error, after = ((one.mean - wanted).norm(dim=1) for one in (found, repaired))
    setting = f"N = {n}, D = {d}, {index.cells} cells, built in {building:.0f} s"
    return [
        Figure("P3: index, times as fast as plain, 32 queries", spent["plain"] / spent["index"], ">= 5", setting),
        Figure("P3: recall@1", float((error < 0.1).float().mean()), ">= 0.99", "1024 queries"),
        Figure("P3: share of bounds above 0.1", float((found.bound > 0.1).float().mean()), "", "1024 queries"),
        Figure("P3: repaired to 0.05, times as fast", spent["plain"] / spent["repaired"]),
        Figure("P3: largest error of the repaired", float(after.max()), "<= 0.05"),
        Figure("exact with norms, times as fast as plain without", spent["plain"] / spent["exact"]),
        *bounds(source, n // 100),
        *bounds(source, n // 5),
    ]


def bounds(source: torch.Generator, n: int) -> list[Figure]:
    """Count errors above their bound, where few cells are probed and much is missed."""
    from mnemotrace.memories.index import Index

    centres = 2 * torch.randn(300, 32, generator=source)
    clustered = centres[torch.randint(300, (n,), generator=source)] + 0.5 * torch.randn(n, 32, generator=source)
    figures = []
    for what, patterns, betas in (
        ("random", unit(source, n, 64), (30.0, 90.0, 1000.0)),
        ("clustered", clustered, (1.0, 10.0, 100.0)),
    ):
        index, x = Index.of(patterns), near(source, patterns, 1000)
        wrong, missed, trusted, count = 0, 0, 0, 0
        for beta in betas:
            wanted = lookup(x, patterns, torch.full((1, 1), beta)).mean
            for probes in (1, 4, 16):
                found = index.lookup(x, beta, probes=probes)
                error, scale = (found.mean - wanted).norm(dim=1), float(patterns.norm(dim=1).max())
                wrong += int((error > found.bound + 1e-4 * scale).sum())
                missed += int((error > 0.1 * scale).sum())
                trusted += int((found.bound <= 0.1 * scale).sum())
                count += len(x)
        note = f"of {count} retrievals, {missed} missed, {trusted} with a bound of use"
        figures.append(Figure(f"errors above their bound, {n} patterns, {what}", wrong, "", note))
    return figures


def streamed(n: int, d: int, b: int) -> list[Figure]:
    """P4, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"from benchmarks.speed.retrieval import child; child({n}, {d}, {b}, {folder!r})"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    setting = f"N = {n}, D = {d}, {b} queries"
    return [
        Figure("P4: peak extra memory of streaming, MB", found["stream"], "<= 64", setting),
        Figure("P4: the same of plain, MB", found["plain"], "", "scores and their softmax"),
        Figure("P4: streaming, times as fast as plain", found["speed"], ">= 0.7", setting),
        Figure("P4: the same, warm", found["warm"], "", "beta = 4"),
        Figure("P4: extra memory from a mapped file, MB", found["mapped"], "", f"{n // 4} rows; not file-backed"),
        Figure(
            "P4: mapped file, times as fast as plain in memory", found["mapped speed"], "", "file in the page cache"
        ),
    ]


def child(n: int, d: int, b: int, folder: str) -> None:
    """Measure and print as JSON."""
    torch.set_num_threads(1)
    source, beta = torch.Generator().manual_seed(2), 4 * math.sqrt(d)
    patterns = unit(source, n, d)
    x = near(source, patterns, b)
    ours(x[:, :8], patterns[:100, :8], beta, path="stream")
    found: dict[str, float] = {"stream": peak(lambda: ours(x, patterns, beta, path="stream"))}
    found["plain"] = peak(lambda: plain(x, patterns, beta))
    for name, temperature in (("speed", beta), ("warm", 4.0)):
        given = {"x": x, "patterns": patterns, "beta": temperature}
        spent = cpu_seconds(
            {"plain": lambda given=given: plain(**given), "ours": lambda given=given: ours(**given, path="stream")},
            warm=False,
        )
        found[name] = spent["plain"] / spent["ours"]
    file = Path(folder) / "rows.npy"
    np.save(file, patterns[: n // 4].numpy())
    before = resident("RssAnon")
    values = Patterns.open(file).values
    ours(x, values, beta, path="stream")
    found["mapped"] = (resident("RssAnon") - before) / 1e6
    part = patterns[: n // 4]
    spent = cpu_seconds(
        {"plain": lambda: plain(x, part, beta), "mapped": lambda: ours(x, values, beta, path="stream")}, warm=False
    )
    found["mapped speed"] = spent["plain"] / spent["mapped"]
    print(json.dumps(found))


def resident(name: str) -> int:
    """Bytes that the kernel reports for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def peak(run: Any) -> float:
    """Megabytes by which the resident set grew at its largest."""
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1e6


def available() -> int:
    """Bytes of memory that are free for use."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def run(quick: bool) -> list[Figure]:
    """All of it; the store of a million patterns only where 8 GiB are free."""
    if quick:
        return exact(5000, 64, 1) + indexed(5000, 64, 1) + streamed(20_000, 64, 4)
    figures = exact(100_000, 512, 5) + indexed(100_000, 512, 5)
    n = 1_000_000 if available() > 8 * GIB else 200_000
    return figures + streamed(n, 512, 32)


if __name__ == "__main__":
    main(run, __doc__)

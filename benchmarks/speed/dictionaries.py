"""Dictionary training beside dictionary_learning 0.1.0: quality on one stream, CPU time a step, memory from a cache.

`pip install dictionary-learning einops` for the peer; its package imports `nnsight` for a buffer that is not used here,
so an empty stand-in takes that name where it is absent. Without the peer its figures are left out. Steps of width 512,
4096 latents, 32 active, 4096 rows are timed in turn, one thread; the dense decode is our own step with dense products,
in autograd. The cache of 20 GB is a sparse file with noise in one chunk of 256.
"""

import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import REPOSITORY, Figure, cpu_seconds, main
from benchmarks.papers.dictionaries import Planted, Stream
from mnemotrace.core.directory import MARKER
from mnemotrace.localisation.dictionary_metrics import explained_variance, match
from mnemotrace.localisation.dictionary_step import Parameters, Rule, step
from mnemotrace.localisation.dictionary_training import dictionary
from mnemotrace.stats.activations import ActivationCache

WIDTH, LATENTS, ACTIVE, ROWS = 512, 4096, 32, 4096


def peer() -> Any | None:
    """Import the peer's TopK trainer, with a stand-in for what it imports and does not use here."""
    try:
        import nnsight  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        stand_in = types.ModuleType("nnsight")
        stand_in.LanguageModel = object  # type: ignore[attr-defined]
        sys.modules["nnsight"] = stand_in
    try:
        from dictionary_learning.trainers.top_k import TopKTrainer  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return TopKTrainer


def parity(quick: bool, trainer: Any) -> list[Figure]:
    """S2: both on one stream of a planted dictionary, the peer with its own schedule of the rate, and with ours."""
    planted, steps, rows = Planted.drawn(1234), 30 if quick else 3000, 512
    test = planted.rows(8192, torch.Generator().manual_seed(99))
    ours = dictionary(Stream(planted, rows, 1), latents=256, k=4, steps=steps)
    quality = {"ours": (ours(test), ours.decoder)}
    schedules = {"peer": {"warmup_steps": min(1000, steps - 1)}}
    schedules["peer, our schedule"] = {"warmup_steps": steps // 20, "decay_start": steps * 4 // 5}
    for name, schedule in schedules.items():
        with torch.random.fork_rng():
            theirs = trainer(
                steps=steps,
                activation_dim=64,
                dict_size=256,
                k=4,
                layer=0,
                lm_name="",
                seed=0,
                device="cpu",
                **schedule,
            )
            for done, x in zip(range(steps), Stream(planted, rows, 1), strict=False):
                theirs.update(done, x)
        with torch.no_grad():
            quality[name] = (theirs.ae(test), theirs.ae.decoder.weight.detach().T)
    explained = {name: explained_variance(test, made) for name, (made, _) in quality.items()}
    cosine = {name: match(planted.directions, rows).mmcs for name, (_, rows) in quality.items()}
    figures: list[Figure] = []
    for name in schedules:
        apart, note = explained[name] - explained["ours"], f"ours {explained['ours']:.4f}, theirs {explained[name]:.4f}"
        figures += [
            Figure(f"S2 {name}: explained variance, absolute difference", abs(apart), "<= 0.005",
                   f"{note}; {steps} steps of {rows} rows, same stream"),
            Figure(f"S2 {name}: MMCS, ours minus theirs", cosine["ours"] - cosine[name], ">= -0.005",
                   f"ours {cosine['ours']:.4f}, theirs {cosine[name]:.4f}"),
        ]  # fmt: skip
    return figures


def _parameters(generator: torch.Generator) -> Parameters:
    rows = torch.randn(LATENTS, WIDTH, generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    return Parameters(rows.clone(), torch.zeros(LATENTS), rows, torch.zeros(WIDTH))


def _ours(variant: str, x: Tensor) -> Callable[[], float]:
    """Give one whole step of ours: gradient, Adam, unit rows."""
    now = _parameters(torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(now.tensors(), lr=4e-4, fused=True)
    rule = Rule(variant, ACTIVE, (LATENTS,), 0.1, 1 / 32, WIDTH // 2)
    none = torch.zeros(LATENTS, dtype=torch.bool)

    def run() -> float:
        one = step(now, x, x, rule, none)
        for tensor, gradient in zip(now.tensors(), one.gradient.tensors(), strict=True):
            tensor.grad = gradient
        optimiser.step()
        now.decoder.div_(now.decoder.norm(dim=1, keepdim=True))
        return one.error / WIDTH

    return run


def _dense(x: Tensor) -> Callable[[], float]:
    """Give the same step with a dense code and autograd."""
    now = _parameters(torch.Generator().manual_seed(0))
    tensors = [tensor.requires_grad_() for tensor in now.tensors()]
    optimiser = torch.optim.Adam(tensors, lr=4e-4, fused=True)

    def run() -> float:
        values, indices = torch.addmm(now.encoder_bias, x, now.encoder.T).topk(ACTIVE, dim=1, sorted=False)
        code = torch.zeros(len(x), LATENTS).scatter(1, indices, values.relu())
        loss = (code @ now.decoder + now.output_bias - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        with torch.no_grad():
            rows = now.decoder
            rows.grad -= (rows.grad * rows).sum(1, keepdim=True) * rows  # type: ignore[operator]
            optimiser.step()
            rows.div_(rows.norm(dim=1, keepdim=True))
        return loss.item()

    return run


def speed(quick: bool, trainer: Any | None) -> list[Figure]:
    """CPU time of a step, the variants in turn, and the losses of the same first steps."""
    x = torch.randn(256 if quick else ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    repeats = 1 if quick else 5
    losses: dict[str, list[float]] = {"ours": [], "dense": []}
    ours, dense = _ours("topk", x), _dense(x)
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: losses["ours"].append(ours()),
        "dense": lambda: losses["dense"].append(dense()),
        "batch": _ours("batch_topk", x),
    }
    if trainer is not None:
        with torch.random.fork_rng():
            theirs = trainer(steps=10**6, activation_dim=WIDTH, dict_size=LATENTS, k=ACTIVE, layer=0, lm_name="",
                             seed=0, device="cpu")  # fmt: skip
        count = iter(range(1, 10**6))
        variants["peer"] = lambda: theirs.update(next(count), x)
    spent = cpu_seconds(variants, repeats)
    apart = max(abs(a / b - 1) for a, b in zip(losses["ours"], losses["dense"], strict=True))
    shape = f"d {WIDTH}, {LATENTS} latents, k {ACTIVE}, {len(x)} rows"
    figures = [
        Figure("dense decode / ours, CPU time a step", spent["dense"] / spent["ours"], ">= 1.3",
               f"{shape}; ours {spent['ours']:.2f} s"),
        Figure("loss of ours over dense, largest relative difference", apart, "<= 1e-4", f"{repeats + 1} steps"),
        Figure("BatchTopK / TopK, CPU time a step", spent["batch"] / spent["ours"], "<= 1.5"),
    ]  # fmt: skip
    if trainer is None:
        return [
            *figures,
            Figure("dictionary_learning / ours", float("nan"), "", "dictionary_learning is not installed"),
        ]
    note = f"theirs {spent['peer']:.2f} s, {len(x) / spent['ours']:.0f} rows/s ours"
    return [
        *figures,
        Figure("dictionary_learning / ours, CPU time a step", spent["peer"] / spent["ours"], ">= 1.3", note),
    ]


def sparse_cache(folder: Path, gigabytes: float, width: int = WIDTH, shard: int = 2**18) -> None:
    """Write a cache of the format, of which only one chunk in 256 is noise and on disk; the rest reads as zeros."""
    rows = int(gigabytes * 1e9) // (width * 2)
    shards = [min(shard, rows - start) for start in range(0, rows, shard)]
    noise = torch.randn(64, width, generator=torch.Generator().manual_seed(0)).half().numpy().tobytes()
    for number, count in enumerate(shards):
        for name, size in ((0, width * 2), ("index", 16)):
            with (folder / f"{name}-{number:05d}.bin").open("wb") as file:
                file.truncate(count * size)
                for start in range(0, count - 64, 64 * 256) if name == 0 else ():
                    file.seek(start * size)
                    file.write(noise)
    header = {"kind": "activations", "widths": {"layer": width}, "shards": shards, "dtype": "float16", "samples": rows,
              "manifest": {"base": None}}  # fmt: skip
    (folder / MARKER).write_text(json.dumps(header))


def peak() -> float:
    """Return the most memory that this program held, in bytes; `ru_maxrss` would begin with that of its parent."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) * 1024


def train_from(folder: str, steps: int) -> None:
    """Train a few steps on a cache, then read it through once; prints peak memory and rows."""
    torch.set_num_threads(1)
    cache = ActivationCache.open(folder)
    dictionary(cache.point("layer"), latents=2048, k=32, steps=steps, batch=2048)
    trained = peak()
    rows = sum(len(x) for (x,) in cache.point("layer").batches(4096))
    print(json.dumps([trained, peak(), rows]))


def _printed(code: str) -> str:
    """Run code in a process of its own and return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def memory(quick: bool) -> list[Figure]:
    """S8: peak resident memory of a process of its own, imports and all."""
    size = 0.1 if quick else 20
    with tempfile.TemporaryDirectory() as name:
        sparse_cache(Path(name), size)
        steps = 5 if quick else 40
        call = f"from benchmarks.speed.dictionaries import train_from; train_from({name!r}, {steps})"
        trained, read, rows = json.loads(_printed(call))
    imported = float(_printed("from benchmarks.speed.dictionaries import peak; print(peak())"))
    note = f"{size:g} GB sparse file, {rows} rows of {WIDTH} float16; {imported / 1e9:.2f} GB of it are imports"
    return [
        Figure("S8 peak memory while training, GB", trained / 1e9, "<= 1", note),
        Figure("S8 peak memory after reading all rows once, shuffled, GB", read / 1e9, "<= 1"),
    ]


def capture(quick: bool) -> list[Figure]:
    """One layer of a small transformer to disk over the forward pass alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True) for _ in range(4)]
    model = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(16, 64, 256, generator=generator) for _ in range(2 if quick else 8)]

    def bare() -> None:
        with torch.no_grad():
            for batch in batches:
                model(batch)

    with tempfile.TemporaryDirectory() as name:

        def ours() -> None:
            ActivationCache.write(model, batches, ["2"], path=Path(name) / "cache", overwrite=True)

        spent = cpu_seconds({"bare": bare, "ours": ours}, 1 if quick else 7)
    note = f"4 layers of 256, {16 * 64 * len(batches)} tokens; bare {spent['bare']:.3f} s"
    return [Figure("capture to disk / forward, CPU time", spent["ours"] / spent["bare"], "<= 1.1", note)]


def measure(quick: bool) -> list[Figure]:
    """Measure quality beside the peer, speed, memory, capture."""
    trainer = peer()
    absent = [Figure("S2 parity", float("nan"), "", "dictionary_learning is not installed")]
    return [
        *(absent if trainer is None else parity(quick, trainer)),
        *speed(quick, trainer),
        *memory(quick),
        *capture(quick),
    ]


if __name__ == "__main__":
    main(measure, __doc__)

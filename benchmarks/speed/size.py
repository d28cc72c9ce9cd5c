"""Size of a saved engram of 64 tokens on a Llama-shaped random model of 110 M parameters, and what rounding costs.

The small form (`mt.save(engram, path, model=model)`) keeps the target's rows and the right factors in 16 bits; left
factors are the weight times the rows. Its error is shown in the engram and in the logits of the edited network, there
in units of what the edit changes, on the target and on reference tokens. MiB are 2^20 bytes.
"""

import math
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure, main
from benchmarks.speed import models

MIB = 2**20


def logits(model: nn.Module, engram: mt.Engram | None, batches: models.Batches) -> Tensor:
    """Logits with the engram erased at strength 1, or of the untouched network."""
    edited = nullcontext() if engram is None else mt.applied(model, mt.erase(engram, limit=None))
    with torch.no_grad(), edited:
        return torch.cat([model(**batch).logits for batch in batches])


def distance(engram: mt.Engram, wanted: mt.Engram) -> float:
    """Relative distance of two engrams over all sites."""
    apart = sum(float((engram[n].dense() - wanted[n].dense()).square().sum()) for n in wanted)
    return math.sqrt(apart / sum(trace.norm() ** 2 for trace in wanted.values()))


def half(engram: mt.Engram, dtype: torch.dtype) -> mt.Engram:
    """Both factors rounded to 16-bit floats, each row of the right factor scaled to at most 1."""
    traces = {}
    for name, trace in engram.items():
        scale = trace.right.abs().amax(1, keepdim=True).clamp_min(1e-30)
        left = (trace.left * scale.T / (trace.left * scale.T).abs().max()).to(dtype).float()
        size = (trace.left * scale.T).abs().max()
        traces[name] = type(trace)(trace.site, left * size, (trace.right / scale).to(dtype).float())
    return mt.Engram(traces)


def measure(quick: bool) -> list[Figure]:
    """Extract, save in every form, and compare."""
    model = models.llama(1, 64, 128, 256) if quick else models.llama()
    reference = models.tokens(model, 512 if quick else 3072)
    target = models.tokens(model, 16 if quick else 64, length=16 if quick else 64, seed=1)
    kept = mt.collect(model, reference)
    engram = mt.engram(model, target=mt.collect(model, target), reference=kept, solver="ridge")
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        mt.save(engram, large)
        mt.save(engram, small, model=model)
        sizes = {"small": small.stat().st_size / MIB, "large": large.stat().st_size / MIB}
        loaded = mt.load(small, model=model)
    dense = sum(trace.site.o * trace.site.width * 4 for trace in engram.values()) / MIB
    figures = [
        Figure(
            "saved engram, small form, MiB", sizes["small"], "<= 13", f"{sizes['small'] * MIB / 1e6:.1f} MB; 64 tokens"
        ),
        Figure("saved engram, whole factors, MiB", sizes["large"], "", f"dense {dense:.0f} MiB"),
    ]
    forms = {
        "small form": loaded,
        "factors in fp16": half(engram, torch.float16),
        "factors in bf16": half(engram, torch.bfloat16),
        "cut at energy .999": engram.truncated(energy=0.999),
    }
    data = {"target": target, "reference": reference[:1]}
    before = {name: logits(model, None, batches) for name, batches in data.items()}
    exact = {name: logits(model, engram, batches) for name, batches in data.items()}
    for form, rounded in forms.items():
        figures.append(Figure(f"{form}: error in the engram", distance(rounded, engram), "", _ranks(rounded, form)))
        for name, batches in data.items():
            apart = (logits(model, rounded, batches) - exact[name]).norm() / (exact[name] - before[name]).norm()
            figures.append(Figure(f"{form}: error in logits of the {name} / effect of the edit", float(apart)))
    return figures


def _ranks(engram: mt.Engram, form: str) -> str:
    if "energy" in form:
        ranks = [trace.rank for trace in engram.values()]
        factors = sum(trace.nbytes for trace in engram.values()) / MIB
        return f"mean rank {sum(ranks) / len(ranks):.0f}, {factors:.1f} MiB: siblings share nothing any more"
    if "factors" in form:
        return f"{engram.nbytes / 2 / MIB:.1f} MiB without sharing"
    worst = max(engram, key=lambda name: engram.evidence[name]["rounding"])
    return f"worst site {engram.evidence[worst]['rounding']:.1e}, {worst}"


if __name__ == "__main__":
    main(measure, __doc__)

r"""Training a dictionary on activations: from memory, from a cache, or from any stream of batches.

Activations are centred on their geometric median and divided by one number, so that defaults fit any network; the
factor goes into the weights in the end. Adam on the gradients of `dictionary_step`, decoder rows brought back to length
1 after each step. A latent that was off for long (a twentieth of training, at most ten million rows) counts as dead and
is pulled towards what the others leave over (AuxK); no latent is drawn anew.

With targets it is a transcoder: it reads one module's tensor and gives another's, and the latents are what the layer
between them does.

References: see `dictionary`. Cost: a step is one dense product `(batch, d) x (d, m)` and sparse sums; see
`dictionary_step`. Memory: four times the weights, `batch x m` pre-activations, and what the stream holds.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.progress import Progress, silent
from mnemotrace.localisation.code import decoded
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_rows import Pair, Rows, Scaling, batches_of
from mnemotrace.localisation.dictionary_step import Parameters, Rule, step
from mnemotrace.localisation.dictionary_variants import TRAINED, largest_of_batch, prefixes_of
from mnemotrace.stats.activations import Point

_LEAST, _DEAD, _SAMPLE, _CURVE, _LAST, _BANDWIDTH = 3000, 10_000_000, 64, 100, 16, 0.1


def dictionary(
    activations: Rows,
    *,
    latents: int,
    k: int = 32,
    variant: str = "topk",
    steps: int | None = None,
    batch: int = 4096,
    learning_rate: float | None = None,
    target: Tensor | Point | None = None,
    prefixes: tuple[int, ...] | None = None,
    alpha: float = 1 / 32,
    site: str = "",
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Dictionary:
    """Learn directions that activations are sparse sums of.

    Args:
        activations: `(n, d)`; a point of an `ActivationCache`; or batches `(n, d)` that can be read again.
        latents: how many directions, usually several times `d`.
        k: active latents a row: at most (`topk`), or on average.
        variant: `topk`, `batch_topk`, `jump_relu` or `matryoshka`.
        steps: of the optimiser; None takes one pass, and at least 3000.
        batch: rows a step, of a tensor or cache; batches of a stream are taken as they come.
        learning_rate: of Adam; None takes `2e-4 sqrt(2^14 / latents)` (Gao et al. 2024), warmed up over the first
            twentieth of the steps and lowered to zero over the last fifth.
        target: what to give instead, for a transcoder: a tensor of as many rows, or another point of the same cache.
        prefixes: for `matryoshka`, rising and ending in `latents`; None takes a quarter, half, all.
        alpha: weight of the dead latents' loss; 0 leaves the dead alone.
        site: name of the module, kept in the result; a cache knows it.
        device: where to train; None is where the rows are.
        generator: of the first directions and the order of rows; None is one of seed 0.
        progress: called after each step.

    Returns:
        Dictionary, with curves of error, active and dead latents in `report`.

    Raises:
        ValueError: settings that cannot be, targets that do not match, activations that are all the same.
        NonFiniteError: NaN or infinity in activations.
    """
    if variant not in TRAINED or not 0 < k <= latents or alpha < 0 or (steps is not None and steps < 1) or batch < 1:
        raise ValueError(
            f"got variant={variant!r}, k={k}, latents={latents}, alpha={alpha}, steps={steps}, batch={batch}; expected "
            f"one of {', '.join(TRAINED)}, 0 < k <= latents, alpha >= 0, and at least one step and row"
        )
    source = torch.Generator().manual_seed(0) if generator is None else generator
    stream = batches_of(activations, target, batch, source, device)
    total = steps or max(_LEAST, len(activations) // batch if isinstance(activations, Tensor | Point) else 0)
    rule = Rule(variant, k, _prefixes(prefixes, variant, latents, k), _BANDWIDTH, alpha, 0)
    x, y = next(stream)
    rule = replace(rule, spare=max(1, x.shape[1] // 2))
    scaling = Scaling.of(x, y)
    now = _start(scaling.apply(x, y), latents, rule, tied=target is None, generator=source)
    rate = learning_rate or 2e-4 * (2**14 / latents) ** 0.5
    curve = _train(now, (scaling.apply(*pair) for pair in stream), rule, total=total, rate=rate, progress=progress)
    if rule.variant in ("batch_topk", "matryoshka"):
        now = replace(now, threshold=_smallest_kept(now, (scaling.apply(*pair) for pair in islice(stream, _LAST)), k))
    manifest = {
        "method": "dictionary",
        "steps": total,
        "batch": len(x),
        "learning_rate": rate,
        "alpha": alpha,
        "seed": source.initial_seed(),
        "target": target.name if isinstance(target, Point) else None,
        "base": activations.cache.manifest["base"] if isinstance(activations, Point) else None,
        "version": library_version(),
    }
    found = Dictionary(
        **{name: tensor.detach().cpu() for name, tensor in scaling.folded(now).items()},  # type: ignore[arg-type]
        variant=variant,
        k=k,
        prefixes=rule.prefixes if variant == "matryoshka" else (),
        site=activations.name if isinstance(activations, Point) and not site else site,
        sample=x[:_SAMPLE].cpu(),
        manifest=manifest,
    )
    return replace(found, report=curve | _measured(found, islice(stream, _LAST)))


def _prefixes(asked: tuple[int, ...] | None, variant: str, m: int, k: int) -> tuple[int, ...]:
    if variant != "matryoshka":
        return (m,)
    found = prefixes_of(m, k) if asked is None else tuple(asked)
    if list(found) != sorted(set(found)) or not found or found[0] < 1 or found[-1] != m:
        raise ValueError(f"got prefixes={found}; expected sizes that rise and end in latents={m}")
    return found


def _start(pair: Pair, m: int, rule: Rule, *, tied: bool, generator: torch.Generator) -> Parameters:
    """Draw directions; an autoencoder's encoder reads along them."""
    x, y = pair

    def directions(width: int) -> Tensor:
        rows = torch.randn(m, width, generator=generator).to(x.device)
        return rows / rows.norm(dim=1, keepdim=True)

    decoder = directions(y.shape[1])
    encoder = decoder.clone() if tied else directions(x.shape[1])
    now = Parameters(encoder, x.new_zeros(m), decoder, y.new_zeros(y.shape[1]))
    if rule.variant != "jump_relu":
        return now
    p = x @ encoder.T
    return replace(now, threshold=p.new_full((m,), float(largest_of_batch(p, rule.k).before.min())))


def _train(
    now: Parameters, pairs: Iterator[Pair], rule: Rule, *, total: int, rate: float, progress: Progress
) -> dict[str, Any]:
    """Take all steps, in place; return the curves."""
    optimiser = torch.optim.Adam(now.tensors(), lr=rate, fused=True)
    off = torch.zeros(len(now.encoder), dtype=torch.long, device=now.encoder.device)
    curve: dict[str, list[float]] = {"step": [], "unexplained": [], "active": [], "dead": []}
    for done, (x, y) in enumerate(islice(pairs, total), 1):
        dead = off >= min(_DEAD, total * len(x) // 20)
        one = step(now, x, y, rule, dead)
        for tensor, gradient in zip(now.tensors(), one.gradient.tensors(), strict=True):
            tensor.grad = gradient
        optimiser.param_groups[0]["lr"] = rate * min(1.0, 20 * done / total, 5 * (total - done + 1) / total)
        optimiser.step()
        now.decoder.div_(now.decoder.norm(dim=1, keepdim=True))
        if now.threshold is not None:
            now.threshold.clamp_min_(0)
        off = (off + len(x)).masked_fill_(one.on, 0)
        if done in (1, total) or done % max(1, total // _CURVE) == 0:
            spread = float((y - y.mean(0)).square().sum()) / len(y)
            numbers = (done, one.error / max(spread, torch.finfo(y.dtype).tiny), one.l0, float(dead.float().mean()))
            for values, number in zip(curve.values(), numbers, strict=True):
                values.append(number)
        progress(done, total, "dictionary")
    return {"curve": curve}


def _smallest_kept(now: Parameters, pairs: Iterator[Pair], k: int) -> Float[Tensor, ""]:
    """Give the mean, over batches, of the smallest of the `n k` largest pre-activations."""
    kept = [largest_of_batch(torch.addmm(now.encoder_bias, x, now.encoder.T), k).before.min() for x, _ in pairs]
    return torch.stack(kept).mean()


def _measured(found: Dictionary, pairs: Iterator[Pair]) -> dict[str, Any]:
    """Measure a finished dictionary on further batches, as it will be used."""
    left, spread, count, fired = 0.0, 0.0, 0, torch.zeros(found.m, dtype=torch.long)
    for x, y in pairs:
        code = found.encode(x.cpu())
        error = decoded(code, found.decoder) + found.output_bias - y.cpu()
        left += float(error.square().sum())
        spread += float((y - y.mean(0)).square().sum())
        count, fired = count + len(x), fired + code.counts()
    shares = torch.histc((fired[fired > 0] / count).log10(), 24, -6, 0)
    return {
        "explained": 1 - left / max(spread, torch.finfo(torch.float32).tiny),
        "active": float(fired.sum()) / count,
        "never": float((fired == 0).double().mean()),
        "rows": count,
        "density": {"from": -6, "to": 0, "latents": shares.long().tolist()},
    }

r"""The closed-form engram of a concept: :math:`W\,C_t\,(C_t + \lambda C_r)^{+}` at every site.

:math:`C_t` and :math:`C_r` are uncentred second moments of a map's inputs on the target and on the reference (what
must be kept), :math:`W` its weight with the bias as last column. At :math:`\lambda = 1` this is the estimator of
AI Engram (arXiv 2606.14997, Prop. 4.1): the minimum-norm minimiser of :math:`\|(M - W) X_t\|^2 + \|M X_r\|^2`, a soft
compromise and not a hard constraint. Larger :math:`\lambda` (selectivity) spares the reference more, smaller
erases more of the target; the hard limit :math:`\lambda = \infty` is inert on the reference exactly.

All maps are solved from the trained network's own inputs, in one pass. Solves are float64; the weight's responses and
the stored factors are float32, or float64 for a float64 network. Cost: see `localisation.reference`.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.localisation.reference import SOLVERS, Factored, Reference, Solution, require_finite_moments
from mnemotrace.stats.moments import Statistics


def engram(
    model: nn.Module,
    *,
    target: Statistics,
    reference: Statistics | Reference,
    selectivity: float = 1.0,
    solver: str = "truncate",
    rcond: float | None = None,
    rank: int | None = None,
    energy: float = 1.0,
    progress: Progress | None = None,
) -> Engram:
    """Extract the trace of a memory from a network's weights.

    Args:
        model: the network whose statistics these are; only read.
        target: statistics of the memory, from `mt.collect`.
        reference: statistics of what must be kept, without the target; or `mt.factor(...)` of it, which makes every
            further concept cheap. The total is always formed as target + selectivity * reference.
        selectivity: weight of the reference, from 0 to `math.inf`; 1 is the published estimator.
        solver: `truncate` drops eigenvalues of the total at or below `rcond` times the largest, as the reference
            implementation does; `ridge` adds `rcond` times the reference's largest to the diagonal instead: smooth,
            and several times faster.
        rcond: relative regulariser; None for `width * 1.19e-7`.
        rank: most rank to keep a site; None keeps the rank of the target.
        energy: share in (0, 1] of each site's squared norm to keep.
        progress: called after each site.

    Returns:
        An engram with measurements at every site in its `evidence`.

    Raises:
        ValueError: arguments out of range, or statistics of another network.
        SelectionError: the target has sites that the reference lacks.
        NonFiniteError: the statistics are not finite.
    """
    keep = reference if isinstance(reference, Reference) else Reference(reference)
    _check_settings(selectivity, solver, rcond, energy, rank)
    _check_statistics(target, keep)
    _check_model(model, target)
    traces: dict[str, LowRank] = {}
    evidence: dict[str, dict[str, Any]] = {}
    rows: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    solved: dict[tuple[int, int], tuple[Solution, Tensor, Tensor]] = {}
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    for done, (name, moments) in enumerate(target.items(), 1):
        site = target.sites[name]
        factored = keep[name]
        key = id(moments), id(factored)
        if key not in solved:
            solution = factored.solve(moments, selectivity=selectivity, solver=solver, rcond=rcond)
            solved[key] = solution, solution.rows.to(dtype), solution.right.to(dtype)
        solution, given, right = solved[key]
        response, weights[name] = _responses(model, site, given)
        trace = _thin(site, response, right)
        cut = trace.truncated(rank=rank, energy=energy) if rank is not None or energy < 1 else trace
        traces[name] = cut
        if cut.left is response:
            rows[name] = given
        extraction = _Extraction(solution, response.double(), cut, cut is trace, factored, selectivity)
        total = keep.energy(name, partial(weight_of, model, site, dtype=dtype))
        evidence[name] = _evidence(extraction, weights[name], moments.n, total)
        (progress or silent)(done, len(target), "sites")
    settings = {
        "solver": solver,
        "selectivity": _json_number(selectivity),
        "rcond": rcond,
        "rank": rank,
        "energy": energy,
    }
    manifest = {"method": "engram", **settings, "base": target.manifest.get("base"), "version": library_version()}
    return Engram(traces, evidence, manifest, rows, weights)


def _responses(model: nn.Module, site: Site, rows: Tensor) -> tuple[Tensor, float]:
    """Responses `W X^T` of a map to rows, and the map's norm, without a copy that joins weight and bias."""
    weight = weight_of(model, replace(site, bias=None), dtype=rows.dtype).to(rows.device)
    response, norm = weight @ rows[:, : site.d].T, float(weight.norm())
    if site.bias is None:
        return response, norm
    bias = site.bias_view(model.get_parameter(site.bias).detach()).to(rows)
    return response.addr_(bias, rows[:, -1]), math.hypot(norm, float(bias.norm()))


def _thin(site: Site, response: Tensor, right: Tensor) -> LowRank:
    """Factors `(W X^T, X pinv)`; through the outputs instead when there are more rows than outputs."""
    o, n = response.shape
    if n <= o:
        return LowRank(site, response, right)
    return LowRank(site, torch.eye(o, dtype=response.dtype, device=response.device), response @ right)


@dataclass(frozen=True)
class _Extraction:
    """An engram at one site and what it came from; `whole` unless it was cut in rank."""

    solution: Solution
    response: Tensor
    trace: LowRank
    whole: bool
    reference: Factored
    selectivity: float


@dataclass(frozen=True)
class SiteEvidence:
    """What is known of an engram at one site before anything is edited.

    Attributes:
        rank: eigenvalues of the total that were kept.
        condition: largest over smallest of them.
        ridge: what was added to the diagonal.
        relative_norm: norm of the engram over the norm of the weight; above 1 the edit is larger than the weight.
        leak: norm of the engram's responses to the reference over the weight's (0 is fully specific).
        miss: norm of what the engram fails to reproduce of the responses to the target, over theirs (0 is full
            reactivation). It is also what stays of the memory at this site after erasing at strength 1.
        reinstatement: cosine between the engram's and the weight's responses to the target.
        gain: norm of the engram's responses to the target over the weight's.
        leverage: mean leverage of the target's rows in the total, in [0, 1].
        target_rows: rows of the target.
        reference_rows: rows of the reference.
    """

    rank: int
    condition: float
    ridge: float
    relative_norm: float
    leak: float
    miss: float
    reinstatement: float
    gain: float
    leverage: float
    target_rows: float
    reference_rows: float


def _evidence(x: _Extraction, weight: float, target_rows: float, reference_energy: float) -> dict[str, Any]:
    hat, response = x.solution.hat(), x.response
    follows = x.whole and 0 < x.selectivity < math.inf
    norm = x.trace.norm()
    recalled = response @ hat
    if follows:
        leaked = _leaked_energy(x, recalled, norm)
    else:
        recalled, leaked = _measured(x)
    size, gain = float(response.norm()), float(recalled.norm())
    return asdict(
        SiteEvidence(
            rank=x.solution.rank,
            condition=x.solution.condition,
            ridge=x.solution.ridge,
            relative_norm=_ratio(norm, weight),
            leak=_ratio(math.sqrt(leaked), math.sqrt(reference_energy)),
            miss=_ratio(float((response - recalled).norm()), size),
            reinstatement=_ratio(float((recalled * response).sum()), size * gain),
            gain=_ratio(gain, size),
            leverage=float(hat.trace()) / max(target_rows, 1),
            target_rows=target_rows,
            reference_rows=x.reference.moments.n,
        )
    )


def _leaked_energy(x: _Extraction, recalled: Tensor, norm: float) -> float:
    r"""Squared norm of a whole engram's responses to the reference, without touching the reference again.

    With :math:`B = X T^{+}` and :math:`T = X^T X + \lambda R (+ \delta I)`:
    :math:`B R B^T = (H - H^2 - \delta B B^T) / \lambda`, and :math:`W X^T B` is the engram itself, of norm `norm`.
    """
    energy = float((recalled * x.response).sum() - recalled.square().sum()) - x.solution.ridge * norm**2
    return max(energy / x.selectivity, 0.0)


def _measured(x: _Extraction) -> tuple[Tensor, float]:
    """Responses to the target and squared norm of those to the reference, where the identities above do not hold."""
    recalled = x.trace.left @ (x.trace.right @ x.solution.rows.to(x.trace.right.dtype).T)
    return recalled.double(), x.reference.energy(torch.linalg.qr(x.trace.left).R @ x.trace.right)


def predicted_residual(engram: Engram, strength: float = 1.0) -> dict[str, float]:
    """Predict what share of each site's response to the target stays after erasing at a strength, before any edit.

    It is `|W X^T - strength P X^T| / |W X^T|`, from what was measured. Only the site's own inputs are considered: edits
    of earlier sites change them further.

    Args:
        engram: with evidence, from `mt.engram`.
        strength: as in `mt.erase`.
    """
    residual: dict[str, float] = {}
    for name, values in engram.evidence.items():
        inner = 1 - values["gain"] * values["reinstatement"]
        rest = (1 - strength) ** 2 + (strength * values["miss"]) ** 2 + 2 * strength * (1 - strength) * inner
        residual[name] = math.sqrt(max(rest, 0.0))
    return residual


def leverages(
    target: Statistics,
    reference: Statistics | Reference,
    *,
    selectivity: float = 1.0,
    solver: str = "truncate",
    rcond: float | None = None,
) -> dict[str, Tensor]:
    """Leverage of every target row in the total, `(n,)` by site, in [0, 1]: how much of each will be erased.

    Rows of a target that is kept as a matrix stand for its principal directions, largest first.

    Raises:
        ValueError: as `mt.engram`.
    """
    keep = reference if isinstance(reference, Reference) else Reference(reference)
    _check_settings(selectivity, solver, rcond)
    _check_statistics(target, keep)
    solve = {"selectivity": selectivity, "solver": solver, "rcond": rcond}
    return {name: keep[name].solve(moments, **solve).hat().diagonal().clamp(0, 1) for name, moments in target.items()}


def _check_settings(
    selectivity: float, solver: str, rcond: float | None, energy: float = 1.0, rank: int | None = None
) -> None:
    if solver not in SOLVERS:
        raise ValueError(f"got solver={solver!r}; expected one of {SOLVERS}")
    if not selectivity >= 0:
        raise ValueError(
            f"got selectivity={selectivity}; expected a number from 0 to math.inf; 1 is the published value"
        )
    if rcond is not None and not 0 < rcond < 1:
        raise ValueError(f"got rcond={rcond}; expected a number between 0 and 1; None takes width * 1.19e-7")
    if not 0 < energy <= 1:
        raise ValueError(f"got energy={energy}; expected a share in (0, 1]")
    if rank is not None and rank < 1:
        raise ValueError(f"got rank={rank}; expected a positive number of directions; None keeps all")


def _check_statistics(target: Statistics, reference: Reference) -> None:
    bases = target.manifest.get("base"), reference.statistics.manifest.get("base")
    if None not in bases and bases[0] != bases[1]:
        raise ValueError(
            f"got target and reference of two networks, {bases[0]} and {bases[1]}; expected one; collect again"
        )
    missing = [name for name in target if name not in reference]
    if missing:
        raise SelectionError(
            f"got target sites that the reference lacks ({', '.join(missing[:4])}, {len(missing)} in all); expected "
            "the reference at every one; collect it with the same sites, or target.select(...)"
        )
    for name, moments in target.items():
        require_finite_moments(moments, f"the target at {name}")


def _check_model(model: nn.Module, target: Statistics) -> None:
    base, actual = target.manifest.get("base"), fingerprint(model)
    if base is not None and base != actual:
        raise ValueError(
            f"got statistics of network {base} and network {actual}; expected statistics of this network as it is; "
            "undo edits, or collect again"
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _json_number(value: float) -> float | str:
    return "inf" if math.isinf(value) else value

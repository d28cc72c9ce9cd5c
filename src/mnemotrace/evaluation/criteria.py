r"""The four criteria of a trace, measured as behaviour, each beside matched random traces.

There are two networks, *with* the memory and *without* it, and the trace is what they differ by. An engram, or an edit
that erases, is taken out of the untouched network, which has the memory. An edit that writes is put into it, and the
edited network has the memory. Scores are corrected for chance and put in units of the network with the memory:
:math:`f(s) = (s - c) / (s_{with} - c)`.

* necessity: what the target loses without the trace, :math:`f_t(with) - f_t(without)`;
* specificity: necessity, less what the control data lose by the edit, in units of the untouched network;
* sufficiency: what the trace alone recalls in the null network (the edited maps set to zero), :math:`f_t(alone)`;
* reactivation: cosine between the responses of the trace and of the weights with the memory to the target's cues, mean
  over sites.

At one linear layer sufficiency and necessity add nothing to reactivation and specificity (the four squared violations
sum to :math:`2\|(P - W)X_t\|^2 + 2\|P X_r\|^2`); as behaviour of a deep network they differ. Every value has a 95 %
bootstrap interval over examples, and stands beside the same measure for random traces of equal size and form, erased
or written in the trace's place.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import bootstrap, random_edit
from mnemotrace.evaluation.maps import emptied, maps_of
from mnemotrace.evaluation.reinstatement import reinstatement
from mnemotrace.evaluation.runs import Case, Runs, Score
from mnemotrace.forgetting.erase import inject

Estimate = tuple[float, tuple[float, float]]

MEANING = {
    "specificity": "loss of the target minus loss of the control data when the trace is erased",
    "reactivation": "cosine between the trace's and the network's responses to the target, mean over sites",
    "sufficiency": "share of the target's score that the trace alone recalls in the null network",
    "necessity": "share of the target's score that is lost when the trace is erased",
}
WRITTEN = MEANING | {
    "specificity": "share of the target's score that the edit brings, minus loss of the control data by it",
    "necessity": "share of the target's score that is not there without the edit",
}


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        value: for the trace.
        interval: 95 % bootstrap interval over examples.
        control: mean for random traces of equal size and form.
        control_interval: its interval.
        meaning: in words.
    """

    value: float
    interval: tuple[float, float]
    control: float
    control_interval: tuple[float, float]
    meaning: str


@dataclass(frozen=True, eq=False)
class Criteria(Mapping[str, Criterion]):
    """The four criteria by name, with the behaviour that they come from.

    Attributes:
        criteria: by name.
        behaviour: mean scores of `target` and `control` data: `untouched`, `erased` (or `written`), `alone` (the trace
            in the null network), `null`, and for random traces `control_erased` (or `control_written`),
            `control_alone`.
        chance: score of a guesser.
        draws: random traces.
        sites: closed-form measurements by site, from the engram.
        manifest: provenance.
        absent: the criteria that could not be measured, with the reason.
    """

    criteria: Mapping[str, Criterion]
    behaviour: Mapping[str, Mapping[str, float]]
    chance: float
    draws: int
    sites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])
    absent: Mapping[str, str] = field(default_factory=dict[str, str])

    kind = "criteria"

    def __getitem__(self, name: str) -> Criterion:
        """Return one criterion.

        Raises:
            KeyError: there is none of that name, or it could not be measured; then the reason is given.
        """
        if name in self.absent:
            raise KeyError(f"{name}: {self.absent[name]}")
        return self.criteria[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.criteria)

    def __len__(self) -> int:
        """Count criteria."""
        return len(self.criteria)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Criteria":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        values["criteria"] = {name: _criterion(entry) for name, entry in values["criteria"].items()}
        return cls(**values)


def criteria(
    model: nn.Module,
    trace: Engram | Edit,
    *,
    score: Score,
    target: Any,
    control: Any,
    writes: bool = False,
    strength: float = 1.0,
    chance: float = 0.0,
    draws: int = 5,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Criteria:
    """Measure specificity, reactivation, sufficiency and necessity of a trace.

    Args:
        model: the network, unedited; it is left bit-exact.
        trace: what to judge, by whatever method it was found: an engram, or an edit of any form.
        score: called as `score(model, data)`, returns `(n,)` scores, higher meaning better recalled, for example 1
            where the answer is right. Called `4 + 2 draws` times on each of target and control, and `1 + draws` times
            more on the target for reactivation.
        target: what `score` takes, of the memory; best not seen when the trace was made. Of an edit that writes, the
            new memory.
        control: the same, of what must be kept.
        writes: whether applying the edit brings the memory, as an edit of a fact does; else applying it takes the
            memory away. An engram that writes is injected, one that does not is erased.
        strength: factor of the trace.
        chance: score of a guesser, subtracted everywhere.
        draws: random traces to compare with, at least one.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.
        progress: called after each run of `score`.

    Returns:
        Criteria with intervals and controls. Reactivation is absent, with the reason, where the edit changes no linear
        map.

    Raises:
        ValueError: scores are not `(n,)` or not finite; or at chance in the network with the memory, so that nothing
            can be lost, or on the control data before any edit; or `draws` is below one or `strength` not finite.
        EditError: the edit does not fit the model.
    """
    if isinstance(trace, Engram):
        memory, sites = inject(trace, limit=None), dict(trace.evidence)
    else:
        memory, sites = trace if writes else -trace, {}
    options = {"writes": writes, "strength": strength, "chance": chance, "draws": draws, "resamples": resamples}
    generator = generator or torch.Generator().manual_seed(0)
    cases = [Case(memory, target, control)]
    found = pooled(model, cases, score=score, generator=generator, progress=progress or silent, **options)
    return replace(found, sites=sites, manifest={**found.manifest, "of": dict(trace.manifest)})


def pooled(
    model: nn.Module,
    cases: Sequence[Case],
    *,
    score: Score,
    writes: bool,
    strength: float,
    chance: float,
    draws: int,
    resamples: int,
    generator: torch.Generator,
    progress: Progress,
) -> Criteria:
    """Measure the criteria of traces that act one at a time, over the examples of all; as `criteria` for each."""
    if draws < 1:
        raise ValueError(f"got draws={draws}; expected at least one random trace; a criterion means little alone")
    if not math.isfinite(strength):
        raise ValueError(f"got strength={strength}; expected a finite number; 1 takes the trace as it is")
    runs = Runs(model, score, cases, progress, (8 + 4 * draws) * len(cases))
    randoms = [[random_edit(case.trace, generator) for case in cases] for _ in range(draws)]
    _score(runs, randoms, writes=writes, strength=strength, chance=chance)
    meaning = WRITTEN if writes else MEANING
    values = _behavioural(runs, writes=writes, chance=chance, resamples=resamples, generator=generator)
    silence = _silence(model, cases)
    if silence is None:
        carried = [case.trace * strength if writes else None for case in cases]
        values["reactivation"] = _reactivation(runs, carried, randoms, resamples, generator)
    measured = {
        name: Criterion(*values[name][0], *values[name][1], meaning[name]) for name in meaning if name in values
    }
    behaviour = {side: {name: float(s.mean()) for name, s in by.items()} for side, by in runs.scores.items()}
    manifest = {"strength": strength, "writes": writes, "base": fingerprint(model), "version": library_version()}
    absent = {} if silence is None else {"reactivation": silence}
    return Criteria(measured, behaviour, chance, draws, {}, manifest, absent)


def _score(runs: Runs, randoms: Sequence[Sequence[Edit]], *, writes: bool, strength: float, chance: float) -> None:
    """Score the untouched network, the edited one, the trace alone in the null network, and the random traces."""
    edited, factor = ("written", strength) if writes else ("erased", -strength)
    traces = [case.trace for case in runs.cases]

    def nulls() -> Iterator[Edit]:
        return (emptied(runs.model, trace) for trace in traces)  # one at a time: of a dense edit it is a copy

    def measure(prefix: str, those: Sequence[Edit], suffix: str = "") -> None:
        runs.measure(f"{prefix}{edited}{suffix}", (one * factor for one in those))
        alone = (null + one * strength for null, one in zip(nulls(), those, strict=True))
        runs.measure(f"{prefix}alone{suffix}", alone)

    runs.measure("untouched", (None for _ in traces))
    for side in ("control",) if writes else ("target", "control"):
        runs.require_above(chance, side)
    measure("", traces)
    if writes:
        runs.require_written(chance)
    runs.measure("null", nulls())
    for i, others in enumerate(randoms):
        measure("control_", others, f"{i}")
    for name in (f"control_{edited}", "control_alone"):
        runs.average(name, len(randoms))


def _criterion(entry: Mapping[str, Any]) -> Criterion:
    pairs = {name: tuple(entry[name]) for name in ("interval", "control_interval")}
    return Criterion(**{**entry, **pairs})


def _behavioural(
    runs: Runs, *, writes: bool, chance: float, resamples: int, generator: torch.Generator
) -> dict[str, tuple[Estimate, Estimate]]:
    """Return the criteria that are seen in the scores: of the traces, and of the random ones."""

    def share(score: Tensor, unit: Tensor) -> Tensor:
        base = unit - chance
        return torch.where(base > 0, (score - chance) / base, torch.nan)  # nothing there to keep

    def ends(target: Tensor) -> tuple[Tensor, Tensor]:
        unit, untouched, edited = (share(target[..., i], target[..., 0]) for i in range(3))
        return (edited, untouched) if writes else (unit, edited)

    def specificity(target: Tensor, control: Tensor) -> Tensor:
        having, lacking = ends(target)
        kept = share(control[..., 1], control[..., 0])
        return (kept - lacking) + (having - 1)  # necessity less what the control lost, without cancellation

    def necessity(target: Tensor) -> Tensor:
        having, lacking = ends(target)
        return having - lacking

    def sufficiency(target: Tensor) -> Tensor:
        return share(target[..., 1], target[..., 0])

    def estimate(edited: str, alone: str) -> dict[str, Estimate]:
        moved = runs.table("target", unit, "untouched", edited)
        options = {"resamples": resamples, "generator": generator}
        return {
            "specificity": bootstrap(specificity, moved, runs.table("control", "untouched", edited), **options),
            "sufficiency": bootstrap(sufficiency, runs.table("target", unit, alone), **options),
            "necessity": bootstrap(necessity, moved, **options),
        }

    edited = "written" if writes else "erased"
    unit = edited if writes else "untouched"
    mine, random = estimate(edited, "alone"), estimate(f"control_{edited}", "control_alone")
    return {name: (mine[name], random[name]) for name in mine}


def _silence(model: nn.Module, cases: Sequence[Case]) -> str | None:
    """Say why no response can be compared, None where it can."""
    for case in cases:
        maps = maps_of(model, case.trace)
        if not maps:
            return f"the edit changes no linear map, only {', '.join(case.trace.parameters[:4])}, so nothing responds"
        if all(one.site.kind == "expert" for one in maps.values()):
            return "the edit changes routed experts only, whose rows do not keep examples apart"
    return None


def _reactivation(
    runs: Runs,
    carried: Sequence[Edit | None],
    randoms: Sequence[Sequence[Edit]],
    resamples: int,
    generator: torch.Generator,
) -> tuple[Estimate, Estimate]:
    """Compare responses in the network with the memory; `carried` is what brings it there, case by case."""

    def cosines(traces: Iterable[Edit]) -> Tensor:
        found: list[Tensor] = []
        for case, edit, trace in zip(runs.cases, carried, traces, strict=True):
            with nullcontext() if edit is None else applied(runs.model, edit):
                found.append(reinstatement(runs.model, trace, lambda model, data=case.target: runs.score(model, data)))
        return torch.cat(found)

    options = {"resamples": resamples, "generator": generator}
    mine = bootstrap(lambda means: means[..., 0], cosines(case.trace for case in runs.cases)[:, None], **options)
    drawn = torch.stack([cosines(others) for others in randoms]).mean(0)
    return mine, bootstrap(lambda means: means[..., 0], drawn[:, None], **options)

r"""The four criteria of an engram, measured as behaviour, each beside matched random traces.

Scores are corrected for chance and put in units of the untouched network: :math:`f(s) = (s - c) / (s_0 - c)`.

* necessity: what the target loses when the trace is erased, :math:`1 - f_t(erased)`;
* specificity: how much more the target loses than the control data, :math:`f_k(erased) - f_t(erased)`;
* sufficiency: what the trace alone recalls in the null network (the edited maps set to zero), :math:`f_t(alone)`;
* reactivation: cosine between the trace's and the trained weights' responses to the target's cues, mean over sites.

At one linear layer sufficiency and necessity add nothing to reactivation and specificity (the four squared violations
sum to :math:`2\|(P - W)X_t\|^2 + 2\|P X_r\|^2`); as behaviour of a deep network they differ. Every value has a 95 %
bootstrap interval over examples, and stands beside the same measure for random traces of equal rank, norm and spectrum.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import bootstrap, random_trace
from mnemotrace.evaluation.reinstatement import reinstatement
from mnemotrace.forgetting.erase import erase, inject, null

Score = Callable[[nn.Module, Any], Tensor]

MEANING = {
    "specificity": "loss of the target minus loss of the control data when the trace is erased",
    "reactivation": "cosine between the trace's and the network's responses to the target, mean over sites",
    "sufficiency": "share of the target's score that the trace alone recalls in the null network",
    "necessity": "share of the target's score that is lost when the trace is erased",
}


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        value: for the trace.
        interval: 95 % bootstrap interval over examples.
        control: mean for random traces of equal rank, norm and spectrum.
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
        behaviour: mean scores of `target` and `control` data: `untouched`, `erased`, `alone` (the trace in the null
            network), `null`, and for random traces `control_erased`, `control_alone`.
        chance: score of a guesser.
        draws: random traces.
        sites: closed-form measurements by site, from the engram.
        manifest: provenance.
    """

    criteria: Mapping[str, Criterion]
    behaviour: Mapping[str, Mapping[str, float]]
    chance: float
    draws: int
    sites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "criteria"

    def __getitem__(self, name: str) -> Criterion:
        """Return one criterion."""
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
    engram: Engram,
    *,
    score: Score,
    target: Any,
    control: Any,
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
        engram: the trace to judge, by whatever method it was found.
        score: called as `score(model, data)`, returns `(n,)` scores, higher meaning better recalled, for example 1
            where the answer is right. Called `4 + 2 draws` times on each of target and control, and `1 + draws` times
            more on the target for reactivation.
        target: what `score` takes, of the memory; best not seen when the engram was extracted.
        control: the same, of what must be kept.
        strength: at which the trace is erased and injected.
        chance: score of a guesser, subtracted everywhere.
        draws: random traces to compare with, at least one.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.
        progress: called after each run of `score`.

    Returns:
        Criteria with intervals and controls.

    Raises:
        ValueError: scores are not `(n,)` or not finite, or at chance before anything is edited: nothing can be lost; or
            `draws` is below one.
    """
    if draws < 1:
        raise ValueError(f"got draws={draws}; expected at least one random trace; a criterion means little alone")
    generator = generator or torch.Generator().manual_seed(0)
    runs = _Runs(model, score, {"target": target, "control": control}, progress or silent, 8 + 4 * draws)
    emptied = null(model, engram)
    runs.measure("untouched", None)
    runs.require_above(chance)
    runs.measure("erased", erase(engram, strength, limit=None))
    runs.measure("alone", emptied + inject(engram, strength, limit=None))
    runs.measure("null", emptied)
    others = [random_trace(engram, generator) for _ in range(draws)]
    for i, other in enumerate(others):
        runs.measure(f"control_erased{i}", erase(other, strength, limit=None))
        runs.measure(f"control_alone{i}", emptied + inject(other, strength, limit=None))
    runs.average("control_erased", draws)
    runs.average("control_alone", draws)
    measured = _behavioural(runs, chance, resamples, generator)
    measured["reactivation"] = _reactivation(runs, engram, others, resamples, generator)
    manifest = {
        "strength": strength,
        "base": fingerprint(model),
        "of": dict(engram.manifest),
        "version": library_version(),
    }
    behaviour = {side: {name: float(s.mean()) for name, s in by.items()} for side, by in runs.scores.items()}
    ordered = {name: measured[name] for name in MEANING}
    return Criteria(ordered, behaviour, chance, draws, dict(engram.evidence), manifest)


def _criterion(entry: Mapping[str, Any]) -> Criterion:
    pairs = {name: tuple(entry[name]) for name in ("interval", "control_interval")}
    return Criterion(**{**entry, **pairs})


class _Runs:
    """Scores of target and control data under one edit after another."""

    def __init__(self, model: nn.Module, score: Score, data: Mapping[str, Any], report: Progress, total: int) -> None:
        self.model, self.score, self.data, self.report, self.total = model, score, data, report, total
        self.scores: dict[str, dict[str, Tensor]] = {side: {} for side in data}
        self.done = 0

    def measure(self, name: str, edit: Edit | None) -> None:
        for side, data in self.data.items():
            if edit is None:
                scores = self.score(self.model, data)
            else:
                with applied(self.model, edit):
                    scores = self.score(self.model, data)
            self.scores[side][name] = _checked(scores, name, side)
            self.done += 1
            self.report(self.done, self.total, "scores")

    def average(self, name: str, draws: int) -> None:
        for by in self.scores.values():
            by[name] = torch.stack([by.pop(f"{name}{i}") for i in range(draws)]).mean(0)

    def require_above(self, chance: float) -> None:
        for side, by in self.scores.items():
            base = float(by["untouched"].mean())
            if base <= chance:
                raise ValueError(
                    f"got a {side} score of {base:.3f} before any edit, at or below chance ({chance}); expected a "
                    "memory that the network has; check the data and the score"
                )

    def table(self, side: str, *names: str) -> Tensor:
        return torch.stack([self.scores[side][name] for name in names], 1)


def _behavioural(runs: _Runs, chance: float, resamples: int, generator: torch.Generator) -> dict[str, Criterion]:
    def kept(means: Tensor) -> Tensor:
        base = means[..., 0] - chance
        return torch.where(base > 0, (means[..., 1] - chance) / base, torch.nan)  # nothing there to keep

    def estimate(erased: str, alone: str) -> dict[str, tuple[float, tuple[float, float]]]:
        lost = runs.table("target", "untouched", erased)
        others = runs.table("control", "untouched", erased)
        recalled = runs.table("target", "untouched", alone)
        options = {"resamples": resamples, "generator": generator}
        return {
            "specificity": bootstrap(lambda t, c: kept(c) - kept(t), lost, others, **options),
            "sufficiency": bootstrap(kept, recalled, **options),
            "necessity": bootstrap(lambda t: 1 - kept(t), lost, **options),
        }

    mine, random = estimate("erased", "alone"), estimate("control_erased", "control_alone")
    return {name: Criterion(*mine[name], *random[name], MEANING[name]) for name in mine}


def _reactivation(
    runs: _Runs, engram: Engram, others: list[Engram], resamples: int, generator: torch.Generator
) -> Criterion:
    def cosines(trace: Engram) -> Tensor:
        return reinstatement(runs.model, trace, lambda model: runs.score(model, runs.data["target"]))

    options = {"resamples": resamples, "generator": generator}
    mine = bootstrap(lambda means: means[..., 0], cosines(engram)[:, None], **options)
    drawn = torch.stack([cosines(other) for other in others]).mean(0)
    random = bootstrap(lambda means: means[..., 0], drawn[:, None], **options)
    return Criterion(*mine, *random, MEANING["reactivation"])


def _checked(scores: Tensor, name: str, side: str) -> Tensor:
    scores = torch.as_tensor(scores).detach().double().cpu()
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"got scores of shape {tuple(scores.shape)} for {side}; expected (n,), one an example")
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(f"got non-finite scores of {side} ({name}); expected finite numbers; bound the score")
    return scores

r"""What an edit of facts did, against the untouched network: was it taken up, does it carry over, what else changed?

A fact's prompts make the parts: `efficacy` (the prompt, which should get the target), `paraphrase` (the same asked
otherwise), `neighbourhood` (others, who should keep their answers), `portability` (what follows from the target). Each
is read in columns:

* `probability`, `forced`, `free`: of the wanted answer, as in `adapters.answers`; always all three;
* `tokens`: share of right tokens under teacher forcing (the accuracy reported for zsRE);
* `preference`: the wanted answer has the smaller mean negative log-probability than its rival, the old answer, or for
  neighbours the target (CounterFact's ES, PS, NS); `margin`: by how much it is more probable (EM, PM, NM).

`score` is CounterFact's S, the harmonic mean of the three preferences. `locality` compares neighbours with what the
untouched network said, right or wrong: :math:`1 - |p - p_0|`, the same predicted tokens, the same words to one token
behind the answer.
`perplexity_ratio` is :math:`\exp(\overline{nll} - \overline{nll}_0)` over the tokens of given texts; `fluency` and
`consistency` are of free text about the subjects (`evaluation.generation`).

Values are means over facts of the means over a fact's prompts, with 95 % bootstrap intervals over facts (over texts
for the ratio of one edit). What the facts do not have is absent. Nothing is ever compared with an edited network: the
untouched one is read once, into a `Baseline`, and a baseline of other weights is refused.

Cost: a baseline or an edit takes one pass over all prompts with two answers each, one short generation over all
prompts, and one pass over the texts.

References: Meng et al. 2022 (CounterFact, S), Mitchell et al. 2022 (zsRE), Yao et al. 2023 (portability).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.answers import Answer, Reading
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.evaluation.controls import Statistic, bootstrap
from mnemotrace.evaluation.depth import Relearning, depth
from mnemotrace.evaluation.generation import consistency, fluency
from mnemotrace.evaluation.sheets import Baseline, Sheet, baseline, read_losses, read_sheets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Baseline", "Measure", "Verdict", "baseline", "judge", "judge_each"]

_PREFERENCES = ("efficacy_preference", "paraphrase_preference", "neighbourhood_preference")
Table = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Measure:
    """One number about an edit.

    Attributes:
        value: of the edited network.
        interval: its 95 % bootstrap interval.
        n: facts that it is the mean over; of one edit's ratio, texts.
        column: how answers were read.
        before: the same of the untouched network; None where the measure is a comparison with it.
    """

    value: float
    interval: tuple[float, float]
    n: int
    column: str
    before: float | None = None


@dataclass(frozen=True, eq=False)
class Verdict(Mapping[str, Measure]):
    """Measures by name, `part_column`: `efficacy_free`, `neighbourhood_preference`, `locality_forced`, `score`, ...

    Attributes:
        measures: by name; what could not be measured is not in it.
        relearning: score of the old answer after each number of training steps, as in `evaluation.depth`, if asked for.
        manifest: provenance.
    """

    measures: Mapping[str, Measure]
    relearning: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "verdict"

    def __getitem__(self, name: str) -> Measure:
        """Return one measure."""
        if name not in self.measures:
            raise KeyError(f"{name!r}, which was not measured; there are {', '.join(self.measures)}")
        return self.measures[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.measures)

    def __len__(self) -> int:
        """Count measures."""
        return len(self.measures)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Verdict":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        pairs = values["measures"].items()
        values["measures"] = {name: Measure(**{**entry, "interval": tuple(entry["interval"])}) for name, entry in pairs}
        return cls(**values)


def judge(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    edit: Edit,
    *,
    baseline: Baseline,
    references: Sequence[str] = (),
    relearning: Relearning | None = None,
    naive: nn.Module | None = None,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Judge one edit of all facts.

    Args:
        model: the untouched network that the baseline was read from; left bit-exact.
        tokenizer: of the model.
        facts: all or some of those that the baseline was read for.
        edit: what to judge.
        baseline: of the untouched network.
        references: a text a fact about something of which the target is true, for consistency.
        relearning: how to teach the old answers again, beside the untouched network; None leaves that out.
        naive: a network that never had the old answers, taught beside.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.
        progress: called after every few facts.

    Raises:
        ValueError: the model or a fact is not the baseline's, or references do not fit.
        EditError: the edit does not fit the model.
        NonFiniteError: the edited network's probabilities are not finite.
    """
    before = _before(model, facts, baseline, references)
    with applied(model, edit):
        after = read_sheets(model, tokenizer, facts, how=baseline, progress=progress)
        worse = _worse(read_losses(model, tokenizer, how=baseline), baseline)
    measures = _measures(before, after, worse, references, resamples=resamples, generator=generator)
    curves = depth(model, edit, relearning=relearning, naive=naive).relearning if relearning else {}
    return Verdict(measures, curves, _manifest(baseline, facts, dict(edit.manifest)))


def judge_each(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    edits: Sequence[Edit],
    *,
    baseline: Baseline,
    references: Sequence[str] = (),
    resamples: int = 1000,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Judge one edit a fact, each on the untouched network alone, and pool what was measured.

    Args:
        model: as in `judge`.
        tokenizer: of the model.
        facts: as in `judge`.
        edits: in the order of the facts.
        baseline: as in `judge`; its texts are read again for every edit.
        references: as in `judge`.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.
        progress: called after each edit.

    Raises:
        ValueError: there is not one edit a fact, and as in `judge`.
        EditError: an edit does not fit the model.
        NonFiniteError: an edited network's probabilities are not finite.
    """
    if len(edits) != len(facts):
        raise ValueError(
            f"got {len(edits)} edits for {len(facts)} facts; expected one a fact; use `judge` for one edit"
        )
    before = _before(model, facts, baseline, references)
    after: list[Sheet] = []
    worse: list[Tensor] = []
    for i, (fact, edit) in enumerate(zip(facts, edits, strict=True), 1):
        with applied(model, edit):
            after += read_sheets(model, tokenizer, [fact], how=baseline)
            worse.append(_worse(read_losses(model, tokenizer, how=baseline), baseline).sum(0))
        (progress or silent)(i, len(edits), "edits")
    rows = torch.stack(worse) if baseline.texts else baseline.losses
    measures = _measures(before, after, rows, references, resamples=resamples, generator=generator)
    return Verdict(measures, manifest=_manifest(baseline, facts, {"each": [dict(edit.manifest) for edit in edits]}))


def _before(model: nn.Module, facts: Sequence[Fact], baseline: Baseline, references: Sequence[str]) -> list[Sheet]:
    if fingerprint(model) != baseline.base:
        raise ValueError(
            "got a model with other weights than the baseline was read from; expected the untouched one, so that "
            "nothing is compared with an edited network; take the edit out, or read a baseline of this model"
        )
    strange = next((fact for fact in facts if fact not in baseline.sheets), None)
    if strange is not None or not facts:
        what = "no fact" if strange is None else f"the fact {strange.prompt!r}, which is not in the baseline"
        raise ValueError(f"got {what}; expected facts that the baseline was read for; read one with all of them")
    if references and len(references) != len(facts):
        raise ValueError(f"got {len(references)} references for {len(facts)} facts; expected one a fact, or none")
    return [baseline.sheets[fact] for fact in facts]


def _worse(losses: Float[Tensor, "n 2"], baseline: Baseline) -> Float[Tensor, "n 2"]:
    """Return of each text how much the summed loss grew, and the number of tokens."""
    return torch.stack([losses[:, 0] - baseline.losses[:, 0], losses[:, 1]], 1)


def _measures(
    before: Sequence[Sheet],
    after: Sequence[Sheet],
    worse: Float[Tensor, "n 2"],
    references: Sequence[str],
    *,
    resamples: int,
    generator: torch.Generator | None,
) -> dict[str, Measure]:
    generator = generator or torch.Generator().manual_seed(0)

    def measure(rows: Tensor, column: str, before: float | None, statistic: Statistic = _first) -> Measure:
        value, interval = bootstrap(statistic, rows, resamples=resamples, generator=generator)
        return Measure(value, interval, len(rows), column, before)

    first, last = _table(before, references), _table(after, references, before)
    measures: dict[str, Measure] = {}
    for name, by_fact in last.items():
        rows = torch.tensor(list(by_fact.values()), dtype=torch.float64)[:, None]
        untouched = sum(first[name].values()) / len(rows) if name in first else None
        measures[name] = measure(rows, name.partition("_")[2] or "free", untouched)
    rows = _triples(last)
    if len(rows):
        untouched = float(_harmonic(_triples(first).mean(0)))
        measures["score"] = measure(rows, "preference", untouched, _harmonic)
    if len(worse):
        measures["perplexity_ratio"] = measure(worse, "probability", None, _ratio)
    return measures


def _table(sheets: Sequence[Sheet], references: Sequence[str], before: Sequence[Sheet] = ()) -> Table:
    """Return the mean over a fact's prompts, by measure and fact."""
    values: dict[str, dict[int, list[float]]] = {}
    for i, sheet in enumerate(sheets):
        for k, (part, answer, rival) in enumerate(zip(sheet.parts, sheet.answers, sheet.rivals, strict=True)):
            named = {f"{part}_{column}": value for column, value in _columns(answer, rival).items()}
            if before and part == "neighbourhood":
                named |= {f"locality_{c}": value for c, value in _same(before[i].answers[k], answer).items()}
            for name, value in named.items():
                values.setdefault(name, {}).setdefault(i, []).append(value)
        if sheet.stories:
            values.setdefault("fluency", {})[i] = fluency(sheet.stories).tolist()
    table = {name: {i: sum(v) / len(v) for i, v in by_fact.items()} for name, by_fact in values.items()}
    if references and "fluency" in table:
        told = list(table["fluency"])
        texts = [" ".join(sheets[i].stories) for i in told]
        cosines = consistency(texts, [references[i] for i in told]).tolist()
        table["consistency"] = dict(zip(told, cosines, strict=True))
    return table


def _columns(answer: Answer, rival: Reading | None) -> dict[str, float]:
    reading = answer.reading
    columns = {
        "probability": reading.probability,
        "forced": float(reading.forced),
        "free": float(answer.free),
        "tokens": reading.share,
    }
    if rival is not None:
        columns["preference"] = float(reading.nll < rival.nll)
        columns["margin"] = reading.probability - rival.probability
    return columns


def _same(before: Answer, after: Answer) -> dict[str, float]:
    return {
        "probability": 1 - abs(before.reading.probability - after.reading.probability),
        "forced": float(torch.equal(before.reading.predicted, after.reading.predicted)),
        "free": float(before.said == after.said),
    }


def _triples(table: Table) -> Float[Tensor, "n 3"]:
    """Return the three preferences of the facts that have all of them."""
    parts = [table.get(name, {}) for name in _PREFERENCES]
    rows = [[part[i] for part in parts] for i in parts[0] if all(i in part for part in parts)]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(parts))


def _first(means: Float[Tensor, "*s 1"]) -> Float[Tensor, "*s"]:
    return means[..., 0]


def _harmonic(means: Float[Tensor, "*s k"]) -> Float[Tensor, "*s"]:
    return means.shape[-1] / (1 / means).sum(-1)  # 0 as soon as one of them is


def _ratio(means: Float[Tensor, "*s 2"]) -> Float[Tensor, "*s"]:
    return (means[..., 0] / means[..., 1]).exp()


def _manifest(baseline: Baseline, facts: Sequence[Fact], of: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps([fact.to_json() for fact in facts]).encode()
    return {
        "base": dict(baseline.base),
        "of": of,
        "facts": {"n": len(facts), "hash": hashlib.sha256(content).hexdigest()[:16]},
        "length": baseline.length,
        "version": library_version(),
    }

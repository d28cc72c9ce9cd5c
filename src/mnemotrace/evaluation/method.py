"""All that is measured of one method, on the same facts as all others: a row of a comparison.

What the measures mean and what they cost is told in `evaluation.comparison`.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.answers import Reading, read_answers, read_tokens
from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.scores import LanguageScore
from mnemotrace.core.applying import applied
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import silent
from mnemotrace.evaluation.controls import bootstrap
from mnemotrace.evaluation.criteria import Criterion, pooled
from mnemotrace.evaluation.runs import Case, NotWrittenError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ("probability", "forced", "free")
LARGEST = 700.0  # exponent: a wrecked network's perplexity stays a finite number, which files need
MEASURES = ("efficacy", "paraphrase", "neighbourhood", "portability")


@dataclass(frozen=True)
class Measured:
    """A number with its interval.

    Attributes:
        value: mean over prompts, or a ratio.
        interval: 95 % bootstrap interval.
        n: prompts, or texts.
    """

    value: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True, eq=False)
class Row:
    """One method.

    Attributes:
        name: of the method; `untouched` and `random` in every block.
        writes: whether it should bring the target, or else take the old answer away.
        criteria: of the edit, each beside its own random control.
        measures: `efficacy`, `paraphrase`, `neighbourhood`, `portability`, each by `probability`, `forced`, `free`.
        perplexity: ratio to the untouched network's on the texts; None without texts.
        edits: how many there are: one, or one a fact.
        nbytes: of the stored tensors of all edits.
        norm: Frobenius norm, the mean over the edits.
        seconds: that making the edits took, where their manifests say so.
        absent: what could not be measured, with the reason.
    """

    name: str
    writes: bool
    criteria: Mapping[str, Criterion]
    measures: Mapping[str, Mapping[str, Measured]]
    perplexity: Measured | None
    edits: int
    nbytes: int
    norm: float
    seconds: float | None
    absent: Mapping[str, str]

    def value(self, name: str) -> float | None:
        """Return a criterion, or a measure as the network goes on by itself; None where it is absent."""
        if name in self.criteria:
            return self.criteria[name].value
        return self.measures[name]["free"].value if name in self.measures else None


@dataclass(frozen=True)
class Judge:
    """What all rows share."""

    model: nn.Module
    tokenizer: "PreTrainedTokenizerBase"
    facts: Sequence[Fact]
    texts: Sequence[str]
    draws: int
    seed: int

    def row(self, name: str, edits: Sequence[Edit], *, writes: bool) -> Row:
        """Judge one method; no edit is the untouched network."""
        criteria, absent = self._criteria(edits, writes=writes)
        measures = self._measures(edits, writes=writes)
        absent |= {name: "the facts have no prompts for it" for name in MEASURES if name not in measures}
        if not writes:
            absent["portability"] = "nothing follows from an answer that is gone"
        known = [edit.manifest.get("seconds") for edit in edits]
        seconds = sum(s for s in known if isinstance(s, int | float)) if known and None not in known else None
        size = sum(edit.nbytes for edit in edits)
        ratio = self._perplexity(edits)
        return Row(name, writes, criteria, measures, ratio, len(edits), size, norm_of(edits), seconds, absent)

    def _criteria(self, edits: Sequence[Edit], *, writes: bool) -> tuple[Mapping[str, Criterion], dict[str, str]]:
        if not edits:
            return {}, {"criteria": "nothing was edited"}
        parts = [self.facts] if len(edits) == 1 else [[fact] for fact in self.facts]
        cases = [
            Case(
                edit if writes else -edit,
                [_asked(fact, fact.prompt, writes=writes) for fact in part],
                [example for fact in part for example in fact.neighbours],
            )
            for edit, part in zip(edits, parts, strict=True)
        ]
        options: dict[str, Any] = {"writes": writes, "strength": 1.0, "chance": 0.0, "draws": self.draws}
        options |= {"resamples": 1000, "generator": seeded(self.seed), "progress": silent}
        try:
            found = pooled(self.model, cases, score=LanguageScore(self.tokenizer), **options)
        except NotWrittenError as error:
            return {}, {"criteria": str(error)}
        return found.criteria, dict(found.absent)

    def _measures(self, edits: Sequence[Edit], *, writes: bool) -> dict[str, dict[str, Measured]]:
        """Read all prompts in one go, under each edit those of its facts."""
        asked = [_prompts(fact, writes=writes) for fact in self.facts]
        parts = [range(len(asked))] if len(edits) < 2 else [range(i, i + 1) for i in range(len(asked))]
        scores: dict[str, dict[int, list[tuple[float, ...]]]] = {}
        for edit, part in zip(edits or [None], parts, strict=True):
            flat = [(name, i, example) for i in part for name, examples in asked[i].items() for example in examples]
            with nullcontext() if edit is None else applied(self.model, edit):
                answers = read_answers(self.model, self.tokenizer, [example for *_, example in flat])
            for (name, i, _), answer in zip(flat, answers, strict=True):
                given = (answer.reading.probability, float(answer.reading.forced), float(answer.free))
                if not writes and name in ("efficacy", "paraphrase"):
                    given = tuple(1 - value for value in given)
                scores.setdefault(name, {}).setdefault(i, []).append(given)
        return {
            name: {c: self._mean([[s[k] for s in one] for one in by.values()]) for k, c in enumerate(COLUMNS)}
            for name, by in scores.items()
        }

    def _mean(self, by_fact: list[list[float]]) -> Measured:
        groups = by_fact if len(by_fact) > 1 else [[value] for value in by_fact[0]]
        sums = torch.tensor([[sum(group), float(len(group))] for group in groups], dtype=torch.float64)
        value, interval = bootstrap(lambda m: m[..., 0] / m[..., 1], sums, generator=seeded(self.seed))
        return Measured(value, interval, int(sums[:, 1].sum()))

    def _perplexity(self, edits: Sequence[Edit]) -> Measured | None:
        if not self.texts:
            return None
        examples = [Example(text=text) for text in self.texts]
        before = _logs(read_tokens(self.model, self.tokenizer, examples))
        parts: list[Tensor] = []
        for edit in edits or [None]:
            with nullcontext() if edit is None else applied(self.model, edit):
                after = _logs(read_tokens(self.model, self.tokenizer, examples))
            parts.append(torch.cat([before, after[:, :1]], 1))
        means = torch.stack(parts).mean(0)

        def ratio(m: Tensor) -> Tensor:
            return ((m[..., 0] - m[..., 2]) / m[..., 1]).clamp(max=LARGEST).exp()

        value, interval = bootstrap(ratio, means, generator=seeded(self.seed))
        return Measured(value, interval, len(self.texts))


def _asked(fact: Fact, prompt: str, *, writes: bool) -> Example:
    return Example(prompt=prompt, answer=fact.target if writes else fact.answer)


def _prompts(fact: Fact, *, writes: bool) -> dict[str, list[Example]]:
    return {
        "efficacy": [_asked(fact, fact.prompt, writes=writes)],
        "paraphrase": [_asked(fact, prompt, writes=writes) for prompt in fact.paraphrases],
        "neighbourhood": list(fact.neighbours),
        "portability": list(fact.portability) if writes else [],
    }


def _logs(readings: Sequence[Reading]) -> Tensor:
    """Return `(n, 2)`: the log-probability of each text, and its number of tokens."""
    return torch.stack(
        [torch.stack([r.log_probability.sum(), torch.tensor(float(len(r.ids))).double()]) for r in readings]
    )


def norm_of(edits: Sequence[Edit]) -> float:
    """Return the Frobenius norm, the mean over edits."""
    norms = [sum(norm**2 for norm in edit.norms().values()) ** 0.5 for edit in edits]
    return sum(norms) / len(norms) if norms else 0.0


def seeded(seed: int) -> torch.Generator:
    """Make a source of randomness."""
    return torch.Generator().manual_seed(seed)


def row_of(entry: Mapping[str, Any]) -> Row:
    """Rebuild a row from JSON values."""
    criteria = {name: Criterion(**_paired(one)) for name, one in entry["criteria"].items()}
    measures = {
        name: {column: Measured(**_paired(one)) for column, one in by.items()} for name, by in entry["measures"].items()
    }
    ratio = None if entry["perplexity"] is None else Measured(**_paired(entry["perplexity"]))
    return Row(**{**entry, "criteria": criteria, "measures": measures, "perplexity": ratio})


def _paired(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name.endswith("interval") else value for name, value in entry.items()}

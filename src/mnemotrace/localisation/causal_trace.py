r"""What causal tracing finds, as values: a record a fact, averages over facts, and their file.

The indirect effect of a restoration is `p(answer | restored) - p(answer | corrupted)`, the mean over draws of noise
that are the same in both. Facts have prompts of different lengths, so they are averaged over six groups of tokens
(Meng et al. 2022, "Locating and editing factual associations in GPT", section 2), with intervals from drawing facts
again. Milliseconds; the file holds one float32 a draw, token, layer and kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact

Kind = Literal["state", "mlp", "attention", "state_without_mlp", "state_without_attention"]
GROUPS = ("first subject token", "middle subject tokens", "last subject token", "first token after", "further tokens",
          "last token")  # fmt: skip
RESAMPLES = 1000
_REFERENCE_KINDS = {"state": "", "mlp": "mlp", "attention": "attn"}


@dataclass(frozen=True, eq=False)
class Record:
    """What was measured on one fact. Log-probabilities are natural, joint over all tokens of the answer.

    Attributes:
        prompt: what was asked.
        subject: whose tokens were corrupted.
        answer: what the network says; None in the fact makes it the likeliest token.
        tokens: of the prompt, as text.
        ids: of the prompt.
        subject_range: first and one past the last position of the subject.
        clean: log-probability of the answer in the untouched run.
        corrupted: `(draws,)` the same with noise on the subject.
        restored: by kind, `(draws, t, l)` the same with one part put back at a token and layer; NaN where nothing
            was measured.
        control: as `restored`, but what is put back comes from the same prompt about another subject.
        stranger: that other subject; None without a control.
    """

    prompt: str
    subject: str
    answer: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    subject_range: tuple[int, int]
    clean: float
    corrupted: Tensor
    restored: Mapping[str, Tensor]
    control: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    stranger: str | None = None

    def effects(self, kind: str, *, log: bool = False, control: bool = False) -> Float[Tensor, "n t l"]:
        """Return the indirect effect in each draw: a difference of probabilities, or of their logarithms.

        Raises:
            ValueError: this kind was not traced, or not with a control.
        """
        found = self.control if control else self.restored
        if kind not in found:
            raise ValueError(
                f"got kind {kind!r}{' of the control' if control else ''}; expected one that was traced: "
                f"{', '.join(found) or 'none'}; trace it, with kinds=[{kind!r}]{' and control=True' * control}"
            )
        restored, corrupted = found[kind].double(), self.corrupted.double()[:, None, None]
        return restored - corrupted if log else restored.exp() - corrupted.exp()

    def effect(self, kind: str, *, log: bool = False, control: bool = False) -> Float[Tensor, "t l"]:
        """Return the mean indirect effect over draws, in [-1, 1] unless `log`."""
        return self.effects(kind, log=log, control=control).mean(0)

    def error(self, kind: str, *, log: bool = False, control: bool = False) -> Float[Tensor, "t l"]:
        """Return the standard error of `effect`; the draws are paired. NaN with one draw."""
        draws = self.effects(kind, log=log, control=control)
        return draws.std(0, correction=0) / (len(draws) - 1) ** 0.5

    @property
    def groups(self) -> list[list[int]]:
        """Positions of each of `GROUPS`; a subject of one token is its last, a prompt's last token its last."""
        begin, end = self.subject_range
        last = len(self.tokens) - 1
        after, subject_last = list(range(end, last)), end - 1
        first = [begin] if begin < subject_last else []
        final = [last] if last > subject_last else []
        return [first, list(range(begin + 1, subject_last)), [subject_last], after[:1], after[1:], final]


@dataclass(frozen=True, eq=False)
class Average:
    """Mean indirect effects over facts.

    Attributes:
        effect: `(6, l)` for each of `GROUPS`; NaN where no fact has such a token.
        low: lower end of the 95 % interval over facts.
        high: its upper end.
        facts: how many facts have a token of each group.
    """

    effect: Float[Tensor, "g l"]
    low: Float[Tensor, "g l"]
    high: Float[Tensor, "g l"]
    facts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CausalTrace:
    """Causal traces of facts.

    Attributes:
        records: one a fact that the network knows.
        window: how many blocks an MLP or attention restoration spans.
        manifest: provenance: base model, settings, and `unknown`, the prompts that were left out.
    """

    records: tuple[Record, ...]
    window: int
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "causal_trace"

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was restored."""
        return tuple(self.records[0].restored)

    def average(
        self,
        kind: str,
        *,
        log: bool = False,
        control: bool = False,
        generator: torch.Generator | None = None,
    ) -> Average:
        """Average the indirect effect over facts, aligned on groups of tokens.

        Args:
            kind: one of `kinds`.
            log: of log-probabilities instead of probabilities.
            control: of the control instead.
            generator: of the bootstrap; None seeds one with 0.
        """
        records = [record for record in self.records if not control or record.control]
        if not records:
            raise ValueError("got control=True; expected a trace that was made with a control; trace with control=True")
        rows = torch.stack([_by_group(record, record.effect(kind, log=log, control=control)) for record in records])
        weights = torch.randint(
            len(rows), (RESAMPLES, len(rows)), generator=generator or torch.Generator().manual_seed(0)
        )
        counts = torch.zeros(RESAMPLES, len(rows), dtype=torch.float64)
        counts.scatter_add_(1, weights, torch.ones_like(counts))
        known = ~rows.isnan()
        flat = torch.where(known, rows, 0).flatten(1)
        drawn = counts @ flat / (counts @ known.flatten(1).double())
        low, high = drawn.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64), 0).unflatten(1, rows.shape[1:])
        facts = known.any(2).sum(0).tolist()
        return Average(rows.nanmean(0), low, high, tuple(facts))

    def to_reference(self, index: int, kind: str = "state") -> dict[str, Any]:
        """Return one map with the field names of the authors' own files (`causal_trace.py`, kmeng01/rome)."""
        record = self.records[index]
        low = float(record.corrupted.double().exp().mean())
        return {
            "scores": (record.effect(kind) + low).numpy(),
            "low_score": low,
            "high_score": float(torch.tensor(record.clean, dtype=torch.float64).exp()),
            "input_ids": list(record.ids),
            "input_tokens": list(record.tokens),
            "subject_range": record.subject_range,
            "answer": record.answer,
            "window": self.window,
            "correct_prediction": True,
            "kind": _REFERENCE_KINDS.get(kind, kind),
        }

    def pack(self) -> Artifact:
        """Turn into an artifact; the averages go into the header, so that they can be drawn from it."""
        records, tensors = pack_records(self.records)
        averages = {
            name: {kind: _plain(self.average(kind, control=control)) for kind in self.kinds}
            for name, control in (("restored", False), ("control", True))
            if not control or any(record.control for record in self.records)
        }
        header = {
            "records": records,
            "kinds": list(self.kinds),
            "groups": list(GROUPS),
            "averages": averages,
            "window": self.window,
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "CausalTrace":
        """Rebuild from an artifact."""
        header = artifact.header
        records = unpack_records(header["records"], artifact.tensors)
        return cls(tuple(records), header["window"], header["manifest"])


def pack_records(records: Sequence[Record]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Turn records into JSON and tensors."""
    names = ("prompt", "subject", "answer", "tokens", "ids", "subject_range", "clean", "stranger")
    tensors: dict[str, Tensor] = {}
    for index, record in enumerate(records):
        tensors[f"{index}.corrupted"] = record.corrupted
        tensors |= {f"{index}.restored.{kind}": values for kind, values in record.restored.items()}
        tensors |= {f"{index}.control.{kind}": values for kind, values in record.control.items()}
    # tensors come back from a file in another order, so the kinds' own is written down
    entries = [{name: getattr(record, name) for name in names} | {"kinds": list(record.restored)} for record in records]
    return entries, tensors


def unpack_records(records: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> list[Record]:
    """Rebuild records from JSON and tensors."""
    return [_record(values, index, tensors) for index, values in enumerate(records)]


def _record(values: Mapping[str, Any], index: int, tensors: Mapping[str, Tensor]) -> Record:
    parts = {
        part: {kind: found for kind in values["kinds"] if (found := tensors.get(f"{index}.{part}.{kind}")) is not None}
        for part in ("restored", "control")
    }
    prompt, subject, answer, clean = (values[name] for name in ("prompt", "subject", "answer", "clean"))
    tokens, ids, (begin, end) = tuple(values["tokens"]), tuple(values["ids"]), values["subject_range"]
    noised = tensors[f"{index}.corrupted"]
    return Record(
        prompt, subject, answer, tokens, ids, (begin, end), clean, noised, **parts, stranger=values["stranger"]
    )


def _by_group(record: Record, effect: Tensor) -> Tensor:
    """Average over the tokens of each group; NaN where a prompt has none."""
    nothing = torch.full_like(effect[0], torch.nan)
    return torch.stack([effect[positions].nanmean(0) if positions else nothing for positions in record.groups])


def _plain(average: Average) -> dict[str, Any]:
    """Turn an average into JSON, with None for NaN."""
    parts = {name: _rows(getattr(average, name)) for name in ("effect", "low", "high")}
    return {**parts, "facts": list(average.facts)}


def _rows(values: Tensor) -> list[list[float | None]]:
    return [[None if isnan(value) else value for value in row] for row in values.tolist()]

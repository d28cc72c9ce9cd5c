r"""Which layers to edit, and where facts are looked up, from causal tracing at two tokens of a few facts.

Where a state is put back at the last token of the subject (or of the prompt) while all later MLPs are held at their
corrupted outputs at that token, what is missing is what those MLPs do for the fact:

.. math:: g_l = \mathrm{IE}(\text{state before block } l) - \mathrm{IE}(\text{the same, MLPs from } l \text{ on held})

The layer with the largest :math:`g_l` is the last one that has most of that work still ahead; the token with the larger
maximum is where facts are looked up. The effect of one MLP's output, which is often read off instead, also counts what
an early MLP merely passes on. Reference: Meng et al. 2023, "Mass-editing memory in a transformer", section 4.2, which
takes a range of layers from the same curve.

Cost: about `8 draws` forward passes a layer and fact over few columns: seconds on a small model.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.progress import Progress
from mnemotrace.localisation.causal_trace import GROUPS, CausalTrace
from mnemotrace.localisation.causal_tracing import trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOOKUPS = {"subject": GROUPS.index("last subject token"), "prompt": GROUPS.index("last token")}
TIE = 1e-4  # of a score: a difference that float32 makes
MOST = 6  # the longest published range: GPT-J, layers 3 to 8


@dataclass(frozen=True)
class Suggestion:
    """Where to edit facts.

    Attributes:
        layer: for edits of one layer.
        layers: for edits of several: a range that ends at `layer`.
        sites: names of the MLPs' last maps at `layers`; of the whole MLP where experts share its work.
        lookup: whether facts are looked up at the last token of the `subject` or of the `prompt`.
        scores: by lookup, what the MLPs from each layer on do for the facts, in probability; None at the first layer,
            before which nothing can be put back.
        errors: their standard errors over facts; None with one fact.
        facts: how many facts the network knew.
        seconds: that it took.
        manifest: provenance, from the trace.
    """

    layer: int
    layers: tuple[int, ...]
    sites: tuple[str, ...]
    lookup: Literal["subject", "prompt"]
    scores: Mapping[str, tuple[float | None, ...]]
    errors: Mapping[str, tuple[float | None, ...]]
    facts: int
    seconds: float
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "suggestion"

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Suggestion":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        values |= {name: tuple(values[name]) for name in ("layers", "sites")}
        values |= {name: {k: tuple(v) for k, v in values[name].items()} for name in ("scores", "errors")}
        return cls(**values)


def suggest(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Fact | Sequence[Fact],
    *,
    limit: int = 16,
    draws: int = 10,
    noise: float = 3.0,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Suggestion:
    """Suggest which layers to edit.

    Args:
        model: a causal language model of any layout; left as it was.
        tokenizer: of the model; a fast one.
        facts: such as are to be edited; those that the network does not know are left out.
        limit: how many of them are traced, from the first on; more make the errors smaller.
        draws: of noise, for each fact.
        noise: as in `trace`.
        generator: of the noise; None seeds one with 0.
        progress: called after each fact.

    Raises:
        ValueError: limit below 1, a network of one block, and as `trace`.

    Warns:
        NumericalWarning: the largest score is within two standard errors of zero: the choice means little.
    """
    started = time.monotonic()
    chosen = [facts] if isinstance(facts, Fact) else list(facts)[: max(limit, 0)]
    parts = decoder(model)
    if limit < 1 or parts.layers < 2:
        what = f"limit={limit}" if limit < 1 else "a network of one block"
        raise ValueError(f"got {what}; expected at least {'one fact' if limit < 1 else 'two blocks to choose from'}")
    found = trace(
        model, tokenizer, chosen, kinds=("state", "state_without_mlp"), positions="lookup", noise=noise, draws=draws,
        generator=generator, progress=progress,
    )  # fmt: skip
    rows = {name: _needed(found, group) for name, group in LOOKUPS.items()}
    means = {name: values.nanmean(0) for name, values in rows.items()}
    errors = {name: _error(values) for name, values in rows.items()}
    lookup = max(means, key=lambda name: float(means[name].nan_to_num(-1).max()))
    best = _last_largest(means[lookup])
    score, error = (float(by[lookup][best]) for by in (means, errors))
    if score <= 2 * error or score <= 0:
        warnings.warn(
            f"the MLPs' largest part in these facts, {score:.2g} at layer {best + 1}, is within two standard errors of "
            "zero; give more facts, or facts that the network knows well",
            NumericalWarning,
            stacklevel=2,
        )
    layers = _range(means[lookup], best)
    return Suggestion(
        layer=best + 1,
        layers=layers,
        sites=tuple(parts.down[layer] or parts.mlp[layer] for layer in layers),
        lookup="subject" if lookup == "subject" else "prompt",
        scores={name: _plain(values) for name, values in means.items()},
        errors={name: _plain(values) for name, values in errors.items()},
        facts=len(found.records),
        seconds=time.monotonic() - started,
        manifest={**found.manifest, "method": "suggestion"},
    )


def _needed(found: CausalTrace, group: int) -> Tensor:
    """Return `(facts, L - 1)`: what MLPs from layer 1, 2, ... on do at one token of each fact; NaN without such."""
    rows: list[Tensor] = []
    for record in found.records:
        gap = (record.effect("state") - record.effect("state_without_mlp"))[:, :-1]
        rows.append(gap[record.groups[group]].mean(0))
    return torch.stack(rows)


def _error(values: Tensor) -> Tensor:
    """Return the standard error of the mean over facts that have a value; NaN with fewer than two."""
    spread = (values - values.nanmean(0)).square().nanmean(0)
    return (spread / ((~values.isnan()).sum(0) - 1)).sqrt()


def _last_largest(means: Tensor) -> int:
    """Return the last layer with the largest score; where nothing happens in between, rounding alone differs."""
    largest = means.max()
    return int((means >= largest - TIE * largest.abs()).nonzero()[-1])


def _range(means: Tensor, best: int) -> tuple[int, ...]:
    """Return the layers up to the best one with at least half of its score."""
    first = best
    while first > 0 and best - first + 1 < MOST and means[first - 1] >= means[best] / 2:
        first -= 1
    return tuple(range(first + 1, best + 2))


def _plain(values: Tensor) -> tuple[float | None, ...]:
    return (None, *(value if value == value else None for value in values.tolist()))  # noqa: PLR0124

r"""Every method on the same memories under the same four criteria: one table, with both ends of its scale in it.

A method writes (it should bring a new answer: the fact's target) or erases (it should take the old answer away). These
are two questions, so each has its own block of rows, which begins with the untouched network and ends with a random
edit of the size and form of the block's largest method. Whatever is not better than that last row is due to size alone.

Beside the four criteria (of recall, teacher-forced; `evaluation.criteria`) a row has, each by probability,
teacher-forced and as the network goes on by itself (`adapters.answers`):

* efficacy: writing, that the prompt gets the target; erasing, that it does not get the old answer (one minus the
  reading);
* paraphrase: the same of prompts that ask otherwise;
* neighbourhood: that others still get their own answers;
* portability: writing only, that what follows from the target is said;

and :math:`\exp(\overline{nll}_{edited} - \overline{nll}_{untouched})`, the ratio of perplexities on general texts.

Intervals are 95 % bootstrap intervals over facts; of one fact, over its prompts. Every row sees the same resamples.
Cost: a row takes `5 + 3 draws` passes over the facts, `4 + 2 draws` over their neighbours, one of generation over all
prompts, and one over the texts; a method with one edit a fact takes the texts once for every edit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.evaluation.method import Judge, Row, norm_of, row_of, seeded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNTOUCHED, RANDOM = "untouched", "random"


@dataclass(frozen=True, eq=False)
class Comparison:
    """The table.

    Attributes:
        rows: those that write, then those that erase; each block from `untouched` to `random`.
        facts: how many memories.
        draws: random edits beside each criterion.
        manifest: provenance: base-model fingerprint, the manifest of each method, what `random` was matched to.
    """

    rows: tuple[Row, ...]
    facts: int
    draws: int
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "comparison"

    def best(self, measure: str, *, writes: bool | None = None) -> Row:
        """Return the method with the highest value; the untouched network and the random edit do not take part.

        Args:
            measure: a criterion, or one of `efficacy`, `paraphrase`, `neighbourhood`, `portability`.
            writes: which block; None where there is only one.

        Raises:
            ValueError: there are two blocks and none was named, or no method has that measure.
        """
        if writes is None and len({row.writes for row in self.rows}) > 1:
            raise ValueError("got a table of methods that write and that erase; expected writes=True or writes=False")
        found = {
            row: value
            for row in self.rows
            if row.name not in (UNTOUCHED, RANDOM)
            and writes in (None, row.writes)
            and (value := row.value(measure)) is not None
        }
        if not found:
            known = sorted({name for row in self.rows for name in (*row.criteria, *row.measures)})
            raise ValueError(f"got {measure!r}, which no method here has; expected one of {', '.join(known)}")
        return max(found, key=found.__getitem__)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Comparison":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        return cls(**{**values, "rows": tuple(row_of(entry) for entry in values["rows"])})


def compare(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    edits: Mapping[str, Edit | Sequence[Edit]],
    facts: Sequence[Fact],
    *,
    texts: Sequence[str] = (),
    writes: bool | Mapping[str, bool] = True,
    draws: int = 3,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Judge methods on the same memories under the same four criteria.

    Args:
        model: a causal language model, unedited; it is left bit-exact.
        tokenizer: of the model; a fast one.
        edits: by name of the method: one edit of all facts, or one a fact, in their order, each judged alone.
        facts: the memories: each with neighbours, and with a target where a method writes, an answer where one erases.
        texts: general texts for the ratio of perplexities.
        writes: whether the methods bring the target or take the answer away; for all, or by name.
        draws: random edits beside each criterion.
        generator: source of randomness; None seeds one with 0.
        progress: called after each row.

    Raises:
        ValueError: there is no method or no fact, a name is taken or unknown, the number of edits is not that of the
            facts, or a fact lacks neighbours, target or answer.
        EditError: an edit does not fit the model.
    """
    roles = _checked(edits, facts, writes)
    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**31, (), generator=generator))
    lists = {name: [given] if isinstance(given, Edit) else list(given) for name, given in edits.items()}
    plan: list[tuple[str, bool, list[Edit]]] = []
    matched: dict[str, str] = {}
    for block in sorted(set(roles.values()), reverse=True):
        mine = {name: those for name, those in lists.items() if roles[name] is block}
        largest = max(mine, key=lambda name: norm_of(mine[name]))
        matched["writing" if block else "erasing"] = largest
        source = seeded(seed + 1)  # not the seed of the criteria's own controls, which would be this very edit
        plan.append((UNTOUCHED, block, []))
        plan += [(name, block, those) for name, those in mine.items()]
        plan.append((RANDOM, block, [random_edit(edit, source) for edit in mine[largest]]))
    judge = Judge(model, tokenizer, facts, texts, draws, seed)
    rows: list[Row] = []
    for name, block, those in plan:
        rows.append(judge.row(name, those, writes=block))
        (progress or silent)(len(rows), len(plan), "methods")
    manifest = {
        "method": "compare",
        "base": fingerprint(model),
        "random": matched,
        "of": {name: dict(those[0].manifest) for name, those in lists.items()},
        "version": library_version(),
    }
    return Comparison(tuple(rows), len(facts), draws, manifest)


def _checked(
    edits: Mapping[str, Edit | Sequence[Edit]], facts: Sequence[Fact], writes: bool | Mapping[str, bool]
) -> dict[str, bool]:
    """Return the role of each method, after every check that needs no network."""
    if not edits or not facts:
        raise ValueError(f"got {len(edits)} methods and {len(facts)} facts; expected at least one of both")
    taken = [name for name in edits if name in (UNTOUCHED, RANDOM)]
    if taken:
        raise ValueError(f"got a method called {taken[0]!r}, which every table has; expected another name")
    roles = dict.fromkeys(edits, writes) if isinstance(writes, bool) else dict(writes)
    if roles.keys() != edits.keys():
        raise ValueError(f"got writes for {', '.join(roles)}; expected it for each of {', '.join(edits)}")
    for name, given in edits.items():
        if not isinstance(given, Edit) and len(given) != len(facts):
            raise ValueError(
                f"got {len(given)} edits of {name!r} for {len(facts)} facts; expected one edit of all, or one a fact; "
                "add edits that act together up with +"
            )
    needed = {"target": True in roles.values(), "answer": False in roles.values(), "neighbours": True}
    for i, fact in enumerate(facts):
        lacking = [name for name, asked in needed.items() if asked and not getattr(fact, name)]
        if lacking:
            raise ValueError(
                f"got fact {i} ({fact.prompt[:60]!r}) without {' and '.join(lacking)}; expected a target where a "
                "method writes, an answer where one erases, and neighbours, to see what must be kept"
            )
    return roles

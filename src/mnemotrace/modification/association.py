r"""Edits of facts read as associations: what a map gave for a key, what it gives now, and along which direction.

A rank-one change of a map at a key is two Hebbian terms, an outer product added and one taken away:

.. math:: \Delta = \sum_i (v_i^{new} - v_i^{old})\,u_i^T,

with :math:`v^{new} u^T` the Hebbian part, :math:`v^{old} u^T` the anti-Hebbian one, and :math:`u^T k = 1` for ROME:
:math:`u` picks its own key out of all that the map reads, which plain Hebb, with :math:`u = k / \|k\|^2`, does not.
What :math:`u` still gives for other keys is interference.

The old values are read from the model: :math:`v_i^{old} = W k_i + b`, with what earlier facts of the edit add to it.
An edit by `mt.rome` has one column a fact, so every fact is one association.

Reference: Kohonen 1972, Correlation matrix memories; Meng et al. 2022, section 3.1; for words that a value promotes,
nostalgebraist 2020, The logit lens. Cost: one pass for the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.hooks import evaluating
from mnemotrace.adapters.linear import weight_of
from mnemotrace.adapters.replay import logits
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.edit import Edit
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.modification.keys import keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Association:
    """One fact of an edit, float64.

    Attributes:
        site: the map.
        prompt: where the fact is asked.
        key: `(d_k,)` what the map reads there, averaged over the edit's contexts.
        direction: `(d_k,)` u, along which the change reads.
        old: `(d,)` what the map gave for the key before this fact was written.
        new: `(d,)` `old` and what was added.
    """

    site: Site
    prompt: str
    key: Float[Tensor, " k"]
    direction: Float[Tensor, " k"]
    old: Float[Tensor, " d"]
    new: Float[Tensor, " d"]

    @property
    def reach(self) -> float:
        """How much of the change arrives at the key: 1 for one averaged key throughout."""
        return float(self.direction @ self.key)

    @property
    def cosine(self) -> float:
        """Between the old value and the new one, in [-1, 1]."""
        return float(torch.cosine_similarity(self.old, self.new, dim=0))

    @property
    def hebbian(self) -> LowRank:
        """What is added: the new value, along the direction."""
        return LowRank(self.site, self.new[:, None], self.direction[None])

    @property
    def antihebbian(self) -> LowRank:
        """What is taken away: minus the old value, along the direction."""
        return LowRank(self.site, -self.old[:, None], self.direction[None])

    def interference(self, others: Float[Tensor, "k n"]) -> Float[Tensor, " n"]:
        """Return the share of the change that other keys get, one a column; 0 leaves them as they were."""
        return self.direction @ others.to(self.direction)


def associations(edit: Edit, model: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> tuple[Association, ...]:
    """Read an edit of facts as associations.

    Args:
        edit: from `mt.rome`; its manifest says which facts, where, and after which contexts.
        model: that the edit was made for, without the edit; left as it was.
        tokenizer: of the model.

    Returns:
        One a fact, in the order in which they were written. The Hebbian and anti-Hebbian parts of all sum to the edit.

    Raises:
        ValueError: an edit that does not say its facts and contexts, or has not one column a fact, or another model.
    """
    change, layer = _change(edit, model)
    facts = [Fact(entry["prompt"], entry["subject"]) for entry in edit.manifest["facts"]]
    read = keys(
        model, tokenizer, facts, layers=layer, contexts=edit.manifest["contexts"], lookup=edit.manifest["lookup"]
    )[layer]
    left, right = change.left.to(read), change.right.to(read)
    matrix = weight_of(model, change.site, dtype=torch.float64)
    old = matrix[:, : change.site.d] @ read
    if change.site.bias is not None:
        old = old + matrix[:, change.site.d :]
    earlier = torch.triu(right @ read, diagonal=1)  # what the change of fact i adds at the key of a later fact j
    old = old + left @ earlier
    return tuple(
        Association(change.site, fact.prompt, read[:, i], right[i], old[:, i], old[:, i] + left[:, i])
        for i, fact in enumerate(facts)
    )


def promoted(
    model: nn.Module, tokenizer: "PreTrainedTokenizerBase", values: Sequence[Tensor], *, count: int = 5
) -> tuple[tuple[str, ...], ...]:
    """Return the tokens that each value, taken for the last hidden state, makes most probable."""
    with evaluating(model):
        hidden = torch.stack(list(values)).to(next(model.parameters()))[:, None]
        top = logits(decoder(model), hidden)[:, 0].topk(count).indices.tolist()
    return tuple(tuple(str(tokenizer.decode([token])) for token in row) for row in top)


def _change(edit: Edit, model: nn.Module) -> tuple[LowRank, int]:
    facts, change = edit.manifest.get("facts"), edit.changes[0] if len(edit.changes) == 1 else None
    whole = edit.manifest.keys() >= {"facts", "contexts", "layer", "lookup"}
    if not whole or not facts or not isinstance(change, LowRank) or change.rank != len(facts):
        raise ValueError(
            f"got an edit by {edit.manifest.get('method')!r}; expected one by mt.rome, with one column a fact and its "
            "contexts in the manifest; sums of edits are read one by one"
        )
    base = edit.manifest.get("base")
    if base != fingerprint(model):
        raise ValueError(
            f"got a model with fingerprint {fingerprint(model)}; expected {base}, which the edit was made for; undo "
            "the edit first"
        )
    return change, edit.manifest["layer"]

"""Facts as questions that are asked again and again with a vector added where the subject is looked up.

A question is a fact's prompt with its target, alone and after each context, and one row more: the essence prompt up to
the subject's last token. All rows are run once; then only the columns from the lookup on and the blocks above the
edited layer are run, and logits are formed where a target token is predicted. Gradients flow to the vectors.

Where a block merely adds its MLP's output to the hidden states, adding to the one is adding to the other, and the
block itself need not run; whether it does is tried out, once a batch, with a random vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.decoder import Decoder, decoder
from mnemotrace.adapters.facts import Fact, Tokens, located, tokens_of
from mnemotrace.adapters.hooks import patch
from mnemotrace.adapters.replay import Suffix, keep, logits
from mnemotrace.modification.contexts import Contexts, Lookup, aligned, in_contexts, place_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAME = 1e-2  # two ways of adding a vector agree to rounding, of half precision too, or not at all


@dataclass(frozen=True, eq=False)
class Questions:
    """Rows of `n` facts, `rows` each, the last of them the essence prompt.

    Attributes:
        suffix: the columns from the lookup on.
        layer: where vectors are added.
        direct: whether to add them after the block; otherwise to the MLP's output, running the block.
        rows: how many a fact has.
        targets: of each predicted token: fact, row within it, column from the lookup on, token.
        weights: of each predicted token in its fact's mean.
    """

    suffix: Suffix
    layer: int
    direct: bool
    rows: int
    targets: Int[Tensor, "p 4"]
    weights: Float[Tensor, " p"]

    def ask(self, deltas: Float[Tensor, "c d"], chosen: Int[Tensor, " c"]) -> tuple[Tensor, Tensor]:
        """Ask some facts, with a vector added each.

        Args:
            deltas: one for each fact that is asked.
            chosen: which facts, ascending.

        Returns:
            The targets' mean negative log-probability `(c,)`, and log-probabilities at the essence prompt `(c, v)`.
        """
        rows = (chosen[:, None] * self.rows + torch.arange(self.rows, device=chosen.device)).flatten()
        hidden = self._with(deltas.repeat_interleave(self.rows, 0), rows)
        if self.layer + 1 < self._places.layers:
            all_of_them = len(rows) == len(self.suffix.kept.input_ids)
            hidden = self.suffix.blocks(hidden, self.layer + 1, rows=None if all_of_them else rows)
        asked = torch.isin(self.targets[:, 0], chosen)
        fact, row, column, token = self.targets[asked].T.contiguous()
        fact = torch.searchsorted(chosen, fact)
        essence = torch.arange(1, len(chosen) + 1, device=chosen.device) * self.rows - 1
        logs = self._logs(torch.cat([hidden[fact * self.rows + row, column], hidden[essence, 0]]))
        of_target = logs[: len(fact)].gather(1, token[:, None])[:, 0]
        nll = -torch.zeros_like(logs[: len(chosen), 0]).index_add(0, fact, of_target * self.weights[asked].to(logs))
        return nll, logs[len(fact) :]

    def unchanged(self) -> Tensor:
        """Return log-probabilities at the essence prompts `(n, v)` before any change."""
        with torch.no_grad():
            return self._logs(self.suffix.hidden(self._places.layers)[self.rows - 1 :: self.rows, 0])

    @property
    def _places(self) -> Decoder:
        return self.suffix.kept.decoder

    def _logs(self, hidden: Float[Tensor, "p d"]) -> Float[Tensor, "p v"]:
        found = logits(self._places, hidden[:, None])[:, 0]
        return found.to(torch.promote_types(found.dtype, torch.float32)).log_softmax(-1)

    def _with(self, deltas: Float[Tensor, "b d"], rows: Tensor) -> Float[Tensor, "b t d"]:
        """Return the hidden states after the block, with a vector added at each row's lookup."""
        if self.direct:
            return _added(self.suffix.hidden(self.layer + 1)[rows], deltas)
        name = self._places.mlp[self.layer]
        before = self.suffix.hidden(self.layer)[rows]
        with patch(self._places.model, {name: lambda output: _added(output, deltas)}):
            return self.suffix.blocks(before, self.layer, self.layer + 1, rows=rows)


def questions(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layer: int,
    at_mlp: bool,
    contexts: Contexts,
    lookup: Lookup,
    essence: str,
) -> Questions:
    """Run facts once and get them ready to be asked with changes.

    Raises:
        ValueError: a fact has no target, or a change at this layer cannot reach the prediction; or as `tokens_of`.
        TypeError: the network cannot be run in parts.
        NonFiniteError: hidden states that are not finite.
    """
    places = decoder(model)
    read = [_rows(tokenizer, fact, contexts, essence) for fact in facts]
    for fact, tokens in zip(facts, read, strict=True):
        _require_reach(places, layer, fact, tokens[0], lookup)
    tokens = [row for rows in read for row in rows]
    at = [place_of(t, lookup) for t in tokens]
    rows = aligned(
        [t.ids[: max(k + 1, len(t.ids) - bool(t.answer))] for t, k in zip(tokens, at, strict=True)], at, model
    )
    suffix = keep(places, rows.ids, rows.mask).suffix(rows.column)
    targets = torch.tensor(
        [
            (i, j, t.prompt - 1 - place_of(t, lookup) + k, token)
            for i, of_fact in enumerate(read)
            for j, t in enumerate(of_fact)
            for k, token in enumerate(t.answer)
        ]
    ).to(rows.ids.device)
    weights = torch.tensor(
        [1 / (len(t.answer) * (len(of_fact) - 1)) for of_fact in read for t in of_fact for _ in t.answer]
    ).to(rows.ids.device)
    found = Questions(suffix, layer, True, len(contexts) + 2, targets, weights)
    return Questions(suffix, layer, not at_mlp or _adds(found), found.rows, targets, weights)


def _rows(tokenizer: "PreTrainedTokenizerBase", fact: Fact, contexts: Contexts, essence: str) -> list[Tokens]:
    if fact.target is None:
        raise ValueError(f"got the fact {fact.prompt!r} without a target; expected what it should say; give target=...")
    asked = in_contexts(tokenizer, fact, contexts, answer=fact.target)
    return [*asked, tokens_of(tokenizer, Fact(prompt=essence, subject=located(fact).subject))]


def _require_reach(places: Decoder, layer: int, fact: Fact, tokens: Tokens, lookup: Lookup) -> None:
    if layer == places.layers - 1 and (place_of(tokens, lookup) + 1 != tokens.prompt or len(tokens.answer) > 1):
        raise ValueError(
            f"got layer {layer}, the last one, for {fact.prompt!r}, whose answer is predicted at other tokens than "
            f"the change is made at; expected a layer below {layer}; attention has to carry the change there"
        )


def _adds(asked: Questions) -> bool:
    """Tell whether a vector added to the MLP's output is just added to the block's."""
    hidden = asked.suffix.hidden(asked.layer + 1)
    rows = torch.arange(len(hidden), device=hidden.device)
    drawn = torch.randn(hidden.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    delta = (drawn / drawn.norm()).to(hidden) * hidden[:, :1].norm(dim=-1)
    with torch.no_grad():
        one = asked._with(delta, rows)
        other = Questions(asked.suffix, asked.layer, False, asked.rows, asked.targets, asked.weights)._with(delta, rows)
    return bool((one - other).norm() <= _SAME * delta.norm())


def _added(output: Tensor, deltas: Tensor) -> Tensor:
    return torch.cat([output[:, :1] + deltas[:, None].to(output.dtype), output[:, 1:]], 1)

r"""MEMIT: rewrite many facts at once, spread over the MLPs of several layers.

.. math:: \Delta_l = R_l K_l^T (\lambda C_l + K_l K_l^T)^{-1}

with the keys :math:`K_l` and shares of the residual :math:`R_l` of `spread`, and the mean second moment :math:`C_l` of
what the map reads: the new values are met as well as the outputs for usual inputs allow. :math:`\lambda` counts usual
inputs. Their leverage :math:`x^T C^{-1} x` is `d_k` on average whatever the model, so :math:`\lambda` is given in units
of `d_k` here: at 1 a key like any other gets half of what it wants. The published 15,000 (GPT-J) and 20,000 (GPT-2 XL)
are 0.9 and 3.1 in these units.

Each layer's change has one pair of vectors a fact, so the edit of `n` facts over `m` layers has
`4 n m (d + d_k)` bytes. Facts share the system that is solved, so no column belongs to one fact alone: to take single
facts out later, edit them apart (`modification.sequence`).

Reference: Meng et al. 2023, Mass-editing memory in a transformer, section 4. Cost: `values` for all facts, then
`spread` and `2 n d_k^2` a layer; the factorisation of each :math:`C_l` once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.facts import Fact
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress
from mnemotrace.modification.contexts import Contexts, Lookup
from mnemotrace.modification.contexts import contexts as sampled
from mnemotrace.modification.solve import Solver
from mnemotrace.modification.spread import check_facts, check_values, checked_sites, manifest_of, spread
from mnemotrace.modification.values import Values, values
from mnemotrace.stats.moments import RIDGE, Moments, Statistics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXTS, LENGTH = 5, 10
STEPS, LEARNING_RATE, WEIGHT_DECAY, CLAMP = 25, 0.1, 0.5, 0.75


def memit(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layers: Sequence[int],
    statistics: Statistics,
    lookup: Lookup = "subject",
    weight: float = 1.0,
    ridge: float = RIDGE,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    clamp: float = CLAMP,
    found: Values | None = None,
    contexts: Contexts | None = None,
    generator: torch.Generator | None = None,
    previous: Sequence[Edit] = (),
    progress: Progress | None = None,
) -> Edit:
    """Make the edit that writes many facts at once.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model; a fast one.
        facts: with targets, each prompt once. Prompts that are equal up to the subject's end share a key.
        layers: whose MLPs are changed, ascending; the last one is where the values are found.
        statistics: second moments at these MLPs' last maps, from `mt.collect` or `stats.settle`.
        lookup: where the model looks the facts up: at the last token of the `subject`, or of the `prompt`.
        weight: of what is to stay, above 0, in units of the width: larger leaves more as it was and writes less.
        ridge: added to the second moments, in units of their mean eigenvalue.
        steps: of the values' optimisation, at most.
        learning_rate: of the same, in units of the hidden state's norm.
        weight_decay: on the change of a hidden state, in units of its norm.
        clamp: most change of a hidden state, in units of its norm.
        found: values from `modification.values(..., layer=layers[-1], at="block")`, when they were found before.
        contexts: that keys and values are averaged over; None samples five of ten tokens.
        generator: source of randomness of these; None seeds one with 0.
        previous: edits that are in the model already; then the statistics may be from before the first of them.
        progress: called with facts while values are found, then with layers.

    Returns:
        The edit, one low-rank change a layer. Its manifest says for each fact the probability of its target before and
        after the optimisation and how far its hidden state `came` through all layers (1: all the way).

    Raises:
        ValueError: facts, layers, statistics or settings that do not fit; see the messages.
        TypeError: the network cannot be run in parts.
        SelectionError: a map is quantised, computed by a parametrisation, or shares its weight with another.
        NonFiniteError: NaN or infinity on the way.
    """
    check_facts(facts)
    sites = checked_sites(model, layers, statistics, previous)
    require_positive("weight", weight)
    contexts = drawn(model, tokenizer, contexts, generator)
    descent = {"steps": steps, "learning_rate": learning_rate, "weight_decay": weight_decay, "clamp": clamp}
    where = {"layer": max(sites), "lookup": lookup, "contexts": contexts}
    found = wanted(found, model, tokenizer, facts, **where, **descent, progress=progress)

    def solve(moments: Moments, residual: Tensor, columns: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return Solver.of(moments, ridge=ridge).update(residual, columns, weight=weight * moments.d)

    changes, came = spread(
        model,
        tokenizer,
        facts,
        solve,
        sites=sites,
        statistics=statistics,
        found=found,
        contexts=contexts,
        lookup=lookup,
        progress=progress,
    )
    manifest = manifest_of(model, facts, method="memit", found=found, contexts=contexts, changes=changes, came=came)
    conditions = {site.name: Solver.of(statistics[site.name], ridge=ridge).condition for site in sites.values()}
    return Edit(
        changes,
        manifest | {"layers": list(sites), "lookup": lookup, "weight": weight, "ridge": ridge, "condition": conditions},
    )


def drawn(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    contexts: Contexts | None,
    generator: torch.Generator | None,
) -> Contexts:
    """Return the contexts that were given, or sample the usual ones."""
    if contexts is not None:
        return contexts
    return sampled(model, tokenizer, count=CONTEXTS, lengths=(LENGTH,), generator=generator)


def wanted(
    found: Values | None, model: nn.Module, tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact], **settings: Any
) -> Values:
    """Return the values that were given, after checking them, or find them at a block; see `values`."""
    if found is None:
        found = values(model, tokenizer, facts, at="block", **settings)
    check_values(found, facts)
    return found


def require_positive(name: str, value: float) -> None:
    """Raise unless a setting is positive.

    Raises:
        ValueError: with its name.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"got {name}={value}; expected a positive number")

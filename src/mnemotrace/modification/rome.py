r"""ROME: rewrite one fact by a rank-one change of one MLP's last map.

With the key :math:`k` of the fact (`keys`), the value :math:`v^*` that it should have (`values`) and the second moment
:math:`C` of what the map reads, the change that gives :math:`v^*` at :math:`k` and disturbs the least elsewhere is

.. math:: W' = W + (v^* - W k - b)\,u^T, \qquad u = \frac{C^{-1} k}{k^T C^{-1} k}.

One key, averaged over contexts, is used throughout. Published code takes the average for :math:`C^{-1} k` and the bare
prompt's key in residual and denominator, which lets updates grow without bound where the two differ, and is a cause of
collapse after many edits; `legacy=True` does that. The map is linear, so :math:`v^* - W k - b` is the vector that
`values` found, in either form.

An edit is two vectors a fact: `4 (d + d_k)` bytes and a manifest. Solved in float64, stored in float32.

Reference: Meng et al. 2022, Locating and editing factual associations in GPT, equations 2 to 4; Gupta et al. 2024,
Rebuilding ROME. Cost: `values`, and `2 d_k^2` a fact; the factorisation of :math:`C`, `d_k^3 / 3`, once.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.facts import Fact, located
from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.modification.contexts import Contexts, Lookup
from mnemotrace.modification.contexts import contexts as sampled
from mnemotrace.modification.keys import keys, require_facts
from mnemotrace.modification.solve import Solver
from mnemotrace.modification.spread import check_values, checked_sites, short
from mnemotrace.modification.values import Values, values
from mnemotrace.stats.moments import RIDGE, Statistics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rome(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Fact | Sequence[Fact],
    *,
    layer: int,
    statistics: Statistics,
    ridge: float = RIDGE,
    lookup: Lookup = "subject",
    steps: int = 20,
    learning_rate: float = 0.5,
    clamp: float = 4.0,
    legacy: bool = False,
    contexts: Contexts | None = None,
    generator: torch.Generator | None = None,
    previous: Sequence[Edit] = (),
    progress: Progress | None = None,
) -> Edit:
    """Make the edit that rewrites facts, one after another: each is found with the earlier ones in the model.

    Args:
        model: a causal language model; left as it was, bit for bit.
        tokenizer: of the model; a fast one.
        facts: one or several, with targets.
        layer: whose MLP is changed; counted from the end when negative.
        statistics: second moments at this MLP's last map, from `mt.collect` or `stats.settle`.
        ridge: added to the second moment, in units of its mean eigenvalue.
        lookup: where the model looks the facts up: at the last token of the `subject`, as large models do, or of the
            `prompt`, as small ones may; `mt.trace` tells.
        steps: of the values' optimisation, at most.
        learning_rate: of the same, in units of the output's norm; absolute with `legacy`.
        clamp: most change of the output, in units of its norm.
        legacy: as published, with two keys for one, and absolute units in the optimisation.
        contexts: that keys and values are averaged over; None samples ten of five tokens and ten of ten.
        generator: source of randomness of these; None seeds one with 0.
        previous: edits that are in the model already; then the statistics may be from before the first of them.
        progress: called with the number of facts done.

    Returns:
        The edit: one low-rank change with a column a fact, see `parts`. Its manifest says for each the target's
        probability before and after the optimisation, the update's norm, and the cosine of averaged and bare key.

    Raises:
        ValueError: facts, layer, statistics or settings that do not fit; see the messages.
        TypeError: the network cannot be run in parts.
        SelectionError: the map is quantised, computed by a parametrisation, or shares its weight with another.
        NonFiniteError: NaN or infinity on the way.
    """
    facts = (facts,) if isinstance(facts, Fact) else tuple(facts)
    require_facts(facts)
    if contexts is None:
        contexts = sampled(model, tokenizer, generator=generator)
    done: list[Edit] = []
    with ExitStack() as stack:
        for fact in facts:
            (one,) = rome_each(
                model,
                tokenizer,
                (fact,),
                layer=layer,
                statistics=statistics,
                ridge=ridge,
                lookup=lookup,
                steps=steps,
                learning_rate=learning_rate,
                clamp=clamp,
                legacy=legacy,
                contexts=contexts,
                previous=(*previous, *done),
            )
            done.append(one)
            stack.enter_context(applied(model, one))
            (progress or silent)(len(done), len(facts), "facts")
    return _joined(done)


def rome_each(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layer: int,
    statistics: Statistics,
    ridge: float = RIDGE,
    lookup: Lookup = "subject",
    steps: int = 20,
    learning_rate: float = 0.5,
    clamp: float = 4.0,
    legacy: bool = False,
    found: Values | None = None,
    contexts: Contexts | None = None,
    generator: torch.Generator | None = None,
    previous: Sequence[Edit] = (),
    progress: Progress | None = None,
) -> tuple[Edit, ...]:
    """Make one edit a fact, each for the model without the others; all values are found in one pass.

    Args and errors are those of `rome`; `found` are values from `modification.values` with the same layer, lookup and
    contexts, when they were found before or with other settings than these.
    """
    require_facts(facts)
    site, layer = _site(model, layer, statistics, previous)
    solver = Solver.of(statistics[site.name], ridge=ridge)
    if contexts is None:
        contexts = sampled(model, tokenizer, generator=generator)
    if found is None:
        found = values(
            model,
            tokenizer,
            facts,
            layer=layer,
            contexts=contexts,
            lookup=lookup,
            steps=steps,
            learning_rate=learning_rate,
            clamp=clamp,
            legacy=legacy,
            progress=progress,
        )
    check_values(found, facts)
    bare = keys(model, tokenizer, facts, layers=layer, lookup=lookup)[layer]
    mean = keys(model, tokenizer, facts, layers=layer, lookup=lookup, contexts=contexts)[layer]
    left, right = rank_one(found.deltas, solver.apply(mean), bare if legacy else mean)
    dtype = torch.promote_types(model.get_parameter(site.weight).dtype, torch.float32)
    changes = [LowRank(site, left[:, [i]].to(dtype), right[[i]].to(dtype)) for i in range(len(facts))]
    manifest = {
        "method": "rome, legacy" if legacy else "rome",
        "base": fingerprint(model),
        "layer": layer,
        "lookup": lookup,
        "ridge": ridge,
        "condition": short(solver.condition),
        "contexts": [list(context) for context in contexts],
        "version": library_version(),
    }
    weight = float(weight_of(model, site, dtype=torch.float64)[:, : site.d].norm())
    cosines = torch.cosine_similarity(bare, mean, dim=0).tolist()
    notes = [
        {
            "prompt": fact.prompt,
            "subject": located(fact).subject,
            "target": fact.target,
            "before": short(found.before[i]),
            "after": short(found.after[i]),
            "steps": found.steps[i],
            "relative_norm": short(changes[i].norm() / weight),
            "cosine": short(cosines[i]),
        }
        for i, fact in enumerate(facts)
    ]
    return tuple(Edit((c,), manifest | {"facts": [note]}) for c, note in zip(changes, notes, strict=True))


def parts(edit: Edit) -> tuple[Edit, ...]:
    """Take an edit of several facts apart, one edit a fact; their sum is the edit.

    Raises:
        ValueError: this is no edit of `rome`, or its columns were compressed.
    """
    facts = edit.manifest.get("facts")
    change = edit.changes[0] if len(edit.changes) == 1 else None
    if not facts or not isinstance(change, LowRank) or change.rank != len(facts):
        raise ValueError(
            f"got an edit by {edit.manifest.get('method')!r} with {len(facts or ())} facts; expected one low-rank "
            "change with a column a fact, as mt.rome makes"
        )
    split = (replace(change, left=change.left[:, [i]], right=change.right[[i]]) for i in range(change.rank))
    return tuple(Edit((c,), {**edit.manifest, "facts": [entry]}) for c, entry in zip(split, facts, strict=True))


def rank_one(
    residual: Float[Tensor, "o n"], solved: Float[Tensor, "d n"], key: Float[Tensor, "d n"]
) -> tuple[Float[Tensor, "o n"], Float[Tensor, "n d"]]:
    """Return factors, a column a fact, each alone giving `residual` at its `key`, along `solved`, its `C^-1 k`.

    Raises:
        ValueError: a key for which `solved` gives nothing.
    """
    reach = (solved * key).sum(0)
    if not bool((reach.abs() > 0).all()):
        raise ValueError(
            "got a key that is zero, or orthogonal to the direction that is written along; expected one that the map "
            "reads; choose another layer"
        )
    return residual, (solved / reach).T


def _site(model: nn.Module, layer: int, statistics: Statistics, previous: Sequence[Edit]) -> tuple[Site, int]:
    """Return the map to be edited and its layer's index, after every check that needs no arithmetic."""
    ((layer, site),) = checked_sites(model, [layer], statistics, previous).items()
    require_finite(model.get_parameter(site.weight), site.weight)
    return site, layer


def _joined(edits: Sequence[Edit]) -> Edit:
    """Put rank-one edits side by side; not added, which would compress many and lose whose column is whose."""
    changes = [change for edit in edits for change in edit.changes if isinstance(change, LowRank)]
    both = replace(
        changes[0],
        left=torch.cat([change.left for change in changes], 1),
        right=torch.cat([change.right for change in changes]),
    )
    return Edit((both,), {**edits[0].manifest, "facts": [fact for edit in edits for fact in edit.manifest["facts"]]})

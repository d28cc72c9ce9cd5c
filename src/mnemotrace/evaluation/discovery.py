"""Discovery: concepts of a network from unlabelled examples, each proven by an engram and its four criteria.

Half of the examples propose, the other half judge. The network's responses to the first half are cut into groups
(`localisation.partitions`), or the latents of a dictionary are taken as groups (`localisation.active_latents`); the
other half joins the nearest. Engrams are extracted from the first half, and the criteria measured on the second by what
the network itself answered (`evaluation.judging`). So no label is needed; where labels are at hand, they say what was
found.

Beside the discovered groups the same is done with

* *random* groups of the same sizes: what any group of so many examples would show;
* groups of an *untrained* network: what there is to be grouped before anything was learnt;
* the *labels*, if given: what a discovered engram could be at best.

A concept is found if halves of the examples agree on the groups more than on one Gaussian, and each criterion's
interval lies above that of matched random traces.

AI Engram (arXiv 2606.14997) takes targets from labels and leaves discovery to future work. Cost: see the parts; the
criteria of `k` groups are `k (6 + 4 draws)` passes over half of the examples, for each of the rows above.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.criteria import Criteria
from mnemotrace.evaluation.found_concepts import Concept, Discovery
from mnemotrace.evaluation.grouping import Grouping, Groups, labelled
from mnemotrace.evaluation.judging import Bench, Examples, answers
from mnemotrace.localisation.agreement import Agreement, agreement
from mnemotrace.localisation.code import Code

RESAMPLES = 300


def discover(
    model: nn.Module,
    inputs: Any,
    *,
    sites: Sequence[str],
    count: int | Sequence[int] | None = None,
    by: str = "clusters",
    codes: Code | Tensor | None = None,
    labels: Int[Tensor, " n"] | None = None,
    reduce: str = "max",
    method: str = "kmeans",
    rank: int | None = None,
    edit: Mapping[str, Site] | None = None,
    selectivity: float = 1.0,
    solver: str = "truncate",
    rcond: float | None = None,
    strength: float = 1.0,
    draws: int = 3,
    untrained: nn.Module | None = None,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Discovery:
    """Propose concepts from unlabelled examples, and prove each.

    Args:
        model: the network, which gives scores of answers; it is left bit-exact.
        inputs: examples as the network takes them, `(n, ...)`, a mapping of such, or a list of batches of either.
        sites: names of modules whose responses are grouped, from `stats.responses`.
        count: groups, or several numbers to choose among; None for 2 to 15. Of latents the most; None for 20.
        by: `clusters` of the responses, or `codes` of a dictionary.
        codes: `(n, m)` for `codes`, from a dictionary's `encode`, or any tensor, dense or sparse.
        labels: only to say what was found; no proposal and no engram of a discovered concept sees them.
        reduce: positions of an example: their `max` or `mean`, where engrams are of all positions; or the `last`
            that counts, for prompts.
        method: `kmeans`, `mixture` or `agglomerative`.
        rank: of the whitening of responses, see `localisation.whitening`.
        edit: maps that engrams are of, from `mt.sites`; None for all.
        selectivity: as in `mt.engram`.
        solver: as in `mt.engram`.
        rcond: as in `mt.engram`.
        strength: of the edits that erase.
        draws: random traces that each engram is compared with.
        untrained: the same network untrained; None draws its first weights anew. Where modules do not know how, that
            control is absent.
        generator: of halves, clusterings and controls; None is one of seed 0.
        progress: called after each concept.

    Raises:
        SelectionError: no such module.
        ValueError: too few examples, settings that cannot be, codes or labels of other examples, constant responses.
        TypeError: inputs that have no rows, or labels that are no integers.
        NonFiniteError: NaN or infinity.
        ImportError: scikit-learn or scipy is missing.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    examples = Examples.of(inputs, last=reduce == "last")
    _check(examples, by, codes, labels)
    judge = torch.zeros(len(examples), dtype=torch.bool)
    judge[torch.randperm(len(examples), generator=source)[: len(examples) // 2]] = True
    said = answers(model, examples)
    solve = {"selectivity": selectivity, "solver": solver, "rcond": rcond}
    judged = {"strength": strength, "draws": draws, "resamples": RESAMPLES}
    bench = Bench(model, examples, said.argmax(1), judge, 1 / said.shape[1], edit, solve, judged)
    grouping = Grouping(examples, judge, sites, reduce, method, rank, source)
    mine = grouping.of_clusters(model, count) if codes is None else grouping.of_codes(model, codes, count)
    every = {"discovered": mine} | ({} if labels is None else {"labels": labelled(labels)})
    twin = _twin(model, untrained, source) if codes is None else "an untrained network has no dictionary"
    if isinstance(twin, nn.Module):
        every["untrained"] = grouping.of_clusters(twin, mine.members.shape[1])
    every["random"] = mine.shuffled(judge, source)
    traces = {kind: bench.engrams(groups.members, groups.kept) for kind, groups in every.items()}
    settings = {"sites": list(sites), "reduce": reduce, "clustering": method, "rank": mine.rank, **solve, **judged}
    origin = {"seed": source.initial_seed(), "base": fingerprint(model), "version": library_version()}
    return Discovery(
        concepts=_judged(bench, every, traces, source, progress),
        groups=mine.groups,
        members=mine.members,
        kept=mine.kept,
        judge=judge,
        agreement=_agreements(every, labels, judge, source),
        confusion=_confusion(mine, labels, judge),
        overlap=_overlap(traces),
        classes=() if labels is None else tuple(labels.unique().tolist()),
        stability=mine.stable,
        null=mine.null,
        tried=mine.tried,
        absent={} if isinstance(twin, nn.Module) else {"untrained": twin},
        manifest={"method": by, **settings, **origin},
    )


def _twin(model: nn.Module, untrained: nn.Module | None, generator: torch.Generator) -> nn.Module | str:
    if untrained is not None:
        return untrained
    try:
        return untrained_twin(model, generator=generator)
    except ValueError as error:
        return str(error)


def _judged(
    bench: Bench,
    every: Mapping[str, Groups],
    traces: Mapping[str, Sequence[Engram | None]],
    generator: torch.Generator,
    progress: Progress,
) -> tuple[Concept, ...]:
    found: list[Concept] = []
    total = sum(map(len, traces.values()))
    for kind, groups in every.items():
        for k, trace in enumerate(traces[kind]):
            member = groups.members[:, k]
            examples, held_out = (int((member & side).sum()) for side in (~bench.judge, bench.judge))
            few = f"{examples} examples to propose from; expected eight of it and eight others"
            result = few if trace is None else bench.criteria(trace, member, groups.kept, generator)
            both = (groups.scores[k], groups.stability[k]) if groups.scores else (None, None)
            judged = (result, "") if isinstance(result, Criteria) else (None, result)
            found.append(Concept(kind, groups.names[k], examples, held_out, *both, *judged))
            progress(len(found), total, "concepts")
    return tuple(found)


def _agreements(
    every: Mapping[str, Groups], labels: Tensor | None, judge: Tensor, generator: torch.Generator
) -> dict[str, Agreement]:
    if labels is None:
        return {}
    kinds = [kind for kind in every if kind != "labels"]
    return {kind: agreement(every[kind].groups[judge], labels[judge], generator=generator) for kind in kinds}


def _confusion(mine: Groups, labels: Tensor | None, judge: Tensor) -> Tensor | None:
    if labels is None:
        return None
    return torch.stack([mine.members[judge & (labels == one)].sum(0) for one in labels.unique()], 1)


def _overlap(traces: Mapping[str, Sequence[Engram | None]]) -> Tensor | None:
    """Return cosines of discovered engrams with those of the labels; 0 where one of the two is missing."""
    if "labels" not in traces:
        return None
    rows = [
        [0.0 if mine is None or theirs is None else mine.overlap(theirs) for theirs in traces["labels"]]
        for mine in traces["discovered"]
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _check(examples: Examples, by: str, codes: Code | Tensor | None, labels: Tensor | None) -> None:
    n, mask = len(examples), examples.mask()
    if mask is not None:
        mask(examples.inputs)
    if by not in ("clusters", "codes") or (codes is not None) != (by == "codes"):
        raise ValueError(
            f'got by={by!r} {"without" if codes is None else "with"} codes; expected "clusters" without codes, or '
            '"codes" with them'
        )
    if codes is not None and len(codes) != n:
        raise ValueError(f"got codes of {len(codes)} examples; expected {n}, one row an example")
    if labels is None:
        return
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"got labels of {labels.dtype}; expected integers, a class an example")
    if tuple(labels.shape) != (n,) or len(labels.unique()) < 2:  # noqa: PLR2004
        raise ValueError(
            f"got labels {tuple(labels.shape)} of {len(labels.unique())} classes; expected ({n},), one an example, of "
            "two classes or more"
        )

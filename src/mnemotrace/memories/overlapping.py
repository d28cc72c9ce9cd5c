"""Which neurons belong to a concept: drawn, so that concepts overlap as asked, or found in a network's responses.

Drawing goes concept by concept. Each takes from every neighbour that is there already as many members as the two are to
share, first those that fewest others of the neighbourhood use; so two concepts that share with a third need not share
with each other before there is no other way. What is missing is drawn from all neurons that no neighbour has. Listed
overlaps are exact; pairs that are not listed meet by chance.

Cost: O(edges N). Responses: one pass over `(n, N)`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.memory import states_of

Overlaps = Mapping[tuple[Hashable, Hashable], float]


def draw_members(
    graph: Any,
    *,
    neurons: int,
    size: int,
    concepts: Sequence[Hashable] = (),
    generator: torch.Generator | None = None,
) -> tuple[list[Hashable], Float[Tensor, "p N"]]:
    """Draw `size` of `neurons` for each concept; see `Assemblies.from_overlaps`.

    Returns:
        Names in the order in which they are met, and `(p, N)` of 0 and 1, float32.

    Raises:
        ValueError: an overlap outside 0 to 1, overlaps that cannot be had together, or too few neurons.
    """
    names, near = _neighbours(graph, concepts, size)
    if not 0 < size < neurons or not names:
        raise ValueError(f"got {len(names)} concepts of {size} in {neurons} neurons; expected at least one, and room")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    members = torch.zeros(len(names), neurons, dtype=torch.bool)
    place = {name: i for i, name in enumerate(names)}
    for name in names:
        there = {place[other]: count for other, count in near[name].items() if place[other] < place[name]}
        around = {i: [place[other] for other in near[names[i]] if other != name] for i in there}
        members[place[name]] = _one(members, there, around, size, generator)
        _require_exact(name, names, members, there, size)
    return names, members.float()


def responsive_members(responses: Float[Tensor, "n N"], concepts: Int[Tensor, " n"], size: int) -> Float[Tensor, "p N"]:
    """Choose for each concept the units whose standardised responses are largest on average; see `from_activations`."""
    rows = standardised(responses)
    if not isinstance(concepts, Tensor) or concepts.is_floating_point() or concepts.dtype == torch.bool:
        raise TypeError(f"got concepts of {getattr(concepts, 'dtype', type(concepts).__name__)}; expected integers")
    counts = torch.bincount(concepts) if concepts.ndim == 1 and bool((concepts >= 0).all()) else concepts.new_zeros(1)
    if concepts.shape != rows.shape[:1] or bool((counts == 0).any()):
        raise ValueError(
            f"got concepts of shape {tuple(concepts.shape)} with {counts.tolist()[:10]} stimuli each, for {len(rows)} "
            "rows of responses; expected one number a row, 0 to p - 1, each at least once"
        )
    means = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype).index_add_(0, concepts, rows) / counts[:, None]
    alive = (rows != 0).any(0)
    if not 0 < size <= int(alive.sum()) or size >= rows.shape[1]:
        raise ValueError(
            f"got size={size} for {rows.shape[1]} units of which {int(alive.sum())} ever change; expected at least 1, "
            "at most those, and fewer than all"
        )
    order = means.masked_fill(~alive, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :size]
    return torch.zeros_like(means, dtype=torch.float32).scatter(1, order, 1.0)


def standardised(responses: Float[Tensor, "n N"]) -> Float[Tensor, "n N"]:
    """Centre each unit and divide by its deviation, in float64; a unit that never changes gives 0."""
    width = responses.shape[-1] if isinstance(responses, Tensor) and responses.ndim else 0
    rows = states_of(responses, width, "responses").double()
    centred = rows - rows.mean(0)
    deviations = centred.square().mean(0).sqrt()
    alive = deviations > 1e-9 * rows.abs().amax(0).clamp(min=1e-30)
    return torch.where(alive, centred / deviations.where(alive, 1), 0)


def _neighbours(
    graph: Any, concepts: Sequence[Hashable], size: int
) -> tuple[list[Hashable], dict[Hashable, dict[Hashable, int]]]:
    """Read a mapping or a networkx graph into names, and for each what it is to share with whom, in neurons."""
    if isinstance(graph, Mapping):
        edges = [(*pair, overlap) for pair, overlap in graph.items()]
        nodes = [one for pair in graph for one in pair]
    else:
        edges, nodes = list(graph.edges(data="overlap")), list(graph.nodes)
    near: dict[Hashable, dict[Hashable, int]] = {name: {} for name in [*nodes, *concepts]}
    for a, b, overlap in edges:
        if overlap is None or not 0 <= overlap <= 1 or a == b or b in near[a]:
            raise ValueError(
                f"got overlap {overlap} of {a!r} with {b!r}; expected a share from 0 to 1, once for each two concepts"
            )
        near[a][b] = near[b][a] = round(overlap * size)
    return list(near), near


def _one(
    members: Tensor, there: Mapping[int, int], around: Mapping[int, list[int]], size: int, generator: torch.Generator
) -> Tensor:
    mine = torch.zeros(members.shape[1], dtype=torch.bool)
    for i, count in there.items():
        others = sorted({*around[i], *there} - {i})
        used = members[others].sum(0) + torch.rand(len(mine), generator=generator)
        used[~members[i] | mine] = torch.inf
        missing = max(0, count - int((mine & members[i]).sum()))
        mine[used.argsort()[:missing]] = True
    free = torch.rand(len(mine), generator=generator)
    free[mine | members[list(there)].any(0)] = torch.inf
    missing = max(0, size - int(mine.sum()))
    chosen = free.argsort()[:missing]
    if missing and bool(free[chosen].isinf().any()):
        raise ValueError(
            f"got {len(mine)} neurons, too few for {size} a concept with these overlaps; give more neurons"
        )
    mine[chosen] = True
    return mine


def _require_exact(
    name: Hashable, names: Sequence[Hashable], members: Tensor, there: Mapping[int, int], size: int
) -> None:
    mine = members[names.index(name)]
    for i, count in there.items():
        shared = int((mine & members[i]).sum())
        if shared != count or int(mine.sum()) != size:
            raise ValueError(
                f"got an overlap of {count / size:.3g} of {name!r} with {names[i]!r}; the draw came to "
                f"{shared / size:.3g} with {int(mine.sum())} of {size} members; expected overlaps that can be had "
                "together: those of one concept with concepts that share nothing add up to at most 1"
            )

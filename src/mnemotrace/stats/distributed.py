"""Add up what several processes collected, each on its share of the data, as if one had seen everything.

Sums and counts add, so the merge is exact and weighted by counts; maps that share an input in every process still
share it after. Cost: one all-reduce of `d^2` numbers a distinct input, or one gather of rows while all processes
together have fewer rows than the width. Backends: gloo (CPU) and nccl (CUDA).
"""

from dataclasses import dataclass
from functools import reduce as fold
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.functional import pad

from mnemotrace.stats.moments import Moments, Statistics


@dataclass(frozen=True)
class _Part:
    """What one process tells the others of its moments at a site; sites that share have one `group`."""

    group: int
    n: float
    d: int
    dtype: torch.dtype
    rows: bool


def reduce(statistics: Statistics) -> Statistics:
    """Sum statistics over all processes of the default group; every process gets the total.

    Args:
        statistics: of this process's share of the data, from `mt.collect` on the same network and sites.

    Returns:
        The total. Rows are kept only while there are fewer of them, in all, than the width.

    Raises:
        ValueError: no process group is initialised; or the processes hold different sites or networks, and then it
            is raised in every one of them.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(
            "got no process group; expected an initialised one; call torch.distributed.init_process_group first"
        )
    mine = statistics.manifest.get("base"), statistics.manifest.get("batches", 0), _parts(statistics)
    everyone = [mine] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    _check(everyone)
    shared: dict[tuple[int, ...], Moments] = {}
    total: dict[str, Moments] = {}
    for name in sorted(statistics):  # one order in all processes
        parts = [parts[name] for _, _, parts in everyone]
        key = tuple(part.group for part in parts)
        if key not in shared:
            shared[key] = _sum(statistics[name], parts)
        total[name] = shared[key]
    manifest = dict(statistics.manifest) | {"batches": sum(batches for _, batches, _ in everyone)}
    return Statistics({name: total[name] for name in statistics}, statistics.sites, manifest)


def _parts(statistics: Statistics) -> dict[str, _Part]:
    groups = {key: group for group, key in enumerate(dict.fromkeys(id(m) for m in statistics.values()))}
    return {n: _Part(groups[id(m)], m.n, m.d, _body(m).dtype, m.rows is not None) for n, m in statistics.items()}


def _check(everyone: list[tuple[Any, int, dict[str, _Part]]]) -> None:
    base, _, first = everyone[0]
    for rank, (other, _, parts) in enumerate(everyone):
        differing = sorted(first.keys() ^ parts.keys())
        what = f"sites {differing[:4]} in only one" if differing else f"networks {other} and {base}"
        if differing or base != other:
            raise ValueError(
                f"got statistics in process {rank} that do not match process 0 ({what}); expected one network and "
                "the same sites everywhere; pass the same `sites` to mt.collect, or .select() what all have"
            )


def _sum(mine: Moments, parts: list[_Part]) -> Moments:
    home, device = mine.first.device, torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    dtype = fold(torch.promote_types, (part.dtype for part in parts))
    n, first, body = sum(part.n for part in parts), mine.first.to(device, copy=True), _body(mine).to(device, dtype)
    dist.all_reduce(first)
    if n < mine.d and all(part.rows for part in parts):
        most = max(int(part.n) for part in parts)
        padded = [torch.empty(most, mine.d, dtype=dtype, device=device) for _ in parts]
        dist.all_gather(padded, pad(body, (0, 0, 0, most - len(body))))
        rows = torch.cat([tensor[: int(part.n)] for tensor, part in zip(padded, parts, strict=True)])
        return Moments(n, first.to(home), rows=rows.to(home))
    second = body.clone() if mine.rows is None else body.T @ body
    dist.all_reduce(second)
    return Moments(n, first.to(home), second=second.to(home))


def _body(moments: Moments) -> Tensor:
    body = moments.second if moments.rows is None else moments.rows
    if body is None:
        raise AssertionError("moments hold either rows or a second moment")
    return body

"""The plots that somebody thinks possible: graphs given by hand, and how probable each is beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs, masks_of

_NARROW = 8  # variables that a mask of eight bits holds


def plots_of(graphs: Sequence[Sequence[tuple[str, str]]], names: Sequence[str]) -> DAGs:
    """Turn lists of edges (cause, effect) into graphs.

    Raises:
        ValueError: no plot, the same one twice, one with a cycle, or a name that is no variable.
    """
    position = {name: i for i, name in enumerate(names)}
    rows: list[list[int]] = []
    for plot in graphs:
        unknown = {name for edge in plot for name in edge} - set(names)
        if unknown or not nx.is_directed_acyclic_graph(nx.DiGraph(list(plot))):
            raise ValueError(
                f"got the plot {list(plot)}; expected edges (cause, effect) among {', '.join(names)}, without a cycle"
            )
        rows.append(masks_of([(position[a], position[b]) for a, b in plot], len(names)))
    if len({tuple(row) for row in rows}) < max(len(rows), 1):
        raise ValueError(f"got {len(rows)} plots; expected at least one, each once")
    return DAGs(torch.tensor(rows, dtype=torch.uint8 if len(names) <= _NARROW else torch.long))


def prior_of(log_prior: Sequence[float] | None, graphs: int, *, exact: bool) -> Tensor | None:
    """Return log-priors as a tensor, None for a uniform one.

    Raises:
        ValueError: another number of them, not finite, or beside an approximate posterior.
    """
    if log_prior is None:
        return None
    prior = torch.tensor(log_prior, dtype=torch.float64)
    if not exact or prior.shape != (graphs,) or not bool(prior.isfinite().all()):
        raise ValueError(
            f"got a log_prior of shape {tuple(prior.shape)}; expected {graphs} finite numbers and an exact posterior"
        )
    return prior


def with_tuples(graphs: Any) -> Any:
    """Return plots as they were before JSON made lists of their edges."""
    return None if graphs is None else [[tuple(edge) for edge in plot] for plot in graphs]

"""Bayesian networks in the interchange format BIF, as the repositories of networks publish them.

Reading and writing is pgmpy's (`pip install 'mnemotrace[causal]'`; its import takes seconds). Rows of a table that sum
to 1 only to within the printed digits are divided by their sum. Properties and comments of a file are not kept.

Reference: Cozman 1998, The Interchange Format for Bayesian Networks. Cost: linear in the tables.
"""

import gzip
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import atomic
from mnemotrace.modification.beliefs.network import BayesianNetwork

SLACK = 0.01  # what printed digits may leave a row short of 1


def read_bif(path: str | Path) -> BayesianNetwork:
    """Read a network; `.gz` is unpacked.

    Raises:
        ImportError: pgmpy is not installed.
        FileNotFoundError: no such file.
        ValueError: not a BIF file, or tables that are no probabilities.
    """
    pgmpy = _pgmpy()
    raw = Path(path).read_bytes()
    text = (gzip.decompress(raw) if Path(path).suffix == ".gz" else raw).decode("utf-8")
    try:
        model = pgmpy.BIFReader(string=text).get_model()
        nodes = [str(node) for node in model.nodes()]
        factors = {node: model.get_cpds(node) for node in nodes}
    except Exception as error:  # pgmpy lets its parser's errors through
        raise ValueError(f"got {path}, which pgmpy cannot read; expected a network in BIF") from error
    missing = [node for node, factor in factors.items() if factor is None]
    if missing or not nodes:
        raise ValueError(f"got {path} without a table for {missing or 'any variable'}; expected one for each")
    states = tuple(tuple(str(s) for s in factors[node].state_names[node]) for node in nodes)
    parents = tuple(tuple(nodes.index(v) for v in factors[node].variables[1:]) for node in nodes)
    tables = tuple(_table(factors[node].values, node) for node in nodes)
    return BayesianNetwork(tuple(nodes), states, parents, tables)


def write_bif(network: BayesianNetwork, path: str | Path) -> Path:
    """Write a network, whole or not at all; a name that ends in `.gz` is packed.

    Reading it gives the same tables to rounding; pgmpy puts the variables into alphabetical order.

    Raises:
        ImportError: pgmpy is not installed.
    """
    pgmpy = _pgmpy()
    model = pgmpy.DiscreteBayesianNetwork()
    model.add_nodes_from(network.names)
    model.add_edges_from([(network.names[j], network.names[i]) for j, i in network.edges])
    for i, (name, parents, table) in enumerate(zip(network.names, network.parents, network.tables, strict=True)):
        named = {network.names[j]: list(network.states[j]) for j in (i, *parents)}
        flat = table.reshape(-1, table.shape[-1]).T.tolist()
        cards = [len(network.states[j]) for j in parents]
        evidence = [network.names[j] for j in parents]
        model.add_cpds(pgmpy.TabularCPD(name, table.shape[-1], flat, evidence, cards, state_names=named))
    text = str(pgmpy.BIFWriter(model)).encode()
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if Path(path).suffix == ".gz" else text)
    return Path(path)


def _table(values: Any, name: str) -> Tensor:
    """Move the own states last and let each row sum to 1 exactly."""
    table = torch.as_tensor(values, dtype=torch.float64).movedim(0, -1).contiguous()
    total = table.sum(-1, keepdim=True)
    if bool(((total - 1).abs() > SLACK).any()):
        raise ValueError(
            f"got a table for {name!r} with rows that sum to {total.min():.3g} to {total.max():.3g}; not 1"
        )
    return table / total


def _pgmpy() -> Any:
    """Import what is needed of pgmpy.

    Raises:
        ImportError: with what to install.
    """
    logging.getLogger("pgmpy").setLevel(logging.ERROR)  # it reports every network that it reads
    try:
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.models import DiscreteBayesianNetwork
        from pgmpy.readwrite import BIFReader, BIFWriter
    except ImportError as error:
        raise ImportError("BIF files need pgmpy: pip install 'mnemotrace[causal]'") from error
    from types import SimpleNamespace

    return SimpleNamespace(
        BIFReader=BIFReader,
        BIFWriter=BIFWriter,
        TabularCPD=TabularCPD,
        DiscreteBayesianNetwork=DiscreteBayesianNetwork,
    )

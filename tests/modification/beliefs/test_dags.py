import itertools

import networkx as nx
import pytest
import torch

from mnemotrace.modification.beliefs.dags import COUNTS, DAGs, edges_of, enumerate_dags, masks_of


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5])
def test_every_graph_is_there_once(p: int) -> None:
    dags = enumerate_dags(p)
    codes = (dags.parents.long() << torch.arange(p) * p).sum(1)
    assert len(dags) == COUNTS[p] == len(torch.unique(codes))
    assert not _has_cycle(dags).any()
    assert dags.edges(0) == ()


def _has_cycle(dags: DAGs) -> torch.Tensor:
    """Whether any walk of as many steps as there are nodes is left."""
    return torch.matrix_power(dags.adjacency().float(), dags.p).flatten(1).sum(1) > 0


def test_a_cycle_would_be_noticed() -> None:
    ring = DAGs(torch.tensor([masks_of([(0, 1), (1, 2), (2, 3), (3, 0)], 4)], dtype=torch.uint8))
    assert _has_cycle(ring).all()


@pytest.mark.slow
def test_six_nodes_have_as_many_graphs_as_robinson_counted() -> None:
    dags = enumerate_dags(6)
    assert len(dags) == 3_781_503
    assert dags.parents.nbytes < 23e6
    codes = (dags.parents.long() << torch.arange(6) * 6).sum(1)
    assert len(torch.unique(codes)) == len(dags)
    assert len(torch.unique(dags.classes())) == 1_067_825


def test_they_are_those_that_networkx_calls_acyclic() -> None:
    pairs = list(itertools.permutations(range(3), 2))
    acyclic = {
        edges
        for size in range(len(pairs) + 1)
        for edges in itertools.combinations(sorted(pairs), size)
        if nx.is_directed_acyclic_graph(nx.DiGraph(list(edges)))
    }
    dags = enumerate_dags(3)
    assert {dags.edges(g) for g in range(len(dags))} == acyclic


@pytest.mark.parametrize(("p", "classes"), [(2, 2), (3, 11), (4, 185), (5, 8782)])
def test_there_are_as_many_equivalence_classes_as_published(p: int, classes: int) -> None:
    assert len(torch.unique(enumerate_dags(p).classes())) == classes


def test_a_chain_and_a_fork_are_one_class_and_a_collider_is_another() -> None:
    dags = enumerate_dags(3)
    chain, fork, collider = (dags.index(e) for e in ([(0, 1), (1, 2)], [(1, 0), (1, 2)], [(0, 1), (2, 1)]))
    kinds = dags.classes()
    assert kinds[chain] == kinds[fork] != kinds[collider]


def test_adjacency_edges_and_masks_say_the_same() -> None:
    dags = enumerate_dags(4)
    for graph in (0, 17, 542):
        edges = dags.edges(graph)
        assert {(int(i), int(j)) for i, j in dags.adjacency([graph])[0].nonzero()} == set(edges)
        assert masks_of(edges, 4) == dags.parents[graph].tolist()
        assert edges_of(masks_of(edges, 4)) == edges
        assert dags.index(edges) == graph


def test_graphs_over_more_nodes_than_a_byte_holds_are_found_too() -> None:
    plots = [[(9, 0)], [(0, 9), (1, 8)]]
    dags = DAGs(torch.tensor([masks_of(plot, 10) for plot in plots]))
    assert dags.index(iter(plots[1])) == 1
    assert dags.edges(0) == ((9, 0),)
    assert dags.adjacency()[1].nonzero().tolist() == [[0, 9], [1, 8]]
    assert dags.parent_sets[9] == [0, 1]
    assert len(torch.unique(dags.classes())) == 2


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="got 7 variables; expected 1 to 6.*method='order'"):
        enumerate_dags(7)
    with pytest.raises(KeyError, match="a cycle is in none"):
        enumerate_dags(3).index([(0, 1), (1, 0)])
    with pytest.raises(ValueError, match=r"got edge \(0, 3\); expected two different nodes from 0 to 2"):
        masks_of([(0, 3)], 3)
    assert len(DAGs(torch.zeros(1, 2, dtype=torch.uint8)).classes()) == 1

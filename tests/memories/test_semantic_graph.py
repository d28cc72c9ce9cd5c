import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.memories.semantic_graph import SemanticGraph


def kitchen() -> SemanticGraph:
    graph = SemanticGraph()
    graph.add("Ana", time=1.0, valence=0.5, arousal=0.4, tag="who")
    graph.add("kitchen", time=1.0, tag="where")
    graph.link("Ana", "kitchen", 2.0, time=1.0, relation="was in")
    graph.link("Ana", "bread", directed=True)
    graph.link("heat", "bread", causal=True)
    return graph


def _matrix(graph: SemanticGraph) -> torch.Tensor:
    dense = torch.zeros(len(graph), len(graph), dtype=torch.float64)
    dense[graph.links.source, graph.links.target] = graph.links.weight
    return dense


def test_links_go_both_ways_unless_they_are_directed_or_causal() -> None:
    graph = kitchen()
    a, k, b, h = map(graph.position, ("Ana", "kitchen", "bread", "heat"))
    dense = torch.zeros(4, 4, dtype=torch.float64)
    dense[a, k] = dense[k, a] = 2
    dense[a, b] = dense[h, b] = 1
    assert torch.equal(_matrix(graph), dense)
    assert graph.fan("Ana") == 2
    assert graph.fan("bread") == 0


def test_a_link_given_again_adds_up() -> None:
    graph = kitchen()
    graph.link("kitchen", "Ana", 0.5)
    assert float(_matrix(graph)[0, 1]) == float(_matrix(graph)[1, 0]) == 2.5
    assert len(graph.edges()) == 4


def test_causes_count_as_far_as_they_are_believed() -> None:
    graph = kitchen()
    graph.weigh_causes({("heat", "bread"): 0.25, ("moon", "tides"): 1.0})
    heat, bread = graph.position("heat"), graph.position("bread")
    assert float(_matrix(graph)[heat, bread]) == 0.25
    graph.weigh_causes({("heat", "bread"): 0.0})
    assert len(graph.links) == 3
    with pytest.raises(ValueError, match=r"got probability 1.5 of \('heat', 'bread'\)"):
        graph.weigh_causes({("Ana", "bread"): 0.5, ("heat", "bread"): 1.5})
    assert len(graph.links) == 3


def test_affect_is_the_mean_of_what_was_given_and_uses_are_stamped() -> None:
    graph = kitchen()
    graph.add("Ana", time=3.0, valence=-0.5, arousal=0.0)
    graph.add("Ana", time=4.0)
    graph.use(["Ana"], 5.0)
    assert float(graph.valence[0]) == pytest.approx(0.0)
    assert float(graph.arousal[0]) == pytest.approx(0.2)
    assert graph.times("Ana") == (1.0, 3.0, 4.0, 5.0)
    assert graph.tag("Ana") == "who"


def test_a_removed_node_leaves_the_rest_as_if_it_had_never_been() -> None:
    graph, never = kitchen(), SemanticGraph()
    graph.remove("kitchen")
    never.add("Ana", time=1.0, valence=0.5, arousal=0.4, tag="who")
    never.link("Ana", "bread", directed=True)
    never.link("heat", "bread", causal=True)
    assert graph.nodes == never.nodes
    assert torch.equal(_matrix(graph), _matrix(never))
    assert "kitchen" not in graph


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_networkx_and_back_is_the_same_graph(seed: int) -> None:
    given_graph = nx.gnp_random_graph(8, 0.4, seed=seed, directed=seed % 2 == 0)
    for i, (a, b) in enumerate(given_graph.edges):
        given_graph[a][b]["weight"] = 1.0 + i
    graph = SemanticGraph.from_networkx(given_graph)
    back = SemanticGraph.from_networkx(graph.to_networkx())
    assert back.nodes == graph.nodes
    assert back.edges() == graph.edges()
    expected = (
        torch.from_numpy(nx.to_numpy_array(given_graph)) if len(given_graph.edges) else torch.zeros(8, 8).double()
    )
    assert torch.equal(_matrix(graph), expected)


def test_a_graph_of_arrays_is_the_one_that_is_linked_by_hand() -> None:
    source, target, weight = torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([1.0, 0.5])
    graph, by_hand = SemanticGraph.of(["a", "b", "c"], source, target, weight), SemanticGraph()
    by_hand.link("a", "b")
    by_hand.link("b", "c", 0.5)
    assert graph.edges() == by_hand.edges()
    with pytest.raises(ValueError, match=r"got 2 nodes \(1 different\)"):
        SemanticGraph.of(["a", "a"], source, target, weight)
    with pytest.raises(ValueError, match="positions among the nodes"):
        SemanticGraph.of(["a", "b"], source, target, weight)
    with pytest.raises(ValueError, match="not finite and above 0, or a node linked to itself"):
        SemanticGraph.of(["a", "b", "c"], source, target, weight * 0)


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    graph = kitchen()
    before = graph.edges()
    for a, b, weight in (("Ana", "kitchen", 0.0), ("Ana", "kitchen", float("nan")), ("Ana", "Ana", 1.0)):
        with pytest.raises(ValueError, match="expected a finite weight above 0|expected two nodes"):
            graph.link(a, b, weight)
    with pytest.raises(KeyError, match="got node 'kitchn'; expected one of 4 nodes, such as kitchen"):
        graph.use(["Ana", "kitchn"], 9.0)
    with pytest.raises(ValueError, match="got valence=3"):
        graph.add("joy", valence=3)
    with pytest.raises(ValueError, match="got '' as a node; expected a name"):
        graph.add("")
    with pytest.raises(ValueError, match="got time=inf"):
        graph.add("joy", time=float("inf"))
    assert graph.edges() == before
    assert graph.times("Ana") == (1.0,)
    assert len(graph) == 4

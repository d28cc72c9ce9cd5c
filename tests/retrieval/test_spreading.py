import networkx as nx
import pytest
import torch

from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.retrieval.spreading import (
    congruence,
    prime_of,
    spread,
    spread_and_decay,
    transition_matrix,
    transitions,
)


def _random(seed: int = 0, directed: bool = True) -> tuple[nx.DiGraph, SemanticGraph]:
    graph = nx.gnp_random_graph(30, 0.15, seed=seed, directed=directed)
    source = torch.Generator().manual_seed(seed)
    for a, b in graph.edges:
        graph[a][b]["weight"] = float(torch.rand(1, generator=source)) + 0.1
    return graph, SemanticGraph.from_networkx(graph)


@pytest.mark.parametrize("seed", [0, 1])
def test_at_rest_it_is_a_personalised_pagerank(seed: int) -> None:
    graph, memory = _random(seed)
    ranks = nx.pagerank(
        graph, alpha=0.85, personalization={3: 2, 7: 1}, dangling={3: 2, 7: 1}, tol=1e-14, max_iter=1000
    )
    found = spread(memory, {"3": 2.0, "7": 1.0}, tolerance=1e-13)
    assert max(abs(float(found[memory.position(str(k))]) - v) for k, v in ranks.items()) < 1e-9


def test_at_rest_it_solves_its_equation_and_mass_is_kept() -> None:
    _, memory = _random(2, directed=False)
    prime = prime_of(memory, {"5": 1.0})
    matrix = transition_matrix(*transitions(memory), len(memory)).to_dense()
    matrix[:, matrix.sum(0) == 0] = prime[:, None]  # what has no links gives back to the prime
    direct = torch.linalg.solve(torch.eye(len(memory)).double() - 0.85 * matrix, 0.15 * prime)
    found = spread(memory, prime, tolerance=1e-12)
    assert torch.allclose(found, direct, atol=1e-6)
    for steps in (0, 1, 7):
        assert float(spread(memory, prime, steps=steps).sum()) == pytest.approx(1, abs=1e-12)


def test_affect_bends_links_towards_what_feels_alike_and_kappa_zero_does_nothing() -> None:
    graph = SemanticGraph()
    for node, valence in (("cue", 0.0), ("joy", 0.9), ("grief", -0.9)):
        graph.add(node, valence=valence)
    graph.link("cue", "joy")
    graph.link("cue", "grief")
    share = [float(spread(graph, {"cue": 1.0}, affect=(1.0, 0.0), kappa=k)[1]) for k in (0.0, 0.5, 1.0, 2.0)]
    assert share == sorted(share)
    assert share[-1] > 1.5 * share[0]
    assert torch.equal(spread(graph, {"cue": 1.0}, affect=(1.0, 0.5), kappa=0.0), spread(graph, {"cue": 1.0}))
    assert torch.equal(spread(graph, {"cue": 1.0}, kappa=2.0), spread(graph, {"cue": 1.0}))
    assert congruence(graph, (-1.0, 0.0)).tolist() == [0.0, -0.9, 0.9]


def test_retention_and_decay_agree_with_a_path_worked_by_hand() -> None:
    """a - b - c, half kept: after one step a .5, b .5; after two a .375, b .5, c .125."""
    graph = SemanticGraph()
    graph.link("a", "b")
    graph.link("b", "c")
    found = spread_and_decay(graph, {"a": 1.0}, retention=0.5, steps=2)
    assert torch.allclose(found, torch.tensor([[0.5, 0.5, 0.0], [0.375, 0.5, 0.125]], dtype=torch.float64))
    decayed = spread_and_decay(graph, {"a": 1.0}, retention=0.5, decay=0.1, suppress=0.2, steps=2)
    assert torch.allclose(decayed[0], torch.tensor([0.45, 0.45, 0.0], dtype=torch.float64))
    assert torch.allclose(decayed[1], torch.tensor([0.30375, 0.405, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("retention", [0.0, 0.3, 1.0])
def test_retention_and_decay_agree_with_a_loop_over_neighbours(retention: float) -> None:
    graph, memory = _random(4, directed=False)
    level = {node: 20.0 * (node == 3) for node in graph}
    found = spread_and_decay(memory, {"3": 20.0}, retention=retention, decay=0.05, steps=5)
    for step in range(5):
        after = dict.fromkeys(graph, 0.0)
        for node in graph:
            strength = sum(graph[node][other]["weight"] for other in graph[node])
            after[node] += level[node] * (retention if strength else 1.0)
            for other in graph[node]:
                after[other] += level[node] * (1 - retention) * graph[node][other]["weight"] / strength
        level = {node: value * 0.95 for node, value in after.items()}
        by_hand = torch.tensor([level[int(name)] for name in memory.nodes], dtype=torch.float64)
        assert torch.allclose(found[step], by_hand, atol=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    _, memory = _random()
    with pytest.raises(ValueError, match="got the prime {}; expected at least one node"):
        spread(memory, {})
    with pytest.raises(KeyError, match="got node 'zebra'"):
        spread(memory, {"zebra": 1.0})
    with pytest.raises(ValueError, match="got restart=0"):
        spread(memory, {"3": 1.0}, restart=0)
    with pytest.raises(ValueError, match=r"got affect=\(2.0, 0.0\)"):
        spread(memory, {"3": 1.0}, affect=(2.0, 0.0), kappa=1.0)
    with pytest.raises(ValueError, match="got retention=2"):
        spread_and_decay(memory, {"3": 1.0}, retention=2)


def test_retention_agrees_with_what_spreadr_prints_for_its_own_networks() -> None:
    """R's spreadr 0.3 (Siew 2019): its tests of dead ends and of a ring to which activation is added, its vignette."""
    ends = torch.tensor([(0, 1), (0, 4), (1, 3), (1, 4), (3, 0), (3, 1), (3, 2)])
    graph = SemanticGraph.of(list("12345"), ends[:, 0], ends[:, 1], directed=True)
    printed = [[0, 10, 0, 0, 10], [0, 0, 0, 5, 15], [5 / 3, 5 / 3, 5 / 3, 0, 15]]
    found = spread_and_decay(graph, {"1": 20.0}, retention=0.0, steps=3)
    assert torch.allclose(found, torch.tensor(printed, dtype=torch.float64), atol=1e-12)
    places = torch.arange(8)
    ring = SemanticGraph.of([str(i) for i in range(8)], places, (places + 1) % 8, directed=True)
    alone = spread_and_decay(ring, {"0": 100.0}, retention=0.05, steps=16)
    total = alone[15] + alone[13] + alone[11] + alone[9]  # added at times 0, 2, 4 and 6
    at_16 = [51.684539, 33.285650, 70.134930, 36.793695, 66.944129, 39.533482, 63.495298, 38.128277]
    assert torch.allclose(total, torch.tensor(at_16, dtype=torch.float64), rtol=0, atol=1e-6)
    pair = SemanticGraph()
    pair.link("1", "2", directed=True)
    halved = spread_and_decay(pair, {"1": 10.0}, retention=0.5, decay=0.5, steps=2)
    assert torch.equal(halved, torch.tensor([[2.5, 2.5], [0.625, 1.875]], dtype=torch.float64))


def test_a_small_restart_rests_at_its_solution_too_and_a_tensor_must_be_a_distribution() -> None:
    _, memory = _random(3, directed=False)
    prime = prime_of(memory, {"5": 1.0})
    matrix = transition_matrix(*transitions(memory), len(memory)).to_dense()
    matrix[:, matrix.sum(0) == 0] = prime[:, None]
    direct = torch.linalg.solve(torch.eye(len(memory)).double() - 0.998 * matrix, 0.002 * prime)
    assert torch.allclose(spread(memory, prime, restart=0.002, tolerance=1e-9), direct, atol=1e-6)
    assert torch.equal(spread(memory, prime, restart=1), prime)
    for wrong in (prime[:5], prime * 2, -prime, prime * float("nan")):
        with pytest.raises(ValueError, match="expected a number from 0 for each of 30 nodes, adding up to 1"):
            spread(memory, wrong)
    with pytest.raises(ValueError, match="kappa=nan"):
        spread(memory, prime, kappa=float("nan"))


def test_what_reaches_a_dead_end_goes_back_to_the_prime() -> None:
    graph = SemanticGraph()
    graph.link("a", "b", directed=True)
    graph.link("a", "c", directed=True)
    plain = nx.DiGraph([("a", "b"), ("a", "c")])
    ranks = nx.pagerank(plain, alpha=0.85, personalization={"a": 1}, dangling={"a": 1}, tol=1e-14, max_iter=1000)
    found = spread(graph, {"a": 1.0}, tolerance=1e-13)
    assert found.tolist() == pytest.approx([ranks[node] for node in graph.nodes], abs=1e-9)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)

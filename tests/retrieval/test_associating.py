import math

import networkx as nx
import pytest
import torch

from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.retrieval.associating import Context, Cue, activation, associate
from mnemotrace.retrieval.linking import local_graph, steiner
from mnemotrace.retrieval.plausible_graph import PlausibleGraph
from mnemotrace.retrieval.spreading import transitions


def table() -> SemanticGraph:
    """Bread and mouse have cheese in common, and a farther way round."""
    graph = SemanticGraph()
    for a, b, weight in (
        ("bread", "cheese", 3.0), ("mouse", "cheese", 3.0), ("bread", "butter", 2.0), ("mouse", "cat", 2.0),
        ("cat", "milk", 1.0), ("milk", "butter", 1.0), ("cat", "dog", 1.0),
    ):  # fmt: skip
        graph.link(a, b, weight)
    graph.add("funeral", valence=-0.9, arousal=0.6)
    graph.link("dog", "funeral", 0.5)
    return graph


def _fan(k: int) -> float:
    graph = SemanticGraph()
    graph.link("cue", "target", directed=True)
    for i in range(k - 1):
        graph.link("cue", f"other {i}", directed=True)
    return float(activation(graph, Cue("cue"), strongest=5.0)[graph.position("target")])


@pytest.mark.parametrize("k", [1, 2, 8])
def test_activation_falls_by_ln_two_when_the_fan_doubles(k: int) -> None:
    assert _fan(k) - _fan(2 * k) == pytest.approx(math.log(2), abs=1e-12)


def test_one_unit_of_attention_is_shared_by_the_cue() -> None:
    graph = table()
    alone = activation(graph, Cue("bread"))[graph.position("cheese")]
    shared = activation(graph, Cue(["bread", "dog"]))[graph.position("cheese")]
    both = activation(graph, Cue(["bread", "mouse"]))[graph.position("cheese")]
    assert float(shared) == pytest.approx(float(alone) / 2)
    assert float(both) > float(shared)


def test_affect_and_noise_are_added_only_when_asked_for() -> None:
    graph = table()
    plain = activation(graph, Cue("dog", (-1.0, 1.0)))
    felt = activation(graph, Cue("dog", (-1.0, 1.0)), kappa_valence=2.0, kappa_arousal=0.5)
    place = graph.position("funeral")
    assert float((felt - plain)[place]) == pytest.approx(2 * 0.9 + 0.5 * 0.6)
    assert torch.equal(plain, activation(graph, Cue("dog")))
    noisy = [activation(graph, Cue("dog"), noise=0.3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_two_words_are_linked_by_what_they_share_and_there_is_another_way() -> None:
    found = associate(table(), ["bread", "mouse"], k=5)
    assert "cheese" in found.nodes
    assert nx.is_connected(nx.Graph([(a, b) for a, b, _ in found.edges]))
    without = next(r for r in found.runners_up if r.without == "cheese")
    assert {"bread", "butter", "milk", "cat", "mouse"} == set(without.nodes)
    assert [r.plausibility for r in found.readings] == sorted((r.plausibility for r in found.readings), reverse=True)
    assert found.manifest["sampler_calls"] == 0


def test_plausibility_is_the_mean_of_its_links_and_of_its_nodes() -> None:
    graph = table()
    found = associate(graph, ["bread"], k=4)
    links = sum(math.log(p) for _, _, p in found.edges) / len(found.edges)
    nodes = sum(math.log(found.activation[node]) for node in found.nodes) / len(found.nodes)
    assert found.plausibility == pytest.approx(links + nodes)
    shares = transitions(graph)[1]
    assert all(any(abs(p - float(s)) < 1e-12 for s in shares) for _, _, p in found.edges)


@pytest.mark.parametrize("method", ["spread", "actr"])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_budget_is_kept_and_the_cue_is_in_it(method: str, k: int) -> None:
    found = associate(table(), ["bread"], k=k, method=method)
    assert found.nodes[0] == "bread"
    assert len(found.nodes) <= k
    assert len(found.edges) == len(found.nodes) - 1


def test_a_cue_that_hangs_together_by_nothing_gives_a_forest() -> None:
    graph = table()
    graph.link("moon", "tide")
    found = associate(graph, ["bread", "moon"], k=6)
    assert {"bread", "moon"} <= set(found.nodes)
    assert nx.number_connected_components(nx.Graph([(a, b) for a, b, _ in found.edges])) == 2


def test_probability_is_a_half_at_the_threshold_and_latency_falls_with_activation() -> None:
    graph = table()
    level = float(activation(graph, Cue("bread"))[graph.position("cheese")])
    found = associate(graph, ["bread"], k=4, threshold=level)
    assert found.probability["cheese"] == pytest.approx(0.5)
    assert found.latency["cheese"] == pytest.approx(math.exp(-level))


def test_what_was_primed_before_shapes_what_comes_and_fades_by_half() -> None:
    graph, context = table(), Context(half_life=2.0)
    context.prime({"dog": 1.0})
    primed = associate(graph, ["bread"], k=8, context=context).activation
    assert primed["dog"] > 2 * associate(graph, ["bread"], k=8).activation["dog"]
    assert context.primes["bread"] == 1.0
    context.step(2)
    assert context.primes["dog"] == pytest.approx(0.5)
    context.step(100)
    assert context.primes == {}
    with pytest.raises(ValueError, match="got half_life=0"):
        Context(0)


def test_asking_changes_nothing_and_the_file_holds_all() -> None:
    graph = table()
    before = graph.edges()
    found = associate(graph, Cue(["dog"], (-0.5, 0.5)), k=4, kappa=1.0)
    assert graph.edges() == before
    again = PlausibleGraph.unpack(found.pack())
    assert again.readings == found.readings
    assert again.affect == found.affect
    assert again.affect[0] < 0


def test_the_tree_prefers_the_more_probable_path() -> None:
    graph = table()
    links, share = transitions(graph)
    level = torch.zeros(len(graph), dtype=torch.float64)
    level[graph.position("mouse")] = 1.0
    around = local_graph(links, share, level, [graph.position("bread")], 20)
    tree = steiner(around, [graph.position("bread")], level, level > 0, 5)
    best = nx.shortest_path(around, graph.position("bread"), graph.position("mouse"), weight="cost")
    assert set(tree.nodes) == set(best)


def test_what_does_not_fit_is_refused() -> None:
    graph = table()
    with pytest.raises(ValueError, match="got k=1 for a cue of 2"):
        associate(graph, ["bread", "mouse"], k=1)
    with pytest.raises(ValueError, match="got k=4 for a cue of 0|got the prime"):
        associate(graph, [], k=4)
    with pytest.raises(ValueError, match="method='walk'; expected|'spread' or 'actr'"):
        associate(graph, ["bread"], method="walk")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="got node 'breat'; expected one of 8 nodes, such as bread"):
        associate(graph, "breat")


def test_the_cue_alone_is_no_reading_and_a_reading_in_pieces_comes_after_one_that_holds() -> None:
    star = SemanticGraph()
    for leaf in ("a", "b", "c"):
        star.link("hub", leaf)
    found = associate(star, "a", k=4)
    assert len(found.readings) == 1
    assert set(found.nodes) == {"a", "hub", "b", "c"}
    star.link("b", "d")
    star.link("a", "e")
    found = associate(star, ["a", "b"], k=6)
    assert "hub" in found.nodes
    pieces = [r for r in found.runners_up if r.without == "hub"]
    assert len(pieces) == 1
    assert pieces[0].plausibility > found.plausibility  # small and close, but it does not hold the cue together


def test_without_a_use_a_node_does_not_sink_the_reading() -> None:
    graph = table()
    graph.use(["cheese", "butter"], 1.0)
    found = associate(graph, ["bread"], k=4, method="actr", now=2.0)
    assert {"cheese", "butter"} <= set(found.nodes)
    assert found.plausibility > -20
    assert found.probability["bread"] == 0


def test_a_context_takes_weights_above_nothing_and_passes_over_what_is_gone() -> None:
    graph, context = table(), Context()
    context.prime({"dog": 1.0, "cat": 1.0})
    with pytest.raises(ValueError, match="got the primes {'cat': 0.0}; expected weights above 0"):
        context.prime({"cat": 0.0})
    graph.remove("dog")
    with_cat = associate(graph, "bread", context=context).activation["cat"]
    assert with_cat > associate(graph, "bread").activation["cat"]

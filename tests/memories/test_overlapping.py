"""Drawing assemblies: listed overlaps are exact, others are chance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.memories.overlapping import draw_members, standardised


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), overlap=st.integers(0, 20), shape=st.sampled_from(["pair", "chain", "hub"]))
def test_listed_overlaps_are_exact_and_every_concept_has_its_size(seed: int, overlap: int, shape: str) -> None:
    links = {"pair": [(0, 1), (2, 3)], "chain": [(i, i + 1) for i in range(4)], "hub": [(0, i) for i in range(1, 5)]}
    graph = dict.fromkeys(links[shape], overlap / 20)
    names, members = draw_members(graph, neurons=300, size=20, generator=torch.Generator().manual_seed(seed))
    shared = members @ members.T
    assert (members.sum(1) == 20).all() and shared.diagonal().eq(20).all()
    for a, b in graph:
        assert shared[names.index(a), names.index(b)] == overlap


def test_two_leaves_of_a_hub_share_only_when_there_is_no_other_way() -> None:
    for overlap, common in ((0.5, 0), (0.9, 16)):
        _, members = draw_members({(0, 1): overlap, (0, 2): overlap}, neurons=2000, size=20)
        assert abs(int(members[1] @ members[2]) - common) <= 2


def test_pairs_that_are_not_listed_meet_by_chance() -> None:
    _, members = draw_members({}, neurons=500, size=50, concepts=range(40))
    apart = (members @ members.T / 50)[~torch.eye(40, dtype=torch.bool)]
    assert abs(float(apart.mean()) - 0.1) < 0.005


def test_a_graph_is_read_like_a_mapping_and_a_seed_gives_the_same() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph()
    graph.add_edge("Luke", "Yoda", overlap=0.3)
    graph.add_node("Borges")
    drawn = draw_members(graph, neurons=100, size=10)
    again = draw_members({("Luke", "Yoda"): 0.3}, neurons=100, size=10, concepts=["Borges"])
    assert drawn[0] == again[0] == ["Luke", "Yoda", "Borges"] and torch.equal(drawn[1], again[1])
    other = draw_members(graph, neurons=100, size=10, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(drawn[1], other[1])
    graph.add_edge("Yoda", "Borges")
    with pytest.raises(ValueError, match="got overlap None of 'Yoda' with 'Borges'"):
        draw_members(graph, neurons=100, size=10)


def test_overlaps_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(ValueError, match="expected overlaps that can be had together"):
        draw_members({(0, 1): 0.0, (0, 2): 0.8, (1, 2): 0.8}, neurons=100, size=10)
    with pytest.raises(ValueError, match="got 25 neurons, too few for 10 a concept"):
        draw_members({(0, 1): 0.0, (1, 2): 0.0, (0, 2): 0.0}, neurons=25, size=10)
    with pytest.raises(ValueError, match="got overlap 1.5 of 0 with 1; expected a share from 0 to 1"):
        draw_members({(0, 1): 1.5}, neurons=25, size=10)
    with pytest.raises(ValueError, match="once for each two concepts"):
        draw_members({(0, 1): 0.5, (1, 0): 0.5}, neurons=25, size=10)
    for graph, neurons in (({}, 20), ({(0, 1): 0.5}, 10)):
        with pytest.raises(ValueError, match="expected at least one, and room"):
            draw_members(graph, neurons=neurons, size=10)


def test_responses_are_standardised_and_a_dead_unit_is_zero() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 0.0, 1e-3]) + 5
    found = standardised(rows)
    assert torch.allclose(found.mean(0), torch.zeros(4).double(), atol=1e-9)
    assert found.std(0, correction=0).tolist() == pytest.approx([1, 1, 0, 1], abs=1e-9)

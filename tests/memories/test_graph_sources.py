"""Graphs of norms, embeddings, texts and engrams have the links that a plain loop gives, and refuse what gives none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.memories.graph_sources import from_embeddings, from_engrams, from_norms, from_text
from mnemotrace.memories.semantic_graph import SemanticGraph

PAIRS = [("bread", "butter", 0.5), ("bread", "knife", 0.25), ("butter", "bread", 0.75), ("knife", "fork", 0.5)]


def _links(graph: SemanticGraph) -> dict[frozenset[str], float]:
    edges = graph.edges()
    assert len({frozenset((a, b)) for a, b, _ in edges}) == len(edges)
    return {frozenset((a, b)): values["weight"] for a, b, values in edges}


def _rows(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _engram(seed: int, *sites: str) -> Engram:
    sites = sites or ("a", "b")
    made = {}
    for i, name in enumerate(sites):
        left, right = _rows(5, 2, 10 * seed + i), _rows(2, 4, 10 * seed + i + 5)
        made[name] = LowRank(Site(name, f"{name}.weight", 5, 4), left, right)
    return Engram(made)


# --- norms


def test_associations_are_directed_and_as_strong_as_said() -> None:
    graph = from_norms(PAIRS, affect={"knife": (-0.5, 0.75), "sea": (1.0, 0.0)})
    assert graph.nodes == ("bread", "butter", "knife", "fork")
    assert [(a, b, v["weight"], v["directed"]) for a, b, v in graph.edges()] == [(*pair, True) for pair in PAIRS]
    assert (graph.fan("bread"), graph.fan("fork")) == (2, 0)
    assert graph.valence.tolist() == [0, 0, -0.5, 0] and graph.arousal.tolist() == [0, 0, 0.75, 0]
    assert from_norms([*PAIRS, PAIRS[0]]).links.weight.sum() == 2.5


@pytest.mark.parametrize(
    ("pairs", "affect", "error"),
    [
        ([], None, "got no pair"),
        (PAIRS, {"Bread": (0.5, 0.5)}, "got affect of none of the 4 words, but of 'Bread' .* such as 'bread'"),
        (PAIRS, {"bread": (6.1, 0.5)}, "got valence=6.1"),
        ([*PAIRS, ("a", "b", 0.0)], None, "got weights that are not finite and above 0"),
        ([*PAIRS, ("a", "a", 1.0)], None, "or a node linked to itself"),
        ([*PAIRS, ("a", "b", float("nan"))], None, "got weights that are not finite"),
    ],
)
def test_what_is_no_association_is_refused(pairs: list, affect: dict | None, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        from_norms(pairs, affect=affect)


# --- embeddings and texts


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000), n=st.integers(2, 12), neighbours=st.integers(1, 14), threshold=st.sampled_from([0, 0.3])
)
def test_each_embedding_is_linked_with_its_nearest_as_a_loop_finds_them(
    seed: int, n: int, neighbours: int, threshold: float
) -> None:
    x = _rows(n, 3, seed)
    expected: dict[frozenset[str], float] = {}
    for i in range(n):
        cosines = {j: float(x[i] @ x[j] / (x[i].norm() * x[j].norm())) for j in range(n) if j != i}
        for j in sorted(cosines, key=lambda j: -cosines[j])[:neighbours]:
            if cosines[j] > threshold:
                expected[frozenset((str(i), str(j)))] = cosines[j]
    names = [str(i) for i in range(n)]
    if not expected:
        with pytest.raises(ValueError, match="got no pair above threshold"):
            from_embeddings(names, x, neighbours=neighbours, threshold=threshold)
        return
    graph = from_embeddings(names, x * torch.linspace(0.1, 9, n)[:, None], neighbours=neighbours, threshold=threshold)
    assert graph.nodes == tuple(names)
    assert _links(graph) == pytest.approx(expected, abs=1e-12)


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = _rows(23, 4, 0), [str(i) for i in range(23)]
    whole = _links(from_embeddings(names, x, neighbours=3))
    monkeypatch.setattr("mnemotrace.memories.graph_sources._ROWS", 5)
    assert _links(from_embeddings(names, x, neighbours=3)) == pytest.approx(whole)


def test_texts_are_encoded_once_and_named_by_themselves_or_by_you() -> None:
    calls: list[list[str]] = []

    def encoder(texts: list[str]) -> torch.Tensor:
        calls.append(texts)
        return torch.tensor([[text.count("a"), text.count("b"), 1.0] for text in texts])

    texts = ["aaa", "aa", "bbb", "bb"]
    graph = from_text(texts, encoder, neighbours=1)
    assert calls == [texts] and graph.nodes == tuple(texts)
    assert set(_links(graph)) == {frozenset(("aaa", "aa")), frozenset(("bbb", "bb"))}
    named = from_text(dict(zip("wxyz", texts, strict=True)), encoder, neighbours=1)
    assert calls[1] == texts and set(_links(named)) == {frozenset("wx"), frozenset("yz")}
    with pytest.raises(TypeError, match="got one text; expected several"):
        from_text("aaa", encoder)
    with pytest.raises(ValueError, match="got 4 names and vectors"):
        from_text(texts, lambda t: encoder(t)[:3])


def test_what_is_no_embedding_is_refused() -> None:
    x, names = _rows(3, 2, 0), ["a", "b", "c"]
    zero, bad = x.clone(), x.clone()
    zero[1], bad[2, 1] = 0, float("nan")
    for vectors, error, kind in (
        (zero, "got a zero vector for 'b' and 0 more", ValueError),
        (bad, "got 1 non-finite of 6 entries in the vectors", NonFiniteError),
        (x[:2], r"got 3 names and vectors \(2, 2\)", ValueError),
        (x.long(), "got torch.int64 as vectors", TypeError),
        ([[1.0]] * 3, "got list as vectors", TypeError),
    ):
        with pytest.raises(kind, match=error):
            from_embeddings(names, vectors)  # pyright: ignore[reportArgumentType]
    for neighbours, threshold in ((0, 0.0), (2, 1.0), (2, -0.1), (2, float("nan"))):
        with pytest.raises(ValueError, match="expected at least two different names"):
            from_embeddings(names, x, neighbours=neighbours, threshold=threshold)
    with pytest.raises(ValueError, match="got 3 names, 2 different"):
        from_embeddings(["a", "b", "a"], x)
    with pytest.raises(ValueError, match="got no pair above threshold=0.5; the most similar reach 0; lower it"):
        from_embeddings(["a", "b"], torch.eye(2), threshold=0.5)


# --- engrams


def test_engrams_are_linked_by_the_cosine_of_their_matrices() -> None:
    made = {name: _engram(seed) for seed, name in enumerate("abcd")}
    made["e"] = made["a"] * -1.0  # against a: no link
    flat = {
        name: torch.cat([(trace.left @ trace.right).flatten() for trace in engram.values()])
        for name, engram in made.items()
    }
    expected = {
        frozenset((one, other)): float(torch.cosine_similarity(flat[one], flat[other], dim=0))
        for one in made
        for other in made
        if one < other
    }
    graph = from_engrams(made)
    assert _links(graph) == pytest.approx({ends: value for ends, value in expected.items() if value > 0}, abs=1e-12)
    assert frozenset("ae") in expected and frozenset("ae") not in _links(graph)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SelectionError, match="got 'y' at other sites than 'x': b; .*engram.select"):
        from_engrams({"x": _engram(0), "y": _engram(1, "a")})
    with pytest.raises(ValueError, match="got an engram of 'y' that is zero or not finite"):
        from_engrams({"x": _engram(0), "y": _engram(1) * 0.0})
    with pytest.raises(ValueError, match="got an engram of 'y' that is zero or not finite"):
        from_engrams({"x": _engram(0), "y": _engram(1) * float("nan")})
    with pytest.raises(ValueError, match="got 1 names"):
        from_engrams({"x": _engram(0)})
    with pytest.raises(ValueError, match="got 0 names"):
        from_engrams({})

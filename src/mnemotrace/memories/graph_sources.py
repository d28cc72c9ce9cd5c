r"""Semantic graphs from the world: from free associations, from embeddings, from texts, from engrams.

* Associations: a link from each cue to each target, as strong as the share of people who said it; directed.
* Embeddings and texts: each is linked with its `neighbours` nearest by the cosine :math:`x_i^T x_j / |x_i||x_j|`, as
  strongly as the cosine, without direction; a pair that are near each other both ways is linked once.
* Engrams: the same with the cosine :math:`\langle P_i, P_j\rangle / \|P_i\|\|P_j\|` of what they are in the weights.

References: Nelson, McEvoy and Schreiber 2004; Steyvers and Tenenbaum 2005 for graphs of norms; Maier, Hein and von
Luxburg 2009 for graphs of nearest neighbours. Cost: O(m) for m associations; O(n^2 d) time and O(n) memory a row of
2000 for n embeddings; O(n^2) overlaps of engrams, each O((o + d) r^2) a site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mnemotrace.core.errors import SelectionError
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.trace import Engram
from mnemotrace.memories.semantic_graph import SemanticGraph

Encoder = Callable[[list[str]], Tensor]
NEIGHBOURS = 10
_ROWS = 2000


def from_norms(
    pairs: Iterable[tuple[str, str, float]], *, affect: Mapping[str, tuple[float, float]] | None = None
) -> SemanticGraph:
    """Make a graph of associations.

    Args:
        pairs: cue, target and strength above 0, as `memories.norms.read_norms` gives them; equal pairs add up.
        affect: valence from -1 to 1 and arousal from 0 to 1 by word, as `memories.norms.read_affect` gives them;
            words without are neutral, and words that are in no pair are passed over.

    Raises:
        ValueError: no pair, a strength that is not above 0, a word associated with itself, affect out of range, or
            affect of none of the words.
    """
    listed = list(pairs)
    if not listed:
        raise ValueError("got no pair; expected (cue, target, strength)")
    place = {word: i for i, word in enumerate(dict.fromkeys(w for cue, target, _ in listed for w in (cue, target)))}
    sources = torch.tensor([place[cue] for cue, _, _ in listed])
    targets = torch.tensor([place[target] for _, target, _ in listed])
    weights = torch.tensor([strength for _, _, strength in listed], dtype=torch.float64)
    graph = SemanticGraph.of(list(place), sources, targets, weights, directed=True)
    known = {word: values for word, values in (affect or {}).items() if word in place}
    if affect and not known:
        raise ValueError(
            f"got affect of none of the {len(place)} words, but of {next(iter(affect))!r} and others; expected the "
            f"same spelling, such as {next(iter(place))!r}"
        )
    for word, (valence, arousal) in known.items():
        graph.add(word, valence=valence, arousal=arousal)
    return graph


def from_embeddings(
    names: Sequence[str], vectors: Float[Tensor, "n d"], *, neighbours: int = NEIGHBOURS, threshold: float = 0.0
) -> SemanticGraph:
    """Link each embedding with its nearest.

    Args:
        names: one a row, all different.
        vectors: of any length above 0; only their directions count.
        neighbours: how many at most each reaches out to; it may be reached by more.
        threshold: cosine from 0 that a link must exceed.

    Raises:
        TypeError: vectors that are no floating-point tensor.
        ValueError: fewer than two, another number of names, equal names, a zero row, settings out of range, or no pair
            above the threshold.
        NonFiniteError: NaN or infinity among the vectors.
    """
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        what = vectors.dtype if isinstance(vectors, Tensor) else type(vectors).__name__
        raise TypeError(f"got {what} as vectors; expected a floating-point tensor (n, d); call .float() on it")
    if vectors.ndim != 2 or len(vectors) != len(names):  # noqa: PLR2004
        raise ValueError(f"got {len(names)} names and vectors {tuple(vectors.shape)}; expected (n, d), a name a row")
    rows = vectors.detach().cpu()
    require_finite(rows, "the vectors")
    zero = (rows == 0).all(1).nonzero()[:, 0].tolist()
    if zero:
        raise ValueError(f"got a zero vector for {names[zero[0]]!r} and {len(zero) - 1} more; expected a direction")
    unit = normalize(rows.double(), dim=1)
    return _nearest(names, lambda part: unit[part] @ unit.T, neighbours, threshold)


def from_text(
    texts: Sequence[str] | Mapping[str, str],
    encoder: Encoder,
    *,
    neighbours: int = NEIGHBOURS,
    threshold: float = 0.0,
) -> SemanticGraph:
    """Link texts that mean nearly the same to an encoder.

    Args:
        texts: words or sentences, which name their nodes; or texts by name.
        encoder: turns a list of texts into rows, such as a sentence encoder; it is called once.
        neighbours: how many at most each reaches out to.
        threshold: cosine from 0 that a link must exceed.

    Raises:
        TypeError: one text alone in place of several, or an encoder that gives no floating-point tensor.
        ValueError: see `from_embeddings`.
        NonFiniteError: see `from_embeddings`.
    """
    if isinstance(texts, str):
        raise TypeError("got one text; expected several, in a list or by name")
    by_name = dict(texts) if isinstance(texts, Mapping) else {}
    names = list(by_name) or list(texts)
    return from_embeddings(
        names, encoder(list(by_name.values()) or names), neighbours=neighbours, threshold=threshold
    )  # fmt: skip


def from_engrams(
    engrams: Mapping[str, Engram], *, neighbours: int = NEIGHBOURS, threshold: float = 0.0
) -> SemanticGraph:
    """Link memories that lie in the same weights.

    Args:
        engrams: of the same sites, by name; best extracted against one reference.
        neighbours: how many at most each reaches out to.
        threshold: cosine from 0 that a link must exceed. Engrams may also lie against each other, below 0; there is
            no link for that.

    Raises:
        ValueError: fewer than two, one that is zero, settings out of range, or no pair above the threshold.
        SelectionError: they are at different sites.
    """
    names = list(engrams)
    for name, engram in engrams.items():
        if set(engram) != set(engrams[names[0]]):
            apart = ", ".join(sorted(set(engram) ^ set(engrams[names[0]]))[:3])
            raise SelectionError(
                f"got {name!r} at other sites than {names[0]!r}: {apart}; expected the same sites; cut them with "
                "`engram.select`"
            )
        if not sum(engram.norms().values()) > 0:
            raise ValueError(f"got an engram of {name!r} that is zero or not finite; expected a trace")
    found = torch.eye(len(names), dtype=torch.float64)
    for i, j in torch.combinations(torch.arange(len(names))).tolist():
        found[i, j] = found[j, i] = engrams[names[i]].overlap(engrams[names[j]])
    return _nearest(names, lambda part: found[part], neighbours, threshold)


def _nearest(
    names: Sequence[str], similarity: Callable[[slice], Tensor], neighbours: int, threshold: float
) -> SemanticGraph:
    """Link each with the most similar, given rows of similarities; a pair that finds each other is linked once."""
    n = len(names)
    if n < 2 or neighbours < 1 or not 0 <= threshold < 1 or len(set(names)) != n:  # noqa: PLR2004
        raise ValueError(
            f"got {n} names, {len(set(names))} different, neighbours={neighbours}, threshold={threshold}; expected at "
            "least two different names, at least one neighbour, and a threshold from 0 and below 1"
        )
    pairs: list[Tensor] = []
    strengths: list[Tensor] = []
    highest = -1.0
    for start in range(0, n, _ROWS):
        rows = torch.arange(start, min(start + _ROWS, n))
        near = similarity(slice(start, start + _ROWS)).clone()
        near[torch.arange(len(rows)), rows] = -torch.inf
        value, found = near.topk(min(neighbours, n - 1), dim=1)
        highest = max(highest, float(value.max()))
        keep = value > threshold
        pairs.append(torch.stack([rows[:, None].expand_as(found)[keep], found[keep]]))
        strengths.append(value[keep])
    ends, strength = torch.cat(pairs, 1), torch.cat(strengths)
    if not len(strength):
        raise ValueError(f"got no pair above threshold={threshold}; the most similar reach {highest:.3g}; lower it")
    low, high = ends.min(0).values, ends.max(0).values
    once, where = torch.unique(low * n + high, return_inverse=True)
    weight = torch.zeros(len(once), dtype=torch.float64).scatter_(0, where, strength.double())
    return SemanticGraph.of(list(names), once // n, once % n, weight.clamp_max(1.0))

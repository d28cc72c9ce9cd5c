r"""Concept algebra: is a concept a direction, do directions add, and does `a - b + c` find more than `c` does?

A concept's direction is a difference of class means, a probe's weights (`Probe.directions`) or a dictionary's row
(`Dictionary.decoder`). An analogy takes the nearest vector by cosine to

.. math:: v_a - v_b + v_c

of all but `a`, `b` and `c`. Leaving these out is most of its fame: the nearest of all is mostly `c` itself, and of the
others the nearest to `c` alone is often the answer. So the same is asked of `c`, of `a`, and of `a + c` without `b`,
and the inputs are also left in. Of true sums even `a + c` finds most when the inputs are left out, for its only rival,
`b`, went with them; left in, only `a - b + c` finds them.

Additivity asks of parts and wholes :math:`\lVert v_{ab} - v_a - v_b \rVert / \lVert v_{ab} \rVert`: 0 where
a whole is the sum of its parts, 1 where the sum is no better than nothing. All vectors share the mean of their
space, which a sum has twice: take the mean away first.

Reference: Mikolov et al. 2013; without baselines misleading, Levy and Goldberg 2014, Linzen 2016. Cost: one product
of questions with vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mnemotrace.core.intervals import wilson
from mnemotrace.core.linalg import require_finite

BASELINES = ("nearest to c", "nearest to a", "nearest to a + c")


@dataclass(frozen=True, eq=False)
class Analogies:
    """What `a - b + c` found, beside what simpler sums found.

    Attributes:
        found: nearest vector to `a - b + c`, inputs left out.
        rank: of the expected one among those, from 0.
        accuracy: share of questions answered: by `a - b + c`, and by each of `BASELINES`.
        interval: of the accuracy of `a - b + c`, 95 % (Wilson).
        kept_in: the same accuracies when the inputs may be the answer.
        echo: how often an input is the nearest of all to `a - b + c`.
    """

    found: Int[Tensor, " q"]
    rank: Int[Tensor, " q"]
    accuracy: Mapping[str, float]
    interval: tuple[float, float]
    kept_in: Mapping[str, float]
    echo: float

    @property
    def gain(self) -> float:
        """Accuracy of `a - b + c` less that of the nearest to `c`."""
        return self.accuracy["a - b + c"] - self.accuracy["nearest to c"]


def mean_difference(x: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, "k d"]:
    """Return for each label, in rising order, the mean of its rows less the mean of all others; float64.

    Raises:
        ValueError: one label only.
        NonFiniteError: NaN or infinity.
    """
    require_finite(x, "the activations")
    labels = y.unique()
    if len(labels) < 2:  # noqa: PLR2004
        raise ValueError(f"got the label {labels.tolist()} only; expected at least two, a concept and something else")
    rows = x.double()
    return torch.stack([rows[y == label].mean(0) - rows[y != label].mean(0) for label in labels])


def analogies(vectors: Float[Tensor, "n d"], questions: Int[Tensor, "q 4"]) -> Analogies:
    """Ask `a - b + c = ?` of vectors.

    Args:
        vectors: all that can be asked for or be an answer; centre them where they share a mean.
        questions: places of `a`, `b`, `c` and the expected answer: "Paris is to France as ? is to Italy" is Paris,
            France, Italy, Rome.

    Raises:
        ValueError: shapes that do not fit, places that are not there, an answer that is an input, a zero vector.
        NonFiniteError: NaN or infinity.
    """
    _check(vectors, questions)
    unit = normalize(vectors.double(), dim=1)
    a, b, c, wanted = questions.T
    sums = {
        "a - b + c": unit[a] - unit[b] + unit[c],
        "nearest to c": unit[c],
        "nearest to a": unit[a],
        "nearest to a + c": unit[a] + unit[c],
    }
    scores = {name: total @ unit.T for name, total in sums.items()}
    without = {name: score.scatter(1, questions[:, :3], float("-inf")) for name, score in scores.items()}
    ours, nearest = without["a - b + c"], scores["a - b + c"].argmax(1, keepdim=True)
    accuracy = _accuracy(without, wanted)
    low, high = wilson((ours.argmax(1) == wanted).sum(), len(questions))
    return Analogies(
        found=ours.argmax(1),
        rank=(ours > ours.gather(1, wanted[:, None])).sum(1),
        accuracy=accuracy,
        interval=(float(low), float(high)),
        kept_in=_accuracy(scores, wanted),
        echo=float((nearest == questions[:, :3]).any(1).double().mean()),
    )


def additivity(
    whole: Float[Tensor, "n d"], first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """Return the error of adding, row by row; its control is the same with `second` in another order.

    Raises:
        ValueError: shapes that differ, or a whole that is zero.
        NonFiniteError: NaN or infinity.
    """
    if not whole.shape == first.shape == second.shape or whole.ndim != 2:  # noqa: PLR2004
        raise ValueError(
            f"got {tuple(whole.shape)}, {tuple(first.shape)}, {tuple(second.shape)}; expected three of one shape (n, d)"
        )
    for name, rows in {"wholes": whole, "first parts": first, "second parts": second}.items():
        require_finite(rows, f"the {name}")
    size = whole.double().norm(dim=1)
    if bool((size == 0).any()):
        raise ValueError(f"got a whole of length zero, row {int((size == 0).nonzero()[0])}; expected some length")
    return (whole.double() - first.double() - second.double()).norm(dim=1) / size


def _accuracy(scores: Mapping[str, Tensor], wanted: Tensor) -> dict[str, float]:
    return {name: float((score.argmax(1) == wanted).double().mean()) for name, score in scores.items()}


def _check(vectors: Tensor, questions: Tensor) -> None:
    if vectors.ndim != 2 or questions.ndim != 2 or questions.shape[1] != 4 or not len(questions):  # noqa: PLR2004
        raise ValueError(
            f"got vectors {tuple(vectors.shape)} and questions {tuple(questions.shape)}; expected (n, d) and (q, 4): "
            "places of a, b, c and the answer"
        )
    if int(questions.min()) < 0 or int(questions.max()) >= len(vectors):
        raise ValueError(
            f"got place {int(questions.max())} of {len(vectors)} vectors; expected 0 to {len(vectors) - 1}"
        )
    own = (questions[:, 3:] == questions[:, :3]).any(1)
    if bool(own.any()):
        raise ValueError(
            f"got question {int(own.nonzero()[0])} whose answer is one of its inputs; expected another, for the inputs "
            "are left out; drop such questions"
        )
    require_finite(vectors, "the vectors")
    still = (vectors == 0).all(1)
    if bool(still.any()):
        raise ValueError(f"got vector {int(still.nonzero()[0])} of zeros; expected some length; drop it")

r"""AlphaEdit: rewrite facts inside the null space of what must stay, batch after batch.

With :math:`P` the projector on the directions that a map's usual inputs hardly use, keys :math:`K`, keys :math:`K_p` of
the facts written before and shares of the residual :math:`R` as in `spread`, the change is

.. math:: \Delta = X^T, \qquad \bigl(P (K K^T + K_p K_p^T) + \lambda I\bigr) X = P K R^T .

`X` lies in the range of `P`, so with :math:`A = P [K\; K_p]` and the first `n` columns :math:`E` of an identity

.. math:: \Delta = R\, E^T (A^T A + \lambda I)^{-1} A^T :

a system of size `n + p`, and the factors of a rank-`n` edit. The usual inputs feel no more than
:math:`E\|\Delta x\|^2 \le \|\Delta\|_2^2 \cdot \text{dropped energy}`.

Two thresholds of the published method do not carry over between models, and are relative here. The protected directions
are those of the largest eigenvalues that hold the share `energy` of the trace of `C` (published: singular values above
0.02). :math:`\lambda` is `ridge` times the mean squared norm of usual inputs (published: 10): a key that sticks out of
the protected space by less takes little over.

Earlier keys are not stored but read again, from the facts named in the manifests of the `previous` edits, in the
network as it is now: editing a layer moves the keys of later ones, and `n` facts are smaller than a `d_k` by `d_k` sum.

Reference: Fang et al. 2025, AlphaEdit, equation 14. Cost: an eigendecomposition a layer once a `Moments`, then
`2 q (n + p) d_k + (n + p)^2 d_k`, with `q` the smaller of the dimensions of the null space and of its complement.
Memory: `q d_k` float64 numbers a layer.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.facts import Fact
from mnemotrace.core.edit import Edit
from mnemotrace.core.linalg import spectrum
from mnemotrace.core.progress import Progress
from mnemotrace.modification.contexts import Contexts, Lookup
from mnemotrace.modification.memit import CLAMP, LEARNING_RATE, STEPS, WEIGHT_DECAY, drawn, require_positive, wanted
from mnemotrace.modification.spread import check_facts, checked_sites, facts_of, manifest_of, spread
from mnemotrace.modification.values import Values
from mnemotrace.stats.moments import Moments, Statistics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KNOWN: "MutableMapping[Moments, dict[float, NullSpace]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The directions that usual inputs hardly use, or their complement, whichever are fewer.

    Attributes:
        vectors: `(d, q)` orthonormal, float64.
        inside: whether they span the null space, and not its complement.
        dimension: of the null space.
        dropped: share of the trace of `C` that lies in it.
        scale: the trace of `C`: mean squared norm of the inputs.
    """

    vectors: Float[Tensor, "d q"]
    inside: bool
    dimension: int
    dropped: float
    scale: float

    @classmethod
    def of(cls, moments: Moments, *, energy: float) -> "NullSpace":
        """Split the directions of a map's inputs; the same moments and energy are split once.

        Args:
            moments: of the inputs.
            energy: share of the trace in [0, 1) that is protected; 0 protects nothing.

        Raises:
            ValueError: a share out of range.
            NonFiniteError: NaN or infinity in the moment.
        """
        if not 0 <= energy < 1:
            raise ValueError(f"got energy={energy}; expected a share in [0, 1); 0.98 protects most of what inputs use")
        known = _KNOWN.setdefault(moments, {})
        if energy not in known:
            known[energy] = cls._split(moments, energy)
        return known[energy]

    @classmethod
    def _split(cls, moments: Moments, energy: float) -> "NullSpace":
        found = spectrum(moments.mean())
        share = found.values.cumsum(0) / found.values.sum()
        protected = int((share < energy).sum()) + 1 if energy > 0 else 0
        dimension = moments.d - protected
        inside = dimension < protected
        vectors = found.vectors[:, protected:] if inside else found.vectors[:, :protected]
        dropped = float(1 - share[protected - 1]) if protected else 1.0
        return cls(vectors.clone(), inside, dimension, dropped, float(found.values.sum()))

    def project(self, keys: Float[Tensor, "d n"]) -> Float[Tensor, "d n"]:
        """Return the part of the keys inside the null space, float64."""
        keys = keys.to(self.vectors)
        part = self.vectors @ (self.vectors.T @ keys)
        return part if self.inside else keys - part

    def update(
        self,
        residual: Float[Tensor, "o n"],
        keys: Float[Tensor, "d n"],
        earlier: Float[Tensor, "d p"],
        *,
        ridge: float,
    ) -> tuple[Float[Tensor, "o n"], Float[Tensor, "n d"]]:
        """Solve for the change that gives `residual` at `keys` and nothing at `earlier` ones.

        Args:
            residual: wanted change of the map's output at each key.
            keys: inputs of the map.
            earlier: keys of facts that were written before; none is `(d, 0)`.
            ridge: above 0, in units of the mean squared norm of usual inputs.

        Returns:
            Factors whose product is the change, float64.
        """
        n = keys.shape[1]
        inside = self.project(torch.cat([keys, earlier], 1))
        gram = inside.T @ inside
        gram = (gram + gram.T) / 2
        gram.diagonal().add_(ridge * self.scale)
        solved = torch.cholesky_solve(torch.eye(len(gram), n).to(gram), torch.linalg.cholesky(gram))
        return residual.to(gram), (inside @ solved).T


def alphaedit(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layers: Sequence[int],
    statistics: Statistics,
    lookup: Lookup = "subject",
    energy: float = 0.98,
    ridge: float = 0.01,
    previous: Sequence[Edit] = (),
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    clamp: float = CLAMP,
    found: Values | None = None,
    contexts: Contexts | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Edit:
    """Make the edit that writes facts where usual inputs and earlier edits do not feel it.

    Args:
        model: a causal language model with the previous edits in it; left as it was.
        tokenizer: of the model; a fast one.
        facts: with targets, each prompt once.
        layers: whose MLPs are changed, ascending; the last one is where the values are found.
        statistics: second moments at these MLPs' last maps, of the network as it is or as it was before all edits.
        lookup: where the model looks the facts up: at the last token of the `subject`, or of the `prompt`.
        energy: share of the inputs' mean square that is protected, in [0, 1): more protects more directions and leaves
            fewer for edits; 0 is ridge regression on the keys.
        ridge: above 0, in units of the mean squared norm of inputs: larger writes less, with smaller changes.
        previous: edits that are in the model already, whose facts are to stay as they are now.
        steps: of the values' optimisation, at most.
        learning_rate: of the same, in units of the hidden state's norm.
        weight_decay: on the change of a hidden state, in units of its norm.
        clamp: most change of a hidden state, in units of its norm.
        found: values from `modification.values(..., layer=layers[-1], at="block")`, when they were found before.
        contexts: that keys and values are averaged over; None samples five of ten tokens.
        generator: source of randomness of these; None seeds one with 0.
        progress: called with facts while values are found, then with layers.

    Returns:
        The edit, one low-rank change a layer. Its manifest says what `mt.memit` says, and for each site the dimension
        of the null space (`kept`) and the share of energy that lies in it (`dropped`).

    Raises:
        ValueError: facts, layers, statistics, previous edits or settings that do not fit; see the messages.
        TypeError: the network cannot be run in parts.
        SelectionError: a map is quantised, computed by a parametrisation, or shares its weight with another.
        NonFiniteError: NaN or infinity on the way.
    """
    check_facts(facts)
    require_positive("ridge", ridge)
    sites = checked_sites(model, layers, statistics, previous)
    spaces = {site.name: NullSpace.of(statistics[site.name], energy=energy) for site in sites.values()}
    asked = {fact.prompt for fact in facts}
    earlier = [fact for fact in facts_of(previous) if fact.prompt not in asked]
    contexts = drawn(model, tokenizer, contexts, generator)
    descent = {"steps": steps, "learning_rate": learning_rate, "weight_decay": weight_decay, "clamp": clamp}
    where = {"layer": max(sites), "lookup": lookup, "contexts": contexts}
    found = wanted(found, model, tokenizer, facts, **where, **descent, progress=progress)

    def solve(moments: Moments, residual: Tensor, columns: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return NullSpace.of(moments, energy=energy).update(residual, columns, before, ridge=ridge)

    changes, came = spread(
        model,
        tokenizer,
        facts,
        solve,
        sites=sites,
        statistics=statistics,
        found=found,
        contexts=contexts,
        lookup=lookup,
        earlier=earlier,
        progress=progress,
    )
    manifest = manifest_of(model, facts, method="alphaedit", found=found, contexts=contexts, changes=changes, came=came)
    report = {name: {"kept": space.dimension, "dropped": space.dropped} for name, space in spaces.items()}
    settings = {
        "layers": list(sites),
        "lookup": lookup,
        "energy": energy,
        "ridge": ridge,
        "earlier": len(earlier),
        "null_space": report,
    }
    return Edit(changes, manifest | settings)

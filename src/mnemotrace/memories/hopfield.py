r"""The Hopfield network: states in {-1, 1}, symmetric couplings, an energy that each single update lowers.

.. math:: u(x) = -\tfrac12 x^T W x - b^T x, \qquad x_j \leftarrow \mathrm{sign}\Big(\sum_k W_{jk} x_k + b_j\Big),

with :math:`W = W^T` and :math:`W_{jj} = 0`. The energy is often printed with the sign turned; under the update it would
then only rise. Updating features one at a time, as is done here by default, never raises it. Updating all at once may,
and can end in a cycle of length two. A field of zero leaves the feature as it is, and so does one that is zero up to
rounding: otherwise a tie would be decided by the order of a sum.

A feature that a cue leaves open is 0; the guarantee holds for states within [-1, 1].

Reference: Hopfield 1982; Ambrogioni 2024, equations 1 to 3. Cost: a sweep takes O(d) a feature and state, O(b d^2)
together; `d^2` numbers, and the patterns, which are kept so that they can be removed: an
edit forms the couplings anew, when they are next needed.
"""

import math
import warnings
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.binary import order_of, require_binary, sign_or_keep
from mnemotrace.memories.patterns import Kept, Patterns, store_of
from mnemotrace.memories.rules import hebb, pseudo_inverse, storkey

Rule = Literal["hebb", "storkey", "pseudo-inverse"]
Order = Literal["asynchronous", "synchronous"]
_RULES, _ORDERS = ("hebb", "storkey", "pseudo-inverse"), ("asynchronous", "synchronous")


class Hopfield(nn.Module):
    """Couplings and a bias, from patterns or given.

    Attributes:
        bias: `(d,)`.
        patterns: the store, by which the network is edited; may be shared with another memory. None where the
            couplings are given.
        rule: how the couplings follow from them.
        order: of updates.
    """

    bias: Tensor
    given: Tensor | None
    kind = "hopfield"

    def __init__(
        self,
        patterns: Patterns | Float[Tensor, "n d"] | None = None,
        *,
        rule: Rule = "hebb",
        weights: Float[Tensor, " n"] | None = None,
        couplings: Float[Tensor, "d d"] | None = None,
        bias: Float[Tensor, " d"] | None = None,
        order: Order = "asynchronous",
    ) -> None:
        """Store patterns, or take couplings as they are.

        Args:
            patterns: entries -1 and 1, one pattern a row; or a store of such, which is then shared and not copied.
            rule: `"hebb"`, `"storkey"` or `"pseudo-inverse"`; see `memories.rules`.
            weights: how often each pattern counts, for Hebb's rule; None counts each once.
            couplings: instead of patterns.
            bias: pulls features towards its sign; None is zero.
            order: `"asynchronous"` updates one feature at a time; `"synchronous"` all at once, without the guarantee.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: patterns with other entries, couplings that are not symmetric with zero diagonal, both or
                neither of them, weights with another rule, or another name of a rule or order.
            NonFiniteError: NaN or infinity.

        Warns:
            NumericalWarning: the order is synchronous, or a pseudo-inverse has nothing to separate.
        """
        super().__init__()
        if (patterns is None) == (couplings is None):
            raise ValueError(f"got {'neither' if patterns is None else 'both'}; expected patterns or couplings")
        for name, value, names in (("rule", rule, _RULES), ("order", order, _ORDERS)):
            if value not in names:
                raise ValueError(f"got {name}={value!r}; expected one of {', '.join(names)}")
        self.rule: Rule = rule
        self.order: Order = order
        self.patterns = None if patterns is None else store_of(patterns, weights)
        self._formed: Kept[Tensor] = Kept()
        self.register_buffer("given", None if couplings is None else _checked(couplings))
        self.register_buffer("bias", _bias(bias, self.couplings))
        if order == "synchronous":
            warnings.warn(
                "synchronous updates can raise the energy and end in cycles of length 2, which recall reports",
                NumericalWarning,
                stacklevel=2,
            )

    @property
    def couplings(self) -> Float[Tensor, "d d"]:
        """Symmetric, with zero diagonal; formed anew when the store has changed.

        Raises:
            ValueError: the store has rows with other entries than -1 and 1, or weights with another rule than Hebb's.
        """
        if self.given is not None:
            return self.given
        store = self.patterns
        assert store is not None
        return self._formed.get(lambda: self._form(store), store.values, store.weights)

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.bias)

    def __len__(self) -> int:
        """Count stored patterns; 0 for given couplings."""
        return 0 if self.patterns is None else len(self.patterns)

    def field(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return what each feature is pulled by, `W x + b`: minus the gradient of the energy."""
        return states_of(x, self.d, "states").to(self.couplings) @ self.couplings + self.bias

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the energy of states.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        x = states_of(x, self.d, "states").to(self.couplings)
        return -0.5 * ((x @ self.couplings) * x).sum(1) - x @ self.bias

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b d"]:
        """Update every feature once; see `core.memory.Memory.sweep`. The order is one for all states of a batch.

        Raises:
            TypeError: states that are no floating-point tensor, or a mask that is not boolean.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        x = states_of(x, self.d, "states").to(self.couplings)
        held = known_of(known, x)
        slack = 4 * torch.finfo(x.dtype).eps * math.sqrt(self.d) * (self.couplings.abs().sum(1) + self.bias.abs())
        fields = x @ self.couplings + self.bias
        if self.order == "synchronous":
            new = sign_or_keep(fields, x, slack)
            return new if held is None else torch.where(held, x, new)
        # a feature a row, so that one feature of all states lies together
        x, fields = x.T.clone(), fields.T.contiguous()
        for j in order_of(self.d, held, generator):
            new = sign_or_keep(fields[j], x[j], slack[j])
            new = new if held is None else torch.where(held[:, j], x[j], new)
            change = new - x[j]
            if bool(change.any()):
                fields.addr_(self.couplings[j], change)
                x[j] = new
        return x.T.contiguous()

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {"bias": self.bias}
        tensors |= {"couplings": self.couplings} if self.patterns is None else self.patterns.pack().tensors
        return Artifact(self.kind, {"rule": self.rule, "order": self.order}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Hopfield":
        """Rebuild from an artifact, forming the couplings anew; a synchronous network warns again."""
        tensors = artifact.tensors
        if "values" in tensors:
            return cls(Patterns.unpack(artifact), bias=tensors["bias"], **artifact.header)
        return cls(couplings=tensors["couplings"], bias=tensors["bias"], **artifact.header)

    def _form(self, store: Patterns) -> Tensor:
        rows = require_binary(store.values)
        if self.rule == "hebb":
            return hebb(rows, weights=store.weights)
        if store.log_weights is not None:
            raise ValueError(f"got weights with rule={self.rule!r}; expected none; only Hebb's rule is a weighted sum")
        return storkey(rows) if self.rule == "storkey" else pseudo_inverse(rows)[0]


def _checked(couplings: Any) -> Tensor:
    if not isinstance(couplings, Tensor) or couplings.ndim != 2 or couplings.shape[0] != couplings.shape[1]:
        shape = tuple(couplings.shape) if isinstance(couplings, Tensor) else type(couplings).__name__
        raise ValueError(f"got couplings {shape}; expected a tensor of shape (d, d)")
    rows = states_of(couplings, couplings.shape[1], "couplings").detach()
    unequal = float((rows - rows.T).abs().max())
    diagonal = float(rows.diagonal().abs().max())
    if unequal > 1e-6 * float(rows.abs().max()) or diagonal > 0:
        raise ValueError(
            f"got couplings that differ from their transpose by up to {unequal:.3g}, with up to {diagonal:.3g} on the "
            "diagonal; expected symmetric ones with zero diagonal, without which the energy may rise"
        )
    return (rows + rows.T) / 2


def _bias(bias: Any, couplings: Tensor) -> Tensor:
    if bias is None:
        return couplings.new_zeros(len(couplings))
    if not isinstance(bias, Tensor) or bias.shape != (len(couplings),):
        shape = tuple(bias.shape) if isinstance(bias, Tensor) else type(bias).__name__
        raise ValueError(f"got bias {shape}; expected a tensor of shape ({len(couplings)},), one number a feature")
    require_finite(bias, "the bias")
    return bias.detach().to(couplings)

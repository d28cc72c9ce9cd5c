r"""The Hopfield network: states in {-1, 1}, symmetric couplings, an energy that each single update lowers.

.. math:: u(x) = -\tfrac12 x^T W x - b^T x, \qquad x_j \leftarrow \mathrm{sign}\Big(\sum_k W_{jk} x_k + b_j\Big),

with :math:`W = W^T` and :math:`W_{jj} = 0`. The energy is often printed with the sign turned; under the update it would
then only rise. Updating features one at a time, as is done here by default, never raises it. Updating all at once may,
and can end in a cycle of length two. A field of zero leaves the feature as it is, and so does one that is zero up to
rounding: otherwise a tie would be decided by the order of a sum.

A feature that a cue leaves open is 0; the guarantee holds for states within [-1, 1].

Reference: Hopfield 1982; Ambrogioni 2024, equations 1 to 3. Cost: a sweep takes O(d) a feature and state, O(b d^2)
together; `d^2` numbers, and the patterns, which are kept so that they can be removed.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.binary import order_of, require_binary, sign_or_keep
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.rules import hebb, pseudo_inverse, storkey

Rule = Literal["hebb", "storkey", "pseudo-inverse"]
Order = Literal["asynchronous", "synchronous"]
_RULES, _ORDERS = ("hebb", "storkey", "pseudo-inverse"), ("asynchronous", "synchronous")


class Hopfield(nn.Module):
    """Couplings and a bias, from patterns or given.

    Attributes:
        couplings: `(d, d)`, symmetric with zero diagonal.
        bias: `(d,)`.
        patterns: the store; None for given couplings.
        rule: how the couplings follow from them.
        order: of updates.
    """

    couplings: Tensor
    bias: Tensor
    kind = "hopfield"

    def __init__(
        self,
        patterns: Float[Tensor, "n d"] | None = None,
        *,
        rule: Rule = "hebb",
        weights: Float[Tensor, " n"] | None = None,
        couplings: Float[Tensor, "d d"] | None = None,
        bias: Float[Tensor, " d"] | None = None,
        order: Order = "asynchronous",
    ) -> None:
        """Store patterns, or take couplings as they are.

        Args:
            patterns: entries -1 and 1, one pattern a row.
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
        self.patterns = None if patterns is None else Patterns(require_binary(patterns), weights=weights)
        formed = _checked(couplings) if self.patterns is None else self._formed(self.patterns)
        self.register_buffer("couplings", formed)
        self.register_buffer("bias", _bias(bias, formed))
        if order == "synchronous":
            warnings.warn(
                "synchronous updates can raise the energy and end in cycles of length 2, which recall reports",
                NumericalWarning,
                stacklevel=2,
            )

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.couplings)

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

    def add(self, patterns: Float[Tensor, "*m d"], *, weight: Any = 1.0) -> list[int]:
        """Store further patterns; returns their handles.

        Args:
            patterns: `(d,)` or `(m, d)`, entries -1 and 1.
            weight: of each, a number or `(m,)`; other than 1 for Hebb's rule only.

        Raises:
            ValueError: other entries or another width, or a network of given couplings.
        """
        store = self._editable()
        rows = require_binary(states_of(patterns, self.d, "patterns"))
        self._require_equal(torch.as_tensor(weight))
        handles = store.add(rows, weight=weight)
        self._form()
        return handles

    def remove(self, handles: int | Sequence[int]) -> None:
        """Forget patterns, as if they had never been stored.

        Raises:
            KeyError: a handle that is not here.
            ValueError: nothing would be left, or a network of given couplings.
        """
        self._editable().remove(handles)
        self._form()

    def reweight(self, handles: int | Sequence[int], weight: Any) -> None:
        """Let patterns count more or less, with Hebb's rule.

        Raises:
            KeyError: a handle that is not here.
            ValueError: a weight that is not above 0, another rule, or a network of given couplings.
        """
        store = self._editable()
        self._require_equal(torch.as_tensor(weight))
        store.reweight(handles, weight)
        self._form()

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {"couplings": self.couplings, "bias": self.bias}
        stored = {} if self.patterns is None else self.patterns.pack().tensors
        return Artifact(self.kind, {"rule": self.rule, "order": self.order}, {**tensors, **stored})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Hopfield":
        """Rebuild from an artifact; a synchronous network warns again."""
        tensors = artifact.tensors
        found = cls(couplings=tensors["couplings"], bias=tensors["bias"], **artifact.header)
        found.patterns = Patterns.unpack(artifact) if "values" in tensors else None
        return found

    def _form(self) -> None:
        self.couplings = self._formed(self._editable())

    def _formed(self, store: Patterns) -> Tensor:
        if self.rule == "hebb":
            return hebb(store.values, weights=store.weights)
        self._require_equal(store.weights)
        return storkey(store.values) if self.rule == "storkey" else pseudo_inverse(store.values)[0]

    def _require_equal(self, weights: Tensor) -> None:
        if self.rule != "hebb" and not bool((weights == 1).all()):
            raise ValueError(f"got weights with rule={self.rule!r}; expected none; only Hebb's rule is a weighted sum")

    def _editable(self) -> Patterns:
        if self.patterns is None:
            raise ValueError(
                "got an edit of a network with given couplings, which keeps no patterns; expected one that was made "
                "from patterns; add an outer product to the couplings yourself"
            )
        return self.patterns


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

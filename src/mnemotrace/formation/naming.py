r"""Name things once seen: a name is bound to features by one example, and recalled both ways.

Whatever gives features will do: a spiking hierarchy (`events` of its potentials are what the published rule learns
from), the penultimate layer of a trained network, or anything else. `synapses` has the rules; a novelty gain
multiplies the rate of the published one, and is the weight of an example in the others.

With unlabelled features, their mean :math:`m` is the background, and names are scored on what differs from it,

.. math:: s_c = (x - m) \cdot C_c

for then no name wins because its synapses are strong everywhere. On the published task this helps more than any choice
of rule: one-shot accuracy on events goes from 0.75 to 0.84 by prototypes, and from 0.72 to 0.84 by log-odds and by the
published rule. The default is the prototype; no Hebbian rule here has beaten it on equal features.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import states_of
from mnemotrace.formation.gain import Constant, Familiarity, Gain, pack_gain, unpack_gain
from mnemotrace.formation.synapses import born, cosines, log_odds, potentiate, regression, require_events

Name = str | int
Rule = Literal["prototype", "hebb_logodds", "reference", "reference_fixed", "ridge"]
_TENSORS = ("background", "weight", "sums", "maps", "rows", "labels", "row_weight")


class Namer:
    """Names bound to features, one example at a time.

    Args:
        rule: `prototype` (cosine with the mean example), `hebb_logodds`, `reference` (as published, with its defect),
            `reference_fixed`, or `ridge`.
        gain: of novelty; None is 1 for every example.
        unlabelled: `(n, d)` features of other things, without names; their mean is the background.
        threshold: above which a feature is active; for `hebb_logodds`.

    Attributes:
        names: those that are known, in the order of the columns of `name`.
        examples: how many each has had.

    Raises:
        ValueError: an unknown rule, a threshold that the rule has no use for, or unlabelled features of another
            shape.
    """

    kind = "namer"

    def __init__(
        self,
        *,
        rule: Rule = "prototype",
        gain: Gain | None = None,
        unlabelled: Float[Tensor, "n d"] | None = None,
        threshold: float = 0.0,
    ) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"got rule={rule!r}; expected one of {', '.join(get_args(Rule))}")
        if threshold != 0 and rule != "hebb_logodds":
            raise ValueError(f"got threshold={threshold} for rule={rule!r}; expected 0: only hebb_logodds uses one")
        self.rule: Rule = rule
        self.gain: Gain = Constant() if gain is None else gain
        self.threshold = threshold
        self.names: tuple[Name, ...] = ()
        self.examples: tuple[int, ...] = ()
        self.background = self.weight = self.sums = self.maps = self.rows = self.labels = self.row_weight = cast(
            "Tensor | None", None
        )
        if unlabelled is not None:
            self.background = self._seen(self._checked(unlabelled)).mean(0)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.names)

    def __repr__(self) -> str:
        """Say how many names there are, and by which rule."""
        return f"Namer({len(self)} names from {sum(self.examples)} examples, rule={self.rule!r})"

    @property
    def d(self) -> int | None:
        """Number of features; None before the first example, if there are no unlabelled ones."""
        known = self.background if self.sums is None else self.sums
        return None if known is None else known.shape[-1]

    def learn(
        self,
        features: Float[Tensor, "b d"] | Float[Tensor, " d"],
        names: Name | Sequence[Name] | Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Learn examples, in their order; names that are new become known first.

        Args:
            features: one row an example; of events (see `synapses.events`) for the reference rules.
            names: one a row, strings or whole numbers.
            generator: of the spread of new synapses under the reference rules; None starts all alike.

        Raises:
            TypeError: features that are no floating-point tensor, or names of another type.
            ValueError: another width or number of names, or no events under a reference rule.
            NonFiniteError: NaN or infinity.
        """
        x = self._checked(features)
        given = _names_of(names, len(x))
        if self._published:
            require_events(x)
        self._meet(given, x, generator)
        for row, name in zip(self._seen(x), given, strict=True):
            self._learn_one(row, self.names.index(name))

    def name(self, features: Float[Tensor, "b d"] | Float[Tensor, " d"]) -> Float[Tensor, "b k"]:
        """Score every name for every row; the columns are `names`.

        Returns:
            Cosines (`prototype`), regressions of 0 and 1 (`ridge`), or sums of the synapses of what is active.

        Raises:
            ValueError: nothing has been learnt, or another width.
            NonFiniteError: NaN or infinity.
        """
        self._require_names()
        x = self._checked(features)
        seen = self._beyond(self._seen(x))
        return cosines(seen, self._maps()) if self.rule == "prototype" else seen @ self._maps().T

    def best(self, features: Float[Tensor, "b d"] | Float[Tensor, " d"]) -> tuple[Name, ...]:
        """Return the name with the highest score of each row; of equal ones, the first that was learnt."""
        return tuple(self.names[i] for i in self.name(features).argmax(1).tolist())

    def recall(self, name: Name) -> Float[Tensor, " d"]:
        """Return the features that a name calls, back along its synapses.

        These are the synapses themselves for the Hebbian rules, and the mean example for `prototype` and `ridge`
        (the regression of features on names).

        Raises:
            ValueError: the name was never learnt.
        """
        self._require_names()
        if name not in self.names or isinstance(name, bool):
            known = ", ".join(repr(n) for n in self.names[:8]) + (", ..." if len(self) > 8 else "")
            raise ValueError(f"got the name {name!r}; expected one that was learnt: {known}; learn an example of it")
        row = self.names.index(name)
        if self.rule in ("prototype", "ridge"):
            return self._means()[row]
        return self._maps()[row].clone()

    def pack(self) -> Artifact:
        """Turn into an artifact.

        Raises:
            TypeError: a gain that is not one of ours.
        """
        header = {"rule": self.rule, "gain": pack_gain(self.gain), "threshold": self.threshold}
        header |= {"names": list(self.names), "examples": list(self.examples)}
        held = {name: getattr(self, name) for name in _TENSORS}
        return Artifact(self.kind, header, {name: tensor for name, tensor in held.items() if tensor is not None})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Namer":
        """Rebuild from an artifact."""
        header = artifact.header
        namer = cls(rule=header["rule"], gain=unpack_gain(header["gain"]), threshold=header["threshold"])
        namer.names, namer.examples = tuple(header["names"]), tuple(header["examples"])
        for name, tensor in artifact.tensors.items():
            setattr(namer, name, tensor)
        return namer

    @property
    def _published(self) -> bool:
        return self.rule in ("reference", "reference_fixed")

    def _learn_one(self, seen: Tensor, row: int) -> None:
        sums, weight = self._held("sums"), self._held("weight")
        cosine = float(cosines(seen[None], sums).max())
        gain = self.gain(Familiarity(sum(self.examples), self.examples[row], cosine))
        if self._published:
            self.maps = potentiate(self._held("maps"), row, seen, gain=gain, fixed=self.rule == "reference_fixed")
        if self.rule == "ridge":
            self.rows = torch.cat([self._held("rows"), self._beyond(seen)[None]])
            self.labels = torch.cat([self._held("labels"), torch.tensor([row], device=seen.device)])
            self.row_weight = torch.cat([self._held("row_weight"), seen.new_tensor([gain])])
            self.maps = None
        sums[row] += gain * seen
        weight[row] += gain
        self.examples = (*self.examples[:row], self.examples[row] + 1, *self.examples[row + 1 :])

    def _meet(self, given: Sequence[Name], x: Tensor, generator: torch.Generator | None) -> None:
        """Make room for names that are new."""
        if self.sums is None:
            self.sums, self.weight = x.new_zeros(0, x.shape[1]), x.new_zeros(0)
            self.maps = x.new_zeros(0, x.shape[1]) if self._published else None
        if self.rule == "ridge" and self.rows is None:
            self.rows, self.row_weight = x.new_zeros(0, x.shape[1]), x.new_zeros(0)
            self.labels = torch.zeros(0, dtype=torch.long, device=x.device)
        for name in given:
            if name in self.names:
                continue
            self.names, self.examples = (*self.names, name), (*self.examples, 0)
            self.sums = torch.cat([self._held("sums"), x.new_zeros(1, x.shape[1])])
            self.weight = torch.cat([self._held("weight"), x.new_zeros(1)])
            if self._published:
                self.maps = torch.cat([self._held("maps"), born(x.shape[1], x, generator)[None]])

    def _maps(self) -> Tensor:
        """Return `(k, d)`, what is compared with features."""
        if self.rule == "hebb_logodds":
            return log_odds(self._held("sums"), self._held("weight"))
        if self.rule == "ridge" and self.maps is None:
            self.maps = regression(self._held("rows"), self._held("labels"), self._held("row_weight"), len(self))
        if self.rule == "prototype":
            return self._beyond(self._means())
        return self._held("maps")

    def _means(self) -> Tensor:
        """Return `(k, d)` mean examples; 0 for a name all of whose examples had no gain."""
        weight = self._held("weight")
        return self._held("sums") / weight.clamp_min(torch.finfo(weight.dtype).tiny)[:, None]

    def _seen(self, x: Tensor) -> Tensor:
        """Return what the rule learns from: which features are active, or features as they are."""
        return (x > self.threshold).to(x) if self.rule == "hebb_logodds" else x

    def _beyond(self, seen: Tensor) -> Tensor:
        return seen if self.background is None else seen - self.background.to(seen)

    def _held(self, name: str) -> Tensor:
        held = getattr(self, name)
        assert held is not None, name
        return held

    def _require_names(self) -> None:
        if not self.names:
            raise ValueError("got a namer that has learnt nothing; expected at least one name; call learn first")

    def _checked(self, features: Any) -> Tensor:
        d = self.d or (features.shape[-1] if isinstance(features, Tensor) and features.ndim else 1)
        x = states_of(features, d, "features").detach()
        return x if self.sums is None else x.to(self.sums)


def name_once(
    features: Float[Tensor, "k d"],
    names: Sequence[Name] | Tensor,
    *,
    rule: Rule = "prototype",
    unlabelled: Float[Tensor, "n d"] | None = None,
    gain: Gain | None = None,
    threshold: float = 0.0,
    generator: torch.Generator | None = None,
) -> Namer:
    """Bind each name to features by one example.

    Args:
        features: one row a name, from any network: `hierarchy.features(images)`, or a layer of yours.
        names: strings or whole numbers, each once.
        rule: as in `Namer`.
        unlabelled: features of other things, without names: what they have in common says nothing about a name. It
            helps more than any choice of rule.
        gain: of novelty.
        threshold: of an active feature, for `hebb_logodds`.
        generator: of the spread of new synapses under the reference rules.

    Returns:
        Namer, which learns more examples by `learn`.

    Raises:
        TypeError: features that are no floating-point tensor, or names of another type.
        ValueError: a name that comes twice, or anything that `Namer` refuses.
        NonFiniteError: NaN or infinity.
    """
    given = _names_of(names, len(features) if isinstance(features, Tensor) and features.ndim > 1 else 1)
    twice = sorted({repr(name) for name in given if given.count(name) > 1})
    if twice:
        raise ValueError(
            f"got {', '.join(twice[:4])} more than once; expected one example a name; for more, call Namer.learn"
        )
    namer = Namer(rule=rule, gain=gain, unlabelled=unlabelled, threshold=threshold)
    namer.learn(features, names, generator=generator)
    return namer


def _names_of(names: Any, b: int) -> tuple[Name, ...]:
    listed = names.tolist() if isinstance(names, Tensor) else names
    listed = [listed] if isinstance(listed, str | Integral) else list(listed)
    wrong = next((n for n in listed if isinstance(n, bool) or not isinstance(n, str | Integral)), None)
    if wrong is not None:
        raise TypeError(f"got a name {wrong!r} of type {type(wrong).__name__}; expected strings or whole numbers")
    if len(listed) != b:
        raise ValueError(f"got {len(listed)} names for {b} rows of features; expected one a row")
    return tuple(name if isinstance(name, str) else int(name) for name in listed)

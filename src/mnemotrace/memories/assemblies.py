r"""Assemblies: a concept is a set of neurons; concepts that belong together share some, and one brings up the other.

Each of `p` concepts has `K` of `N` neurons, :math:`\xi^\mu \in \{0, 1\}^N`, `a = K / N`. Couplings are one of

.. math:: W = \frac{1}{N a (1 - a)} \sum_\mu (\xi^\mu - a)(\xi^\mu - a)^T, \qquad
          W_{ij} = \frac{1}{K} \max_\mu \xi^\mu_i \xi^\mu_j,

the covariance rule and Willshaw's. Inhibition lets the `K` strongest fire, and who has fired is tired for a while:

.. math:: h = W x - f, \qquad x \leftarrow \mathrm{kWTA}(h, K), \qquad f \leftarrow 0.8 f + 0.6 x.

With `f = 0` this is completion. An associate comes up when inhibition is lowered (`2 K` may fire) or when the concept
tires. At rest a concept drives its own members by 1 and those of an associate with overlap `c` by about `c - a`.

Covariance couplings are positive semidefinite, so :math:`u(x) = -\tfrac12 x^T W x` is concave, and the `K` strongest
maximise :math:`y^T W x` over all states `y` with `K` active: hence :math:`y^T W y \ge 2 y^T W x - x^T W x \ge x^T W x`.
A pass never raises the energy of a state with `K` active, although all neurons go at once. Willshaw's couplings are not
semidefinite and have no such promise; nor has a tired network.

Reference: Willshaw, Buneman and Longuet-Higgins 1969; Tsodyks and Feigelman 1988; Gastaldi, Schwalger, De Falco,
Quiroga and Gerstner 2021. Cost: a pass O(p N) a state for covariance couplings, which are never formed while `p < N`;
O(N^2) otherwise. Memory: `p N`, or `N^2`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.overlapping import draw_members, responsive_members, standardised
from mnemotrace.memories.patterns import Kept

Rule = Literal["covariance", "willshaw"]
By = Literal["inhibition", "fatigue"]
DECAY, GAIN = 0.8, 0.6
HALF = 0.5


@dataclass(frozen=True, eq=False)
class Activity:
    """Where recall ended.

    Attributes:
        state: `(b, N)`, 1 where a neuron fires.
        overlap: `(b, p)` share of each concept's members that fire.
        steps: `(b,)` passes that were run.
        converged: `(b,)`: another pass would change nothing; by fatigue, that the concept has changed.
    """

    state: Float[Tensor, "b N"]
    overlap: Float[Tensor, "b p"]
    steps: Int[Tensor, " b"]
    converged: Bool[Tensor, " b"]


class Assemblies(nn.Module):
    """Concepts as overlapping sets of neurons, and the couplings that they leave.

    Attributes:
        members: `(p, N)`, 1 for a member.
        traces: `(n, N)` what the couplings were learned from, where that is not the members.
        names: one a concept.
        rule: `"covariance"` or `"willshaw"`.
        manifest: provenance.
    """

    members: Tensor
    traces: Tensor | None
    kind = "assemblies"

    def __init__(
        self,
        members: Float[Tensor, "p N"],
        *,
        names: Sequence[Hashable] = (),
        rule: Rule = "covariance",
        traces: Float[Tensor, "n N"] | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        """Take assemblies as they are; `from_overlaps` and `from_activations` make them.

        Args:
            members: 0 and 1, one concept a row, all of one size, at least one and fewer than all neurons.
            names: of the concepts, all different; numbers by default.
            rule: of the couplings; see above.
            traces: centred rows whose second moment is the couplings, instead of the members' own.
            manifest: provenance.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: other entries, sizes that differ, names that do not fit, an unknown rule, traces with
                Willshaw's rule or of another width.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        if rule not in ("covariance", "willshaw") or (rule == "willshaw" and traces is not None):
            extra = " with traces" if traces is not None else ""
            raise ValueError(f"got rule={rule!r}{extra}; expected covariance, or willshaw without traces")
        self.register_buffer("members", _checked(members))
        self.register_buffer("traces", None if traces is None else states_of(traces, self.d, "traces").detach())
        self.names = tuple(str(name) for name in (names or range(len(self.members))))
        if len(set(self.names)) != len(self.members):
            raise ValueError(f"got {len(set(self.names))} different names; expected {len(self.members)}, one a concept")
        self.rule: Rule = rule
        self.manifest = dict(manifest or {"method": "members", "version": library_version()})
        self._formed: Kept[Tensor] = Kept()

    @classmethod
    def from_overlaps(
        cls,
        graph: Any,
        *,
        neurons: int = 2000,
        size: int = 60,
        concepts: Sequence[Hashable] = (),
        rule: Rule = "covariance",
        generator: torch.Generator | None = None,
    ) -> "Assemblies":
        """Draw assemblies whose listed pairs share exactly what was asked; all others meet by chance.

        Args:
            graph: `{(a, b): overlap}`, or a networkx graph with `overlap` on its edges; the overlap is the share of
                members in common, 0 to 1, rounded to whole neurons.
            neurons: `N`.
            size: `K`; at 60 of 2000 (3 %) unrelated concepts share 3 % of their members by chance.
            concepts: further names, without listed overlaps.
            rule: of the couplings.
            generator: of the draw; None is seed 0.

        Raises:
            ValueError: an overlap outside 0 to 1, overlaps that cannot be had together, or too few neurons.
        """
        names, members = draw_members(graph, neurons=neurons, size=size, concepts=concepts, generator=generator)
        seed = 0 if generator is None else generator.initial_seed()
        manifest = {"method": "overlaps", "seed": seed, "version": library_version()}
        return cls(members, names=names, rule=rule, manifest=manifest)

    @classmethod
    def from_activations(
        cls,
        responses: Float[Tensor, "n N"],
        concepts: Int[Tensor, " n"],
        *,
        size: int,
        names: Sequence[Hashable] = (),
        learn: Literal["members", "responses"] = "members",
        rule: Rule = "covariance",
        manifest: Mapping[str, Any] | None = None,
    ) -> "Assemblies":
        """Find assemblies in a network's responses, such as those of `stats.responses`.

        Members of a concept are the `size` units whose standardised responses are largest on average over its stimuli.

        Args:
            responses: one stimulus a row, one unit a column.
            concepts: 0 to p - 1, of each stimulus.
            size: `K`, units a concept.
            names: of the concepts.
            learn: couplings from `"members"`, one binary pattern a concept, or from `"responses"`: the covariance of
                the standardised responses themselves, scaled to the same mean drive.
            rule: of the couplings; `"responses"` has the covariance only.
            manifest: provenance, such as `{"base": fingerprint(model), "site": name}`.

        Raises:
            TypeError: no floating-point responses, or concepts that are no integers.
            ValueError: widths that do not fit, a concept without stimuli, or fewer units that change than `size`.
            NonFiniteError: NaN or infinity.
        """
        if learn not in ("members", "responses"):
            raise ValueError(f"got learn={learn!r}; expected members or responses")
        members = responsive_members(responses, concepts, size)
        traces = standardised(responses).to(members) if learn == "responses" else None
        told = {"method": f"activations, {learn}", "version": library_version()} | dict(manifest or {})
        return cls(members, names=names, rule=rule, traces=traces, manifest=told)

    @property
    def d(self) -> int:
        """Number of neurons."""
        return self.members.shape[1]

    @property
    def size(self) -> int:
        """Members of a concept, `K`."""
        return int(self.members[0].sum())

    def __len__(self) -> int:
        """Count concepts."""
        return len(self.members)

    @property
    def overlaps(self) -> Float[Tensor, "p p"]:
        """Share of members that two concepts have in common; by chance it is `K / N`."""
        return self.members @ self.members.T / self.size

    def share(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b p"]:
        """Return the share of each concept's members that fire."""
        return x.to(self.members) @ self.members.T / self.size

    def field(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        """Return what each neuron is driven by, `W x`."""
        x = states_of(x, self.d, "states").to(self.members)
        factor = self._formed.get(self._form, self.members if self.traces is None else self.traces)
        return x @ factor if self._is_square(factor) else x @ factor.T @ factor

    def energy(self, x: Float[Tensor, "b N"]) -> Float[Tensor, " b"]:
        """Return `-x W x / 2`; a pass does not raise it for states with `K` active, under the covariance rule."""
        x = states_of(x, self.d, "states").to(self.members)
        return -0.5 * (self.field(x) * x).sum(1)

    def sweep(
        self,
        x: Float[Tensor, "b N"],
        *,
        known: Bool[Tensor, "#b N"] | None = None,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "b N"]:
        """Let the `K` most driven neurons fire, those that are held included; see `core.memory.Memory.sweep`.

        All neurons go at once, so that there is no order to draw. One that fires keeps firing at a tie.
        """
        x = states_of(x, self.d, "states").to(self.members)
        return self._winners(self.field(x), x, self.size, known_of(known, x))

    def complete(self, cue: Float[Tensor, "*b N"], *, steps: int = 50) -> Activity:
        """Run from cues to rest: which concept does a part of it bring back?

        Args:
            cue: `(N,)` or `(b, N)`, such as some members of a concept.
            steps: passes at most.
        """
        return self._settle(states_of(cue, self.d).to(self.members), self.size, steps)

    def associate(
        self, concept: Hashable | Sequence[Hashable] | None = None, *, by: By = "inhibition", room: float = 2.0,
        steps: int = 50,
    ) -> Activity:  # fmt: skip
        """Start with a concept in full and see what comes up beside it, or after it.

        Args:
            concept: a name or several; None takes every concept, in order.
            by: `"inhibition"` lets `room * K` neurons fire and runs to rest; `"fatigue"` lets the active tire until
                another concept is more active than this one and at least half active.
            room: for inhibition; with room for two, a third concept finds none.
            steps: passes at most.

        Raises:
            KeyError: no such concept.
            ValueError: another way, or room for less than one concept or more than all neurons.
        """
        if by not in ("inhibition", "fatigue") or not 1 <= room <= self.d / self.size:
            raise ValueError(f"got by={by!r}, room={room}; expected inhibition or fatigue, 1 to {self.d / self.size:g}")
        which = self._which(concept)
        if by == "inhibition":
            return self._settle(self.members[which], round(room * self.size), steps)
        return self._tire(which, steps)

    def chain(self, concept: Hashable, *, steps: int = 60) -> list[str]:
        """Let one concept follow the other by fatigue, and return the names of those that came up, in order.

        Args:
            concept: where to start.
            steps: passes, not concepts: one stays for two or three.
        """
        (start,) = self._which(concept).tolist()
        x, tired, seen = self.members[[start]], torch.zeros_like(self.members[[start]]), [start]
        for _ in range(steps):
            x, tired = self._tired_pass(x, tired)
            share, best = self.share(x)[0].max(0)
            if float(share) > HALF and int(best) != seen[-1]:
                seen.append(int(best))
        return [self.names[one] for one in seen]

    def recruited(
        self, activity: Activity, concept: Hashable | Sequence[Hashable] | None = None
    ) -> Bool[Tensor, "b p"]:
        """Tell which concepts came up besides the cued: half of the members fire that these do not share with it."""
        cued = self.members[self._which(concept)]
        own = self.members[None] * (1 - cued[:, None])
        firing = (own * activity.state[:, None]).sum(2)
        return (firing > HALF * own.sum(2)) & (own.sum(2) > 0)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {"members": self.members} | ({} if self.traces is None else {"traces": self.traces})
        header = {"names": list(self.names), "rule": self.rule, "size": self.size, "manifest": self.manifest}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Assemblies":
        """Rebuild from an artifact."""
        header = {name: artifact.header[name] for name in ("names", "rule", "manifest")}
        return cls(**artifact.tensors, **header)

    def _form(self) -> Tensor:
        """Give `W`, or its factor `(p, N)` with `W = factor^T factor` where that has fewer rows than columns."""
        members, a = self.members, self.size / self.d
        if self.rule == "willshaw":
            return (members.T @ members).clamp(max=1) / self.size
        if self.traces is None:
            factor = (members - a) / (self.d * a * (1 - a)) ** 0.5
        else:
            drive = (self.traces @ members.T).square().sum() / (self.size * len(members))
            factor = self.traces / drive.sqrt()
        return factor.T @ factor if len(factor) >= self.d else factor

    def _is_square(self, factor: Tensor) -> bool:
        return len(factor) == self.d

    def _which(self, concept: Any) -> Tensor:
        if concept is None:
            return torch.arange(len(self))
        asked = list(concept) if isinstance(concept, (list, tuple)) else [concept]
        unknown = [one for one in asked if str(one) not in self.names]
        if unknown or not asked:
            raise KeyError(f"got {unknown}; expected one of {', '.join(self.names[:8])}")
        return torch.tensor([self.names.index(str(one)) for one in asked])

    def _winners(self, field: Tensor, x: Tensor, most: int, held: Tensor | None = None) -> Tensor:
        """Let the strongest fire.

        Neurons of the same concepts are driven alike, so that ties are the rule. Rounding must not decide them: drives
        are counted in steps of 64 units of it, and of equals the one that fires goes on, then the first in line.
        """
        unit = torch.finfo(x.dtype).eps * field.abs().amax(1, keepdim=True).clamp(min=1e-30).log2().ceil().exp2()
        drive = (field / (64 * unit)).round() + 2 * x
        left = torch.full((len(x), 1), most, device=x.device)
        if held is not None:
            drive = drive.masked_fill(held, -torch.inf)
            left = (left - (x * held).sum(1, keepdim=True).round().long()).clamp(min=0)
        order = drive.argsort(dim=1, descending=True, stable=True)
        fires = torch.zeros_like(x).scatter(1, order, (torch.arange(self.d, device=x.device) < left).to(x))
        return fires if held is None else torch.where(held, x, fires)

    @torch.no_grad()
    def _settle(self, x: Tensor, most: int, steps: int) -> Activity:
        x = x.clone()
        taken = torch.zeros(len(x), dtype=torch.long, device=x.device)
        moving = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(steps):
            new = self._winners(self.field(x[moving]), x[moving], most)
            still = (new != x[moving]).any(1)
            taken[moving] += 1
            x[moving] = new
            moving[moving.clone()] = still
            if not bool(moving.any()):
                break
        return Activity(x, self.share(x), taken, ~moving)

    def _tired_pass(self, x: Tensor, tired: Tensor) -> tuple[Tensor, Tensor]:
        new = self._winners(self.field(x) - tired, x, self.size)
        return new, DECAY * tired + GAIN * new

    @torch.no_grad()
    def _tire(self, which: Tensor, steps: int) -> Activity:
        x, tired = self.members[which].clone(), torch.zeros_like(self.members[which])
        taken = torch.zeros(len(x), dtype=torch.long, device=x.device)
        moving = torch.ones(len(x), dtype=torch.bool, device=x.device)
        own = torch.zeros(len(x), len(self), dtype=torch.bool).scatter(1, which[:, None], True).to(x.device)
        for _ in range(steps):
            x[moving], tired[moving] = self._tired_pass(x[moving], tired[moving])
            taken[moving] += 1
            share = self.share(x)
            moving &= ~(share.masked_fill(own, 0).amax(1) > share[own].clamp(min=HALF))
            if not bool(moving.any()):
                break
        return Activity(x, self.share(x), taken, ~moving)


def _checked(members: Any) -> Tensor:
    width = members.shape[-1] if isinstance(members, Tensor) and members.ndim == 2 else 0  # noqa: PLR2004
    rows = states_of(members, width, "members").detach()
    sizes = rows.sum(1)
    if not bool(((rows == 0) | (rows == 1)).all()) or not bool((sizes == sizes[0]).all()) or not 0 < sizes[0] < width:
        found = (
            f"entries from {float(rows.min()):g} to {float(rows.max()):g} and {sizes.min():g} to {sizes.max():g} a row"
        )
        raise ValueError(
            f"got members with {found}; expected 0 and 1, the same number of members in each row, at least one and "
            "fewer than all"
        )
    return rows

r"""Reconsolidation: a memory that is retrieved can be changed by what is seen next, and by nothing else.

Retrieving `m` at time :math:`t_m` opens a labile window. An observation at `t` is compared with every labile memory
(`modification.surprise`): squared surprise :math:`d^2`, in units of :math:`\chi^2` with as many degrees of freedom as
features were observed.

* below the .50 quantile it is *strengthened*: its variance shrinks, its weight grows, the content stays;
* from there to the .995 quantile it is *updated*: the content moves by :math:`g K e` as well;
* above, the observation is *stored* as a memory of its own, and the retrieved one is left as it was;
* where no memory is labile, the observation is *ignored*, and nothing changes.

The window closes as :math:`g(t) = g_0\, e^{-(t - t_m) / \lambda}`; below a hundredth of :math:`g_0` it is shut. Which
of several labile memories an observation belongs to is decided as a Chinese restaurant would seat it:

.. math::
   p(m) \propto n_m\, \mathcal N(o; y_m, P_m + R) \ \text{if } d_m^2 \le \chi^2_{.995}, \qquad
   p(\text{new}) \propto \alpha\, \mathcal N(o; \mu_0, V_0 + R),

with the weight of the stored row for :math:`n_m`; the likeliest wins. A memory beyond the upper quantile is out of the
running, so that no prior can make an old memory take in what contradicts it.

A variance only shrinks. A memory of something that moves needs `drift`: variance that a memory gains per unit of time.
Then the mean is a Kalman filter of a random walk.

References: Nader, Schafe, LeDoux 2000 (lability); Gershman, Monfils, Norman, Niv 2017 (latent causes); Lee 2009
(update or not). A model, not a clinical fact. Cost: O(n d) time a change, which copies the rows once, as `Patterns.add`
does; a log entry keeps a few rows.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version, within
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.modification import changes
from mnemotrace.modification.changes import Change, Saved, Trace
from mnemotrace.modification.labile import Labile, store_under
from mnemotrace.modification.observation import number_of, observation_of, prior_of, variance_of
from mnemotrace.modification.surprise import chi_square_quantile, log_density, step

_KINDS = {m.kind: m for m in (Patterns, ModernHopfield, DiffusionMemory, DenseMemory, Hopfield)}
_BROAD = 9.0
_NEW = "new"


class Reconsolidation:
    """Retrieval opens a memory; an observation then strengthens it, updates it, or becomes a memory of its own.

    Attributes:
        memory: whose store is changed; it recalls what was learnt at once.
    """

    kind = "reconsolidation"

    def __init__(
        self,
        memory: Any,
        *,
        variance: float | Float[Tensor, " d"] = 1.0,
        noise: float | Float[Tensor, " d"] = 1.0,
        lability: float = 1.0,
        window: float = 6.0,
        drift: float = 0.0,
        quantiles: tuple[float, float] = (0.5, 0.995),
        always: bool = False,
        alpha: float = 0.01,
        prior: tuple[float | Float[Tensor, " d"], float | Float[Tensor, " d"]] | None = None,
    ) -> None:
        """Put a memory under reconsolidation; nothing is changed yet.

        Args:
            memory: `Patterns`, or any memory with a store of them. In `Hopfield` and `DenseMemory` rows are signs of a
                mean that is kept here; `Hopfield` forms its couplings anew.
            variance: `P` of each memory at first, in squared units of the patterns; a number or one a feature.
            noise: `R`, variance of an observation, likewise.
            lability: `g0`, the share of the Kalman step right after retrieval, in (0, 1].
            window: `lambda`, the time after which a share of 1/e of it is left; 6 suits hours.
            drift: variance that a memory gains per unit of time since it was last changed; 0 for none.
            quantiles: of chi-square, between which content moves.
            always: move the content below the lower quantile too.
            alpha: weight of a new cause beside stored memories, whose weights begin at 1; 0 leaves the choice to
                `quantiles`.
            prior: mean and variance of a new cause; None takes those of the stored rows, at least nine times
                `variance` wide, so three deviations.

        Raises:
            TypeError: no memory with a store of patterns.
            ValueError: a number out of range, or a network that cannot hold weights.
            NonFiniteError: NaN or infinity in a prior.
        """
        d = store_under(memory).d
        low, high = (number_of(q, "quantiles", low=0.0, high=math.nextafter(1.0, 0.0)) for q in quantiles)
        if low > high:
            raise ValueError(f"got quantiles={quantiles}; expected the lower one first")
        self.memory = memory
        self.quantiles, self.always = (low, high), bool(always)
        self.alpha = number_of(alpha, "alpha", low=0.0)
        self._noise = variance_of(noise, d, "noise")
        self._prior = None if prior is None else prior_of(prior, d)
        self._labile = Labile(
            memory,
            variance_of(variance, d, "variance"),
            lability=number_of(lability, "lability", low=0.0, above=True, high=1.0),
            window=number_of(window, "window", low=0.0, above=True),
            drift=number_of(drift, "drift", low=0.0),
        )
        self._log: list[Change] = []
        self._saved: list[Saved] = []

    @property
    def patterns(self) -> Patterns:
        """The store. What others change in it counts from then on, and cannot be undone here."""
        return store_under(self.memory)

    @property
    def log(self) -> tuple[Change, ...]:
        """A `Change` for each retrieval and observation so far, in order; also for those that changed nothing."""
        return tuple(self._log)

    def content(self, handle: int) -> Float[Tensor, " d"]:
        """Return the mean of a memory, float64.

        Raises:
            KeyError: no such memory.
        """
        return self._labile.trace(handle).mean

    def variance(self, handle: int, *, time: float | None = None) -> Float[Tensor, " d"]:
        """Return the variance of that mean, float64; grown by `drift` up to `time`, if one is given.

        Raises:
            KeyError: no such memory.
        """
        trace = self._labile.trace(handle)
        return trace.variance if time is None else self._labile.grown(trace, time)

    def labile(self, time: float) -> dict[int, float]:
        """Return the gain of each memory whose window is open at a time, by handle."""
        return self._labile.open(time)

    def retrieve(self, cue: Float[Tensor, " d"] | int, *, time: float, mask: Bool[Tensor, " d"] | None = None) -> int:
        """Retrieve one memory, and open its labile window; its content stays.

        Which one is decided by its weight and density, as if the cue were an observation, and not by running the
        network, whose states need not be memories. A memory with a recall of its own: give the handle.

        Args:
            cue: `(d,)`, or the handle of a memory.
            time: when; not before the last entry of the log.
            mask: features that the cue has; None is all.

        Returns:
            The handle.

        Raises:
            KeyError: a handle that is not stored.
            TypeError: neither a floating-point tensor nor a handle.
            ValueError: another shape, an empty mask, or a time before the last.
            NonFiniteError: NaN or infinity.
        """
        now = self._now(time)
        if isinstance(cue, int) and not isinstance(cue, bool):
            handle = cue
        else:
            handle = self._labile.nearest(*observation_of(cue, mask, self.patterns.d, "cue"), self._noise, now)
        trace, known = self._labile.trace(handle), self._labile.traces.get(handle)
        changed = now if trace.changed is None else trace.changed
        self._labile.traces[handle] = replace(trace, reactivated=now, changed=changed)
        note = f"memory {handle} was retrieved; its window is open"
        gain = self._labile.lability
        change = Change(now, "retrieved", handle, before=trace.mean, after=trace.mean, gain=gain, note=note)
        self._enter(change, Saved(handle, trace=known))
        return handle

    def observe(
        self,
        value: Float[Tensor, " d"],
        *,
        time: float,
        mask: Bool[Tensor, " d"] | None = None,
        noise: float | Float[Tensor, " d"] | None = None,
        surprise: float | None = None,
    ) -> Change:
        """Let an observation act on the memories whose window is open, or on none.

        Args:
            value: `(d,)`; outside the mask it may be anything.
            time: when; not before the last entry of the log.
            mask: features that were observed; None is all. A new memory takes the others from the prior.
            noise: variance of this observation; None takes the memory's `noise`.
            surprise: `-log p` of the observation in nats from elsewhere (such as beliefs about what causes what), in
                place of the Gaussian one: it decides the regime, as the `d^2` that is exceeded with probability `p`.

        Returns:
            What was done, which is also the last entry of the log. A memory that was stored is labile from then on.

        Raises:
            TypeError: no floating-point tensor, or no boolean mask.
            ValueError: another shape, an empty mask, noise or surprise out of range, or a time before the last.
            NonFiniteError: NaN or infinity.
        """
        now, d = self._now(time), self.patterns.d
        seen, where = observation_of(value, mask, d, "observation")
        spread = self._noise if noise is None else variance_of(noise, d, "noise")
        told = None if surprise is None else number_of(surprise, "surprise", low=0.0)
        low, high = (chi_square_quantile(q, int(where.sum())) for q in self.quantiles)
        change = Change(now, "ignored", None, observed=seen, mask=where, bounds=(low, high))
        gains = self._labile.open(now)
        if not gains:
            note = "no memory was labile, so nothing was changed; retrieve one first"
            return self._enter(replace(change, note=note), Saved(None))
        distances, logs = self._labile.compared(list(gains), seen, where, spread, now)
        if told is not None:
            likely = min(-math.expm1(-told), 1 - 1e-15)
            distances = dict.fromkeys(distances, chi_square_quantile(likely, int(where.sum())))
        new = -math.inf if told is not None else self._log_new(seen, where, spread)
        causes = _shares({m: log for m, log in logs.items() if distances[m] <= high}, new, gains)
        cause = max(causes, key=lambda name: causes[name])
        compared = cause if isinstance(cause, int) else max(logs, key=lambda m: logs[m])
        change = replace(
            change, causes=causes, compared=compared, surprise=distances[compared], gain=gains[compared]
        )  # fmt: skip
        return self._learn(change, spread, cause) if isinstance(cause, int) else self._store(change, spread)

    def undo(self, n: int = 1) -> tuple[Change, ...]:
        """Take back the last entries of the log, bit by bit, and return them, the last first.

        Raises:
            ValueError: more entries than there are, or a memory that was changed or removed since by other means;
                nothing is taken back then.
        """
        if not isinstance(n, int) or not 1 <= n <= len(self._log):
            raise ValueError(f"got n={n}; expected from 1 to {len(self._log)}, the entries of the log")
        self._labile.require_untouched(self._saved[-n:])
        undone: list[Change] = []
        for _ in range(n):
            undone.append(self._log.pop())
            self._labile.restore(self._saved.pop())
        return tuple(undone)

    def pack(self) -> Artifact:
        """Turn into an artifact: the memory, what is known beside it, and a log that can still be undone.

        Raises:
            TypeError: a memory of a class that no file can name.
        """
        if getattr(self.memory, "kind", None) not in _KINDS:
            raise TypeError(
                f"got a {type(self.memory).__name__}; expected one of {', '.join(_KINDS)} to go into a file"
            )
        inner, labile = self.memory.pack(), self._labile
        traces, of_traces = changes.pack_traces(labile.traces)
        log, of_log = changes.pack_log(self._log, self._saved)
        tensors = {f"memory.{name}": tensor for name, tensor in inner.tensors.items()} | of_traces | of_log
        tensors |= {"variance": labile.variance, "noise": self._noise}
        if self._prior is not None:
            tensors |= {"prior.mean": self._prior[0], "prior.variance": self._prior[1]}
        settings = {name: getattr(labile, name) for name in ("lability", "window", "drift")}
        settings |= {"quantiles": list(self.quantiles), "always": self.always, "alpha": self.alpha}
        manifest = {"method": "reconsolidation", "seed": None, "version": library_version()}
        header = {"memory": {"kind": inner.kind, "header": dict(inner.header)}, "settings": settings}
        apart = {name: tensor.clone() for name, tensor in tensors.items()}  # a row may be in the log and in a trace
        return Artifact(self.kind, header | {"traces": traces, "log": log, "manifest": manifest}, apart)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Reconsolidation":
        """Rebuild from an artifact."""
        header, tensors = artifact.header, artifact.tensors
        inner = within(tensors, "memory.")
        kind = header["memory"]["kind"]
        memory = _KINDS[kind].unpack(Artifact(kind, header["memory"]["header"], inner))
        prior = (tensors["prior.mean"], tensors["prior.variance"]) if "prior.mean" in tensors else None
        settings = header["settings"] | {"variance": tensors["variance"], "noise": tensors["noise"]}
        made = cls(memory, prior=prior, **settings)
        made._labile.traces = changes.unpack_traces(header["traces"], tensors)
        made._log, made._saved = changes.unpack_log(header["log"], tensors)
        return made

    def _learn(self, change: Change, noise: Tensor, handle: int) -> Change:
        """Strengthen or update the memory that is the cause."""
        assert change.observed is not None and change.surprise is not None and change.bounds is not None
        trace, known = self._labile.trace(handle), self._labile.traces[handle]
        variance = self._labile.grown(trace, change.time)
        moved, narrowed = step(trace.mean, variance, change.observed, noise, gain=change.gain, mask=change.mask)
        same = change.surprise <= change.bounds[0]
        mean = trace.mean if same and not self.always else moved
        saved = self._labile.write(handle, mean, change.gain, known)
        self._labile.traces[handle] = replace(trace, mean=mean, variance=narrowed, changed=change.time)
        note = f"memory {handle} was " + (
            "strengthened: it was expected" if same else "updated: it was a mild surprise"
        )
        regime = "strengthened" if same else "updated"
        change = replace(change, regime=regime, handle=handle, before=trace.mean, after=mean, note=note)
        return self._enter(change, saved)

    def _store(self, change: Change, noise: Tensor) -> Change:
        """Store the observation as a memory of its own, with the prior where it was not observed."""
        assert change.observed is not None and change.mask is not None
        centre, width = self._broad()
        mean = torch.where(change.mask, change.observed, centre)
        row = self._labile.row(mean)
        handle = self.patterns.add(row)[0]
        variance = torch.where(change.mask, noise, width)
        self._labile.traces[handle] = Trace(mean, variance, change.time, change.time)
        note = (
            f"memory {handle} is new: too great a surprise to be a change of memory {change.compared}, which was left"
        )
        change = replace(change, regime="stored", handle=handle, after=mean, note=note)
        return self._enter(change, Saved(handle, written=row))

    def _enter(self, change: Change, saved: Saved) -> Change:
        self._log.append(change)
        self._saved.append(saved)
        return change

    def _log_new(self, seen: Tensor, mask: Tensor, noise: Tensor) -> float:
        """Return log weight plus log-density of an observation under a new cause."""
        if self.alpha == 0:
            return -math.inf
        centre, width = self._broad()
        return math.log(self.alpha) + float(log_density(seen - centre, width + noise, mask))

    def _broad(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of a cause that is not stored yet."""
        if self._prior is not None:
            return self._prior
        rows = self.patterns.values
        variance, mean = torch.var_mean(rows.to(torch.promote_types(rows.dtype, torch.float32)), 0, correction=0)
        return mean.double(), torch.maximum(variance.double(), _BROAD * self._labile.variance)

    def _now(self, time: float) -> float:
        """Return a time, after checking that it runs forward."""
        last = self._log[-1].time if self._log else -math.inf
        if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time) or time < last:
            raise ValueError(
                f"got time={time!r}; expected a finite number from {last:g} on, the time of the last entry"
            )
        return float(time)


def _shares(fitting: Mapping[int, float], new: float, labile: Iterable[int]) -> dict[int | str, float]:
    """Return probabilities of causes from logarithms; a new one is certain where no memory fits."""
    logs: dict[int | str, float] = {handle: fitting.get(handle, -math.inf) for handle in labile}
    logs[_NEW] = new if fitting else 0.0
    shares = torch.softmax(torch.tensor(list(logs.values()), dtype=torch.float64), 0).tolist()
    return dict(zip(logs, shares, strict=True))

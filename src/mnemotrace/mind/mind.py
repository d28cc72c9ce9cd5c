"""A mind: perception, hippocampus, cortex, graph and beliefs in one system that lives, sleeps, recalls and explains.

What it experiences is encoded as a trace (`mind.hippocampus`), linked in a semantic graph, and, as far as it is
evidence, taken in by beliefs about causes. Nights replay traces to a cortex (`mind.nights`), and let them fade. A
recall either simulates, by settling onto traces and letting the cortex fill in the rest (`mind.simulating`), or follows
links (`mind.knowing`). A memory that is told again can change; an explanation can be revised by later evidence. What a
mind lacks is a matter of settings (`mind.lesion`).

Every act is in the log as plain values. A mind that went through a file goes on bit for bit, its generator included.

It is a model: small, of one mechanism each, and no claim about any person. Cost on one thread, for fifty events: about
ten milliseconds a simulated recall, one by links, half a second a night. A recall copies nothing; an experience copies
the traces.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version, within
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.mind.event import Event
from mnemotrace.mind.explanation import Explanation, fate_of, history_of
from mnemotrace.mind.hippocampus import Hippocampus
from mnemotrace.mind.knowledge import Knowledge
from mnemotrace.mind.lesion import Lesion, LesionName
from mnemotrace.mind.lesion import lesion as lesion_of
from mnemotrace.mind.nights import newborn, replay
from mnemotrace.mind.recalling import Organs, known, left, simulated
from mnemotrace.mind.remembered import Asserted, Mode, Remembered
from mnemotrace.mind.simulating import perceived
from mnemotrace.mind.trace import Trace
from mnemotrace.mind.world import Code, World
from mnemotrace.modification.beliefs.state import Beliefs
from mnemotrace.modification.reconsolidation import Reconsolidation

_PARTS = ("cortex", "graph", "beliefs", "labile")


class Mind:
    """One mind.

    Attributes:
        world: what it can perceive.
        lesion: its settings.
        now: time in days.
        hippocampus: patterns of single events.
        knowledge: notes, index and graph of events.
        cortex: a denoiser that nights train; None before the first night with a replay.
        beliefs: about causes; None where no variables were given.
        log: every act, as plain values.
    """

    kind = "mind"

    def __init__(
        self,
        world: World,
        *,
        lesion: LesionName | Lesion = "intact",
        variables: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        """Begin a life.

        Args:
            world: what can be perceived.
            lesion: name of a mind, or settings of your own.
            variables: causal variables with their states, up to six; None is a mind without beliefs.
            seed: of everything that is drawn.

        Raises:
            ValueError: an unknown lesion, or variables that beliefs do not take.
        """
        self.world = world
        self.lesion = lesion if isinstance(lesion, Lesion) else lesion_of(lesion)
        self.seed = seed
        self.code = Code(world, synaesthesia=self.lesion.synaesthesia, separation=self.lesion.separation, seed=seed)
        self.hippocampus = Hippocampus(self.code, self.lesion)
        self.cortex: TrainedDenoiser | None = None
        self.knowledge = Knowledge(world, self.lesion.slowness)
        self.beliefs = None if variables is None else Beliefs(variables, seed=seed)
        self.now = -math.inf
        self.log: list[dict[str, Any]] = []
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def operated(self) -> bool:
        """Whether the hippocampus is gone."""
        return not self.knowledge.organ

    @property
    def traces(self) -> Mapping[int, Trace]:
        """What is noted of each memory, by handle; also of those that only the cortex still holds."""
        return self.knowledge.traces

    # --- living -----------------------------------------------------------------------------------------------------

    def experience(self, event: Event) -> int | None:
        """Live an event.

        Args:
            event: not before anything that was lived already. If it is `about` an earlier event that is remembered,
                that memory is retrieved and may change.

        Returns:
            The handle of the memory that holds it: a new one, or that of the memory which it changed. None without a
            hippocampus: nothing is kept.

        Raises:
            ValueError: an earlier time, attributes that the world does not have, or evidence that the beliefs do not
                take; nothing is changed then.
        """
        attributes = self._checked(event)
        self._pass(event.time)
        if self.operated:
            self._enter("experience", event=event.to_json(), handle=None)
            return None
        earlier = next((h for h, t in self.traces.items() if t.event == event.about), None)
        pattern = self.hippocampus.encode(attributes, arousal=event.arousal, generator=self._generator)
        if earlier is None:
            handle = self.hippocampus.add(pattern)
            self.knowledge.note(handle, _trace(event, attributes))
            self._enter("experience", event=event.to_json(), handle=handle)
        else:
            handle = self._retell(event, earlier, pattern, attributes)
        if event.evidence:
            self.understand([event.evidence], do=event.do, note=event.id)
        if event.explains and self.beliefs is not None:
            self.traces[handle].belief = self.beliefs.remember(event.evidence, explains=event.explains, note=event.id)
        return handle

    def sleep(self, nights: int = 1) -> None:
        """Sleep: replay traces to the cortex, then let them fade. It is the next morning after each night.

        Raises:
            ValueError: no night.
        """
        if nights < 1:
            raise ValueError(f"got nights={nights}; expected at least 1")
        for _ in range(nights):
            begun = 0.0 if math.isinf(self.now) else self.now
            self._pass(math.floor(begun) + 1.0)
            self._night()

    def understand(self, rows: Any, *, do: Sequence[str] = (), note: str = "") -> Any:
        """Take evidence about causes in; explanations of memories that lose their support are revised.

        Args:
            rows: see `Beliefs.observe`.
            do: variables that were set from outside.
            note: of where it comes from.

        Returns:
            The `Update`; None without a hippocampus, for then it is not kept.

        Raises:
            ValueError: no beliefs, or rows that they do not take.
        """
        if self.beliefs is None:
            raise ValueError("got evidence for a mind without beliefs; expected one made with variables={name: states}")
        if self.operated:
            self._enter("understand", note=note, surprise=0.0, gain=0.0, revised=[], kept=False)
            return None
        update = self.beliefs.observe(rows, do=do, note=note)
        revised = [h for h, t in self.traces.items() if t.belief is not None and t.belief in update.revised]
        self._enter("understand", note=note, surprise=update.surprise, gain=update.gain, revised=revised, kept=True)
        return update

    def forget(self, handle: int) -> bool:
        """Let a memory go on purpose; what nights gave of it to the cortex stays there.

        Returns:
            Whether it is gone: not in a mind that cannot forget.

        Raises:
            KeyError: no such memory.
        """
        self.knowledge.strength(handle)  # raises where there is none
        gone = self.lesion.forgetting
        if gone:
            self.hippocampus.remove(handle)
            self.knowledge.forget(handle)
        self._enter("forget", handle=handle, gone=gone)
        return gone

    # --- remembering ------------------------------------------------------------------------------------------------

    def recall(self, cue: Mapping[str, str], *, mode: Mode | None = None, noise: float = 0.0) -> Remembered:
        """Remember what a cue brings to mind.

        Args:
            cue: values of some attributes.
            mode: `simulate` settles and imagines, `graph` follows links; None simulates if the mind can.
            noise: deviation of errors on the features of the cue, whose codes have length 1; 0 is a clear cue.

        Returns:
            What is asserted and what stays open. The draws of a simulation come from the mind's own generator.

        Raises:
            ValueError: an empty or unknown cue, a mode that the mind does not have, or noise out of range.
        """
        said = self.world.check(cue)
        chosen: Mode = mode or ("simulate" if self.lesion.simulation else "graph")
        if chosen not in ("simulate", "graph") or (chosen == "simulate" and not self.lesion.simulation):
            raise ValueError(
                f"got mode={mode!r} for a mind called {self.lesion.name!r}; expected 'graph'"
                + (" or 'simulate'" if self.lesion.simulation else "; it does not simulate")
            )
        if not 0 <= noise < math.inf:
            raise ValueError(f"got noise={noise}; expected a finite deviation of at least 0")
        heard = perceived(self.code, said, noise, self._generator)
        found = (known if chosen == "graph" else simulated)(self._organs(), heard)
        self._enter("recall", cue=said, noise=noise, **found.to_json())
        return found

    def explain(self, handle: int) -> Explanation:
        """Say why a memory looks as it does now; changes nothing.

        Raises:
            KeyError: no such memory.
        """
        self.knowledge.strength(handle)  # raises where there is none
        trace, now = self.traces[handle], self._left(handle)
        organ = not self.operated
        told: tuple[str, ...] = ()
        if trace.belief is not None and self.beliefs is not None:
            account = self.beliefs.memory(trace.belief)
            told = tuple(f"{v.reason}: {account.text(i)}" for i, v in enumerate(account.versions))
        return Explanation(
            handle=handle,
            event=trace.event,
            lived=dict(trace.lived),
            now=now,
            fate={n: fate_of(trace.lived.get(n), now.get(n), organ=organ) for n in self.world.attributes},
            history=history_of(handle, self.log),
            told=told,
        )

    # --- files ------------------------------------------------------------------------------------------------------

    def pack(self) -> Artifact:
        """Turn into an artifact; parts keep their own headers and tensors under their names."""
        tensors = {"generator": self._generator.get_state()}
        parts: dict[str, Any] = {}
        for name, part in zip(_PARTS, self._parts(), strict=True):
            if part is not None:
                packed = part.pack()
                parts[name] = dict(packed.header)
                tensors |= {f"{name}.{key}": value for key, value in packed.tensors.items()}
        header = {
            "world": self.world.to_json(),
            "lesion": self.lesion.to_json(),
            "now": None if math.isinf(self.now) else self.now,
            "operated": self.operated,
            "following": self.hippocampus.following,
            "traces": {str(handle): trace.to_json() for handle, trace in self.traces.items()},
            "left": {str(handle): _plain(self._left(handle)) for handle in self.traces},
            "log": self.log,
            "parts": parts,
            "manifest": {"method": "mind", "seed": self.seed, "version": library_version()},
        }
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Mind":
        """Rebuild from an artifact."""
        header, parts = artifact.header, artifact.header["parts"]
        made = cls(World.from_json(header["world"]), lesion=Lesion(**header["lesion"]), seed=header["manifest"]["seed"])

        def part(name: str, kind: Any) -> Any:
            if name not in parts:
                return None
            # clones lie in memory as they did before: products of tensors elsewhere can differ in the last bit
            inner = {key: t.clone() for key, t in within(artifact.tensors, f"{name}.").items()}
            return kind.unpack(Artifact(kind.kind, parts[name], inner))

        made.cortex, made.knowledge.graph = part("cortex", TrainedDenoiser), part("graph", SemanticGraph)
        made.beliefs, made.hippocampus.labile = part("beliefs", Beliefs), part("labile", Reconsolidation)
        made.hippocampus.following = header["following"]
        made.now = -math.inf if header["now"] is None else header["now"]
        made.knowledge.organ, made.log = not header["operated"], list(header["log"])
        for handle, values in header["traces"].items():
            made.knowledge.file(int(handle), Trace(**values))
        made._generator.set_state(artifact.tensors["generator"].clone())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mind":
        """Return a mind that goes on like this one and apart from it, as if it had gone through a file."""
        packed = self.pack()
        header = json.loads(json.dumps(packed.header, allow_nan=False))
        return Mind.unpack(Artifact(self.kind, header, {n: t.detach().clone() for n, t in packed.tensors.items()}))

    def _parts(self) -> tuple[Any, ...]:
        return self.cortex, self.knowledge.graph, self.beliefs, self.hippocampus.labile

    # --- inside -----------------------------------------------------------------------------------------------------

    def _checked(self, event: Event) -> dict[str, str]:
        """Return an event's attributes, after checking all of it."""
        attributes = self.world.check(event.attributes)
        if event.time < self.now:
            raise ValueError(
                f"got event {event.id!r} at day {event.time:g}; expected no earlier than {self.now:g}; order the events"
            )
        if event.evidence:
            if self.beliefs is None:
                raise ValueError(
                    f"got event {event.id!r} with evidence for a mind without beliefs; expected "
                    "Mind(..., variables={name: states})"
                )
            self.beliefs.variables.read([event.evidence])
        return attributes

    def _pass(self, time: float) -> None:
        """Let time pass, and the hippocampus be lost if its time is over."""
        until = self.lesion.hippocampus_until
        if until is not None and not self.operated and time >= until:
            self.now = max(self.now, until)
            self.hippocampus.labile = None
            self.knowledge.lose_hippocampus()
            self._enter("operation", memories=len(self.traces))
        self.now = time

    def _retell(self, event: Event, earlier: int, pattern: Tensor, attributes: dict[str, str]) -> int:
        """Let an earlier memory be told again, and log what that did."""
        before = self._left(earlier)
        change, surprise = self.hippocampus.retell(earlier, pattern, attributes, event.time)
        handle = earlier if change.handle is None else change.handle
        if handle not in self.traces:
            self.knowledge.note(handle, _trace(event, attributes))
        after = self._left(earlier)
        if change.regime == "updated":
            self.knowledge.learn(
                handle, self.traces[handle].known | {n: after[n].value for n in attributes if n in after}
            )
        changed = {n: [_said(before, n), _said(after, n)] for n in attributes if _said(before, n) != _said(after, n)}
        found = {"about": earlier, "handle": handle, "regime": change.regime, "surprise": surprise, "changed": changed}
        self._enter("retell", event=event.to_json(), **found)
        return handle

    def _night(self) -> None:
        """Replay traces to the cortex, and let them fade."""
        memory, replays, losses = self.hippocampus.memory, dict[str, int](), list[float]()
        if memory is not None and self.lesion.replay:
            arousal = torch.tensor([self.traces[handle].arousal for handle in self.hippocampus.handles])
            cortex = self.cortex or newborn(self.code, self._generator)
            self.cortex, counts, losses = replay(
                cortex, memory.patterns, self.code, self.lesion, arousal=arousal, generator=self._generator
            )
            for handle, count in zip(self.hippocampus.handles, counts.tolist(), strict=True):
                self.traces[handle].replays += count
                replays[str(handle)] = count
        self.hippocampus.fade(self.traces)
        self._enter("night", replays=replays, losses=[losses[0], losses[-1]] if losses else [])

    def _organs(self) -> Organs:
        return Organs(
            self.lesion, self.code, self.hippocampus, self.cortex, self.knowledge, self.now, self._generator
        )  # fmt: skip

    def _left(self, handle: int) -> dict[str, Asserted]:
        return left(self._organs(), handle)

    def _enter(self, act: str, **found: Any) -> None:
        self.log.append({"act": act, "time": None if math.isinf(self.now) else self.now, **found})


def _trace(event: Event, attributes: dict[str, str]) -> Trace:
    return Trace(event.id, event.time, attributes, dict(attributes), event.valence, event.arousal)


def _said(left: Mapping[str, Asserted], name: str) -> str | None:
    return left[name].value if name in left else None


def _plain(left: Mapping[str, Asserted]) -> dict[str, list[Any]]:
    return {name: [found.value, found.confidence, found.source] for name, found in left.items()}

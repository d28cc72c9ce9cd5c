"""Lesions: the settings of one mind's mechanisms, and five minds that differ in some of them.

A lesion says nothing about what a mind will be able to recall. It sets how precisely it encodes, how fast traces fade,
what nights replay, how coarse the structure is that the cortex may learn, how redundant its code is, and which organs
it has. What follows has to show in what it recalls, beside the intact mind.

* Funes (Borges 1942) perceives and keeps every detail, and each instant is a thing of its own: exact encoding, no
  fading, wide pattern separation, faithful replay, and a cortex that is never trained at a noise at which instances
  run together. That noise is what generalisation is made of.
* H. M. (Scoville & Milner 1957) loses his hippocampus at a time. What nights had given to the cortex stays.
* Shereshevskii (Luria 1968) perceives each value in several senses at once, a redundant code, and nothing fades.
* Aphantasia with anendophasia (Zeman et al. 2015; Nedergaard & Lupyan 2024): nothing is simulated, neither pictures
  nor an inner voice; what is known is known as a graph.

These are models of a mechanism each, not clinical facts: real amnesia, mnemonism and aphantasia vary, and have more
causes than one. References also: McClelland et al. 1995; Squire & Alvarez 1995 (graded retrograde loss).
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

LesionName = Literal["intact", "funes", "hm", "shereshevskii", "aphantasia"]


@dataclass(frozen=True)
class Lesion:
    """Settings of one mind.

    Attributes:
        name: of the mind.
        gist_noise: deviation of the encoding error of gist features, whose code has unit length.
        detail_noise: that of detail; attention is on what an event is about.
        arousal: from 0 to 1, the share of encoding error and of fading that full arousal takes away; it also is the
            share of replay that goes by arousal (McGaugh 2004).
        gist_fading: share of what is left of a gist trace that is lost each night, from 0 to 1.
        detail_fading: that of detail, which fades faster (Sekeres et al. 2018).
        forgetting: whether a memory can be let go on purpose; Luria's patient wrote things down to forget them and
            could not.
        synaesthesia: features that each value has in further senses: a redundant code.
        separation: features that each event has for itself (pattern separation in the dentate gyrus).
        replay: steps of training a night, 64 replays each; 0 is a night without replay.
        faithful: share of replay that gives detail to the cortex as it was; in the rest only gist is given, and the
            cortex itself fills in the detail.
        pooling: the largest noise that the cortex is trained at, in units of the patterns' spread. Structure that
            many instances share is learnt at a noise at which they run together, which takes about 1; far below it
            every instance is learnt as its own. Below 1 no feature is hidden in training either, for that is infinite
            noise.
        slowness: replays of one memory after which the cortex holds 63 % of it (1 - 1/e) without the hippocampus.
        hippocampus_until: time in days at which the hippocampus is lost; None is never.
        simulation: whether a recall can be simulated: a state settled, a cortex sampled.
    """

    name: str = "intact"
    gist_noise: float = 0.05
    detail_noise: float = 0.15
    arousal: float = 0.5
    gist_fading: float = 0.03
    detail_fading: float = 0.30
    forgetting: bool = True
    synaesthesia: int = 0
    separation: int = 8
    replay: int = 100
    faithful: float = 0.2
    pooling: float = 3.0
    slowness: float = 800.0
    hippocampus_until: float | None = None
    simulation: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        shares = {name: getattr(self, name) for name in ("arousal", "gist_fading", "detail_fading", "faithful")}
        if not all(0 <= share <= 1 for share in shares.values()) or 1 in (self.gist_fading, self.detail_fading):
            raise ValueError(f"got {shares}; expected shares from 0 to 1, fading below 1")
        numbers = {name: getattr(self, name) for name in ("gist_noise", "detail_noise")}
        if not all(0 <= number < math.inf for number in numbers.values()):
            raise ValueError(f"got {numbers}; expected deviations of at least 0")
        counts = {name: getattr(self, name) for name in ("synaesthesia", "separation", "replay")}
        if min(counts.values()) < 0:
            raise ValueError(f"got {counts}; expected whole numbers of at least 0")
        if not (0 < self.slowness < math.inf and _LOWEST < self.pooling < math.inf):
            raise ValueError(
                f"got slowness={self.slowness} and pooling={self.pooling}; expected above 0, and above {_LOWEST}"
            )
        if self.hippocampus_until is not None and not math.isfinite(self.hippocampus_until):
            raise ValueError(f"got hippocampus_until={self.hippocampus_until}; expected a finite time in days, or None")

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `Lesion(**values)` is the same again."""
        return asdict(self)


_LOWEST = 0.1
_INTACT = Lesion()
LESIONS: dict[str, Lesion] = {
    "intact": _INTACT,
    "funes": replace(
        _INTACT,
        name="funes",
        gist_noise=0.0,
        detail_noise=0.0,
        gist_fading=0.0,
        detail_fading=0.0,
        forgetting=False,
        separation=64,
        faithful=1.0,
        pooling=0.2,
    ),
    "hm": replace(_INTACT, name="hm", hippocampus_until=4.0),
    "shereshevskii": replace(
        _INTACT,
        name="shereshevskii",
        gist_fading=0.0,
        detail_fading=0.0,
        forgetting=False,
        synaesthesia=24,
        faithful=1.0,
    ),
    "aphantasia": replace(_INTACT, name="aphantasia", simulation=False),
}


def lesion(name: LesionName, *, at: float | None = None) -> Lesion:
    """Return the settings of a mind by name.

    Args:
        name: `intact`, `funes`, `hm`, `shereshevskii` or `aphantasia`.
        at: time in days at which the hippocampus is lost; for `hm` only, None takes 4.

    Raises:
        ValueError: another name, or a time for a mind that keeps its hippocampus.
    """
    if name not in LESIONS:
        raise ValueError(f"got lesion {name!r}; expected one of {', '.join(get_args(LesionName))}, or a Lesion")
    if at is None:
        return LESIONS[name]
    if name != "hm":
        raise ValueError(f"got at={at} for {name!r}; expected it for 'hm' only, who loses the hippocampus at a time")
    return replace(LESIONS[name], hippocampus_until=float(at))

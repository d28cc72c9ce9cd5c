"""Lives: one story lived by several minds, each asked the same questions before and after the last night.

Five questionnaires, each with its chance and its ceiling (`mind.measures`):

* **gist**: of each event two gist attributes are given, the third is asked for, in turn.
* **detail**: of every second event all gist is given, all details are asked for, those that were never perceived too.
* **weak**: every second question for gist again, with errors of deviation 0.6 on the cue's features.
* **general**: up to twelve pairs of gist values that were lived, but never together; what the rule says is asked for.
* **old**, **recent**, **new**: the questions for gist, of events more than two days before the operation, up to a day
  before it, and after it; for a mind without an operation the same events.

A mind is asked on a copy, so being asked changes no life. Minds with the same seed live the same story; what a lesion
does is the mean difference to the intact mind over seeds, with a bootstrap interval.

Cost: a life is the mind's own cost and about 90 recalls a stage.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.progress import Progress, silent
from mnemotrace.mind import measures
from mnemotrace.mind.lesion import Lesion, LesionName, lesion
from mnemotrace.mind.measures import Answer, Question
from mnemotrace.mind.mind import Mind
from mnemotrace.mind.remembered import Mode, Remembered
from mnemotrace.mind.story import Story

LESIONS: tuple[str, ...] = get_args(LesionName)
NOISE, MOST = 0.6, 12
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Life:
    """One life of one mind.

    Attributes:
        story: what was lived.
        mind: after the last night.
        before: measures at the end of the last day, by name.
        after: measures after the last night.
    """

    story: Story
    mind: Mind
    before: Mapping[str, float]
    after: Mapping[str, float]


def live(story: Story, lesion: str | Lesion = "intact", seed: int = 0, *, mode: Mode | None = None) -> Life:
    """Live a story and answer for it.

    Args:
        story: what happens.
        lesion: name of a mind, or settings of your own. `hm` loses the hippocampus at the story's operation.
        seed: of the mind.
        mode: how it recalls when asked; None is as the mind does.

    Raises:
        ValueError: an unknown lesion, or a mode that the mind does not have.
    """
    mind = Mind(story.world, lesion=_settings(lesion, story), variables=story.variables or None, seed=seed)
    steps = list(story.steps())
    last = max((i for i, step in enumerate(steps) if isinstance(step, float)), default=len(steps))
    _go(mind, steps[:last])
    before = ask(mind, story, mode=mode)
    _go(mind, steps[last:])
    return Life(story, mind, before, ask(mind, story, mode=mode) if last < len(steps) else before)


def ask(mind: Mind, story: Story, *, mode: Mode | None = None) -> dict[str, float]:
    """Put all questionnaires to a copy of a mind; returns the measures by name, NaN where nothing could be asked."""
    mind, began = copy.deepcopy(mind), time.process_time()
    sheets = questions(story)
    given = {name: [_put(mind, q, mode, NOISE if name == "weak" else 0.0) for q in s] for name, s in sheets.items()}
    unseen = story.unseen()
    unseen = unseen[:: -(-len(unseen) // MOST) or 1]
    laws = [story.expected(cue, asked) for cue, asked in unseen]
    told = [mind.recall(cue, mode=mode) for cue, _ in unseen]
    spent = time.process_time() - began
    answers = {name: [answer for answer, _ in pairs] for name, pairs in given.items()}
    found = _scores(answers, story)
    says = [r.asserted[a].value if a in r.asserted else None for r, (_, a) in zip(told, unseen, strict=True)]
    lived = _lived(story)
    usual = [law.get(measures.commonest(lived, a), 0.0) for law, (_, a) in zip(laws, unseen, strict=True)]
    found |= {
        "general": measures.generalisation(says, laws),
        "general, ceiling": measures.bayes_ceiling(laws),
        "general, chance": sum(usual) / len(usual) if usual else float("nan"),
    }
    recalled = [r for pairs in given.values() for _, r in pairs] + told
    return found | _costs(recalled, spent)


def questions(story: Story) -> dict[str, list[Question]]:
    """Make the questionnaires about lived events: `gist`, `detail` and `weak`; what is only told again is not asked."""
    gist, details = story.world.names("gist"), story.world.names("detail")
    found: dict[str, list[Question]] = {"gist": [], "detail": []}
    for index, event in enumerate(event for event in story.events if event.about is None):
        said = event.attributes
        core = {name: said[name] for name in gist if name in said}
        if len(core) > 1:
            asked = list(core)[index % len(core)]
            cue = {name: value for name, value in core.items() if name != asked}
            found["gist"].append(Question(cue, (asked,), said, event.time))
        if core and details and not index % 2:
            found["detail"].append(Question(core, details, said, event.time))
    return found | {"weak": found["gist"][::2]}


def _scores(answers: Mapping[str, Sequence[Answer]], story: Story) -> dict[str, float]:
    lived = _lived(story)
    found: dict[str, float] = {}
    for name, group in answers.items():
        asked = [answer.question for answer in group]
        found |= {
            name: measures.accuracy(group),
            f"{name}, ceiling": measures.ceiling(asked, lived),
            f"{name}, chance": measures.chance(asked, lived),
            f"{name}, confabulation": measures.confabulation(group),
        }
    both, at = [*answers["gist"], *answers["detail"]], story.operated_at
    found["confabulation"] = measures.confabulation(both)
    found["invention"] = measures.invention(both)
    phases = {"old": (-torch.inf, at - 2), "recent": (at - 1, at), "new": (at, torch.inf)}
    for name, (begin, end) in phases.items():
        found[name] = measures.accuracy([a for a in answers["gist"] if begin <= a.question.time < end])
    return found


def _lived(story: Story) -> list[Mapping[str, str]]:
    return [event.attributes for event in story.events if event.about is None]


def _put(mind: Mind, question: Question, mode: Mode | None, noise: float) -> tuple[Answer, Remembered]:
    told = mind.recall(question.cue, mode=mode, noise=noise)
    return Answer(question, {name: found.value for name, found in told.asserted.items()}), told


def _costs(recalled: Sequence[Remembered], seconds: float) -> dict[str, float]:
    count = max(len(recalled), 1)
    return {
        "evaluations": sum(r.evaluations for r in recalled) / count,
        "sampler calls": sum(r.sampler_calls for r in recalled) / count,
        "milliseconds": 1000 * seconds / count,
    }


def _settings(chosen: str | Lesion, story: Story) -> Lesion:
    if isinstance(chosen, Lesion):
        return chosen
    known: Any = chosen
    return lesion(known, at=story.operated_at if chosen == "hm" else None)


def _go(mind: Mind, steps: Sequence[Any]) -> None:
    for step in steps:
        if isinstance(step, float):
            mind.sleep()
        else:
            mind.experience(step)


@dataclass(frozen=True, eq=False)
class Lives:
    """What several minds made of the same stories.

    Attributes:
        lesions: names of the minds.
        values: `(stages, lesions, seeds)` of each measure, by name; the stages are before and after the last night.
        manifest: provenance, with the story's title and the seeds.
    """

    lesions: tuple[str, ...]
    values: Mapping[str, Float[Tensor, "stages m s"]]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "lives"

    @classmethod
    def gather(cls, lived: Mapping[str, Sequence[Life]], **manifest: Any) -> "Lives":
        """Lay the measures of lives side by side; each mind has as many, in the order of the same seeds."""
        stages = [[[getattr(life, stage) for life in row] for row in lived.values()] for stage in ("before", "after")]
        values = {
            name: torch.tensor([[[f[name] for f in row] for row in rows] for rows in stages], dtype=torch.float64)
            for name in stages[0][0][0]
        }
        return cls(tuple(lived), values, {"method": "lives", **manifest, "version": library_version()})

    def of(self, measure: str, lesion: str, *, stage: int = 1) -> Float[Tensor, " s"]:
        """Return one measure of one mind at each seed.

        Raises:
            ValueError: an unknown measure or mind.
        """
        if measure not in self.values or lesion not in self.lesions:
            raise ValueError(
                f"got {measure!r} of {lesion!r}; expected a measure ({'; '.join(self.values)}) and a mind "
                f"({', '.join(self.lesions)})"
            )
        return self.values[measure][stage, self.lesions.index(lesion)]

    def mean(self, measure: str, lesion: str, *, stage: int = 1) -> tuple[float, float, float]:
        """Return the mean over seeds and the ends of its 95 % bootstrap interval."""
        return bootstrap(self.of(measure, lesion, stage=stage))

    def difference(
        self, measure: str, lesion: str, other: str = "intact", *, stage: int = 1
    ) -> tuple[float, float, float]:
        """Return the mean difference of two minds, seed by seed, and the ends of its 95 % bootstrap interval."""
        return bootstrap(self.of(measure, lesion, stage=stage) - self.of(measure, other, stage=stage))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        names = list(self.values)
        tensors = {"values": torch.stack([self.values[name] for name in names])}
        header = {"lesions": list(self.lesions), "measures": names, "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Lives":
        """Rebuild from an artifact."""
        header, values = artifact.header, artifact.tensors["values"]
        named = dict(zip(header["measures"], values, strict=True))
        return cls(tuple(header["lesions"]), named, header["manifest"])


def lives(
    story: Story | None = None,
    lesions: Sequence[str] = LESIONS,
    seeds: int | Sequence[int] = 20,
    *,
    mode: Mode | None = None,
    progress: Progress = silent,
) -> Lives:
    """Let several minds live the same stories.

    Args:
        story: what happens, to the minds of all seeds; None draws another story for each seed.
        lesions: names of the minds.
        seeds: how many, or which, of story and mind.
        mode: how they recall when asked; None is as each mind does.
        progress: called after each life.

    Raises:
        ValueError: no or unknown minds, one twice, or no seed.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not lesions or not numbers or len(set(lesions)) < len(lesions):
        raise ValueError(f"got minds {list(lesions)} and {len(numbers)} seeds; expected each mind once, and a seed")
    for name in lesions:
        _settings(name, story or Story.draw(torch.Generator().manual_seed(0)))
    lived: dict[str, list[Life]] = {name: [] for name in lesions}
    for index, seed in enumerate(numbers):
        told = story or Story.draw(torch.Generator().manual_seed(seed))
        for place, name in enumerate(lesions):
            lived[name].append(live(told, name, seed, mode=mode))
            progress(index * len(lesions) + place + 1, len(numbers) * len(lesions), name)
    title = story.title if story else "drawn for each seed"
    return Lives.gather(lived, story=title, seeds=numbers, seed=numbers[0], mode=mode or "")


def bootstrap(values: Float[Tensor, " s"]) -> tuple[float, float, float]:
    """Return the mean of values over seeds and the ends of its 95 % percentile interval; NaN values are left out."""
    there = values[~values.isnan()]
    if not len(there):
        return float("nan"), float("nan"), float("nan")
    source = torch.Generator().manual_seed(0)
    drawn = there[torch.randint(len(there), (RESAMPLES, len(there)), generator=source)].mean(1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return float(there.mean()), low, high

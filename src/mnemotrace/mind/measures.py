r"""Measures of remembering: what was asked, what was asserted, and what the best and the dullest answer would score.

Of `n` attributes asked for that the event had, `h` asserted rightly, `w` asserted wrongly; of `m` that were asked for
although nobody perceived them, `u` asserted all the same:

.. math:: \text{accuracy} = h/n, \qquad \text{confabulation} = (w + u)/(n + m), \qquad \text{invention} = u/m.

What is left open is neither. A cue may fit several events; the **ceiling** of a question is the share of the events
that fit which have the commonest value, because no memory can answer more often rightly. **Chance** always says the
value that is commonest in the whole life, whatever the cue: who scores no more has not used it.

Generalising is judged by the law of the world, not by one draw of it: an answer counts the probability that it is
right, `p(v | cue)`; leaving open counts nothing; the ceiling is `max_v p(v | cue)`.

All are pure functions on values. Reference: Brainerd & Reyna 2002 (gist and verbatim); Koriat & Goldsmith 1996 (report
and withholding); Bartlett 1932 (confabulation). Cost: O(events) a question.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Said = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """A question about one event.

    Attributes:
        cue: values that are given.
        asked: attributes that are asked for.
        event: all that the event said; what is asked for and not in it was never perceived.
        time: of the event, in days.
    """

    cue: Said
    asked: tuple[str, ...]
    event: Said
    time: float = 0.0

    def __post_init__(self) -> None:
        """Check that something is asked which the cue does not say."""
        given = [name for name in self.asked if name in self.cue]
        if not self.asked or given:
            raise ValueError(
                f"got a question for {', '.join(self.asked) or 'nothing'} with cue {dict(self.cue)}; expected at least "
                "one attribute that the cue does not say"
            )


@dataclass(frozen=True)
class Answer:
    """What was asserted to a question; attributes that are not in it are left open."""

    question: Question
    asserted: Said

    @property
    def right(self) -> int:
        """How many attributes are asserted rightly."""
        return sum(self.asserted.get(name) == self.question.event[name] for name in self.had)

    @property
    def had(self) -> tuple[str, ...]:
        """Attributes asked for that the event had."""
        return tuple(name for name in self.question.asked if name in self.question.event)

    @property
    def lacked(self) -> tuple[str, ...]:
        """Attributes asked for that nobody perceived."""
        return tuple(name for name in self.question.asked if name not in self.question.event)

    @property
    def invented(self) -> int:
        """How many attributes are asserted that nobody perceived."""
        return sum(name in self.asserted for name in self.lacked)

    @property
    def wrong(self) -> int:
        """How many attributes are asserted that the event had, but not so."""
        return sum(name in self.asserted for name in self.had) - self.right


def accuracy(answers: Sequence[Answer]) -> float:
    """Return the share of attributes asked for, and had, that are asserted rightly; NaN if none was had."""
    return _share(sum(a.right for a in answers), sum(len(a.had) for a in answers))


def confabulation(answers: Sequence[Answer]) -> float:
    """Return the share of attributes asked for that are asserted and are not so; NaN if nothing was asked."""
    return _share(sum(a.wrong + a.invented for a in answers), sum(len(a.question.asked) for a in answers))


def invention(answers: Sequence[Answer]) -> float:
    """Return the share of attributes that nobody perceived and that are asserted; NaN if all were perceived."""
    return _share(sum(a.invented for a in answers), sum(len(a.lacked) for a in answers))


def ceiling(questions: Sequence[Question], life: Sequence[Said]) -> float:
    """Return the best accuracy to expect from these cues of anyone who lived these events; NaN if nothing was had."""
    return _answerable(questions, life, cued=True)


def chance(questions: Sequence[Question], life: Sequence[Said]) -> float:
    """Return the accuracy of always saying the value that is commonest in the life; NaN if nothing was had."""
    return _answerable(questions, life, cued=False)


def generalisation(asserted: Sequence[str | None], laws: Sequence[Mapping[str, float]]) -> float:
    """Return the mean probability that the answers are right on days that were never lived; None is left open."""
    if len(asserted) != len(laws):
        raise ValueError(f"got {len(asserted)} answers and {len(laws)} laws; expected one law an answer")
    return _share(sum(law.get(v, 0.0) for v, law in zip(asserted, laws, strict=True) if v is not None), len(laws))


def bayes_ceiling(laws: Sequence[Mapping[str, float]]) -> float:
    """Return the mean probability of being right of who knows the law."""
    return _share(sum(max(law.values()) for law in laws), len(laws))


def bayes_chance(laws: Sequence[Mapping[str, float]], commonest: str) -> float:
    """Return the mean probability of being right of who always says the value that was commonest in the life."""
    return _share(sum(law.get(commonest, 0.0) for law in laws), len(laws))


def commonest(life: Sequence[Said], name: str) -> str:
    """Return the value that an attribute had most often, the first of several."""
    counted = Counter(event[name] for event in life if name in event)
    if not counted:
        raise ValueError(f"got {len(life)} events none of which says {name!r}; expected one that does")
    return counted.most_common(1)[0][0]


def _answerable(questions: Sequence[Question], life: Sequence[Said], *, cued: bool) -> float:
    right, count = 0.0, 0
    for question in questions:
        fits = [event for event in life if not cued or question.cue.items() <= event.items()]
        for name in question.asked:
            if name not in question.event:
                continue
            values = Counter(event[name] for event in fits if name in event)
            best = values.most_common(1)[0]
            # With a cue, the mean over all events that fit is the best share; without one, a hit or a miss.
            right += best[1] / values.total() if cued else best[0] == question.event[name]
            count += 1
    return _share(right, count)


def _share(hits: float, count: int) -> float:
    return hits / count if count else float("nan")

"""Minds: two ways of recalling the same world (F6), and five minds that live the same stories.

Worlds are drawn (`Story.draw`): 40 events over five days, six attributes, three of them gist, one of those by a rule
that holds in .85; a detail is perceived in .75. Twenty seeds of world and mind. A mind is asked before and after the
last night; figures are after it unless said. Gist: two of an event's gist values are given, the third is asked for.
Detail: of every second event all gist is given, all details are asked for, perceived or not. Weak: every second of the
gist questions again, with errors of deviation 0.6 on the cue's features. General: gist values that never came together;
an answer counts the probability that it is right. Old, recent, new: gist of the first day, of the day that ends with
the operation, and after it. Confabulation counts what is asserted and not so; invention what is asserted of what nobody
perceived.

A signature is the mean difference to the intact mind in the same worlds, and stands if the near end of its 95 %
bootstrap interval lies beyond 0. These are models of a mechanism each, not clinical facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from benchmarks.figures import OUT, REPOSITORY, Figure, cpu_seconds, main
from mnemotrace.mind.living import LESIONS, Life, Lives, ask, bootstrap, live
from mnemotrace.mind.mind import Mind
from mnemotrace.mind.story import Story

PICTURE = REPOSITORY / "docs/images/five_minds.png"
SEEDS, MANY = 20, 10_000


@dataclass(frozen=True)
class Signature:
    """What a lesion is expected to do to a measure: `sign` +1 is more of it than the intact mind, -1 less."""

    lesion: str
    measure: str
    sign: int


SIGNATURES = (
    Signature("funes", "detail", 1),
    Signature("funes", "general", -1),
    Signature("hm", "new", -1),
    Signature("hm", "recent", -1),
    Signature("shereshevskii", "weak", 1),
    Signature("shereshevskii", "detail", 1),
    Signature("shereshevskii", "gist", -1),
    Signature("shereshevskii", "general", -1),
    Signature("aphantasia", "confabulation", -1),
    Signature("aphantasia", "evaluations", -1),
)


def told(mean: float, low: float, high: float) -> str:
    """Write a mean with its interval."""
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def lived(seeds: int) -> tuple[Lives, Lives]:
    """Let the five minds live; returns them, and the intact mind asked to follow links instead."""
    rows: dict[str, list[Life]] = {name: [] for name in LESIONS}
    linked: list[Life] = []
    for seed in range(seeds):
        story = Story.draw(torch.Generator().manual_seed(seed))
        for name, row in rows.items():
            row.append(live(story, name, seed))
        mind, asked = rows["intact"][-1].mind, ask(rows["intact"][-1].mind, story, mode="graph")
        linked.append(Life(story, mind, asked, asked))
    return Lives.gather(rows, story="drawn for each seed"), Lives.gather({"intact": linked})


def modes(simulated: Lives, linked: Lives) -> list[Figure]:
    """F6: the intact mind asked in both ways."""
    apart = bootstrap(simulated.of("gist", "intact") - linked.of("gist", "intact"))
    beside = f"simulated {told(*simulated.mean('gist', 'intact'))}, graph {told(*linked.mean('gist', 'intact'))}"
    return [
        Figure("F6 gist, simulated and graph apart", abs(apart[0]), "<= 0.05", f"{beside}; {told(*apart)}"),
        Figure("F6 detail, simulated", simulated.mean("detail", "intact")[0], "", _beside(simulated, "detail")),
        Figure("F6 confabulation, simulated", simulated.mean("confabulation", "intact")[0], ">= 0.0001", ""),
        Figure("F6 invented detail, simulated", simulated.mean("invention", "intact")[0], "", ""),
        Figure("F6 invented detail, graph", float(linked.of("invention", "intact").max()), "<= 0", "largest of seeds"),
        Figure("F6 confabulation, graph", linked.mean("confabulation", "intact")[0], "", "asserted of another event"),
        Figure("F6 detail, graph", linked.mean("detail", "intact")[0], "", _beside(linked, "detail")),
        Figure("F6 sampler calls, graph", float(linked.of("sampler calls", "intact").max()), "<= 0", ""),
    ]


def cost(count: int) -> list[Figure]:
    """F6: CPU time of both ways in a mind of many events."""
    story = Story.draw(torch.Generator().manual_seed(0), days=count // 10, a_day=10)
    mind = Mind(story.world)
    for event in story.events:
        mind.experience(event)
    cues = [{n: e.attributes[n] for n in ("who", "place")} for e in story.events[:10]]
    spent = cpu_seconds(
        {mode: lambda mode=mode: [mind.recall(cue, mode=mode) for cue in cues] for mode in ("simulate", "graph")}  # pyright: ignore
    )
    each = {mode: 1000 * seconds / len(cues) for mode, seconds in spent.items()}
    note = f"{count} events; simulated {each['simulate']:.1f} ms, graph {each['graph']:.2f} ms a recall"
    return [Figure("F6 times cheaper, graph", each["simulate"] / each["graph"], ">= 20", note)]


def minds(found: Lives) -> list[Figure]:
    """Each mind's measures, and each lesion's signature."""
    figures = [
        Figure(f"{mind}, {name}", found.mean(name, mind)[0], "", _beside(found, name, mind))
        for name in ("gist", "detail", "weak", "general", "confabulation", "invention", "old", "recent", "new")
        for mind in found.lesions
    ]
    for s in SIGNATURES:
        mean, low, high = found.difference(s.measure, s.lesion)
        near, gate = (low, ">= 0") if s.sign > 0 else (high, "<= 0")
        figures.append(
            Figure(f"signature: {s.lesion}, {s.measure}", near, gate, f"minus intact {told(mean, low, high)}")
        )
    loss = {p: found.of(p, "hm") - found.of(p, "intact") for p in ("old", "recent")}
    graded = bootstrap(loss["old"] - loss["recent"])
    note = f"loss of old less loss of recent {told(*graded)}"
    figures.append(Figure("signature: hm, loss graded by age", graded[1], ">= 0", note))
    apart = found.difference("gist", "aphantasia")
    figures.append(Figure("signature: aphantasia, gist as intact", abs(apart[0]), "<= 0.05", told(*apart)))
    return figures


def sleep(found: Lives) -> list[Figure]:
    """What nights do: the intact mind less one that never slept, in the same worlds."""
    seeds = found.of("gist", "intact").shape[0]
    rows: list[Life] = []
    for seed in range(seeds):
        story = Story.draw(torch.Generator().manual_seed(seed)).sleepless()
        rows.append(live(story, "intact", seed))
    awake = Lives.gather({"intact": rows})
    figures: list[Figure] = []
    for name in ("gist", "detail", "general", "confabulation"):
        mean, low, high = bootstrap(found.of(name, "intact") - awake.of(name, "intact"))
        figures.append(Figure(f"nights, {name}", mean, "", f"with nights less without {told(mean, low, high)}"))
    return figures


def _beside(found: Lives, name: str, mind: str = "intact") -> str:
    words = [told(*found.mean(name, mind)[0:3])]
    words += [
        f"{w} {found.mean(f'{name}, {w}', mind)[0]:.3f}"
        for w in ("chance", "ceiling")
        if f"{name}, {w}" in found.values
    ]
    return ", ".join(words)


def draw(found: Lives) -> None:
    """Draw the five minds for the page."""
    from mnemotrace.view.figure import save
    from mnemotrace.view.lives import figure

    shown = figure(found.pack())
    OUT.mkdir(exist_ok=True)
    if shown is not None:
        path, _ = save(shown, OUT / "five_minds.png")
        Image.open(path).convert("RGB").quantize(256).save(PICTURE, optimize=True)


def measure(quick: bool) -> Sequence[Figure]:
    """Measure everything; `quick` with one seed and a hundred events."""
    found, linked = lived(1 if quick else SEEDS)
    if not quick:
        draw(found)
    return [*modes(found, linked), *cost(100 if quick else MANY), *minds(found), *sleep(found)]


if __name__ == "__main__":
    main(measure, __doc__)

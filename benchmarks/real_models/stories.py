"""stories260k, a real 260 k Llama: erase one story through the command line, see what happens to the others.

Nothing here was learnt by heart: the model is as good at these stories as at any (1.2 nats a token), so the target is
what it knows of one story beside what it knows of stories. Reference: stories that the model itself tells. The setting
is calibrated on the first story and told ones that are not in the reference, then used on the other four, each alone.
Real stories are never in a reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.figures import Figure, Skipped, data_folder, main
from benchmarks.real_models.command import draw, mnemotrace, output_folder, write_lines

SITES = r".*(o_proj|down_proj)"


def stories(folder: Path) -> list[str]:
    """Read the five stories."""
    text = (folder / "tinystories_sample.txt").read_text(encoding="utf-8")
    return [story.strip() for story in text.split("<|endoftext|>") if story.strip()]


def told(folder: Path, count: int, *, length: int = 300, batch: int = 32) -> list[str]:
    """Let the model tell stories: sampled at temperature 1, one fixed seed a batch."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    start = torch.full((batch, 1), tokenizer.bos_token_id)
    found: list[str] = []
    for seed in range(-(-count // batch)):
        torch.manual_seed(seed)
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "max_new_tokens": length}
        rows = model.generate(start, attention_mask=torch.ones_like(start), pad_token_id=start[0, 0].item(), **options)
        for row in rows[:, 1:].tolist():
            end = row.index(tokenizer.bos_token_id) if tokenizer.bos_token_id in row else len(row)
            found.append(tokenizer.decode(row[:end]).strip())
    return found[:count]


def prepare(model: Path, folder: Path, *, quick: bool) -> dict[str, Path]:
    """Write the real stories, alone and the others of each, and told ones to refer to, to calibrate by, to report."""
    real = stories(model)
    sizes = (8, 4, 4) if quick else (192, 32, 32)
    made = told(model, sum(sizes), length=60 if quick else 300, batch=8 if quick else 32)
    texts = {f"story{i}": [text] for i, text in enumerate(real)}
    texts |= {f"others{i}": real[:i] + real[i + 1 :] for i in range(len(real))}
    for name, size in zip(("reference", "keep", "told"), sizes, strict=True):
        texts[name], made = made[:size], made[size:]
    return {name: write_lines(folder / f"{name}.jsonl", [{"text": t} for t in part]) for name, part in texts.items()}


@dataclass(frozen=True)
class Case:
    """A story with what else is asked for."""

    model: Path
    folder: Path
    number: int
    data: Mapping[str, Path]

    def under(self, edit: Path) -> dict[str, Any]:
        """Return the NLL before and after an edit: of the story, of the other real ones, of told ones."""
        names = {"story": f"story{self.number}", "others": f"others{self.number}", "told": "told"}
        on = [word for name, part in names.items() for word in ("--on", f"{name}={self.data[part]}")]
        return mnemotrace("measure", self.model, edit, *on, "--score", "nll")["on"]

    def calibrated(self, calibration: Path, reference: Path) -> dict[str, Any]:
        """Erase with the calibrated setting."""
        edit, target = self.folder / f"edit-story{self.number}.safetensors", self.data[f"story{self.number}"]
        how = ("--calibration", calibration, "--target", target, "--reference", reference, "--dtype", "float64")
        mnemotrace("erase", self.model, *how, "-o", edit)
        return self.under(edit)

    def published(self) -> dict[str, Any]:
        """Erase with the published setting: all sites, selectivity 1, strength 1."""
        engram, edit = self.folder / "published-engram.safetensors", self.folder / "published-edit.safetensors"
        what = ("--target", self.data[f"story{self.number}"], "--reference", self.data["reference"])
        mnemotrace("locate", self.model, *what, "-o", engram, "--dtype", "float64")
        mnemotrace("erase", self.model, engram, "-o", edit)
        return self.under(edit)


def calibrate(model: Path, folder: Path, data: Mapping[str, Path], *, quick: bool) -> tuple[dict[str, Any], Path, Path]:
    """Search on the first story; returns what was found, the calibration and the reference."""
    reference, calibration = folder / "reference.safetensors", folder / "calibration.safetensors"
    read = ("--sites", SITES, "--dtype", "float64")
    mnemotrace("collect", model, data["reference"], "-o", reference, *read)
    target = ("--target", data["story0"], "--reference", reference, "--forget", data["story0"])
    keep = ("--keep", f"told={data['keep']}", "--budget", 1 if quick else 0.02, "--goal", 0.05)
    strengths, selectivities = ("4", "0.3") if quick else ("4,8,12,16,24,32", "0.3,1,3")
    search = ("--strengths", strengths, "--selectivities", selectivities, "--score", "likelihood")
    found = mnemotrace("calibrate", model, *target, *keep, *search, "-o", calibration, *read)
    return found["chosen"], calibration, reference


def measure(quick: bool) -> list[Figure]:
    """Calibrate on the first story, erase the others one by one."""
    model, folder = data_folder("stories260k"), output_folder("stories260k")
    if not (model / "tinystories_sample.txt").is_file():
        raise Skipped("no tinystories_sample.txt in stories260k; set MNEMOTRACE_DATA")
    data = prepare(model, folder, quick=quick)
    best, calibration, reference = calibrate(model, folder, data, quick=quick)
    cases = [Case(model, folder, number, data) for number in (1, 2, 3, 4)[: 1 if quick else None]]
    runs = [case.calibrated(calibration, reference) for case in cases]
    published = cases[0].published()
    shown = (calibration, folder / "edit-story1.safetensors")
    mnemotrace("report", *shown, "-o", folder / "report.html", "--title", "One story of stories260k")
    draw(calibration, folder)
    figures = [
        Figure(
            f"story {case.number} erased: NLL of {label}", run[name]["after"], "", f"before {run[name]['before']:.3f}"
        )
        for case, run in zip(cases, runs, strict=True)
        for name, label in (("story", "it"), ("others", "the other four"), ("told", "told ones"))
    ]
    setting = f"{best['sites']} of {SITES}, strength {best['strength']:g}, selectivity {best['selectivity']:g}"
    for name in ("story", "others", "told"):
        rise = mean(run[name]["after"] - run[name]["before"] for run in runs)
        figures.append(Figure(f"mean rise of NLL: {name}", rise, "", setting if name == "story" else ""))
    old = published["story"]
    figures.append(Figure("published, story 1: NLL of it", old["after"], "", f"before {old['before']:.3f}"))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

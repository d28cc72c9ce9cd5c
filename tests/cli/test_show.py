"""`mnemotrace show` and `mnemotrace report` on memories and on what was measured of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import torch

import mnemotrace as mt
from mnemotrace.evaluation.capacity import capacity

SIGNS = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, -1]])


def test_a_memory_is_shown_in_words(run, tmp_path: Path) -> None:
    path = mt.save(mt.DiffusionMemory(SIGNS, sigma=0.5), tmp_path / "x.safetensors")
    result = run("show", path)
    assert result.exit_code == 0
    for line in (r"features\s+4", r"patterns\s+2", r"sigma\s+0\.5", r"patterns\s+2 × 4\s+float32"):
        assert re.search(line, result.stdout), line
    assert "handles" not in result.stdout


def test_a_recall_is_shown_cue_by_cue_and_as_json(run, tmp_path: Path) -> None:
    path = mt.save(mt.recall(mt.Hopfield(SIGNS), SIGNS), tmp_path / "x.safetensors")
    assert re.search(r"at rest\s+2 of 2", run("show", path).stdout)
    values = json.loads(run("show", path, "--json").stdout)
    assert values["kind"] == "recall"
    assert values["evaluations"] > 0


def test_many_files_become_one_page_with_a_line_a_memory(run, tmp_path: Path) -> None:
    made = []
    for name, make in (("hopfield", mt.Hopfield), ("dense", mt.DenseMemory)):
        found = capacity(make, d=8, counts=[1, 4], cues=4, draws=2, generator=torch.Generator().manual_seed(0))
        named = replace(found, manifest={**found.manifest, "memory": name})
        made.append(mt.save(named, tmp_path / f"{name}.safetensors"))
    made.append(mt.save(mt.Hopfield(SIGNS), tmp_path / "memory.safetensors"))
    result = run("report", *made, "-o", tmp_path / "report.html")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == ["Hopfield network", "Capacity", "Files"]
    assert "Dense: half is recalled at" in page

"""Every benchmark runs in its quick setting and writes figures, or says why it cannot."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure, table
from benchmarks.run import NAMES


def test_a_gate_is_met_or_missed_and_the_table_says_so():
    figures = [Figure("a", 0.5, "<= 1"), Figure("b", 0.5, ">= 1"), Figure("c", 0.5)]
    assert [f.met for f in figures] == [True, False, None]
    lines = table(figures).splitlines()
    assert "met" in lines[1] and "MISSED" in lines[2] and "met" not in lines[3]


def test_every_script_is_run(repository: Path):
    scripts = {
        p for folder in ("papers", "real_models", "speed") for p in (repository / "benchmarks" / folder).glob("*.py")
    }
    named = {f"{p.parent.name}.{p.stem}" for p in scripts if "__main__" in p.read_text()}
    assert named == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_quick_setting_writes_finite_figures(name: str, repository: Path, tmp_path: Path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written = json.loads(file.read_text())
    if written["skipped"]:
        pytest.skip(written["skipped"])
    assert written["figures"] and written["threads"] == 1
    assert all(math.isfinite(f["value"]) and f["gate"] == "" for f in written["figures"])

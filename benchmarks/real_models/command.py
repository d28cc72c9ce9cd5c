"""Run the command line in a process of its own, as a user would, and write what it reads."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import REPOSITORY


def mnemotrace(*arguments: object) -> dict[str, Any]:
    """Run `mnemotrace ARGUMENTS --json` on one thread and return what it prints.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    words = [str(argument) for argument in (*arguments, "--json", "--silent", "--threads", 1)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mnemotrace", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mnemotrace {' '.join(words)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def output_folder(name: str) -> Path:
    """Return the folder for what a script makes."""
    folder = REPOSITORY / "benchmarks" / "out" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draw(artifact: Path, folder: Path) -> list[Path]:
    """Draw the figures of an artifact as PNG and SVG with their numbers as CSV."""
    from mnemotrace.core.artifact import read
    from mnemotrace.view import figures_of, save

    made = [save(f, folder / f"{f.name}{ending}") for f in figures_of(read(artifact)) for ending in (".png", ".svg")]
    return [path for pair in made for path in pair]

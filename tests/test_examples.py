"""Every example runs, in a short setting, and prints what the comment at its end says it prints in the usual one."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SHORT = {"01_erase_a_fact": 40, "02_forget_a_class": 6, "03_compose_and_transplant": 6, "04_convolutions": 60,
         "07_rewrite_a_fact": 4, "08_graft_a_skill": 10, "09_erase_a_concept": 80,
         "10_funes_remembers_everything": 5, "11_hm": 5, "13_name_once_seen": 5, "14_concept_cells": 19,
         "15_name_latents": 5, "16_shereshevskii": 16, "17_superposition": 250, "18_discover": 200,
         "22_five_minds": 1}  # fmt: skip
CODE_LINES = 60


def _name(path: Path) -> str:
    return path.stem


def _parts(path: Path) -> tuple[str, list[str]]:
    """Return the code, and the lines of the comment that ends the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i in range(len(lines), 0, -1) if not lines[i - 1].startswith("# "))
    return "\n".join(lines[:end]), [line.removeprefix("# ") for line in lines[end:]]


def _words(lines: list[str]) -> list[str]:
    """What is printed, without the numbers, which depend on the setting."""
    return [" ".join(re.sub(r"-?\d[\d.e+-]*", "", line).split()) for line in lines]


def _run(path: Path) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, torch.random.fork_rng(devices=[]):
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue().splitlines()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
    assert {path.stem for path in EXAMPLES} >= SHORT.keys()


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::DeprecationWarning:transformers")
@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_runs_and_prints_what_it_says(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short = [str(SHORT[path.stem])] if path.stem in SHORT else []
    monkeypatch.setattr(sys, "argv", [str(path), *short])
    monkeypatch.chdir(tmp_path)
    printed = _run(path)
    stated = _parts(path)[1]
    if short:
        printed, stated = ([line.split(",")[0].split("  ")[0] for line in _words(part)] for part in (printed, stated))
    assert _words(printed) == _words(stated)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_is_short_and_opens_with_what_it_shows(path: Path) -> None:
    code = _parts(path)[0]
    assert len(code.splitlines()) < CODE_LINES
    assert re.match(r'""".+[.]"""\n', code)

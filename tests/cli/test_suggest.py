"""`mnemotrace suggest` says what the library suggests, and writes it where it is asked to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.facts import read_facts
from tests.cli.conftest import Run, write_lines

Made = Callable[..., dict]


@pytest.fixture(scope="module")
def facts(world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen facts, one of which is wrong."""
    known = [f for f in world.facts if f.relation == "town"][:18]
    lines = [{"prompt": f.phrasings[0], "subject": f.subject, "answer": f.answer} for f in known]
    wrong = next(f.answer for f in known if f.answer != known[1].answer)
    lines[1]["answer"] = wrong
    return write_lines(tmp_path_factory.mktemp("facts") / "facts.jsonl", lines)


def test_it_says_what_the_library_suggests_and_writes_it(made: Made, run: Run, facts: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    values = made("suggest", "funes", facts, "--limit", 4, "--draws", 2, "--seed", 3, "-o", out)
    organism = mt.funes()
    generator = torch.Generator().manual_seed(3)
    wanted = mt.suggest(organism.model, organism.tokenizer, read_facts(facts)[:4], draws=2, generator=generator)
    assert (values["layer"], values["lookup"]) == (wanted.layer, wanted.lookup)
    assert values["layers"] == list(wanted.layers)
    assert values["sites"] == list(wanted.sites)
    assert values["scores"] == {name: list(scores) for name, scores in wanted.scores.items()}
    assert (values["facts"], values["unknown"]) == (3, 1)
    found = mt.load(out)
    assert (found.layer, found.scores) == (wanted.layer, wanted.scores)
    assert found.manifest["command"].startswith("mnemotrace suggest funes")
    shown = run("show", out).stdout
    assert "one layer" in shown
    assert "last token of the prompt" in shown
    page = tmp_path / "r.html"
    made("report", out, "-o", page)
    assert "What hangs on the MLPs from each layer on" in page.read_text()


def test_sixteen_facts_are_traced_unless_a_limit_says_otherwise(made: Made, facts: Path) -> None:
    values = made("suggest", "funes", facts, "--draws", 1)
    assert values["facts"] + values["unknown"] == 16
    values = made("suggest", "funes", facts, "--draws", 1, "--limit", 18)
    assert values["facts"] + values["unknown"] == 18


def test_one_fact_has_scores_without_errors(run: Run) -> None:
    result = run("suggest", "funes", "--prompt", "Ada Marsh lives in", "--draws", 2, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["facts"] == 1
    assert set(values["errors"]["prompt"]) == {None}


def test_a_table_is_printed_and_remarks_go_to_stderr(run: Run, facts: Path) -> None:
    result = run("suggest", "funes", facts, "--limit", 3, "--draws", 2)
    assert result.exit_code == 0
    assert "one layer" in result.stdout
    assert "left out, not known" in result.stdout
    assert "warning: the network does not answer" in result.stderr
    quiet = run("suggest", "funes", facts, "--limit", 3, "--draws", 2, "--silent")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "expected one of them"),
        (("facts.jsonl", "--prompt", "Ada Marsh lives in"), 2, "expected one of them"),
        (("missing.jsonl",), 1, "missing.jsonl, which is not a file"),
        (("--prompt", "Ada Marsh lives in", "--subject", "Berta"), 1, "which is not in the prompt"),
        (("--prompt", "Ada Marsh lives in", "--answer", "green"), 1, "none of which the network knows"),
    ],
)
def test_what_goes_wrong_leaves_nothing(
    arguments: tuple[str, ...], code: int, message: str, *, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("suggest", "funes", *arguments, "-o", "s.safetensors", "--silent")
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())

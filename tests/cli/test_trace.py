"""`mnemotrace trace` writes the maps that the library finds, draws them, goes on where it stopped, drops nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import read
from mnemotrace.localisation import causal_tracing
from tests.cli.conftest import Run, write_lines

Made = Callable[..., dict]
ADA = ("--prompt", "Ada Marsh lives in", "--subject", "Ada Marsh")
SMALL = ("--kind", "state", "--draws", "2")


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve facts, and three of which one is wrong."""
    path = tmp_path_factory.mktemp("facts")
    facts = [f for f in world.facts if f.relation == "town"][:12]
    lines = [{"prompt": f.phrasings[0], "subject": f.subject, "answer": f.answer} for f in facts]
    write_lines(path / "facts.jsonl", lines)
    wrong = next(f.answer for f in facts if f.answer != facts[1].answer)
    write_lines(path / "unknown.jsonl", [lines[0], {**lines[1], "answer": wrong}, lines[2]])
    return path


def test_one_fact_gives_what_the_library_finds(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    values = made("trace", "funes", *ADA, "-o", out, "--draws", 3, "--seed", 5)
    organism = mt.funes()
    generator = torch.Generator().manual_seed(5)
    fact = Fact("Ada Marsh lives in", "Ada Marsh")
    wanted = mt.trace(organism.model, organism.tokenizer, fact, draws=3, generator=generator)
    found = mt.load(out)
    assert found.kinds == wanted.kinds == ("state", "mlp", "attention")
    assert all(torch.equal(found.records[0].restored[kind], wanted.records[0].restored[kind]) for kind in wanted.kinds)
    assert (values["kind"], values["facts"], values["unknown"]) == ("causal_trace", 1, 0)
    assert found.manifest["command"].startswith("mnemotrace trace funes --prompt 'Ada Marsh lives in'")


def test_an_answer_may_be_given_and_a_subject_proposed(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    made("trace", "funes", "--prompt", "Ada Marsh lives in", "--answer", "Castor", "-o", out, *SMALL)
    (record,) = mt.load(out).records
    assert (record.subject, record.answer) == ("Ada Marsh", "Castor")


@pytest.mark.parametrize(("ending", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_figure_is_drawn_with_its_numbers_beside_it(ending: str, start: bytes, made: Made, tmp_path: Path) -> None:
    figure = tmp_path / f"map{ending}"
    values = made("trace", "funes", *ADA, "-o", tmp_path / "t.safetensors", *SMALL, "--figure", figure)
    assert values["figure"] == str(figure)
    assert figure.read_bytes().startswith(start)
    heading, *rows = (tmp_path / "map.csv").read_text().splitlines()
    assert heading == "put back,tokens,layer,effect"
    assert len(rows) == 5 * 6
    assert "1 Ada *" in rows[6]


@pytest.mark.parametrize("figure", ["map.pdf", "map", "no/such/folder/map.svg"])
def test_a_figure_that_could_not_be_written_is_refused_before_anything_is_traced(
    figure: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("trace", "funes", *ADA, "-o", "t.safetensors", "--figure", figure)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected" in result.stderr
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_a_figure_is_refused_before_anything_is_traced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = run("trace", "funes", *ADA, "-o", tmp_path / "t.safetensors", "--figure", tmp_path / "t.svg")
    assert result.exit_code == 1
    assert "pip install 'mnemotrace[plot]'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_facts_from_a_file_with_a_limit_and_a_control(made: Made, run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    values = made("trace", "funes", folder / "facts.jsonl", "--limit", 3, "--control", "-o", out, *SMALL)
    assert values["facts"] == 3
    assert all(record.stranger for record in mt.load(out).records)
    shown = run("show", out).stdout
    assert "another subject's" in shown
    assert "last token" in shown


def test_a_run_that_was_interrupted_goes_on_and_gives_the_same_file(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("trace", "funes", folder / "facts.jsonl", "-o", "t.safetensors", *SMALL, "--resume")
    original, calls = causal_tracing._Tracer.record, 0

    def counted(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return original(self, *arguments)

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert run(*command).exit_code == 0
    monkeypatch.chdir(tmp_path / "parts")
    monkeypatch.setattr(causal_tracing._Tracer, "record", counted)
    stopped = run(*command)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert [path.name for path in Path.cwd().iterdir()] == ["t.safetensors.part"]
    assert run(*command).exit_code == 0
    assert calls == 12 + 2  # ten were in the checkpoint
    assert [path.name for path in Path.cwd().iterdir()] == ["t.safetensors"]
    assert Path("t.safetensors").read_bytes() == (tmp_path / "whole" / "t.safetensors").read_bytes()


def test_facts_that_the_model_does_not_know_are_told_everywhere(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    result = run("trace", "funes", folder / "unknown.jsonl", "-o", out, *SMALL, "--json")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stderr.splitlines()
    (left,) = mt.load(out).manifest["unknown"]
    assert line.startswith("warning: the network does not answer")
    assert left in line
    values = json.loads(result.stdout)
    assert (values["facts"], values["unknown"]) == (2, 1)
    quiet = run("trace", "funes", folder / "unknown.jsonl", "-o", out, *SMALL, "--silent")
    assert quiet.stderr == ""
    assert "left out, not known" in quiet.stdout


def test_a_model_that_knows_none_of_the_facts_is_an_error(run: Run, tmp_path: Path) -> None:
    result = run("trace", "funes", *ADA, "--answer", "green", "-o", tmp_path / "t.safetensors", *SMALL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none of which the network knows" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_subjects_and_their_tokens_and_writes_nothing(made: Made, folder: Path, tmp_path: Path) -> None:
    values = made("trace", "funes", *ADA, "--dry-run", "-o", tmp_path / "t.safetensors")
    assert values["layers"] == 6
    assert values["facts"] == [
        {"prompt": "Ada Marsh lives in", "subject": "Ada Marsh", "subject_range": [1, 3], "tokens": 5}
    ]
    assert len(made("trace", "funes", folder / "facts.jsonl", "--dry-run")["facts"]) == 12
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("-o", "t"),
        ("facts.jsonl", *ADA, "-o", "t"),
        ("facts.jsonl", "--subject", "Ada", "-o", "t"),
        ("facts.jsonl", "--answer", "Castor", "-o", "t"),
        ADA,
        (*ADA, "-o", "t", "--kind", "embedding"),
        (*ADA, "-o", "t", "--draws", "0"),
        (*ADA, "-o", "no/such/folder/t"),
    ],
)
def test_wrong_usage_is_exit_code_two(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("trace", "funes", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "Ada Marsh lives in", "--subject", "Berta"), "the subject 'Berta', which is not in the prompt"),
        (("--prompt", "{} lives in"), "expected one to fill {}"),
        (("missing.jsonl",), "missing.jsonl, which is not a file"),
        ((*ADA, "--control"), "expected at least two such subjects"),
        ((*ADA, "--noise", "0"), "expected more than 0 standard deviations"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("trace", "funes", *arguments, "-o", "t.safetensors", "--figure", "t.svg", *SMALL)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_an_encoder_is_refused(run: Run, encoder: Path, tmp_path: Path) -> None:
    result = run("trace", encoder, *ADA, "-o", tmp_path / "t.safetensors")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: got ")
    assert not list(tmp_path.iterdir())


def test_a_trace_becomes_a_page(made: Made, folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "t.safetensors", tmp_path / "r.html"
    made("trace", "funes", folder / "unknown.jsonl", "-o", out, *SMALL)
    made("report", out, "-o", page)
    assert "What brings the answer to 2 facts back" in page.read_text()
    assert read(out).kind == "causal_trace"

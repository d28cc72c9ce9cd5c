"""The command compares edits from files, and refuses what does not go together."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import mnemotrace as mt
from mnemotrace.cli.compare import compare
from mnemotrace.core.artifact import read
from mnemotrace.evaluation.comparison import Comparison
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.organisms.world import World
from tests.cli.conftest import write_lines


def call(*arguments: object) -> Result:
    return CliRunner().invoke(compare, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def facts(made_once: Path, world: World) -> Path:
    fact = from_world(world, world.fact("Olga Lund", "animal"), neighbours=3)
    return write_lines(made_once / "facts.jsonl", [fact.to_json()])


@pytest.fixture(scope="module")
def written(made_once: Path, facts: Path) -> tuple[Path, dict]:
    """A table of two methods: one that erases, and the same edit taken for one that writes."""
    out = made_once / "comparison.safetensors"
    edit = made_once / "edit.safetensors"
    options = ("--erases", "engram", "--texts", made_once / "sentences.jsonl", "--draws", 1, "-o", out, "--json")
    result = call("funes", "--facts", facts, "--edit", f"engram={edit}", "--edit", f"other={edit}", *options)
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


def test_compare_writes_what_the_library_compares(written: tuple[Path, dict], made_once: Path, facts: Path) -> None:
    from mnemotrace.adapters.facts import read_facts
    from mnemotrace.adapters.hf import read_jsonl
    from mnemotrace.evaluation import comparison

    organism = mt.funes()
    edit = mt.load(made_once / "edit.safetensors")
    texts = [example.text for example in read_jsonl(made_once / "sentences.jsonl")]
    methods, writes = {"engram": edit, "other": edit}, {"engram": False, "other": True}
    wanted = comparison.compare(
        organism.model, organism.tokenizer, methods, read_facts(facts), texts=texts, writes=writes, draws=1
    )
    found = Comparison.unpack(read(written[0], "comparison"))
    assert [vars(row) for row in found.rows] == [vars(row) for row in wanted.rows]
    assert found.manifest["command"].startswith("mnemotrace ")


def test_what_is_printed_is_a_row_a_method(written: tuple[Path, dict]) -> None:
    values = written[1]
    assert (values["kind"], values["facts"]) == ("comparison", 1)
    names = [(row["name"], row["writes"]) for row in values["methods"]]
    writing, erasing = ["untouched", "other", "random"], ["untouched", "engram", "random"]
    assert names == [*((name, True) for name in writing), *((name, False) for name in erasing)]
    engram = values["methods"][4]
    assert {"efficacy", "necessity", "perplexity_ratio", "bytes", "absent"} <= engram.keys()
    assert engram["perplexity_ratio"] == pytest.approx(1, abs=0.5)


def test_a_method_that_erases_must_be_one_of_the_edits(facts: Path, made_once: Path, tmp_path: Path) -> None:
    edit = f"engram={made_once / 'edit.safetensors'}"
    result = call("funes", "--facts", facts, "--edit", edit, "--erases", "rome", "-o", tmp_path / "x")
    assert result.exit_code == 2
    assert "got --erases rome; expected one of engram" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("fact.jsonl", "got fact 0 ("),
        ("missing.jsonl", "missing.jsonl, which is not a file"),
        ("sentences.jsonl", "sentences.jsonl, line 1: got unknown keys 'text'"),
    ],
)
def test_facts_that_cannot_be_judged_are_one_line_and_exit_code_one(
    file: str, message: str, facts: Path, made_once: Path, tmp_path: Path
) -> None:
    edit = f"engram={made_once / 'edit.safetensors'}"
    result = call("funes", "--facts", made_once / file, "--edit", edit, "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_engram_is_no_edit(facts: Path, made_once: Path, tmp_path: Path) -> None:
    edit = f"engram={made_once / 'engram.safetensors'}"
    result = call("funes", "--facts", facts, "--edit", edit, "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert "of kind 'engram'; expected 'edit'" in result.stderr

"""What goes wrong is one line on stderr, an exit code, and no half-written file."""

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mnemotrace.cli import main
from mnemotrace.core import artifact
from tests.cli.conftest import SITES, Run, invoke, write_lines


def test_the_bare_command_and_help_load_no_torch() -> None:
    code = "import sys; from mnemotrace.cli import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'rich', 'transformers', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "collect" in done.stdout


VERBS = [(name, *more) for name, command in sorted(main.commands.items())
         for more in ([[inner] for inner in getattr(command, "commands", {})] or [[]])]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_command_has_help_and_the_common_options(run: Run, verb: tuple[str, ...]) -> None:
    result = run(*verb, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--silent", "--threads", "--seed", "--debug"):
        assert option in result.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("mnemotrace ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("collect", "funes"),
        ("collect", "funes", "data.jsonl"),
        ("collect", "funes", "data.jsonl", "-o", "no/such/folder/x"),
        ("collect", "funes", "data.jsonl", "-o", "x", "--layers", "a-b"),
        ("erase", "funes", "-o", "x"),
        ("erase", "funes", "engram", "--calibration", "c", "-o", "x"),
        ("compose", "a", "b", "--weights", "1", "-o", "x"),
        ("compose", "a", "b", "--weights", "1,x", "-o", "x"),
        ("demo", "--fact", "Olga Lund"),
        ("measure", "funes", "edit", "--on", "=x"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "missing.safetensors"), "missing.safetensors, which is not a file"),
        (("collect", "no/such/model", "fact.jsonl", "-o", "x"), "neither a directory nor a model"),
        (("collect", "funes", "missing.jsonl", "-o", "x"), "missing.jsonl, which is not a file"),
        (("collect", "funes", "fact.jsonl", "-o", "x", "--sites", "nothing"), "match none"),
        (("collect", "funes", "broken.jsonl", "-o", "x"), "broken.jsonl, line 1"),
        (("locate", "funes", "--target", "fact.jsonl", "--reference", "shared.jsonl", "-o", "x"), "got 4 examples"),
        (("locate", "funes", "--target", "fact.jsonl", "--reference", "fact.jsonl", "-o", "x", "--drop-shared"),
         "nothing but the target"),
        (("erase", "funes", "reference.safetensors", "-o", "x"), "expected 'engram'"),
        (("compose", "edit.safetensors", "engram.safetensors", "-o", "x"), "expected one kind"),
        (("demo", "-o", "x", "--fact", "Nobody:animal"), "expected one of the 400 subjects"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_exit_code_one(
    arguments: tuple[str, ...], message: str, made_once: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in made_once.iterdir():
        (tmp_path / file.name).symlink_to(file)
    write_lines(tmp_path / "broken.jsonl", [{"txt": "a"}])
    before = sorted(tmp_path.iterdir())
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" not in run("show", "missing").stderr
    assert "Traceback" in run("show", "missing", "--debug").stderr


def test_an_engram_of_another_model_is_refused_unless_forced(run: Run, made_once: Path, tmp_path: Path) -> None:
    merged, out = tmp_path / "merged", tmp_path / "edit.safetensors"
    assert run("erase", "funes", made_once / "engram.safetensors", "-o", out, "--merge", merged).exit_code == 0
    out.unlink()
    refused = run("erase", merged, made_once / "engram.safetensors", "-o", out)
    assert refused.exit_code == 1
    assert "expected one network" in refused.stderr
    assert not out.exists()
    assert run("erase", merged, made_once / "engram.safetensors", "-o", out, "--force").exit_code == 0


def test_shared_examples_can_be_dropped(run: Run, made_once: Path, tmp_path: Path) -> None:
    data = ("--target", made_once / "fact.jsonl", "--reference", made_once / "shared.jsonl")
    result = run("locate", "funes", *data, "-o", tmp_path / "e.safetensors", *SITES, "--drop-shared")
    assert result.exit_code == 0
    assert "4 of 9 examples of the reference" in result.stderr
    quiet = run("locate", "funes", *data, "-o", tmp_path / "e.safetensors", *SITES, "--drop-shared", "--silent")
    assert quiet.stderr == ""


def test_warnings_are_one_line_each(run: Run, made_once: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engram, out = made_once / "engram.safetensors", tmp_path / "e.safetensors"
        result = run("erase", "funes", engram, "-o", out, "--strength", "8")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: the change is larger than the weight")


def test_a_remark_is_made_once(run: Run, made_once: Path) -> None:
    data = ("--on", made_once / "sentences.jsonl")
    result = run("measure", "funes", made_once / "edit.safetensors", *data, "--score", "nll", "--max-length", "9")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "longer than 9 tokens and were cut" in line


def test_statistics_need_held_out_data_to_calibrate_by(run: Run, made_once: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "c.safetensors")
    statistics, fact = made_once / "reference.safetensors", made_once / "fact.jsonl"
    result = run("calibrate", "funes", "--target", statistics, "--reference", statistics, *out)
    assert (result.exit_code, "no --forget" in result.stderr) == (2, True)
    result = run("calibrate", "funes", "--target", fact, "--reference", statistics, *out)
    assert (result.exit_code, "no --keep" in result.stderr) == (2, True)


def test_an_interrupt_leaves_no_file(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(_: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(artifact, "save_file", write_half)
    result = run("collect", "funes", data / "fact.jsonl", "-o", tmp_path / "r.safetensors", *SITES)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["interrupted; nothing half-written is left"]
    assert not list(tmp_path.iterdir())


def test_the_module_runs_as_a_command_and_fails_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnemotrace", "show", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: got ")
    assert len(done.stderr.splitlines()) == 1

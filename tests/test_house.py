"""Rules of the house that no linter knows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
OPTIONAL = ["matplotlib", "sklearn", "scipy", "peft", "transformers"]

# Where this repository happens to be checked out, and what happens to be installed there, is nobody else's business.
# One letter stands in brackets so that no pattern finds itself.
MACHINE = [
    r"(?<![\w.}~])/(?:work|home|root|Users)/\w",
    r"\.lib[r]ary\b",
    r"\bfar[m]-[a-z]",
    r"\biss[u]es (?:show|list|note|close)\b",
    r"\.\./shar[e]d/(?!data\b)",
]


def _tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return ""


def _run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_tracked_file_names_a_path_or_tool_of_one_machine() -> None:
    pattern = re.compile("|".join(MACHINE))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in _tracked()
        for number, line in enumerate(_text(path).splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["see /wor" + "k/main/x", "../.libr" + "ary/x", "run far" + "m-tool", "../share" + "d/x.md"]
)
def test_the_machine_patterns_find_what_they_are_for(line: str) -> None:
    assert re.search("|".join(MACHINE), line)
    assert not re.search("|".join(MACHINE), "a ../shared/data folder, src/root/x, https://example.org/home/x")


def test_no_tracked_file_is_large() -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in _tracked() if path.is_file()}
    assert not {name: size for name, size in large.items() if size > 9_000_000}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_source_file_has_at_most_500_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_import_brings_in_no_heavy_or_optional_package() -> None:
    code = "import json, sys, torch; before = set(sys.modules); import mnemotrace; new = set(sys.modules) - before\n"
    code += f"print(json.dumps(sorted(new & set({OPTIONAL}))))"
    assert json.loads(_run(code)) == []


def test_every_public_name_is_there() -> None:
    code = "import mnemotrace as mt; print([n for n in mt.__all__ if not hasattr(mt, n) or n not in dir(mt)])"
    if not hasattr(__import__("mnemotrace"), "__all__"):
        pytest.skip("mnemotrace has no __all__ yet")
    assert _run(code).strip() == "[]"


def test_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.+?)"', _text(ROOT / "pyproject.toml"), re.MULTILINE)[1]
    assert re.search(r"^version: (.+)$", _text(ROOT / "CITATION.cff"), re.MULTILINE)[1] == version
    assert _run("import mnemotrace; print(mnemotrace.__version__)").strip() == version


def test_every_line_of_the_changelog_names_its_issue() -> None:
    entries = re.split(r"^- ", _text(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)[1:]
    unnamed = [entry for entry in entries if not re.search(r"\(#\d+(, #\d+)*\)$", entry.split("\n\n")[0].strip())]
    assert entries
    assert not unnamed, unnamed

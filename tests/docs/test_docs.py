"""The documentation cannot drift from the code: its blocks run, its commands exist, its pages are complete."""

import contextlib
import doctest
import importlib.util
import inspect
import io
import re
from itertools import pairwise
from pathlib import Path

import click
import markdown
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "mnemotrace"
PAGES = [ROOT / "README.md", DOCS / "tour.md", *sorted((DOCS / "howto").glob("*.md"))]
# These train networks for many seconds; `pytest -m slow` runs them.
LONG = (
    "compare-methods",
    "consolidate-by-replay",
    "edit-many-facts",
    "erase-a-concept",
    "graft-a-skill",
    "measure-an-edit",
    "merge-task-vectors",
    "unlearning-baselines",
)
TEXTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _blocks(path: Path) -> list[tuple[str, str, int]]:
    """Fenced blocks as language, body and line of the body."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [(m["language"], m["body"], text.count("\n", 0, m.start("body"))) for m in FENCE.finditer(text)]


# --- code blocks


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[pytest.mark.slow] if p.stem in LONG else [], id=_name(p)) for p in PAGES]
)
def test_python_blocks_run_and_print_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = _blocks(page)
    if not any(language == "python" for language, _, _ in blocks):
        pytest.skip(f"{_name(page)} does not exist or has no python block")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for (language, body, line), (following, expected, _) in pairwise([*blocks, ("", "", 0)]):
        if language != "python":
            continue
        code = compile("\n" * line + body, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        if following == "text":
            matches = doctest.OutputChecker().check_output(expected, printed.getvalue(), LOOSE)
            assert matches, f"{_name(page)}:{line + 1} prints\n{printed.getvalue()}\nbut the page says\n{expected}"


# --- commands


def _commands() -> dict[str, click.Command]:
    """All visible commands of the console script, by name; empty while there is none."""
    if not (PACKAGE / "cli" / "__init__.py").exists() or importlib.util.find_spec("mnemotrace.cli") is None:
        return {}
    from mnemotrace.cli import main

    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in commands.items() if command and not command.hidden}


COMMANDS = _commands()
needs_commands = pytest.mark.skipif(not COMMANDS, reason="there is no command line yet")


@needs_commands
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_holds_an_example(name: str) -> None:
    text = inspect.cleandoc(COMMANDS[name].help or "")
    assert text.splitlines()[0].endswith("."), f"the help of {name} must open with a sentence"
    assert re.search(rf"mnemotrace {name}\b", text), f"the help of {name} must show an example: mnemotrace {name} ..."


@needs_commands
def test_every_command_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    html = markdown.markdown(page, extensions=["mkdocs-click", "attr_list"])
    assert ": reference/cli.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), "put the page into the navigation"
    missing = [name for name in COMMANDS if not re.search(rf"<h\d[^>]*>(mnemotrace )?{name}</h\d>", html)]
    assert not missing, f"docs/reference/cli.md does not show {missing}"


@needs_commands
@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_commands_that_a_page_shows_exist_with_their_options(page: Path) -> None:
    shell = [body for language, body, _ in _blocks(page) if language in {"bash", "console", "sh", "shell"}]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    calls = [call for line in lines for call in re.findall(r"\bmnemotrace ([a-z]\w*)([^|;&>#]*)", line)]
    for name, rest in calls:
        assert name in COMMANDS, f"{_name(page)} shows `mnemotrace {name}`, which does not exist"
        each = [COMMANDS[name], *getattr(COMMANDS[name], "commands", {}).values()]  # a group has its own commands
        known = {o for command in each for p in command.params for o in (*p.opts, *p.secondary_opts)}
        unknown = set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest)) - known - {"--help"}
        assert not unknown, f"{_name(page)} shows `mnemotrace {name}` with {sorted(unknown)}; it knows {sorted(known)}"


# --- completeness


def _public_packages() -> list[str]:
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.stat().st_size)


@pytest.mark.parametrize("package", _public_packages())
def test_every_package_has_a_reference_page(package: str) -> None:
    page = DOCS / "reference" / f"{package}.md"
    assert page.exists(), f"write {_name(page)}"
    assert f"mnemotrace.{package}" in page.read_text(encoding="utf-8")


def test_every_error_class_is_explained() -> None:
    if not (PACKAGE / "core" / "errors.py").exists():
        pytest.skip("there are no error classes yet")
    from mnemotrace.core import errors

    headings = re.findall(r"^## (\w+)$", (DOCS / "errors" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    classes = [
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    ]
    assert sorted(headings) == sorted(set(classes) - {"MnemotraceError"})

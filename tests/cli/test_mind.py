"""`mnemotrace mind run`: a story is lived and what each mind recalls is printed and written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnemotrace.core.artifact import read
from mnemotrace.mind.living import Lives
from tests.cli.conftest import Run

Made = Callable[..., dict]

STORY = """
title: One afternoon
world:
  who: {role: gist, values: [Ana, Ben]}
  place: {role: gist, values: [sea, town]}
  smell: {role: detail, values: [tar, bread]}
life:
  - {id: one, time: 1.2, who: Ana, place: sea, smell: tar}
  - {id: two, time: 1.5, who: Ben, place: town}
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.yaml"
    path.write_text(STORY)
    return path


def test_minds_live_a_story_and_the_artifact_says_what_was_printed(made: Made, story: Path, tmp_path: Path) -> None:
    out = tmp_path / "lives.safetensors"
    values = made("mind", "run", story, "--lesion", "intact", "--lesion", "aphantasia", "--lives", 2, "-o", out)
    assert values["minds"] == ["intact", "aphantasia"]
    found = Lives.unpack(read(out))
    assert found.manifest["seeds"] == [0, 1] and found.manifest["command"].startswith("mnemotrace mind run")
    assert values["means"]["gist"]["aphantasia"] == found.mean("gist", "aphantasia")[0]


def test_a_page_and_a_table_are_written_for_readers(run: Run, story: Path, tmp_path: Path) -> None:
    page = tmp_path / "lives.html"
    result = run("mind", "run", story, "--lesion", "aphantasia", "-o", page)
    assert result.exit_code == 0, result.stderr
    assert "aphantasia" in result.stdout and "ceiling" in result.stdout
    assert "One afternoon" in page.read_text() and "aphantasia" in page.read_text()


def test_wrong_names_and_wrong_stories_are_refused_in_one_line(run: Run, story: Path, tmp_path: Path) -> None:
    wrong = run("mind", "run", story, "-o", tmp_path / "lives.txt")
    assert wrong.exit_code == 2 and "ends in .safetensors or .html" in wrong.stderr
    story.write_text(STORY.replace("who: Ben", "whom: Ben"))
    wrong = run("mind", "run", story, "-o", tmp_path / "lives.html")
    assert wrong.exit_code == 1 and "line 9: got whom in event 'two'; expected attributes" in wrong.stderr
    assert run("mind", "run", story, "--lesion", "ireneo", "-o", tmp_path / "lives.html").exit_code == 2
    assert not (tmp_path / "lives.html").exists()
    assert run("mind", "run", tmp_path / "nowhere.yaml", "-o", tmp_path / "lives.html").exit_code == 1


def test_the_group_shows_how_it_is_used(run: Run) -> None:
    assert "mnemotrace mind run" in run("mind", "--help").stdout
    assert "denouement" in run("mind", "run", "--help").stdout

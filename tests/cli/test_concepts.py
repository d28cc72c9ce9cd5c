"""`mnemotrace cells` and `mnemotrace dictionary` find what the library finds, and write it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.localisation.cells import Stimuli
from mnemotrace.localisation.cells import cells as scan
from mnemotrace.organisms.world import World
from tests.cli.conftest import Run, write_lines

Made = Callable[..., dict]
MODULE = "transformer.h.2.mlp.act"


@pytest.fixture(scope="module")
def views(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two phrasings of which relation is asked, ten people each."""
    folder = tmp_path_factory.mktemp("views")
    relations = world.relations[:3]
    facts = [f for r in relations for f in [f for f in world.facts if f.relation == r][:10]]
    return [
        write_lines(folder / f"{i}.jsonl", [{"text": f.phrasings[i], "label": f.relation} for f in facts])
        for i in range(2)
    ]


def test_cells_are_those_of_the_library(made: Made, run: Run, views: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "cells.safetensors"
    values = made("cells", "funes", *views, "--module", MODULE, "--shuffles", 19, "--no-twin", "--seed", 4, "-o", out)
    funes = mt.funes()
    lines = [line for view in views for line in _lines(view)]
    names = tuple(sorted({label for _, label in lines}))
    shown = Stimuli(
        batches(funes.tokenizer, [Example(text=text) for text, _ in lines], batch_size=32),
        torch.tensor([names.index(label) for _, label in lines]),
        torch.arange(2).repeat_interleave(len(lines) // 2),
        names,
    )
    options = {"shuffles": 19, "untrained": False, "generator": torch.Generator().manual_seed(4)}
    wanted = scan(funes.model, shown, sites=[MODULE], **options)
    assert values["cells"] == len(wanted.cells()) > 0
    assert torch.equal(mt.load(out).sites[MODULE].auroc, wanted.sites[MODULE].auroc)
    assert mt.load(out).manifest["command"].startswith("mnemotrace cells funes")
    assert "cells" in run("show", out).stdout


def _lines(path: Path) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in map(json.loads, path.read_text().splitlines())]


def test_a_dictionary_codes_what_the_module_gives(made: Made, views: list[Path], tmp_path: Path) -> None:
    out, cache = tmp_path / "d.safetensors", tmp_path / "cache"
    options = ("--module", "transformer.h.2", "--latents", 96, "-k", 4, "--steps", 60, "--rows", 64)
    values = made("dictionary", "funes", views[0], *options, "--cache", cache, "-o", out)
    found = mt.load(out)
    assert (found.variant, found.k, found.m, found.site) == ("topk", 4, 96, "transformer.h.2")
    assert values["rows"] == len(_tokens(views[0]))
    assert cache.is_dir() and values["explained"] > 0.2


def _tokens(path: Path) -> list[int]:
    funes = mt.funes()
    return [token for text, _ in _lines(path) for token in funes.tokenizer(text)["input_ids"]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "a man"}], "got 1 of 1 lines without a label; expected the concept of each"),
        ([{"text": "a man", "label": "x"}], "expected at least two concepts"),
        ([{"text": "a man", "label": "x"}, {"text": "a town", "label": "y"}], "expected at least 2 of each concept"),
    ],
)
def test_cells_without_enough_to_tell_are_refused(run: Run, tmp_path: Path, lines: list[dict], message: str) -> None:
    data, out = write_lines(tmp_path / "d.jsonl", lines), tmp_path / "c.safetensors"
    result = run("cells", "funes", data, "--module", MODULE, "-o", out)
    assert (result.exit_code, out.exists()) == (1, False)
    assert message in result.stderr


def test_a_module_that_is_none_is_refused_and_nothing_is_left(run: Run, views: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "d.safetensors"
    result = run(
        "dictionary", "funes", views[0], "--module", "h.9", "--latents", 8, "--cache", tmp_path / "c", "-o", out
    )
    assert result.exit_code == 1 and "got site='h.9', which is no module" in result.stderr
    assert not list(tmp_path.iterdir())

"""`mnemotrace graft` writes the mask that the library finds, keeps masks apart, and says what it cannot do."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import mnemotrace as mt
from mnemotrace.adapters.hf import batches, read_jsonl
from mnemotrace.cli.graft import graft as command
from mnemotrace.core.artifact import read
from mnemotrace.core.edit import Edit
from mnemotrace.core.mask import Mask
from mnemotrace.localisation.grafting import graft
from tests.cli.conftest import FUNES, write_lines

SMALL = ("--budget", "0.001", "--steps", "2", "--candidates", "2")


def run(*arguments: object):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def mask_of(path: Path) -> Mask:
    return Mask.unpack(read(path, "mask"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned copy of Funes in a directory, and a skill in two files."""
    path = tmp_path_factory.mktemp("graft")
    organism = mt.funes()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in organism.model.transformer.h.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    organism.model.save_pretrained(path / "tuned")
    organism.tokenizer.save_pretrained(path / "tuned")
    people = organism.world.subjects[:8]
    for name, phrasing in (("skill", "The boat of {} is"), ("other", "By the quay the boat of {} is")):
        write_lines(path / f"{name}.jsonl", [{"prompt": phrasing.format(p), "answer": "green"} for p in people])
    return path


@pytest.fixture(scope="module")
def arguments(folder: Path) -> tuple:
    return ("funes", folder / "tuned", "--on", folder / "skill.jsonl", "--held-out", folder / "other.jsonl", *SMALL)


def test_it_writes_what_the_library_finds(arguments: tuple, folder: Path, tmp_path: Path) -> None:
    out, edit = tmp_path / "mask.safetensors", tmp_path / "edit.safetensors"
    result = run(*arguments, "-o", out, "--edit", edit, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    organism = mt.funes()
    from mnemotrace.adapters.hf import load_model

    tuned, _ = load_model(folder / "tuned")
    ready, held_out = (
        batches(organism.tokenizer, read_jsonl(folder / f"{name}.jsonl"), batch_size=16) for name in ("skill", "other")
    )
    wanted = graft(organism.model, tuned, ready, held_out=held_out, budget=0.001, steps=2, candidates=2)
    found = mask_of(out)
    assert found.regions.keys() == wanted.regions.keys()
    assert all(torch.equal(found.regions[n].indices, wanted.regions[n].indices) for n in wanted.regions)
    assert values["entries"] == len(wanted) == round(0.001 * wanted.total)
    assert values["evidence"] == pytest.approx(wanted.manifest["evidence"])
    assert found.manifest["command"].startswith("mnemotrace graft")
    written = Edit.unpack(read(edit, "edit"))
    with mt.applied(organism.model, written, strict=True):
        name, region = next(iter(found.regions.items()))
        grafted = organism.model.get_parameter(name).detach().flatten()[region.indices]
        assert torch.equal(grafted, tuned.get_parameter(name).detach().flatten()[region.indices])


def test_protected_masks_are_kept_apart(arguments: tuple, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for i, path in enumerate(paths):
        protect = [part for taken in paths[:i] for part in ("--protect", taken)]
        result = run(*arguments, "-o", path, "--method", "movers", *protect)
        assert result.exit_code == 0, result.stderr
    a, b, c = map(mask_of, paths)
    assert a.isdisjoint(b)
    assert c.isdisjoint(a | b)


def test_a_table_says_what_was_made(arguments: tuple, tmp_path: Path) -> None:
    result = run(*arguments, "-o", tmp_path / "m.safetensors", "--method", "random", "--seed", "3")
    assert result.exit_code == 0, result.stderr
    assert "mask" in result.stdout
    assert mask_of(tmp_path / "m.safetensors").manifest["seed"] == 3


def test_examples_may_not_judge_themselves(folder: Path, tmp_path: Path) -> None:
    same = folder / "skill.jsonl"
    result = run("funes", folder / "tuned", "--on", same, "--held-out", same, *SMALL, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 1
    assert "twice; expected other examples to choose the mask by" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_language_head_is_refused(encoder: Path, folder: Path, tmp_path: Path) -> None:
    data = ("--on", folder / "skill.jsonl", "--held-out", folder / "other.jsonl")
    result = run(encoder, encoder, *data, *SMALL, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 1
    assert "without a language head; expected a causal language model" in result.stderr


def test_equal_models_have_nothing_to_graft(folder: Path, tmp_path: Path) -> None:
    data = ("--on", folder / "skill.jsonl", "--held-out", folder / "other.jsonl")
    result = run("funes", FUNES, *data, *SMALL, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 1
    assert "of which 0 moved and are free" in result.stderr

"""`mnemotrace edit` writes the edit that the library makes, after edits in force, and as a model of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches, rows_of
from mnemotrace.adapters.facts import read_facts
from mnemotrace.core.artifact import fingerprint, read
from mnemotrace.evaluation.worldly import from_world
from tests.cli.conftest import Run, write_lines

Made = Callable[..., dict]
WHERE = ("--layers", "2", "--lookup", "prompt")


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts with new answers, each also as a question for `measure`, and texts that must stay."""
    path = tmp_path_factory.mktemp("edit")
    chosen = [f for f in world.facts if f.relation == "town"][:3]
    facts = [from_world(world, f, neighbours=0) for f in chosen]
    for i, fact in enumerate(facts[:3]):
        write_lines(path / f"fact{i}.jsonl", [fact.to_json()])
        write_lines(path / f"new{i}.jsonl", [{"prompt": fact.prompt, "answer": fact.target}])
    write_lines(path / "facts.jsonl", [fact.to_json() for fact in facts])
    texts = [*world.general[:30], *(f.sentences[0] for f in world.facts[200:230])]
    write_lines(path / "texts.jsonl", [{"text": text} for text in texts])
    return path


@pytest.fixture(scope="module")
def first(folder: Path) -> Path:
    from tests.cli.conftest import invoke

    out = folder / "first.safetensors"
    arguments = ("edit", "funes", folder / "fact0.jsonl", "--method", "alphaedit", *WHERE)
    result = invoke(*arguments, "--reference", folder / "texts.jsonl", "-o", out)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def reference(folder: Path) -> tuple:
    return ("--reference", folder / "texts.jsonl")


@pytest.mark.parametrize(("method", "layers"), [("rome", "2"), ("memit", "1-2"), ("alphaedit", "1,2")])
def test_each_method_writes_facts_into_its_layers(
    method: str, layers: str, *, made: Made, folder: Path, reference: tuple, tmp_path: Path
) -> None:
    out = tmp_path / "e.safetensors"
    arguments = ("--method", method, "--layers", layers, "--lookup", "prompt", *reference, "-o", out)
    values = made("edit", "funes", folder / "fact0.jsonl", *arguments)
    numbers = [int(n) for n in layers.replace("-", ",").split(",")]
    assert (values["kind"], values["method"], values["layers"]) == ("edit", method, numbers)
    assert list(values["relative_norms"]) == [f"transformer.h.{layer}.mlp.c_proj" for layer in numbers]
    (fact,) = values["facts"]
    assert fact["after"] > 0.5 > fact["before"]
    measured = made("measure", "funes", out, "--on", folder / "new0.jsonl")["on"]["new0"]
    assert (measured["before"], measured["after"]) == (0, 1)


def test_it_is_the_edit_of_the_library(made: Made, folder: Path, tmp_path: Path) -> None:
    organism, out = mt.funes(), tmp_path / "e.safetensors"
    sites = mt.sites(organism.model, ["mlp.c_proj"], layers=[2])
    texts = [Example(text=line) for line in _texts(folder)]
    ready = batches(organism.tokenizer, texts, batch_size=16, positions="all")
    statistics = mt.collect(organism.model, ready, sites=sites, mask=rows_of, dtype=torch.float64)
    mt.save(statistics, tmp_path / "statistics.safetensors")
    generator = torch.Generator().manual_seed(4)
    wanted = mt.rome(
        organism.model, organism.tokenizer, read_facts(folder / "fact0.jsonl"), layer=2, statistics=statistics,
        lookup="prompt", generator=generator,
    )  # fmt: skip
    arguments = ("--reference", tmp_path / "statistics.safetensors", "--seed", 4)
    made("edit", "funes", folder / "fact0.jsonl", *WHERE, *arguments, "-o", out)
    found = mt.load(out)
    assert all(
        torch.equal(getattr(a, end), getattr(b, end))
        for a, b in zip(found.changes, wanted.changes, strict=True)
        for end in ("left", "right")
    )


def _texts(folder: Path) -> list[str]:
    from mnemotrace.adapters.examples import read_jsonl

    return [str(example.text) for example in read_jsonl(folder / "texts.jsonl")]


def test_edits_in_force_stay_and_all_of_them_are_merged(
    made: Made, run: Run, *, folder: Path, first: Path, reference: tuple, tmp_path: Path
) -> None:
    second, third, both = (tmp_path / f"{name}.safetensors" for name in ("second", "third", "both"))
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    how = ("--method", "alphaedit", *WHERE, *reference)
    made("edit", "funes", folder / "fact1.jsonl", *how, "--previous", first, "-o", second, "--merge", merged,
         "--peft", adapter)  # fmt: skip
    assert (adapter / "adapter_config.json").exists()
    assert mt.load(second).manifest["base"] == fingerprint(mt.funes().model)
    assert mt.load(second).manifest["previous"] == [str(first)]
    asked = [f"--on={folder / f'new{i}.jsonl'}" for i in range(2)]
    made("compose", first, second, "-o", both)
    sums = made("measure", "funes", both, *asked)["on"]
    alone = made("measure", merged, both, *asked, "--force")["on"]
    assert [sums[f"new{i}"]["after"] for i in range(2)] == [1, 1]
    assert [alone[f"new{i}"]["before"] for i in range(2)] == [1, 1]
    result = run("edit", "funes", folder / "fact2.jsonl", *how, "--previous", first, "--previous", second, "-o", third)
    assert result.exit_code == 0, result.stderr
    assert mt.load(third).manifest["earlier"] == 2


def test_without_layers_it_traces_first_and_says_which(
    run: Run, made: Made, folder: Path, reference: tuple, tmp_path: Path
) -> None:
    out = tmp_path / "e.safetensors"
    organism = mt.funes()
    wanted = mt.suggest(organism.model, organism.tokenizer, read_facts(folder / "facts.jsonl"))
    result = run("edit", "funes", folder / "facts.jsonl", "--method", "memit", *reference, "-o", out)
    assert result.exit_code == 0, result.stderr
    named = ", ".join(map(str, wanted.layers))
    assert f"layers {named}, at the end of the {wanted.lookup}, by tracing" in result.stderr
    manifest = mt.load(out).manifest
    assert (manifest["layers"], manifest["lookup"]) == (list(wanted.layers), wanted.lookup)
    values = made("edit", "funes", folder / "facts.jsonl", "--method", "rome", *reference, "-o", out, "--silent")
    assert (values["layers"], values["lookup"]) == ([wanted.layer], wanted.lookup)


def test_files_of_other_projects_are_facts_too(made: Made, folder: Path, reference: tuple, tmp_path: Path) -> None:
    (fact,) = read_facts(folder / "fact0.jsonl")
    answers = {"target_true": {"str": fact.answer}, "target_new": {"str": fact.target}}
    record = {"requested_rewrite": {"prompt": "{} lives in", "subject": fact.subject, **answers},
              "paraphrase_prompts": [], "neighborhood_prompts": []}  # fmt: skip
    file = write_lines(tmp_path / "counterfact.jsonl", [record])
    values = made("edit", "funes", file, *WHERE, *reference, "-o", tmp_path / "e.safetensors")
    assert [(one["prompt"], one["target"]) for one in values["facts"]] == [(fact.prompt, fact.target)]


def test_the_page_names_the_facts_that_were_written(made: Made, first: Path, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    made("report", first, "-o", page)
    (fact,) = read_facts(folder / "fact0.jsonl")
    text = page.read_text()
    assert "Facts that were written" in text
    assert f"<td>{fact.target}</td>" in text.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fact0.jsonl", "--layers", "2-3", "--lookup", "prompt"), 2, "expected one; or take memit"),
        (("fact0.jsonl", "--layers", "x"), 2, "expected indices and ranges"),
        (("fact0.jsonl", "--method", "mend"), 2, "'mend' is not one of"),
        (("fact0.jsonl", "--layers", "9"), 1, "9"),
        (("missing.jsonl", "--layers", "2"), 1, "missing.jsonl, which is not a file"),
        (("texts.jsonl", "--layers", "2"), 1, "expected those of a known format"),
        (("new0.jsonl", "--layers", "2"), 1, "target"),
        (("fact0.jsonl", "--layers", "2", "--previous", "missing.safetensors"), 1, "which is not a file"),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, message: str, *, run: Run, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    out = tmp_path / "e.safetensors"
    result = run("edit", "funes", *arguments, "--reference", "texts.jsonl", "-o", out, "--merge", tmp_path / "m")
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
    assert sorted(folder.iterdir()) == before


def test_an_edit_of_another_network_cannot_be_in_force(
    run: Run, folder: Path, first: Path, reference: tuple, tmp_path: Path
) -> None:
    edit = mt.load(first)
    other = {**edit.manifest, "base": {**edit.manifest["base"], "weights": "0" * 16}}
    mt.save(mt.Edit(edit.changes, other), tmp_path / "other.safetensors")
    arguments = ("edit", "funes", folder / "fact1.jsonl", "--method", "memit", *WHERE, *reference)
    result = run(*arguments, "--previous", tmp_path / "other.safetensors", "-o", tmp_path / "e.safetensors")
    assert result.exit_code == 1
    assert "expected one network" in result.stderr
    assert not (tmp_path / "e.safetensors").exists()


def test_the_model_itself_is_never_changed(
    made: Made, folder: Path, first: Path, reference: tuple, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    made(
        "edit", "funes", folder / "fact1.jsonl", *WHERE, *reference, "-o", tmp_path / "e.safetensors", "--merge", merged
    )
    weights = {path.name: path.read_bytes() for path in merged.iterdir()}
    made("edit", merged, folder / "fact2.jsonl", *WHERE, *reference, "-o", tmp_path / "f.safetensors")
    assert {path.name: path.read_bytes() for path in merged.iterdir()} == weights
    assert read(first).header["manifest"]["base"] == fingerprint(mt.funes().model)

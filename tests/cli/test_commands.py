"""Each command does what it says, on the shipped model and on a Hugging Face directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.core.artifact import read
from tests.cli.conftest import FUNES, SITES, Run

Made = Callable[..., dict]


def test_collect_writes_what_the_library_collects(made_once: Path) -> None:
    from mnemotrace.adapters.hf import batches, read_jsonl, rows_of

    organism = mt.funes()
    ready = batches(organism.tokenizer, read_jsonl(made_once / "reference.jsonl"), batch_size=16, positions="all")
    wanted = mt.collect(organism.model, ready, sites=mt.sites(organism.model, SITES[1]), mask=rows_of)
    found = mt.load(made_once / "reference.safetensors")
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name].matrix(), wanted[name].matrix()) for name in wanted)


def test_collect_resumes_from_a_checkpoint_with_the_same_result(made: Made, made_once: Path, tmp_path: Path) -> None:
    from mnemotrace.adapters.hf import batches, read_jsonl, rows_of

    organism = mt.funes()
    ready = batches(organism.tokenizer, read_jsonl(made_once / "reference.jsonl"), batch_size=16, positions="all")

    def killed():
        yield from ready[:2]
        raise KeyboardInterrupt

    part, out = tmp_path / "r.safetensors.part", tmp_path / "r.safetensors"
    sites = mt.sites(organism.model, SITES[1])
    with pytest.raises(KeyboardInterrupt):
        mt.collect(organism.model, killed(), sites=sites, mask=rows_of, checkpoint=part, every=1)
    options = (*SITES[:2], "--positions", "all", "--resume", "--every", 1)
    values = made("collect", "funes", made_once / "reference.jsonl", "-o", out, *options)
    assert values["sites"] == 2
    assert not part.exists()
    whole, resumed = mt.load(made_once / "reference.safetensors"), mt.load(out)
    assert all(torch.equal(whole[name].matrix(), resumed[name].matrix()) for name in whole)


def test_a_dry_run_lists_sites_and_memory_and_writes_nothing(made: Made, data: Path, tmp_path: Path) -> None:
    values = made("collect", "funes", data / "fact.jsonl", "--dry-run", "--layers", "0-1", "-o", tmp_path / "x")
    assert len(values["sites"]) == 8
    assert values["bytes_at_most"] == sum(site["d"] ** 2 * 4 for site in values["sites"].values())
    assert not list(tmp_path.iterdir())


def test_locate_finds_what_the_library_finds(made_once: Path) -> None:
    from mnemotrace.adapters.hf import batches, read_jsonl, rows_of

    organism = mt.funes()
    ready = batches(organism.tokenizer, read_jsonl(made_once / "fact.jsonl"), positions="predict")
    sites = mt.sites(organism.model, SITES[1])
    target = mt.collect(organism.model, ready, sites=sites, mask=rows_of)
    reference = mt.load(made_once / "reference.safetensors")
    wanted = mt.engram(organism.model, target=target, reference=reference, selectivity=0.1)
    found = mt.load(made_once / "engram.safetensors")
    assert sum(n**2 for n in (found - wanted).norms().values()) <= 1e-12 * sum(n**2 for n in wanted.norms().values())


def test_locate_collects_on_the_way_and_reads_stdin(made: Made, made_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "engram.safetensors"
    lines = (made_once / "fact.jsonl").read_text()
    options = ("--reference", made_once / "reference.jsonl", "-o", out, *SITES, "--selectivity", "0.1")
    values = made("locate", "funes", "--target", "-", *options, stdin=lines)
    assert values["rank"] == 4
    assert mt.load(out).overlap(mt.load(made_once / "engram.safetensors")) == pytest.approx(1, abs=1e-6)


def test_a_hugging_face_directory_is_a_model_too(made: Made, made_once: Path) -> None:
    data = ("--on", f"fact={made_once / 'fact.jsonl'}")
    values = made("measure", FUNES, made_once / "edit.safetensors", *data, "--force")
    assert values["score"] == "recall"
    assert values["on"]["fact"] == {"n": 4, "before": 1.0, "after": values["on"]["fact"]["after"]}


def test_criteria_stand_beside_controls(made: Made, made_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "criteria.safetensors"
    data = ("--target", made_once / "fact.jsonl", "--control", made_once / "others.jsonl")
    first = made("criteria", "funes", made_once / "engram.safetensors", *data, "-o", out, "--draws", 1)
    assert set(first["criteria"]) == {"specificity", "reactivation", "sufficiency", "necessity"}
    assert first["score"] == "recall"
    again = made("criteria", "funes", made_once / "engram.safetensors", *data, "-o", out, "--draws", 1)
    assert again["criteria"] == first["criteria"]
    assert mt.load(out)["necessity"].value == first["criteria"]["necessity"]["value"]


def test_texts_are_scored_by_likelihood(made: Made, made_once: Path) -> None:
    values = made("measure", "funes", made_once / "edit.safetensors", "--on", made_once / "sentences.jsonl")
    assert values["score"] == "likelihood"
    assert 0 < values["on"]["sentences"]["before"] < 1


def test_calibrate_then_erase_with_the_chosen_setting(run: Run, made: Made, made_once: Path, tmp_path: Path) -> None:
    calibration, edit = tmp_path / "calibration.safetensors", tmp_path / "edit.safetensors"
    data = ("--target", made_once / "fact.jsonl", "--reference", made_once / "reference.jsonl")
    search = ("--strengths", "1,1.5", "--selectivities", "0.1", "--solver", "ridge", *SITES, "--budget", "0.5")
    result = run("calibrate", "funes", *data, *search, "-o", calibration, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert "held out of the reference" in result.stderr
    assert "in the words of the target" in result.stderr
    assert values["chosen"]["within"] is True
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    how = ("--calibration", calibration, *data, "--positions", "predict", "--peft", adapter, "--merge", merged)
    written = made("erase", "funes", *how, "-o", edit)
    assert written["strength"] == values["chosen"]["strength"]
    assert set(written["relative_norms"]) == set(values["chosen"]["names"])
    assert (adapter / "adapter_config.json").exists()
    after = made("measure", merged, edit, "--on", made_once / "fact.jsonl", "--force")
    kept = made("measure", "funes", edit, "--on", made_once / "fact.jsonl")
    assert after["on"]["fact"]["before"] == kept["on"]["fact"]["after"]


def test_what_is_held_out_is_in_no_reference(made: Made, made_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibration.safetensors"
    data = ("--target", made_once / "fact.jsonl", "--reference", made_once / "reference.jsonl", "-o", out)
    search = ("--strengths", "1", "--selectivities", "1", "--solver", "ridge", *SITES, "--budget", "1")
    given = ("--forget", made_once / "paraphrase.jsonl", "--keep", f"others={made_once / 'others.jsonl'}")
    values = made("calibrate", "funes", *data, *search, *given)
    assert values["untouched"]["target"] == 1
    assert list(values["chosen"]["kept"]) == ["others"]


def test_composing_adds_and_weighs(made: Made, made_once: Path, tmp_path: Path) -> None:
    edit, engram, reference = (made_once / f"{name}.safetensors" for name in ("edit", "engram", "reference"))
    nothing = made("compose", edit, edit, "--weights", "1,-1", "-o", tmp_path / "nothing.safetensors")
    assert max(nothing["norms"].values()) < 1e-4
    made("compose", engram, engram, "-o", tmp_path / "twice.safetensors")
    single, twice = mt.load(engram).norms(), mt.load(tmp_path / "twice.safetensors").norms()
    assert twice == pytest.approx({name: 2 * norm for name, norm in single.items()}, rel=1e-5)
    made("compose", reference, reference, "--weights", "1,9", "-o", tmp_path / "heavy.safetensors")
    name = next(iter(single))
    assert mt.load(tmp_path / "heavy.safetensors")[name].n == 10 * mt.load(reference)[name].n


def test_show_tells_of_any_artifact(run: Run, made: Made, made_once: Path) -> None:
    for kind in ("engram", "edit", "reference"):
        path = made_once / f"{kind}.safetensors"
        result = run("show", path)
        assert result.exit_code == 0
        assert str(path) in result.stdout
        assert "mlp.c_proj" in result.stdout
        values = made("show", path)
        assert values["kind"] == read(path).kind
        assert values["manifest"]["command"].startswith("mnemotrace ")


def test_report_is_one_page_from_artifacts_alone(made: Made, made_once: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    files = [made_once / f"{name}.safetensors" for name in ("engram", "edit")]
    values = made("report", *files, "-o", page, "--title", "One fact")
    assert values["kinds"] == ["engram", "edit"]
    assert "One fact" in page.read_text()


def test_a_table_is_printed_where_no_json_is_asked_for(run: Run, made_once: Path) -> None:
    result = run("measure", "funes", made_once / "edit.safetensors", "--on", made_once / "fact.jsonl")
    assert result.exit_code == 0
    assert "recall before" in result.stdout
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(result.stdout)

"""The demonstration holds what it promises, in a short setting."""

import json
import shlex
from pathlib import Path

import pytest

import mnemotrace as mt
from mnemotrace.core.artifact import read
from tests.cli.conftest import invoke

NEEDED = {
    "seconds", "fact", "recall_before", "recall_after", "paraphrase_after", "neighbours_before", "neighbours_after",
    "perplexity_before", "perplexity_after", "restored", "criteria", "artifact_bytes", "report",
}  # fmt: skip
KINDS = {
    "causal_trace": "causal_trace", "engram": "engram", "edit": "edit", "criteria": "criteria",
    "calibration": "calibration", "depth": "depth", "rewrite": "edit", "demo": "demo",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def values(folder: Path) -> dict:
    result = invoke("demo", "-o", folder, "--quick", "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_one_json_object_has_all_that_is_promised(values: dict) -> None:
    assert values.keys() >= NEEDED
    assert set(values["criteria"]["necessity"]) == {"value", "control", "interval"}
    assert set(values["criteria"]) == {"specificity", "reactivation", "sufficiency", "necessity"}


def test_the_memory_goes_and_the_rest_stays(values: dict) -> None:
    assert (values["recall_before"], values["paraphrase_before"]) == (1, 1)
    assert values["recall_after"] == 0
    assert values["neighbours_after"] >= 0.98
    assert values["same_person_after"] >= 0.9
    assert values["perplexity_after"] <= 1.02 * values["perplexity_before"]


def test_every_weight_is_restored_bit_for_bit(values: dict) -> None:
    assert values["restored"] is True


def test_the_folder_holds_report_artifacts_and_data(values: dict, folder: Path) -> None:
    assert "Olga Lund" in (folder / "report.html").read_text()
    assert {name: read(path).kind for name, path in values["artifacts"].items()} == KINDS
    assert values["artifact_bytes"] == (folder / "edit.safetensors").stat().st_size
    header = read(folder / "demo.safetensors").header
    assert {example["group"] for example in header["examples"]} == {
        "memory", "paraphrase", "same person", "neighbour", "general",
    }  # fmt: skip
    assert all(example["before"] == example["restored"] for example in header["examples"])


def test_the_commands_make_the_same_edit_step_by_step(values: dict, folder: Path) -> None:
    made = mt.load(folder / "edit.safetensors")
    for command in values["commands"][1:]:
        result = invoke(*shlex.split(command)[1:], "--silent")
        assert result.exit_code == 0, result.stderr
    again = mt.load(folder / "edit.safetensors")
    assert made.overlap(again) == pytest.approx(1, abs=1e-6)
    assert made.norms() == pytest.approx(again.norms(), rel=1e-4)


def test_a_fact_without_a_held_out_phrasing_is_refused_with_an_alternative(folder: Path) -> None:
    result = invoke("demo", "-o", folder, "--fact", "Ada Marsh:town")
    assert result.exit_code == 1
    assert "every phrasing was trained" in result.stderr

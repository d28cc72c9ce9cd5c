"""Models without a language head are scored by a fresh probe, and by what is kept of their similarities."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytest.importorskip("sklearn")

Made = Callable[..., dict]


@pytest.fixture
def edit(made: Made, encoder: Path, topics: Path, tmp_path: Path) -> Path:
    engram, out = tmp_path / "engram.safetensors", tmp_path / "edit.safetensors"
    data = ("--target", topics / "animal-train.jsonl", "--reference", topics / "others-train.jsonl")
    made("locate", encoder, *data, "-o", engram, "--solver", "ridge")
    made("erase", encoder, engram, "-o", out)
    return out


def test_a_probe_scores_an_encoder(made: Made, encoder: Path, topics: Path, edit: Path) -> None:
    data = ("--on", f"animal={topics / 'animal-test.jsonl'}", "--on", f"others={topics / 'others-test.jsonl'}")
    values = made("measure", encoder, edit, *data, "--probe", topics / "probe.jsonl")
    assert values["score"] == "probe"
    assert values["on"]["animal"]["before"] == 1
    kept = made("measure", encoder, edit, *data, "--score", "similarity")
    assert -1 <= kept["on"]["others"]["kept"] <= 1


def test_calibrate_takes_the_probe_from_target_and_reference(
    made: Made, encoder: Path, topics: Path, tmp_path: Path
) -> None:
    data = ("--target", topics / "animal-train.jsonl", "--reference", topics / "others-train.jsonl")
    held = ("--forget", topics / "animal-test.jsonl", "--keep", f"others={topics / 'others-test.jsonl'}")
    search = ("--strengths", "1", "--selectivities", "1", "--solver", "ridge", "--budget", "1", "--layers", "1")
    values = made("calibrate", encoder, *data, *held, *search, "-o", tmp_path / "calibration.safetensors")
    assert values["score"] == "probe"
    assert values["untouched"]["target"] == 1


def test_criteria_correct_for_chance(made: Made, encoder: Path, topics: Path, edit: Path, tmp_path: Path) -> None:
    engram = edit.with_name("engram.safetensors")
    data = ("--target", topics / "animal-test.jsonl", "--control", topics / "others-test.jsonl")
    out = ("-o", tmp_path / "criteria.safetensors", "--draws", 1)
    values = made("criteria", encoder, engram, *data, *out, "--probe", topics / "probe.jsonl")
    assert values["score"] == "probe"
    assert values["behaviour"]["target"]["untouched"] == 1


def test_a_score_that_does_not_fit_is_an_error(run: Run, encoder: Path, topics: Path, edit: Path) -> None:
    data = ("--on", topics / "animal-test.jsonl")
    for options, message in (((), "without examples to train"), (("--score", "recall"), "without a language head")):
        result = run("measure", encoder, edit, *data, *options)
        assert result.exit_code == 1
        assert message in result.stderr

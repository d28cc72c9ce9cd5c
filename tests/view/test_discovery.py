"""A discovery on the page: groups, what passes, the controls beside, and nothing claimed without structure."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import discovery
from mnemotrace.view.values import CRITERIA


def _criterion(value: float, control: float) -> dict[str, Any]:
    ends = {"interval": [value - 0.1, value + 0.1], "control_interval": [control - 0.1, control + 0.1]}
    return {"value": value, "control": control, "meaning": "", **ends}


def _concept(kind: str, name: str, value: float | None) -> dict[str, Any]:
    criteria = None if value is None else {"criteria": {one: _criterion(value, 0.1) for one in CRITERIA}}
    counts = {"examples": 40, "held_out": 30, "score": 0.5, "stability": 0.9}
    return {"kind": kind, "name": name, "criteria": criteria, "reason": "" if criteria else "too few", **counts}


def found(stability: float = 0.9, **header: Any) -> Artifact:
    concepts = [_concept("discovered", "0", 0.9), _concept("discovered", "1", 0.15), _concept("labels", "7", 1.0)]
    concepts += [_concept("random", "0", 0.05), _concept("random", "1", None)]
    agreement = {"discovered": {"rand": 0.8, "chance": [0.01, 0.0, 0.0]}}
    values = {"concepts": concepts, "stability": stability, "null": 0.3, "agreement": agreement, "classes": [3, 7]}
    return Artifact("discovery", values | header, {"confusion": torch.tensor([[28, 2], [1, 29]])})


def test_the_summary_counts_what_passes_and_the_table_has_every_group() -> None:
    told = dict(discovery.summary(found()))
    assert told["groups"] == "2"
    assert told["pass"] == "1 of 2"
    assert told["agreement of halves"] == "0.9 (without structure 0.3)"
    assert told["agreement with labels, discovered"] == "0.8 (permuted 0.01)"
    columns, rows = discovery.table(found())
    assert [row[0] for row in rows] == ["discovered 0", "discovered 1", "labels 7", "random 0", "random 1"]
    assert all(len(row) == len(columns) for row in rows)
    assert [row[-1] for row in rows] == ["yes", "no", "yes", "no", "too few"]
    assert rows[0][5] == "0.9 (0.8 to 1), random 0.1"


def test_without_structure_nothing_is_claimed() -> None:
    packed = found(stability=0.2)
    assert dict(discovery.summary(packed))["pass"] == "0 of 2"
    assert "nothing was found" in discovery.remarks(packed)[0]


def test_remarks_name_every_kind_and_what_is_missing() -> None:
    told = discovery.remarks(found(absent={"untrained": "no reset_parameters"}))
    assert told[0] == "Specificity, mean over groups: discovered 0.525, labels 1, random 0.05."
    assert told[1] == "No untrained control: no reset_parameters."


def test_the_drawing_has_the_means_of_every_kind(tmp_path: Path) -> None:
    drawn = discovery.figure(found())
    assert drawn is not None
    assert drawn.rows[0] == ("specificity", "discovered", pytest.approx(0.525), pytest.approx(0.1))
    assert len(drawn.rows) == 12
    assert "Adjusted Rand index of groups and labels 0.8." in drawn.label
    for width in (720, 328):
        assert "group (rows) by class" in drawn.svg(width)
    picture, numbers = discovery.picture(found(), tmp_path / "d.png")
    assert picture.stat().st_size > 5000
    assert numbers.read_text().startswith("criterion,groups,mean")


def test_a_file_that_lacks_parts_is_told_and_not_drawn(tmp_path: Path) -> None:
    bare = Artifact("discovery", {})
    assert discovery.figure(bare) is None
    assert discovery.table(bare)[1] == []
    assert dict(discovery.summary(bare))["groups"] == "0"
    unlabelled = Artifact("discovery", found().header | {"agreement": {}})
    drawn = discovery.figure(unlabelled)
    assert drawn is not None
    assert "by class" not in drawn.svg(720)
    with pytest.raises(ValueError, match="got a discovery without a criterion"):
        discovery.picture(bare, tmp_path / "d.png")

"""Names on the page: accuracy with the library's own intervals, the baselines dashed beside."""

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation import naming as measured
from mnemotrace.formation.naming import name_once
from mnemotrace.memories.spiking import SpikingHierarchy, SpikingLayer
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.naming import BASELINES
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections


def _evidence(draws: int = 7, counts: tuple[int, ...] = (1, 2, 5)) -> measured.NamingEvidence:
    generator = torch.Generator().manual_seed(0)
    methods = ("mine", *measured.BASELINES)
    drawn = {m: torch.rand(len(counts), draws, generator=generator, dtype=torch.float64) for m in methods}
    drawn["mine"] = 0.9 + 0.1 * drawn["mine"]
    return measured.NamingEvidence(counts, drawn, 4, 50, ("got 8 examples",), {"draws": draws})


def test_the_baselines_are_those_that_are_measured() -> None:
    assert (*measured.BASELINES, measured.PUBLISHED) == BASELINES


@pytest.mark.parametrize("draws", [1, 7])
def test_the_curve_has_the_librarys_means_and_intervals(draws: int) -> None:
    evidence = _evidence(draws)
    (figure,) = figures_of(evidence.pack())
    for method, count, mean, low, high in figure.rows:
        rate = evidence.rate(method, count)
        assert (mean, low, high) == pytest.approx((rate.value, rate.low, rate.high), abs=1e-6)
    assert len(figure.rows) == 4 * 3
    svg = figure.svg()
    assert all(method in svg for method in evidence.accuracy) and "a guess" in svg


def test_the_best_rule_is_said_beside_the_best_baseline_and_warnings_first_come_through() -> None:
    (section,) = sections([_evidence().pack()])
    assert section.remarks[0].startswith("With 1 a name: mine 0.9")
    assert "the best baseline (" in section.remarks[0]
    assert section.remarks[1] == "got 8 examples"
    assert ("accuracy of a guess", "0.25") in summary(_evidence().pack())


def test_one_count_is_drawn_as_spots() -> None:
    (figure,) = figures_of(_evidence(counts=(1,)).pack())
    assert len(figure.rows) == 4
    figure.svg()


def test_a_namer_tells_its_names() -> None:
    packed = name_once(torch.eye(3), ["cat", "dog", "owl"]).pack()
    assert table(packed) == (("name", "examples", "their weight"), [(n, "1", "1") for n in ("cat", "dog", "owl")])
    assert ("features", "3") in summary(packed)


def test_a_hierarchy_shows_its_layers_and_first_filters() -> None:
    layers = (SpikingLayer(4, 5, 10.0, 10.0, pool=3, stride=2), SpikingLayer(6, 3, float("inf"), 2.0))
    packed = SpikingHierarchy(layers, shape=(16, 20)).pack()
    (figure,) = figures_of(packed)
    assert figure.svg().count("<image") == 4
    rows = table(packed)[1]
    assert rows[0][:3] == ("0", "4", "5 × 5") and rows[1][3] == "never spikes"
    assert figures_of(Artifact(packed.kind, packed.header, {"weight_0": torch.rand(2, 1, 35, 35)})) == []


@pytest.mark.parametrize("kind", ["namer", "naming_evidence", "spiking_hierarchy"])
def test_a_bare_file_is_shown(kind: str) -> None:
    assert figures_of(Artifact(kind, {})) == []
    render([Artifact(kind, {})])

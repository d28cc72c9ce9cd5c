"""Naming rules and their baselines see the same examples; intervals and the handicap of the published baseline."""

import warnings
from pathlib import Path

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.evaluation.naming import BASELINES, PUBLISHED, NamingEvidence, few_shot, one_shot
from mnemotrace.evaluation.protocol import ProtocolError
from mnemotrace.formation.naming import Namer

pytest.importorskip("sklearn")


@pytest.fixture
def task(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Two kinds that differ in two strong features of twenty, and otherwise by weak noise."""
    labels = torch.arange(2).repeat(80)
    x = torch.rand(160, 20, generator=generator)
    x[:, :2] += 2 * labels[:, None] * torch.tensor([1.0, -1.0]) + 3
    return x[:80], labels[:80], (x[80:], labels[80:])


def test_a_rule_that_is_a_baseline_scores_as_that_baseline_does(task: tuple) -> None:
    x, y, test = task
    found = few_shot(x, y, test, namers={"ours": Namer}, counts=(1, 3), draws=8)
    assert torch.equal(found.accuracy["ours"], found.accuracy[BASELINES[0]])
    assert set(found.accuracy) == {"ours", *BASELINES}
    assert found.accuracy["ours"].shape == (2, 8)
    assert found.rate("SVM", 3).value > 0.9 > found.chance == 0.5


def test_with_labels_that_say_nothing_every_method_is_at_chance(task: tuple) -> None:
    x, y, test = task
    mixed = torch.arange(len(y)) // 2 % 2
    found = few_shot(x, mixed, test, namers={"ours": Namer}, counts=(1,), draws=80)
    assert all(abs(float(found.accuracy[name].mean()) - 0.5) < 0.15 for name in found.accuracy)


def test_with_one_example_a_name_the_svm_is_the_nearest_example(task: tuple) -> None:
    x, y, test = task
    x, test = x / x.std(0), (test[0] / x.std(0), test[1])
    found = one_shot(x, y, test, draws=10)
    assert torch.allclose(found.accuracy["SVM"], found.accuracy[BASELINES[1]], atol=0.02)


def test_standardising_by_two_samples_costs_accuracy_and_is_warned_about(task: tuple) -> None:
    x, y, test = task
    with pytest.warns(NumericalWarning, match="a scale fitted on 2 samples"):
        found = one_shot(x, y, test, draws=30, published=True)
    assert found.rate(PUBLISHED).high < found.rate("SVM").low
    assert "fitted on 2 samples" in found.warnings[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few_shot(x, y, test, counts=(5,), draws=1, published=True)


def test_a_mean_has_a_bootstrapped_interval_and_a_single_draw_wilsons(task: tuple) -> None:
    x, y, test = task
    rate = one_shot(x, y, test, draws=30).rate("SVM")
    assert rate.low < rate.value < rate.high
    single = one_shot(x, y, test, draws=1).rate("SVM")
    assert single.low < single.value <= single.high <= 1
    assert single.high - single.low > 0.02


def test_the_interval_of_a_mean_is_that_of_its_standard_error(generator: torch.Generator) -> None:
    drawn = 0.7 + 0.1 * torch.randn(1, 100, generator=generator, dtype=torch.float64)
    rate = NamingEvidence((1,), {"x": drawn}, 2, 50).rate("x")
    half = 1.96 * float(drawn.std()) / 10
    assert rate.low == pytest.approx(rate.value - half, abs=0.004)
    assert rate.high == pytest.approx(rate.value + half, abs=0.004)


def test_draws_follow_the_generator_and_progress_is_told(task: tuple) -> None:
    x, y, test = task
    told: list[tuple[int, int | None, str]] = []
    seeds = (1, 1, 2)
    runs = [
        few_shot(
            x,
            y,
            test,
            counts=(1,),
            draws=6,
            generator=torch.Generator().manual_seed(seed),
            progress=lambda *given: told.append(given),
        )
        for seed in seeds
    ]
    accuracies = [run.accuracy["SVM"] for run in runs]
    assert torch.equal(accuracies[0], accuracies[1])
    assert not torch.equal(accuracies[0], accuracies[2])
    assert told[5] == (6, 6, "draws")
    assert runs[2].manifest["seed"] == 2


def test_evidence_comes_back_from_its_artifact(task: tuple, tmp_path: Path) -> None:
    x, y, test = task
    found = few_shot(x, y, test, counts=(1, 2), draws=3, namers={"ours": Namer}, images=(x, test[0]))
    again = NamingEvidence.unpack(found.pack())
    assert again.table() == found.table()
    assert again.counts == found.counts == (1, 2)
    assert again.manifest == found.manifest
    assert again.manifest["protocol"] == "checked"
    assert again.rate("ours", 2) == found.rate("ours", 2)
    assert again.median("ours", 2) == pytest.approx(float(found.accuracy["ours"][1].median()))
    assert "examples a name" in found.table()


def test_mistakes_are_refused(task: tuple) -> None:
    x, y, test = task
    with pytest.raises(ValueError, match=r"got counts=\(41,\) and draws=20 for 2 names with at least 40 examples"):
        few_shot(x, y, test, counts=(41,))
    with pytest.raises(ValueError, match="for 1 names"):
        few_shot(x, torch.zeros_like(y), test)
    with pytest.raises(ValueError, match=r"got features of shape \(80, 20\) with labels of \(79,\)"):
        few_shot(x, y[1:], test)
    with pytest.raises(ValueError, match=r"got test features of shape \(80, 19\)"):
        few_shot(x, y, (test[0][:, 1:], test[1]))
    with pytest.raises(ValueError, match=r"got 80 test examples with unknown labels \[5\]"):
        few_shot(x, y, (test[0], torch.full_like(test[1], 5)))
    with pytest.raises(NonFiniteError, match="in the features"):
        few_shot(x * float("nan"), y, test)
    with pytest.raises(ProtocolError, match="3 of 80 training images among the 3 test images"):
        few_shot(x, y, test, images=(x, x[:3]))
    found = one_shot(x, y, test, draws=2)
    with pytest.raises(ValueError, match="got 'SVN' with None examples; expected one of nearest prototype"):
        found.rate("SVN")
    with pytest.raises(ValueError, match=r"with one of \(1,\)"):
        found.median("SVM", 7)


def test_the_published_features_show_the_handicap(data_dir: Path) -> None:
    numpy = pytest.importorskip("numpy")
    folder = data_dir / "naming"
    if not folder.is_dir():
        pytest.skip("no folder naming in the test data")
    x, y, tx, ty = (
        torch.tensor(numpy.load(folder / f"features_{what}_{split}.npy"))
        for split in ("train", "test")
        for what in ("X", "y")
    )
    with pytest.warns(NumericalWarning, match="2 samples"):
        found = one_shot(
            x, y.long(), (tx, ty.long()), draws=40, published=True, namers={"ours": lambda: Namer(unlabelled=x)}
        )
    assert found.rate("ours").value > 0.9
    assert found.rate(PUBLISHED).value < 0.85

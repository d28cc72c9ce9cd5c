"""Probes find planted units, say nothing of noise, and give directions that work on raw activations."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.probe import Probe, probe

FAST: dict[str, Any] = {"backend": "fista", "penalties": 7, "stability": 4}


def planted(n: int = 200, d: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Two of many units tell the label; the raw activations have means and scales of their own."""
    source = torch.Generator().manual_seed(0)
    z = torch.randn(n, d, generator=source)
    y = (z[:, 2] - z[:, 5] + 0.3 * torch.randn(n, generator=source) > 0.2).long()
    return z * torch.linspace(0.1, 30, d) + torch.linspace(-50, 50, d), y


X, Y = planted()
FOUND = probe(X, Y, **FAST)


def test_planted_units_are_found_with_their_signs_and_are_stable() -> None:
    assert FOUND.support[0, [2, 5]].all() and int(FOUND.support.sum()) <= 6
    assert FOUND.directions[0, 2] > 0 > FOUND.directions[0, 5]
    assert FOUND.frequency[0, [2, 5]].tolist() == [1.0, 1.0]
    assert FOUND.accuracy >= 0.85 and FOUND.interval[0] <= FOUND.accuracy <= FOUND.interval[1]
    assert FOUND.curve[2] >= FOUND.dense and FOUND.curve[2] >= FOUND.curve[1] + 0.05


def test_random_labels_are_not_learnt_and_selectivity_is_the_difference() -> None:
    assert max(FOUND.control) <= 0.7 and len(set(FOUND.control)) > 1
    assert min(FOUND.capacity) >= 0.5
    assert FOUND.selectivity == pytest.approx(FOUND.accuracy - sum(FOUND.control) / 5)


def test_directions_are_in_units_of_the_raw_activations() -> None:
    assert float((FOUND.predict(X) == Y).double().mean()) >= 0.9
    moved = probe(X * 4 + 7, Y, **FAST | {"stability": 0})
    assert torch.allclose(moved.directions * 4, FOUND.directions, rtol=1e-3, atol=1e-6)
    assert torch.equal(moved.predict(X * 4 + 7), FOUND.predict(X))
    scores = X.double() @ FOUND.directions[0] + FOUND.intercepts[0]
    assert torch.allclose(FOUND.scores(X)[:, 0], scores)


def test_the_path_falls_and_uses_more_and_more() -> None:
    path = FOUND.path
    assert path.penalties[0] == 1 and float(path.penalties[-1]) == pytest.approx(0.02)
    assert path.units[0, 0] == 0 and path.units[0, -1] > path.units[0, 1] >= 1
    best = path.loss[0].argmin()
    assert path.chosen[0] <= int(best)
    assert path.loss[0, path.chosen[0]] <= path.loss[0, best] + path.error[0, best]


def test_noise_has_no_probe_and_that_is_no_error() -> None:
    y = torch.randint(2, (200,), generator=torch.Generator().manual_seed(4))
    found = probe(X, y, **FAST | {"stability": 0})
    assert int(found.support.sum()) <= 1 and found.frequency.numel() == 0
    assert found.interval[0] <= 0.6 and abs(found.selectivity) <= 0.15


def test_several_labels_are_told_one_against_the_rest() -> None:
    source = torch.Generator().manual_seed(2)
    y = torch.tensor([7, 2, 30])[torch.arange(90) % 3]
    x = torch.randn(90, 6, generator=source)
    x[torch.arange(90), torch.arange(90) % 3] += 4
    found = probe(x, y, **FAST | {"penalties": 4, "stability": 0})
    assert found.classes == (2, 7, 30) and found.directions.shape == (3, 6) and found.accuracy >= 0.9
    assert found.directions[:, [1, 0, 2]].argmax(1).tolist() == [0, 1, 2]
    assert set(found.predict(x).tolist()) == {2, 7, 30}


def test_rows_of_a_family_are_no_help_when_it_is_held_out() -> None:
    """Each family has a signature and a random label: rows alone leak it, families do not."""
    source = torch.Generator().manual_seed(7)
    signature = torch.randn(32, 40, generator=source).repeat_interleave(4, 0)
    family = torch.arange(32).repeat_interleave(4)
    y = (torch.randperm(32, generator=source) % 2).repeat_interleave(4)
    x = signature + 0.1 * torch.randn(128, 40, generator=source)
    leaky, honest = (probe(x, y, groups=groups, **FAST | {"penalties": 4, "stability": 0}) for groups in (None, family))
    assert leaky.dense >= 0.95 and leaky.accuracy >= 0.8
    assert honest.dense <= 0.7 and honest.accuracy <= 0.7


def test_a_still_unit_is_never_used_and_a_seed_decides() -> None:
    x, y = X[:80, :6].clone(), Y[:80]
    x[:, 0] = 3.3
    found, again, other = (
        probe(x, y, generator=torch.Generator().manual_seed(seed), **FAST | {"penalties": 4, "stability": 2})
        for seed in (1, 1, 2)
    )
    assert found.directions[0, 0] == 0 and torch.isfinite(found.directions).all()
    assert torch.equal(found.directions, again.directions) and found.control == again.control
    assert not torch.equal(found.directions, other.directions)
    assert found.manifest["seed"] == 1 and found.manifest["backend"] == "fista"


def test_a_file_holds_everything(tmp_path: Path) -> None:
    back = Probe.unpack(read(write(FOUND.pack(), tmp_path / "p"), "probe"))
    for field in fields(Probe):
        ours, theirs = getattr(FOUND, field.name), getattr(back, field.name)
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs)
        elif field.name == "path":
            assert ours.chosen == theirs.chosen and torch.equal(ours.loss, theirs.loss)
        else:
            assert ours == theirs


def spoiled() -> torch.Tensor:
    x = X.clone()
    x[3, 4] = float("inf")
    return x


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (spoiled(), Y, {}, NonFiniteError, "got 1 non-finite of 2400 entries in the activations"),
        (X, Y[:-1], {}, ValueError, r"got activations \(200, 12\) and labels \(199,\); expected \(n, d\) and \(n,\)"),
        (X[:0], Y[:0], {}, ValueError, r"got activations \(0, 12\)"),
        (X, Y.bool(), {}, TypeError, "got labels of torch.bool; expected integers; y.long"),
        (X, Y.float(), {}, TypeError, "got labels of torch.float32; expected integers"),
        (X, Y * 0, {}, ValueError, r"got labels \[0\] and test=0.25; expected at least two labels"),
        (X, Y, {"penalties": 1}, ValueError, "got penalties=1, stability=4; expected at least 2 and 0"),
    ],
)
def test_mistakes_are_named(
    x: torch.Tensor, y: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        probe(x, y, **FAST | options)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got activations \(2, 3\); expected 12 on the last axis"):
        FOUND.predict(torch.zeros(2, 3))

"""The stream's result is that of the whole set at once, whatever the batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.localisation.top_examples import TopExamples, top_examples


def _net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(45, 3)
        )


MODEL, X = _net(), torch.randn(60, 2, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("site", ["0", "3", None])
def test_the_top_is_torchs_over_the_whole_set(site: str | None) -> None:
    found = top_examples(MODEL, X.split(7), site, k=5)
    with torch.no_grad():
        y = {"0": MODEL[:1], "3": MODEL[:4], None: MODEL}[site](X)
    flat = y.flatten(2) if y.ndim > 2 else y[:, :, None]
    wanted = flat.amax(2).topk(5, 0)
    assert torch.allclose(found.values[0], wanted.values.T, atol=1e-6)  # batches round otherwise
    assert torch.equal(found.index[0], wanted.indices.T)
    for unit in range(y.shape[1]):
        for value, index, location in zip(
            found.values[0, unit], found.index[0, unit], found.location[0, unit], strict=True
        ):
            assert y[(int(index), unit, *location.tolist())] == pytest.approx(float(value), rel=1e-5, abs=1e-6)


@given(size=st.integers(1, 60), reservoir=st.integers(5, 80))
def test_batches_do_not_matter(size: int, reservoir: int) -> None:
    whole, parts = (top_examples(MODEL, X.split(n), "3", k=5, reservoir=reservoir) for n in (60, size))
    for name in ("index", "location", "boxes"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    assert torch.allclose(whole.sample, parts.sample, atol=1e-6)


def test_of_equal_values_the_earlier_example_wins() -> None:
    model = nn.Identity()
    values = torch.tensor([[1.0], [2.0], [2.0], [0.0], [2.0], [1.0]])
    found = top_examples(model, values.split(2), None, k=4, quantiles=())
    assert found.index[0].tolist() == [[1, 2, 4, 0]]
    still = top_examples(model, torch.zeros(6, 1).split(1), None, k=3, quantiles=())
    assert still.index[0].tolist() == [[0, 1, 2]]


def test_quantiles_of_a_set_that_fits_are_exact() -> None:
    values = torch.randperm(101, generator=torch.Generator().manual_seed(2)).float()[:, None]
    found = top_examples(nn.Identity(), values.split(10), None, k=3, quantiles=(0.9, 0.5, 0.0))
    assert found.values[:, 0].tolist() == [[100, 99, 98], [91, 90, 89], [51, 50, 49], [2, 1, 0]]
    assert found.groups == ("top", "quantile 0.9", "quantile 0.5", "quantile 0")
    assert torch.equal(values[found.index[2, 0], 0], found.values[2, 0])


def test_a_sample_is_uniform_and_follows_its_generator() -> None:
    values = torch.arange(400.0)[:, None]
    drawn = [
        top_examples(
            nn.Identity(), values.split(64), None, k=1, reservoir=40, generator=torch.Generator().manual_seed(seed)
        ).sample[0]
        for seed in range(40)
    ]
    assert torch.equal(drawn[0], top_examples(nn.Identity(), values.split(9), None, k=1, reservoir=40).sample[0])
    assert not torch.equal(drawn[0], drawn[1])
    counts = torch.bincount(torch.cat(drawn).long() // 100, minlength=4)
    assert counts.sum() == 1600
    assert float((counts - 400).abs().max()) < 80  # binomial: 17 one standard deviation


def test_memory_does_not_grow_with_the_stream() -> None:
    found = top_examples(nn.Identity(), (torch.rand(50, 8) for _ in range(40)), None, k=2, reservoir=16)
    assert found.count == 2000
    assert found.sample.shape == (8, 16)


def test_boxes_hold_what_excites() -> None:
    """Outside its box an input can be anything; the value at its location stays."""
    found = top_examples(MODEL, X.split(20), "3", k=2)
    assert found.boxes is not None
    for unit in range(5):
        index, at, box = int(found.index[0, unit, 0]), found.location[0, unit, 0].tolist(), found.boxes[0, unit, 0]
        kept = torch.zeros(12, 12, dtype=torch.bool)
        kept[box[0, 0] : box[0, 1], box[1, 0] : box[1, 1]] = True
        with torch.no_grad():
            value = MODEL[:4](torch.where(kept, X[index], torch.full_like(X[index], 9.0))[None])[(0, unit, *at)]
            inside = MODEL[:4](torch.where(kept, torch.full_like(X[index], 9.0), X[index])[None])[(0, unit, *at)]
        assert float(value) == pytest.approx(float(found.values[0, unit, 0]), abs=1e-5)
        assert abs(float(inside) - float(value)) > 1e-3


@pytest.mark.parametrize(
    ("model", "x", "axis", "units"),
    [
        (nn.Linear(4, 3), torch.rand(12, 5, 4), None, 3),
        (nn.Conv1d(2, 3, 3), torch.rand(12, 2, 9), None, 3),
        (nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), torch.rand(12, 2, 9), 1, 3),
        (nn.Linear(4, 3), torch.rand(12, 4), None, 3),
        (nn.Embedding(7, 6), torch.randint(7, (12, 5)), None, 6),
    ],
)
def test_tokens_signals_and_vectors(model: nn.Module, x: torch.Tensor, axis: int | None, units: int) -> None:
    found = top_examples(model, x.split(5), None, k=2, axis=axis)
    assert found.units == tuple(range(units))
    assert found.location.shape[-1] == (0 if x.ndim == 2 and x.is_floating_point() else 1)
    assert (found.boxes is None) == (x.ndim == 2)


def test_chosen_units_come_in_the_order_asked_and_the_network_stays() -> None:
    model = _net()
    model(X[:1])
    model.train()
    found, whole = (top_examples(model, X.split(9), "3", k=2, units=units) for units in ([4, 1], None))
    assert torch.equal(found.index, whole.index[:, [4, 1]])
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_file_holds_everything(tmp_path: Path) -> None:
    found = top_examples(MODEL, X.split(30), "3", k=2, units=[3, 0])
    back = TopExamples.unpack(read(write(found.pack(), tmp_path / "t"), "top_examples"))
    for name in ("values", "index", "location", "boxes", "sample"):
        assert torch.equal(getattr(back, name), getattr(found, name))
    for name in ("units", "quantiles", "site", "count", "manifest", "groups"):
        assert getattr(back, name) == getattr(found, name)


def _spoiled() -> list[torch.Tensor]:
    x = X.clone()
    x[40, 0, 3, 3] = float("nan")
    return list(x.split(20))


@pytest.mark.parametrize(
    ("batches", "site", "options", "error", "message"),
    [
        (_spoiled(), "3", {}, NonFiniteError, "entries in 3, batch 3; expected finite numbers"),
        ([], "3", {}, ValueError, "got 0 examples for k=9; expected at least 9; give more, a fresh iterator"),
        (X[:4].split(2), "3", {}, ValueError, "got 4 examples for k=9"),
        (X.split(20), "3", {"units": [0, 5]}, ValueError, "got unit 5 of 3; expected 0 to 4"),
        (X.split(20), "conv", {}, SelectionError, "got site='conv', which is no module; .* choose among 0, 1, 2"),
        (X.split(20), "3", {"k": 0}, ValueError, "got k=0, reservoir=512"),
        (X.split(20), "3", {"quantiles": (1.5,)}, ValueError, r"quantiles=\(1.5,\); expected"),
    ],
)
def test_mistakes_are_named(
    batches: Any, site: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        top_examples(MODEL, batches, site, **options)

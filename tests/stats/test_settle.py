"""Collection stops when the solves of two halves agree, and says so when they do not."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.stats.settle import effective_rank, settle

D = 16


class _Reader(nn.Module):
    """One linear map that reads its input; two names for it would be two sites."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(D, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


@pytest.fixture
def model() -> nn.Module:
    return _Reader().train()


def _batches(count: int, rows: int = 8, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -1, D)
    return [torch.randn(rows, D, generator=generator) * scale for _ in range(count)]


def _settling(statistics: mt.Statistics) -> dict:
    return statistics.manifest["settling"]


def test_it_stops_when_the_halves_agree_and_sums_up_all_that_it_read(model: nn.Module) -> None:
    batches = _batches(400)
    taken: list[Tensor] = []

    def counted() -> Iterator[Tensor]:
        for batch in batches:
            taken.append(batch)
            yield batch

    sites = mt.sites(model)
    found = settle(model, counted(), sites=sites, agreement=0.95)
    report = _settling(found)
    assert report["settled"]
    assert report["agreement"]["map"] >= 0.95
    assert 2 * D <= report["tokens"] < 100 * D
    rows = torch.cat(taken[1:])
    assert found["map"].n == len(rows) == report["tokens"]
    assert torch.allclose(found["map"].matrix(), (rows.T @ rows).double(), rtol=1e-5, atol=1e-4)


def test_agreement_asked_for_needs_more_data_the_more_is_asked(model: nn.Module) -> None:
    sites = mt.sites(model)
    tokens = [_settling(settle(model, _batches(1000), sites=sites, agreement=a))["tokens"] for a in (0.6, 0.9, 0.98)]
    assert tokens == sorted(tokens)
    assert tokens[0] < tokens[2] / 4


def test_the_agreement_is_that_of_the_solves_with_the_two_halves(model: nn.Module) -> None:
    batches = _batches(8)
    keys = torch.randn(D, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sites = mt.sites(model)
    found = settle(model, batches, sites=sites, keys={"map": keys}, agreement=0.1, at_least=8 * 8)
    solved = []
    for half in (batches[::2], batches[1::2]):
        rows = torch.cat(half).double()
        mean = rows.T @ rows / len(rows)
        solved.append(torch.linalg.solve(mean + 1e-4 * mean.trace() / D * torch.eye(D), keys))
    wanted = torch.cosine_similarity(*solved, dim=0).mean()
    assert _settling(found)["agreement"]["map"] == pytest.approx(float(wanted), abs=1e-4)


def test_data_that_end_too_early_are_no_error_but_a_warning_and_said(model: nn.Module) -> None:
    with pytest.warns(NumericalWarning, match=r"halves of 48 rows agree to 0\.\d+ at map, not 0.99; give more"):
        found = settle(model, _batches(7), sites=mt.sites(model), agreement=0.99)
    assert not _settling(found)["settled"]
    assert found["map"].n == 48


def test_it_gives_up_at_the_bound(model: nn.Module) -> None:
    with pytest.warns(NumericalWarning):
        found = settle(model, _batches(100), sites=mt.sites(model), agreement=0.999, at_most=100)
    assert 100 <= _settling(found)["tokens"] <= 116


def test_halves_of_different_text_do_not_agree_however_long_they_are(model: nn.Module) -> None:
    turned = [batch.flip(-1) if i % 2 else batch for i, batch in enumerate(_batches(500))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        found = settle(model, turned, sites=mt.sites(model))
    assert not _settling(found)["settled"]
    assert _settling(found)["agreement"]["map"] < 0.5


def test_masked_rows_do_not_count_and_the_model_stays_as_it_was(model: nn.Module) -> None:
    batches = _batches(400)
    for batch in batches:
        batch[4:] = 1e6
    kept = lambda batch: torch.arange(len(batch)) < 4  # noqa: E731
    found = settle(model, batches, sites=mt.sites(model), mask=kept)
    assert float(found["map"].matrix().abs().max()) < 1e5
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_it_survives_a_file_and_can_be_added_to(model: nn.Module, tmp_path) -> None:
    found = settle(model, _batches(400), sites=mt.sites(model))
    mt.save(found, tmp_path / "settled.safetensors")
    again = mt.load(tmp_path / "settled.safetensors")
    assert _settling(again) == _settling(found)
    assert (again + found)["map"].n == 2 * found["map"].n


def test_the_effective_rank_counts_directions() -> None:
    assert effective_rank(mt.Moments.of(torch.eye(6).repeat(3, 1))) == pytest.approx(6)
    assert effective_rank(mt.Moments.of(torch.ones(9, 6))) == pytest.approx(1)


def test_bad_input_is_refused(model: nn.Module) -> None:
    sites = mt.sites(model)
    with pytest.raises(ValueError, match=r"got agreement=1.5, at_least=32, at_most=1600; expected a cosine"):
        settle(model, _batches(4), sites=sites, agreement=1.5)
    with pytest.raises(ValueError, match="at_least=50, at_most=20; expected"):
        settle(model, _batches(4), sites=sites, at_least=50, at_most=20)
    with pytest.raises(ValueError, match="got no site; expected the maps"):
        settle(model, _batches(4), sites={})
    with pytest.raises(ValueError, match=r"got keys of shape \(3, 2\) for map; expected \(d, n\)"):
        settle(model, _batches(4), sites=sites, keys={"map": torch.ones(3, 2)})
    with pytest.raises(ValueError, match="got keys of shape None for map"):
        settle(model, _batches(4), sites=sites, keys={})
    with pytest.raises(ValueError, match="got no batch; expected at least three"):
        settle(model, [], sites=sites)
    with pytest.raises(ValueError, match="got fewer than two batches"):
        settle(model, _batches(2), sites=sites)

"""Toy models: samples and losses are what they should be, and training finds the published geometry."""

import pytest
import torch

from mnemotrace.organisms.toy import ToyModels, draw

DENSITY = torch.tensor([0.03, 0.4, 1.0])


@pytest.fixture(scope="module")
def samples() -> torch.Tensor:
    return draw(torch.rand(2, 3, 20_000, 4, generator=torch.Generator().manual_seed(0)), DENSITY)


def test_samples_are_those_of_the_law_without_the_empty_ones(samples: torch.Tensor) -> None:
    full = 1 - (1 - DENSITY) ** 4
    assert bool((samples.sum(2) > 0).all()) and float(samples.min()) >= 0 and float(samples.max()) <= 1
    present = (samples > 0).double()
    torch.testing.assert_close(
        present.mean(1) * full[:, None], DENSITY[:, None].expand(3, 4).double(), rtol=0.05, atol=0
    )
    both = (present[..., 0] * present[..., 3]).mean(1) * full
    torch.testing.assert_close(both[1:], DENSITY[1:].double() ** 2, rtol=0.05, atol=0)
    torch.testing.assert_close(samples.mean((1, 2)) * full, DENSITY / 2, rtol=0.05, atol=0)
    second = samples[..., 2].square().mean(1) * full
    torch.testing.assert_close(second, DENSITY / 3, rtol=0.06, atol=0)


@pytest.mark.parametrize("linear", [False, True])
def test_the_loss_is_that_of_plain_sampling(samples: torch.Tensor, linear: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, 2, 4, generator=generator), 0.3 * torch.randn(3, 4, generator=generator)
    importance = torch.tensor([1.0, 0.5, 2.0, 0.1])
    found = ToyModels(4, 2, importance, DENSITY, linear).loss(weight, bias, samples)
    for i, p in enumerate(DENSITY.tolist()):
        x = torch.rand(20_000, 4, generator=generator) * (torch.rand(20_000, 4, generator=generator) < p)
        y = x @ weight[i].T @ weight[i] + bias[i]
        plain = ((x - (y if linear else y.relu())).square() * importance).sum(1).mean()
        assert float(found[i]) == pytest.approx(float(plain), rel=0.06)


def test_dense_features_are_dropped_and_rare_ones_share() -> None:
    models = ToyModels(3, 1, torch.tensor([1.0, 0.2, 0.1]), torch.tensor([1.0, 0.02]))
    found = models.train(restarts=3, steps=120, learning_rate=0.1)
    dense, rare = found.weight[:, 0]
    torch.testing.assert_close(dense.abs(), torch.tensor([1.0, 0.0, 0.0]), atol=0.15, rtol=0)
    assert sorted((rare.abs() > 0.7).tolist()) == [False, True, True]  # one dimension bears a pair
    assert float(rare.amin()) < -0.7 and float(rare.amax()) > 0.7
    assert found.features.shape == (2, 3, 1) and found.losses.shape == (2, 3)


def test_the_best_start_is_kept_and_seeds_repeat() -> None:
    models = ToyModels(3, 1, torch.ones(3), torch.tensor([0.1, 0.2]))
    first, again = (models.train(restarts=4, steps=20) for _ in range(2))
    assert torch.equal(first.weight, again.weight) and first.manifest["seed"] == 0
    other = models.train(restarts=4, steps=20, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(first.weight, other.weight) and other.manifest["seed"] == 5
    x = draw(torch.rand(2, 1, 20_000, 3, generator=torch.Generator().manual_seed(9)), models.density)
    torch.testing.assert_close(models.loss(first.weight, first.bias, x), first.loss, rtol=0.05, atol=0)
    assert bool((first.loss[:, None] <= first.losses).all())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got n=3, m=1 and importance \(2,\); expected at least one feature"):
        ToyModels(3, 1, torch.ones(2), torch.tensor(0.5))
    with pytest.raises(ValueError, match="got density from 0 to 0.5 and least importance 1"):
        ToyModels(2, 1, torch.ones(2), torch.tensor([0.0, 0.5]))
    with pytest.raises(ValueError, match="got density from nan to nan"):
        ToyModels(2, 1, torch.ones(2), torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match=r"got importance \(3, 2\) and density \(2,\); expected \(instances, n\)"):
        ToyModels(2, 1, torch.ones(3, 2), torch.tensor([0.1, 0.5]))
    with pytest.raises(ValueError, match="got restarts=0, steps=2000"):
        ToyModels(2, 1, torch.ones(2), torch.tensor(0.5)).train(restarts=0)


@pytest.mark.slow
def test_five_features_in_a_plane_form_a_pentagon() -> None:
    (w,) = ToyModels(5, 2, torch.ones(5), torch.tensor(0.05)).train(restarts=4).features.double()
    around = torch.rad2deg(torch.atan2(w[:, 1], w[:, 0])).sort().values
    gaps = torch.cat([around[1:], around[:1] + 360]) - around
    assert float((gaps - 72).abs().max()) <= 3

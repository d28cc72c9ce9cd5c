"""Training finds the exact denoiser of the patterns; the step as printed climbs; noise is what the network is told."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.formation.noise import corrupt
from mnemotrace.formation.score import denoising_loss, fit_denoiser, predicted_noise
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.patterns import Patterns

D = 4
LEVELS = (0.02, 10.0)


def _patterns(generator: torch.Generator, n: int = 3) -> torch.Tensor:
    return torch.randn(n, D, generator=generator, dtype=torch.float64)


def _exact(patterns: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda x, sigma: lookup(x, patterns, torch.as_tensor(sigma).reshape(1, 1) ** -2).mean


def _fitted(patterns: torch.Tensor, seed: int = 0, **options: object) -> TrainedDenoiser:
    options = {"steps": 400, "batch_size": 128, "learning_rate": 5e-3, "levels": (0.05, 5.0)} | options
    network = TrainedDenoiser(
        D, widths=(48, 48), centre=patterns.mean(0), generator=torch.Generator().manual_seed(seed)
    )
    generator = torch.Generator().manual_seed(seed)
    return fit_denoiser(patterns, **({"network": network, "generator": generator} | options))


def test_a_fitted_denoiser_comes_near_to_the_exact_one_and_an_unfitted_does_not(generator: torch.Generator) -> None:
    patterns = _patterns(generator)
    x = patterns.repeat(100, 1)
    x = x + 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    wanted, fitted = _exact(patterns)(x, 0.5), _fitted(patterns)
    unfitted = TrainedDenoiser(D, centre=fitted.centre)
    missed = [float((found(x, 0.5) - wanted).square().mean().detach()) for found in (fitted, unfitted)]
    assert 4 * missed[0] < missed[1] and missed[0] < 0.05


def test_loss_falls_and_its_curve_is_in_the_manifest(generator: torch.Generator) -> None:
    fitted = _fitted(_patterns(generator), steps=250)
    losses = fitted.manifest["losses"]
    assert len(losses) == 100 and losses[-1] < 0.6 * losses[0]
    assert fitted.manifest["steps"] == 250 and not fitted.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not(generator: torch.Generator) -> None:
    patterns = _patterns(generator)
    noise = {"gaussian": 1.0, "mask": 1.0, "flips": 1.0}
    torch.manual_seed(5)
    one, two, other = (_fitted(patterns, seed, steps=5, noise=noise) for seed in (0, 0, 1))
    for first, second, third in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_corrected_step_descends_and_the_printed_one_climbs(generator: torch.Generator) -> None:
    """Equation 22: W + eta (ds/dW)^T (eps - s) descends; printed is the minus."""
    clean = _patterns(generator).repeat(200, 1)
    sigma = torch.full_like(clean, 0.8)
    drawn = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)

    def after(sign: float) -> float:
        denoiser = TrainedDenoiser(D, widths=(16,), centre=clean.mean(0))
        for _ in range(30):
            s = predicted_noise(denoiser, clean + sigma * drawn, sigma)
            (jacobian,) = [torch.autograd.grad((s * (drawn - s).detach()).sum(1).mean(), list(denoiser.parameters()))]
            with torch.no_grad():
                for parameter, step in zip(denoiser.parameters(), jacobian, strict=True):
                    parameter.add_(sign * 0.05 * step)
        with torch.no_grad():
            return float((drawn - predicted_noise(denoiser, clean + sigma * drawn, sigma)).square().mean())

    begin = after(0.0)
    assert after(+1.0) < 0.95 * begin
    assert after(-1.0) > begin


def test_the_score_is_minus_the_predicted_noise_over_sigma_and_not_as_printed(generator: torch.Generator) -> None:
    """Equation 10, with sigma sqrt(T - t) = 0.3 and the printed sigma = 1."""
    patterns, sigma = _patterns(generator), torch.tensor(0.3, dtype=torch.float64)
    x = _patterns(generator, 20).requires_grad_()
    log_p = torch.logsumexp(-(x[:, None] - patterns).square().sum(2) / (2 * sigma**2), 1)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    s = predicted_noise(_exact(patterns), x.detach(), sigma)
    assert torch.allclose(score, -s / sigma, atol=1e-10)
    assert float((score + s).abs().max()) > 1


def test_the_loss_is_that_of_equation_9_with_a_weight(generator: torch.Generator) -> None:
    denoiser, clean = TrainedDenoiser(D, centre=torch.zeros(D).double(), spread=1.5), _patterns(generator, 6)
    drawn, sigma = _patterns(generator, 6), 0.1 + torch.rand(6, D, generator=generator, dtype=torch.float64)
    noisy = clean + sigma * drawn
    errors = (drawn - predicted_noise(denoiser, noisy, sigma)).square()
    wanted = (errors * (sigma**2 + 1.5**2) / 1.5**2).mean()
    assert float((denoising_loss(denoiser, clean, noisy, sigma) - wanted).detach().abs()) < 1e-12


def test_weights_say_how_often_patterns_are_drawn(generator: torch.Generator) -> None:
    pair = torch.tensor([[-1.0] * D, [1.0] * D], dtype=torch.float64)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    network = TrainedDenoiser(D, widths=(8,), centre=torch.zeros(D).double())
    options = {"network": network, "noise": {"mask": 1.0}, "steps": 200, "learning_rate": 0.02, "generator": generator}
    for given, more in ((pair, {"weights": weights}), (Patterns(pair, weights=weights), {})):
        fitted = fit_denoiser(given, **(options | more)).requires_grad_(False)
        assert float(fitted(pair[:1], math.inf).mean()) == pytest.approx(0.5, abs=0.1)
    assert float(fit_denoiser(pair, steps=1, weights=weights, generator=generator).centre[0]) == 0.5


@pytest.mark.parametrize("kind", ["gaussian", "mask", "flips"])
def test_the_noise_that_is_told_is_the_noise_that_is_there(kind: str, generator: torch.Generator) -> None:
    denoiser = TrainedDenoiser(D, centre=torch.full((D,), 0.3, dtype=torch.float64), spread=1.4)
    clean = torch.where(_patterns(generator, 40000) < 0, -1.4, 1.4) + 0.3
    noisy, sigma = corrupt(denoiser, clean, {kind: 1.0}, LEVELS, generator)
    seen = sigma.isfinite()
    assert float(((noisy - clean)[seen] / sigma[seen]).square().mean()) == pytest.approx(1, abs=0.03)
    assert bool((noisy[~seen] == 0.3).all()) and bool(seen.all()) == (kind != "mask")
    assert float(sigma[seen].min()) >= 0.999 * LEVELS[0] * 1.4
    if kind == "gaussian":
        assert bool((sigma == sigma[:, :1]).all())
        assert float((sigma[:, 0] / 1.4).log().mean()) == pytest.approx(math.log(LEVELS[0] * LEVELS[1]) / 2, abs=0.05)
    if kind == "mask":
        assert float((~seen).double().mean()) == pytest.approx(0.25, abs=0.02)
        assert max(len(row.unique()) for row in sigma[:300]) == 2
    if kind == "flips":
        assert bool(((noisy == clean) | (noisy + clean - 0.6).abs().lt(1e-12)).all())
        assert float((noisy != clean).double().mean()) == pytest.approx(0.125, abs=0.01)


def test_masks_that_are_given_hide_whole_regions(generator: torch.Generator) -> None:
    denoiser, clean = TrainedDenoiser(D, centre=torch.zeros(D).double()), _patterns(generator, 40000)
    known = torch.tensor([[True, True, False, False]])
    share = []
    for given in (known, None):
        _, sigma = corrupt(denoiser, clean, {"mask": 1.0}, LEVELS, generator, known=given)
        share.append(float((sigma.isinf() == ~known).all(1).double().mean()))
    # infinite half of the time; scattered masks hide just these two in one case of thirty
    assert share == pytest.approx([(3 + 1 / 30) / 8, 1 / 60], abs=0.01)


def test_masks_are_trained_with(generator: torch.Generator) -> None:
    pair, known = _patterns(generator, 2), torch.eye(D).bool()
    noise = {"gaussian": 0.5, "mask": 0.5}
    one, other = (_fitted(pair, steps=5, noise=noise, known=masks) for masks in (known, None))
    assert (one.manifest["masks"], other.manifest["masks"]) == (D, 0)
    assert one.manifest["losses"][0] != other.manifest["losses"][0]


def test_masks_in_training_make_completion_work_and_equal_noise_does_not(generator: torch.Generator) -> None:
    pair = torch.tensor([[1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    sigma = torch.tensor([0.1, math.inf, math.inf, math.inf], dtype=torch.float64)
    errors = [
        float((_fitted(pair, noise=noise, steps=250)(pair, sigma) - pair).square().mean().detach())
        for noise in ({"mask": 1.0}, {"gaussian": 1.0})
    ]
    assert errors[0] < 0.1 and errors[1] > 5 * errors[0]


def test_a_stream_of_batches_is_taken_one_a_step_and_one_that_ends_is_told(generator: torch.Generator) -> None:
    seen: list[int] = []
    batches = [_patterns(generator, 8) for _ in range(3)]
    options = {"steps": 3, "generator": generator, "progress": lambda done, total, what: seen.append(done)}
    fitted = fit_denoiser(iter(batches), **options)
    assert seen == [1, 2, 3] and torch.allclose(fitted.centre, batches[0].mean(0))
    with pytest.raises(ValueError, match="got a stream of 2 batches; expected 3, one a step"):
        fit_denoiser(iter(batches[:2]), **options)


def test_a_denoiser_that_is_trained_on_is_not_changed(generator: torch.Generator) -> None:
    patterns = _patterns(generator)
    first = _fitted(patterns, steps=3)
    kept = [parameter.clone() for parameter in first.parameters()]
    second = fit_denoiser(patterns, network=first, steps=3, generator=generator)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), kept, strict=True))
    assert not torch.equal(second.network.layers[0].weight, first.network.layers[0].weight)
    assert second.centre is not first.centre


def test_a_network_of_your_own_is_trained(generator: torch.Generator) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(D, dtype=torch.float64))

        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return self.gain * x + 0 * noise

    fitted = fit_denoiser(_patterns(generator), network=Own(), steps=20, generator=generator)
    assert bool((fitted.network.gain != 0).all())


def test_bad_input_is_refused(generator: torch.Generator) -> None:
    patterns = _patterns(generator)
    for options, message in (
        ({"steps": 0}, r"got steps=0, batch_size=256, learning_rate=0.002; expected at least one step"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"noise": {"salt": 1.0}}, r"got noise={'salt': 1.0}; expected shares of gaussian, mask, flips"),
        ({"noise": {"mask": -1.0}}, "none negative, not all zero"),
        ({"levels": (1.0, 0.5)}, r"got levels=\(1.0, 0.5\); expected two positive numbers"),
        ({"network": TrainedDenoiser(3)}, "got patterns with 4 features for a denoiser of 3"),
        ({"noise": {"mask": 1.0}, "known": torch.ones(D).bool()}, r"got known of shape \(4,\); expected \(m, 4\)"),
        ({"noise": {"mask": 1.0}, "known": torch.ones(2, 3).bool()}, r"got known of shape \(2, 3\)"),
        ({"weights": torch.ones(2)}, r"got weights of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_denoiser(patterns, **({"steps": 2, "generator": generator} | options))
    with pytest.raises(ValueError, match="got 2 patterns that are all alike; expected some spread"):
        fit_denoiser(torch.ones(2, D), steps=2, generator=generator)
    with pytest.raises(TypeError, match="got a int; expected patterns"):
        fit_denoiser(3, steps=2, generator=generator)
    with pytest.raises(TypeError, match="got a stream whose first batch is str"):
        fit_denoiser(["a"], steps=2, generator=generator)
    with pytest.raises(TypeError, match="got known as torch.float32; expected masks of dtype bool"):
        fit_denoiser(patterns, steps=2, noise={"mask": 1.0}, known=torch.ones(2, D), generator=generator)
    with pytest.raises(TypeError, match="got weights for a stream of batches"):
        fit_denoiser(iter([patterns]), steps=1, weights=torch.ones(3), generator=generator)
    with pytest.raises(NonFiniteError, match=r"got a loss that is not finite at step \d+; expected a smaller"):
        fit_denoiser(patterns.float(), steps=20, learning_rate=1e30, generator=generator)

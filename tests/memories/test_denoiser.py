"""The preconditioning keeps its identities at every noise, feature by feature; what is saved is what loads."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Denoiser
from mnemotrace.memories.denoiser import TrainedDenoiser

D = 5


def _normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _denoiser(generator: torch.Generator, spread: float = 1.5) -> TrainedDenoiser:
    """A network whose last layer is not zero, as after training."""
    found = TrainedDenoiser(D, widths=(8,), centre=_normal(generator, D), spread=spread, generator=generator)
    for parameter in found.parameters():
        nn.init.normal_(parameter, generator=generator)
    return found.requires_grad_(False)


def test_it_is_a_denoiser() -> None:
    assert isinstance(TrainedDenoiser(D), Denoiser)


def test_with_no_noise_the_state_comes_back(generator: torch.Generator) -> None:
    x = _normal(generator, 7, D)
    assert torch.allclose(_denoiser(generator)(x, 1e-12), x, atol=1e-10)


def test_with_infinite_noise_the_value_is_not_looked_at(generator: torch.Generator) -> None:
    denoiser, sigma = _denoiser(generator), torch.tensor([math.inf, 0.3, math.inf, 0.1, 2.0], dtype=torch.float64)
    x = _normal(generator, 4, D)
    other = x.clone()
    other[:, [0, 2]] = 100.0
    assert torch.equal(denoiser(x, sigma), denoiser(other, sigma))
    assert not torch.allclose(denoiser(x, 5.0), denoiser(other, 5.0))


def test_each_feature_has_its_own_noise(generator: torch.Generator) -> None:
    x, sigma = _normal(generator, 4, D), torch.full((D,), 2.0, dtype=torch.float64)
    sigma[1] = 1e-12
    moved = (_denoiser(generator)(x, sigma) - x).abs()
    assert float(moved[:, 1].max()) < 1e-10 and float(moved[:, [0, 2, 3, 4]].min()) > 1e-3


def test_an_untrained_network_is_the_posterior_mean_of_a_gaussian(generator: torch.Generator) -> None:
    centre, spread, sigma = _normal(generator, D), 1.7, 0.6
    found = TrainedDenoiser(D, centre=centre, spread=spread)(x := _normal(generator, 3, D), sigma)
    wanted = centre + spread**2 / (spread**2 + sigma**2) * (x - centre)
    assert torch.allclose(found, wanted, rtol=1e-14)


@given(seed=st.integers(0, 2**31), log_sigma=st.floats(-12, 12), log_spread=st.floats(-3, 3))
def test_coefficients_are_those_of_table_one(seed: int, log_sigma: float, log_spread: float) -> None:
    sigma, spread = math.exp(log_sigma), math.exp(log_spread)
    denoiser = _denoiser(torch.Generator().manual_seed(seed), spread)
    skip, out, inner = (float(c) for c in denoiser.coefficients(torch.tensor(sigma, dtype=torch.float64)))
    assert skip == pytest.approx(spread**2 / (sigma**2 + spread**2), rel=1e-12)
    assert out == pytest.approx(sigma * spread / math.sqrt(sigma**2 + spread**2), rel=1e-12)
    assert inner == pytest.approx(1 / math.sqrt(sigma**2 + spread**2), rel=1e-12)
    # variances: the network's input and target are of unit variance at every level
    assert skip + (out / spread) ** 2 == pytest.approx(1, rel=1e-12)


def test_one_noise_for_all_and_the_same_for_each_feature_are_the_same(generator: torch.Generator) -> None:
    denoiser, x = _denoiser(generator), _normal(generator, 4, D)
    wanted = denoiser(x, 0.7)
    for shape in ((D,), (4, 1), (4, D)):
        assert torch.equal(denoiser(x, torch.full(shape, 0.7, dtype=torch.float64)), wanted)


def test_patterns_and_noise_in_other_units_give_the_same_in_those_units(generator: torch.Generator) -> None:
    denoiser, x = _denoiser(generator), _normal(generator, 4, D)
    scaled = TrainedDenoiser(D, network=denoiser.network, centre=10 * denoiser.centre, spread=15.0)
    assert torch.allclose(scaled(10 * x, 7.0), 10 * denoiser(x, 0.7), rtol=1e-12)


def test_a_network_of_your_own_is_wrapped_and_called_with_scaled_states_and_noise(generator: torch.Generator) -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            self.seen = (x, noise)
            return torch.zeros_like(x)

    own = Own()
    TrainedDenoiser(D, network=own, spread=2.0)(torch.ones(3, D), 1.0)
    assert torch.allclose(own.seen[0], torch.full((3, D), 5.0**-0.5))
    assert torch.allclose(own.seen[1], torch.full((3, D), math.log(0.5) / 4))
    with pytest.raises(TypeError, match=r"got a denoiser around a Own; expected our own network"):
        TrainedDenoiser(D, network=own).pack()


@given(seed=st.integers(0, 2**31), wide=st.booleans())
def test_what_is_saved_is_what_loads(seed: int, wide: bool) -> None:
    import tempfile

    generator = torch.Generator().manual_seed(seed)
    denoiser = _denoiser(generator)
    denoiser.manifest = {"losses": [1.0, 0.5]}
    if not wide:
        denoiser = denoiser.float()
    with tempfile.TemporaryDirectory() as folder:
        found = TrainedDenoiser.unpack(read(write(denoiser.pack(), Path(folder) / "x"), "denoiser"))
    x = _normal(generator, 3, D).to(denoiser.centre)
    assert torch.equal(found(x, 0.4), denoiser(x, 0.4))
    assert found.manifest == denoiser.manifest and found.centre.dtype == x.dtype


def test_first_weights_depend_on_the_generator_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        return TrainedDenoiser(D, generator=torch.Generator().manual_seed(seed)).network.layers[0].weight

    torch.manual_seed(1)
    one = first(0)
    torch.manual_seed(2)
    assert torch.equal(one, first(0)) and not torch.equal(one, first(1))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got d=0 and widths=\(256, 256\); expected at least one feature"):
        TrainedDenoiser(0)
    with pytest.raises(ValueError, match=r"got d=5 and widths=\(\)"):
        TrainedDenoiser(D, widths=())
    with pytest.raises(ValueError, match=r"got spread=0; expected a positive number"):
        TrainedDenoiser(D, spread=0)
    with pytest.raises(ValueError, match=r"got a centre of shape \(4,\); expected \(5,\)"):
        TrainedDenoiser(D, centre=torch.zeros(4))
    with pytest.raises(NonFiniteError, match="in the centre"):
        TrainedDenoiser(D, centre=torch.full((D,), math.nan))
    denoiser = TrainedDenoiser(D)
    with pytest.raises(ValueError, match=r"got x of shape \(2, 4\); expected \(5,\) or \(b, 5\)"):
        denoiser(torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match="got sigma with values that are not above 0"):
        denoiser(torch.zeros(2, D), 0.0)
    with pytest.raises(NonFiniteError, match="in the x"):
        denoiser(torch.full((2, D), math.inf), 1.0)

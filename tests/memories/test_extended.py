"""Extended memories are measures seen through noise: kernels integrate to one and Tweedie's identity holds."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import NonFiniteError, UnboundedEnergyError
from mnemotrace.core.memory import Denoiser, Memory
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.extended import Affine, Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.kernels import sphere
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.mixture import Landscape, Mixture
from mnemotrace.memories.shapes import Samples, Sphere
from mnemotrace.retrieval.dynamics import recall

D = 4
Generator = torch.Generator


def _draw(generator: Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _gaussians(generator: Generator, d: int = D, n: int = 3) -> GaussianMixture:
    roots = _draw(generator, n, d, d)
    return GaussianMixture(
        _draw(generator, n, d),
        roots @ roots.mT / d,
        weights=torch.rand(n, generator=generator, dtype=torch.float64) + 0.1,
    )


def _core(generator: Generator, d: int = D, **form: Any) -> Core:
    mask = torch.arange(d) < (d + 1) // 2
    return Core(mask, _draw(generator, int(mask.sum())), _gaussians(generator, d), **form)


def _mixture(generator: Generator, d: int = D) -> Mixture:
    parts = [Point(_draw(generator, d)), _core(generator, d), _gaussians(generator, d), Samples(_draw(generator, 5, d))]
    return Mixture(parts, weights=torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))


MAKERS: dict[str, Callable[..., Any]] = {
    "point": lambda g, d=D: Point(_draw(g, d)),
    "line": lambda g, d=D: Affine(_draw(g, d), _draw(g, 1, d), scale=1.3),
    "flat": lambda g, d=D: Affine(_draw(g, d), _draw(g, 1, d)),
    "samples": lambda g, d=D: Samples(_draw(g, 7, d), weights=torch.rand(7, generator=g, dtype=torch.float64) + 0.1),
    "gaussians": _gaussians,
    "core": _core,
    "mixture": _mixture,
    "sphere": lambda g, d=D: Sphere(_draw(g, d), radius=1.5),
    "product": lambda g, d=D: _core(g, d, form="product"),
}
NORMALISED = [name for name in MAKERS if name not in ("flat", "product")]
each = pytest.mark.parametrize("name", MAKERS)


def _slope(memory: Any, x: torch.Tensor, sigma: Any) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(memory.log_kernel(x, sigma).sum(), x)[0]


@each
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), sigma=st.floats(0.05, 5))
def test_what_is_expected_is_the_state_plus_the_variance_times_the_slope(name: str, seed: int, sigma: float) -> None:
    generator = Generator().manual_seed(seed)
    memory, x = MAKERS[name](generator), 2 * _draw(generator, 5, D)
    noise = sigma * (0.5 + torch.rand(D, generator=generator, dtype=torch.float64))
    one = torch.tensor(sigma, dtype=torch.float64)
    for level in [one] if name == "sphere" else [one, noise, noise.expand(5, -1)]:
        wanted = x + level**2 * _slope(memory, x, level)
        assert (memory(x, level) - wanted).abs().max() <= 1e-9 * (1 + x.abs().max())


@pytest.mark.parametrize("name", [name for name in NORMALISED if name != "sphere"])
def test_kernels_integrate_to_one_in_one_dimension(name: str, generator: Generator) -> None:
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    density = MAKERS[name](generator, 1).log_kernel(x[:, None], 0.4).exp()
    assert torch.trapezoid(density, x) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", NORMALISED)
def test_kernels_integrate_to_one_in_two_dimensions(name: str, generator: Generator) -> None:
    x = torch.linspace(-15, 15, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(x, x)
    sigma = 0.4 if name == "sphere" else torch.tensor([0.3, 0.5], dtype=torch.float64)
    density = MAKERS[name](generator, 2).log_kernel(grid, sigma).exp()
    assert float(density.sum()) * float(x[1] - x[0]) ** 2 == pytest.approx(1, abs=1e-9)


def test_a_subspace_of_no_dimension_is_a_point(generator: Generator) -> None:
    origin, x = _draw(generator, D), _draw(generator, 6, D)
    for scale in (math.inf, 1.0):
        affine, point = Affine(origin, torch.zeros(0, D, dtype=torch.float64), scale=scale), Point(origin)
        assert (affine(x, 0.3) - point(x, 0.3)).abs().max() <= 1e-12
        assert (affine.log_kernel(x, 0.3) - point.log_kernel(x, 0.3)).abs().max() <= 1e-12


def test_a_flat_prior_on_the_whole_space_has_no_score_and_a_gaussian_one_has(generator: Generator) -> None:
    x, basis = _draw(generator, 6, D), _draw(generator, D, D)
    origin = torch.zeros(D, dtype=torch.float64)
    assert ((Affine(origin, basis)(x, 0.5) - x) / 0.25).abs().max() <= 1e-12
    assert ((Affine(origin, basis, scale=10)(x, 0.5) - x) / 0.25).abs().max() > 1e-3


def test_a_flat_prior_is_the_limit_of_wide_gaussian_ones(generator: Generator) -> None:
    x, origin, basis = _draw(generator, 6, D), _draw(generator, D), _draw(generator, 2, D)
    wide, flat = Affine(origin, basis, scale=1e5), Affine(origin, basis)
    assert torch.allclose(wide(x, 0.5), flat(x, 0.5), atol=1e-8)
    volume = 2 * (math.log(1e5) + 0.5 * math.log(2 * math.pi))
    assert torch.allclose(wide.log_kernel(x, 0.5) + volume, flat.log_kernel(x, 0.5), atol=1e-8)


@pytest.mark.parametrize("d", [2, 3, 8, 64, 300])
def test_the_sphere_is_the_bessel_function_of_scipy(d: int) -> None:
    distance = torch.logspace(-4, 4, 60, dtype=torch.float64)
    log, cosine = sphere(distance, torch.ones(1, dtype=torch.float64), radius=1.0, d=d)
    order, kappa = d / 2 - 1, distance.numpy()
    scaled = special.ive(order, kappa)
    there = torch.from_numpy((scaled > 1e-290) & (kappa > 0.01))
    ratio = torch.from_numpy(special.ive(order + 1, kappa) / (scaled + 1e-308))
    assert (cosine - ratio)[there].abs().max() <= 1e-12
    mean = torch.from_numpy(special.gammaln(d / 2) + order * (math.log(2) - special.xlogy(1, kappa)))
    wanted = mean + torch.from_numpy(scaled + 1e-308).log() - d / 2 * math.log(2 * math.pi) - 0.5 * (distance - 1) ** 2
    assert ((log - wanted) / (1 + wanted.abs()))[there].abs().max() <= 1e-12
    assert bool(log.isfinite().all()) and bool((cosine.abs() <= 1).all())


def test_many_points_of_a_circle_are_the_circle_and_few_are_not(generator: Generator) -> None:
    angle = 2 * math.pi * torch.rand(20_000, generator=generator, dtype=torch.float64)
    points = torch.stack([angle.cos(), angle.sin()], 1)
    circle, x = Sphere(torch.zeros(2, dtype=torch.float64), radius=1.0), 1.5 * _draw(generator, 200, 2)
    x = x[x.norm(dim=1) > 0.1]

    def error(count: int) -> float:
        wanted = circle(x, 0.3)
        return float((Samples(points[:count])(x, 0.3) - wanted).norm() / wanted.norm())

    assert error(20_000) <= 0.02
    assert error(50) > 0.02


def test_a_sphere_far_away_pulls_to_its_nearest_point_and_from_its_centre_nowhere() -> None:
    ball = Sphere(torch.zeros(3, dtype=torch.float64), radius=2.0)
    x = torch.tensor([[0.0, 0, 1000], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(ball(x, 1e-3), torch.tensor([[0.0, 0, 2], [0, 0, 0]], dtype=torch.float64), atol=1e-9)


def test_infinite_noise_leaves_a_feature_out(generator: Generator) -> None:
    mixture, x = _gaussians(generator), _draw(generator, 6, D)
    sigma = torch.tensor([0.3, 0.3, math.inf, math.inf], dtype=torch.float64)
    part = GaussianMixture(mixture.means[:, :2], mixture.covariances[:, :2, :2], weights=mixture.weights)
    assert torch.allclose(mixture.log_kernel(x, sigma), part.log_kernel(x[:, :2], 0.3), atol=1e-12)
    assert torch.allclose(mixture(x, sigma)[:, :2], part(x[:, :2], 0.3), atol=1e-12)
    nothing = torch.full((D,), math.inf, dtype=torch.float64)
    assert torch.allclose(mixture(x, nothing), mixture.mean.expand(6, D), atol=1e-12)


# --- semantic memory and cores


def test_a_mixture_conditioned_on_features_is_the_textbook_one(generator: Generator) -> None:
    prior, f, xi = _gaussians(generator), _draw(generator, 2, D), _draw(generator, 2)
    found = prior.conditioned(f, xi)
    for n, (mean, cov) in enumerate(zip(prior.means, prior.covariances, strict=True)):
        gain = cov @ f.T @ torch.linalg.inv(f @ cov @ f.T)
        assert torch.allclose(found.means[n], mean + gain @ (xi - f @ mean), atol=1e-9)
        assert torch.allclose(found.covariances[n], cov - gain @ f @ cov, atol=1e-9)
    marginal = [
        torch.distributions.MultivariateNormal(f @ m, f @ c @ f.T).log_prob(xi)
        for m, c in zip(prior.means, prior.covariances, strict=True)
    ]
    assert torch.allclose(found.weights, (torch.stack(marginal) + prior.weights.log()).softmax(0), atol=1e-9)


def test_a_core_of_all_features_is_a_point_and_of_none_too_many(generator: Generator) -> None:
    prior, y, x = _gaussians(generator), _draw(generator, D), _draw(generator, 5, D)
    core = Core(torch.ones(D, dtype=torch.bool), y, prior)
    assert bool(core.fixed.all())
    assert torch.allclose(core(x, 0.5), y.expand(5, D), atol=1e-9)
    assert torch.allclose(core.log_kernel(x, 0.5), Point(y).log_kernel(x, 0.5), atol=1e-9)
    assert _core(generator).fixed.tolist() == [True, True, False, False]


def test_a_core_is_kept_exactly_whatever_the_state(generator: Generator) -> None:
    f, xi = _draw(generator, 2, D), _draw(generator, 2)
    core = Core(f, xi, _gaussians(generator))
    assert torch.allclose(core(3 * _draw(generator, 20, D), 0.7) @ f.T, xi.expand(20, 2), atol=1e-9)


def test_a_guided_core_comes_to_its_condition_as_the_noise_goes_and_says_that_it_is_approximate(
    generator: Generator,
) -> None:
    prior = _gaussians(generator)
    guided = Core(lambda y: y[:, :2].square(), torch.tensor([0.25, 1.0], dtype=torch.float64), prior)
    assert guided.approximate and not guided.fixed.any() and not _core(generator).approximate
    x = torch.full((1, D), 0.7, dtype=torch.float64)
    off = {}
    for sigma in (1.0, 0.1):
        state = x.clone()
        for _ in range(300):
            state = state + 0.2 * (guided(state, sigma) - state)
        off[sigma] = float((state[:, :2].square() - guided.xi).abs().max())
    assert off[0.1] < 0.05 < off[1.0]


def test_product_pulls_the_core_off_by_the_order_of_the_variance(generator: Generator) -> None:
    core = _core(generator, form="product")
    off = []
    for sigma in (0.1, 0.05):
        x = torch.zeros(1, D, dtype=torch.float64)
        for _ in range(600):
            x = core(x, sigma)
        off.append(float((x[:, :2] - core.xi).abs().max()))
    assert 3 < off[0] / off[1] < 5


def test_additive_as_printed_has_no_lower_bound_below_a_noise_and_says_so(generator: Generator) -> None:
    core, x = _core(generator, form="additive"), _draw(generator, 5, D)
    limit = float(torch.linalg.eigvalsh(core.prior.covariances).max()) ** 0.5
    with pytest.raises(
        UnboundedEnergyError, match=r"got beta \* lambda_max = 1\.\d+ .*expected at most 1, so sigma >= "
    ):
        core(x, 0.9 * limit)
    assert bool(core(x, 1.01 * limit).isfinite().all())
    prior, f = core.prior, torch.eye(D, dtype=torch.float64)[:2]
    beta, z = (1.1 * limit) ** -2, torch.randn(400_000, 3, D, generator=generator, dtype=torch.float64)
    y = prior.means + torch.einsum("bnk,nkd->bnd", z, prior.factors)
    semantic = ((beta * (y @ x[0])).exp().mean(0) * prior.weights).sum()
    wanted = ((beta * (f @ x[0]) @ core.xi).exp() + semantic).log() - beta / 2 * x[0].square().sum()
    assert float(core.log_kernel(x[:1], 1.1 * limit)) == pytest.approx(float(wanted), abs=0.02)


# --- mixtures and landscapes


def test_a_mixture_of_points_is_the_retrieval_of_stored_patterns(generator: Generator) -> None:
    patterns, x = _draw(generator, 6, D), _draw(generator, 5, D)
    weights = torch.rand(6, generator=generator, dtype=torch.float64) + 0.1
    for sigma in (torch.tensor([[0.6]], dtype=torch.float64), torch.rand(1, D, generator=generator).double() + 0.1):
        found = lookup(x, patterns, sigma**-2, log_weights=weights.log())
        mixture, samples = Mixture([Point(y) for y in patterns], weights=weights), Samples(patterns, weights=weights)
        assert torch.allclose(mixture(x, sigma), found.mean, atol=1e-12)
        assert torch.allclose(samples(x, sigma), found.mean, atol=1e-12)
        assert torch.allclose(mixture.log_kernel(x, sigma), samples.log_kernel(x, sigma), atol=1e-12)


def test_parts_compete_by_density_so_that_their_posterior_is_bayes_rule(generator: Generator) -> None:
    near, far = Sphere(torch.zeros(2, dtype=torch.float64), radius=1.0), Point(torch.tensor([5.0, 0]).double())
    mixture = Mixture([near, far], weights=torch.tensor([3.0, 1.0]))
    x = torch.tensor([[1.0, 0], [3.0, 0], [5.0, 0]], dtype=torch.float64)
    odds = math.log(3) + near.log_kernel(x, 1.0) - far.log_kernel(x, 1.0)
    assert torch.allclose(mixture.posterior(x, 1.0)[:, 0], odds.sigmoid(), atol=1e-7)


@pytest.mark.parametrize("name", [*NORMALISED, "flat"])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), sigma=st.floats(0.05, 3))
def test_a_sweep_never_raises_the_energy(name: str, seed: int, sigma: float) -> None:
    generator = Generator().manual_seed(seed)
    landscape, x = Landscape(MAKERS[name](generator), sigma), 2 * _draw(generator, 5, D)
    known = torch.tensor([True, False, False, False])
    for held in (None, known):
        after = landscape.sweep(x, known=held)
        assert bool((landscape.energy(after) <= landscape.energy(x) + 1e-10).all())
    assert torch.equal(after[:, 0], x[:, 0])


def test_recall_goes_down_to_a_pattern_of_the_memory() -> None:
    circle = Sphere(torch.zeros(2, dtype=torch.float64), radius=1.0)
    landscape = Landscape(Mixture([circle, Point(torch.tensor([3.0, 0]).double())]), sigma=0.1)
    assert isinstance(landscape, Memory) and isinstance(circle, Denoiser)
    found = recall(landscape, torch.tensor([[0.0, 0.4], [2.6, 0.3]], dtype=torch.float64), sweeps=200)
    wanted = torch.tensor([[0.0, 0.995], [3, 0]], dtype=torch.float64)  # expected patterns lie a little inside a circle
    assert bool(found.converged.all())
    assert torch.allclose(found.state, wanted, atol=2e-3)


# --- files and mistakes


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_packed_is_what_is_unpacked(name: str, generator: Generator) -> None:
    memory, x = MAKERS[name](generator), _draw(generator, 3, D)
    packed = memory.pack()
    again = type(memory).unpack(Artifact(packed.kind, packed.header, packed.tensors))
    assert packed.kind == memory.kind and torch.equal(memory(x, 0.5), again(x, 0.5))
    assert again.pack().header == packed.header
    assert all(torch.equal(t, again.pack().tensors[k]) for k, t in packed.tensors.items())


def test_episodes_over_one_semantic_memory_share_it_in_a_file(generator: Generator) -> None:
    prior, mask = _gaussians(generator), torch.tensor([True, True, False, False])
    mixture = Mixture([Core(mask, _draw(generator, 2), prior) for _ in range(3)])
    again = Mixture.unpack(mixture.pack())
    assert len({id(part.prior) for part in again.parts}) == 1
    assert len({id(t) for k, t in again.pack().tensors.items() if "prior.means" in k}) == 1


def test_single_precision_stays_single_and_is_right(generator: Generator) -> None:
    for name, make in MAKERS.items():
        memory, x = make(generator), _draw(generator, 3, D)
        wide = memory(x, 0.5)
        narrow = memory.float()(x.float(), 0.5)
        assert narrow.dtype == torch.float32, name
        assert torch.allclose(narrow.double(), wide, atol=1e-4), name


def test_mistakes_are_named(generator: Generator) -> None:
    y, x, prior = _draw(generator, D), _draw(generator, 3, D), _gaussians(generator)
    mask = torch.tensor([True, True, False, False])
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: Point(x), ValueError, r"got pattern of shape \(3, 4\); expected \(d,\)"),
        (lambda: Point([1.0]), TypeError, "got a list as pattern"),  # type: ignore[arg-type]
        (lambda: Point(y * math.nan), NonFiniteError, "4 entries in the pattern"),
        (lambda: Affine(y, y), ValueError, r"got a basis \(4,\); expected \(k, 4\) with k <= 4"),
        (lambda: Affine(y, torch.stack([y, 2 * y])), ValueError, "got 2 directions of which one depends on the others"),
        (lambda: Affine(y, x, scale=0), ValueError, "got scale=0; expected a number above 0"),
        (lambda: Affine(y, x)(x, [0.1, 0.1, 0.1, math.inf]), ValueError, "got infinite noise under a flat prior"),
        (lambda: Sphere(y[:1], radius=1), ValueError, "got a sphere in one dimension, which is two points"),
        (lambda: Sphere(y, radius=-1), ValueError, "got radius=-1; expected a finite number above 0"),
        (
            lambda: Sphere(y, radius=1)(x, [0.1, 0.1, 0.2, 0.1]),
            ValueError,
            "noise that differs between features for a Sph",
        ),
        (lambda: Samples(y), ValueError, r"got patterns \(4,\); expected a tensor of shape \(n, d\)"),
        (lambda: GaussianMixture(x, x), ValueError, r"got covariances \(3, 4\); expected \(3, 4, 4\)"),
        (lambda: GaussianMixture(x, -prior.covariances), ValueError, "least eigenvalue -.*expected covariances"),
        (lambda: GaussianMixture(x, prior.covariances + _draw(generator, 4, 4)), ValueError, "relative asymmetry"),
        (lambda: prior.conditioned(x[:, :2], y), ValueError, r"got features f \(3, 2\) and values xi \(4,\)"),
        (lambda: Core(mask, y[:2], Point(y)), TypeError, "got a Point as prior; expected a GaussianMixture"),  # type: ignore[arg-type]
        (
            lambda: Core(mask, y, prior),
            ValueError,
            r"got features \(2, 4\) of .* for 4 values; expected a boolean mask",
        ),
        (lambda: Core(mask, y[:2], prior, form="sum"), ValueError, "got form='sum'; expected 'conditional', 'product'"),  # type: ignore[arg-type]
        (lambda: Core(3, y[:2], prior), ValueError, "got a int as features of the conditional form"),  # type: ignore[arg-type]
        (lambda: Core(torch.exp, y[:2], prior, form="product"), ValueError, "as features of the product form"),
        (lambda: Core(torch.stack([y, y]), y[:2], prior), ValueError, "fixes a combination itself"),
        (lambda: Core(torch.exp, y[:2], prior)(x, 1.0), ValueError, r"got \(3, 4\) from the features of 3 states"),
        (lambda: Core(torch.exp, y, prior)(x, math.inf), ValueError, "got infinite noise for a core"),
        (lambda: Core(torch.exp, y, prior).pack(), TypeError, "got a Core with a function for its features"),
        (
            lambda: Core(mask, y[:2], prior, form="additive")(x, [9, 9, 9, 8.0]),
            ValueError,
            "noise that differs between",
        ),
        (lambda: Mixture([]), ValueError, "got no parts"),
        (lambda: Mixture([y]), TypeError, "got a Tensor as a part; expected a memory"),  # type: ignore[list-item]
        (lambda: Mixture([Point(y), Point(y[:2])]), ValueError, r"got parts of width \[2, 4\]; expected one width"),
        (lambda: Mixture([Affine(y, x)]), ValueError, "got a part with a flat prior, which has no mass to share"),
        (lambda: Mixture([Point(y)], weights=torch.zeros(1)), ValueError, r"got weights \(1,\) for 1 parts"),
        (lambda: Landscape(Point(y), 0.0), ValueError, "got sigma=0.0; expected a finite number above 0"),
        (
            lambda: Landscape(_core(generator, form="product"), 1.0),
            ValueError,
            "whose expected pattern is no step down",
        ),
        (lambda: Point(y)(x, 0.0), ValueError, "got sigma with values that are not above 0"),
        (lambda: Point(y)(x[:, :2], 1.0), ValueError, r"got states of shape \(3, 2\); expected \(4,\) or \(b, 4\)"),
    ]
    for call, kind, text in wrong:
        with pytest.raises(kind, match=text):
            call()

"""A visualisation finds what a unit was built to want, wakes silent units, and leaves the network as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.retrieval.facets import Facet, cluster_means
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.visualisation import Visualisation, measure, visualise

STILL: dict[str, Any] = {"transforms": ()}


def _net(channels: int = 1, *, rank: int = 2, seed: int = 0) -> nn.Sequential:
    make: Any = nn.Conv2d if rank == 2 else nn.Conv1d
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(make(channels, 6, 3), nn.ReLU(), make(6, 4, 3), nn.ReLU()).requires_grad_(False)


def _planted(kernel: torch.Tensor) -> nn.Sequential:
    model = _net()[:2]
    with torch.no_grad():
        model[0].weight[2, 0] = kernel
    return model


@pytest.mark.parametrize("parametrisation", ["fourier", "pixel"])
def test_a_planted_filter_is_recovered(parametrisation: Any, generator: torch.Generator) -> None:
    kernel = torch.randn(3, 3, generator=generator)
    model = _planted(kernel)
    options: dict[str, Any] = {"shape": (1, 3, 3), "bounds": None, "parametrisation": parametrisation, **STILL}
    found = visualise(model, Objective.unit(2, site="1"), **options)
    other = visualise(model, Objective.unit(1, site="1"), **options)
    assert float(cosine_similarity(found.images.flatten(), kernel.flatten(), dim=0)) >= 0.99
    assert float(found.activation) == pytest.approx(3 * float(kernel.norm()) + model[0].bias[2].item(), rel=0.02)
    assert abs(float(cosine_similarity(other.images.flatten(), kernel.flatten(), dim=0))) < 0.95


def test_a_direction_recovers_the_mixture_of_filters(generator: torch.Generator) -> None:
    model, vector = _net()[:1], torch.randn(6, generator=generator)
    found = visualise(model, Objective.direction(vector), shape=(1, 3, 3), bounds=None, **STILL)
    wanted = torch.einsum("o,ocij->cij", vector, model[0].weight.detach()).flatten()
    assert float(cosine_similarity(found.images.flatten(), wanted, dim=0)) >= 0.99


@pytest.mark.parametrize(
    ("shape", "rank"), [((1, 12, 10), 2), ((3, 12, 12), 2), ((5, 9, 9), 2), ((1, 30), 1), ((4, 25), 1)]
)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_any_number_of_channels_and_signals_climb_above_noise(shape: tuple[int, ...], rank: int, bounds: Any) -> None:
    model, unit = _net(shape[0], rank=rank), Objective.unit(1, axis=1)
    found = visualise(model, unit, shape=shape, n=2, steps=40, bounds=bounds)
    draw = torch.rand if bounds else torch.randn
    noise = draw(100, *shape, generator=torch.Generator().manual_seed(1))
    assert found.images.shape == (2, *shape)
    assert float(found.activation.min()) > float(measure(model, unit, [noise]).max())


def test_one_seed_gives_one_result_and_another_another() -> None:
    def made(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return visualise(_net(), Objective.unit(1), shape=(1, 12, 12), steps=5, generator=generator).images

    assert torch.equal(made(3), made(3))
    assert torch.equal(made(None), made(0))
    assert not torch.allclose(made(3), made(4), atol=1e-3)


def _dead() -> nn.Sequential:
    """Both layers closed on even pictures with a little noise."""
    model = _net()
    with torch.no_grad():
        model[0].weight.sub_(model[0].weight.mean((1, 2, 3), keepdim=True)).mul_(6)
        model[2].weight.mul_(6)
        model[0].bias.fill_(-0.5)
        model[2].bias.fill_(-0.5)
    return model


@pytest.mark.parametrize("site", ["3", "2", None])
def test_a_unit_that_is_silent_at_the_start_fires_in_the_end(site: str | None) -> None:
    model = _dead()
    grey = torch.full((1, 1, 12, 12), 0.5).requires_grad_()
    assert not model[:2](grey).any()
    assert not torch.autograd.grad(model(grey)[:, 1].sum(), grey)[0].any()
    found = visualise(model, Objective.unit(1, site=site, position="centre"), shape=(1, 12, 12), steps=120)
    assert float(found.curve[0]) == pytest.approx(-0.5)  # from the silent start itself, not from one drawn anew
    assert float(found.activation) > 0
    assert float(found.images.std()) > 0.05


class _Detached(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach().mean((2, 3)) * 2


def test_a_unit_that_never_has_a_gradient_is_an_error_that_says_so() -> None:
    message = "got unit 0 of the output, which had no gradient at 6 starts .* expected a unit that the input changes"
    with pytest.raises(ValueError, match=message):
        visualise(_Detached(), Objective.unit(0), shape=(1, 6, 6), steps=2)
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    nn.init.zeros_(model[0].weight)
    with pytest.raises(ValueError, match=message):
        visualise(model, Objective.unit(0), shape=(1, 6, 6), steps=2)


def test_the_network_is_left_as_it_was_on_success_and_on_error() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(True), nn.Dropout(), nn.Conv2d(6, 4, 3))
    model[1].eval()
    model.train()
    model[1].training = False
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    visualise(model, Objective.unit(1), shape=(1, 8, 8), steps=3)
    with pytest.raises(RuntimeError, match="boom"):
        visualise(model, Objective.of(_boom, site="2"), shape=(1, 8, 8), steps=3)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _boom(_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("boom")


def test_diversity_makes_pictures_differ() -> None:
    model, unit = _net(3), Objective.unit(1)

    def cosine(weight: float) -> float:
        images = visualise(model, unit, shape=(3, 12, 12), n=3, steps=40, diversity=weight, **STILL).images
        y = model(images).flatten(2)
        grams = nn.functional.normalize((y @ y.mT).flatten(1), dim=1)
        return float((grams @ grams.T).fill_diagonal_(0).sum() / 6)

    assert cosine(3.0) < cosine(0.0) - 0.02


def test_a_facet_leads_to_its_kind_of_picture(generator: torch.Generator) -> None:
    """The unit adds what a horizontal and what a vertical edge excite; a facet asks for one of them."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    edge = torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]])
    with torch.no_grad():
        model[0].weight[:, 0] = torch.stack([edge, edge.T])
        model[2].weight.fill_(1)
    model.requires_grad_(False)
    kinds = (torch.arange(8.0), torch.arange(8.0)[:, None])
    across, down = (
        torch.sin(k * 1.5).expand(8, 8) + 0.1 * torch.randn(20, 1, 8, 8, generator=generator) for k in kinds
    )
    made = [
        visualise(
            model,
            Objective.unit(0),
            shape=(1, 8, 8),
            steps=60,
            facets=[Facet.fit(model, *pair, site="1", weight=5.0)],
            **STILL,
        )
        for pair in ((across, down), (down, across))
    ]
    first, second = ((model[:2](found.images).mean((0, 2, 3))) for found in made)
    assert float(first[1] / first[0]) > 2
    assert float(second[0] / second[1]) > 2


def test_clusters_of_examples_give_their_means_and_a_start(generator: torch.Generator) -> None:
    centres = torch.rand(3, 1, 6, 6, generator=generator)
    examples = torch.cat(
        [c + 0.01 * torch.randn(n, 1, 6, 6, generator=generator) for c, n in zip(centres, (9, 6, 3), strict=True)]
    )
    means = cluster_means(examples, 3, generator=generator)
    assert torch.allclose(means, centres, atol=0.02)
    found = visualise(_net(), Objective.unit(1), shape=(1, 6, 6), steps=1, step_size=1e-6, start=means, **STILL)
    assert torch.allclose(found.images, means.clamp(0.02, 0.98), atol=1e-3)
    with pytest.raises(ValueError, match="got k=19, 18 examples and features of None; expected 1 <= k <= 18"):
        cluster_means(examples, 19, generator=generator)


def test_any_function_of_a_modules_output_serves() -> None:
    decode = torch.randn(4, 9, generator=torch.Generator().manual_seed(2))
    latent = Objective.of(lambda y: (y.movedim(1, -1) @ decode).relu()[..., 5], site="2", name="latent 5")
    found = visualise(_net(), latent, shape=(1, 12, 12), steps=30)
    assert found.objective == "latent 5"
    assert float(found.activation) > float(found.curve[0])
    with pytest.raises(ValueError, match=r"got shape \(\) from .* for 1 pictures; expected \(1, ...\)"):
        visualise(_net(), Objective.of(lambda y: y.sum()), shape=(1, 12, 12), steps=1)


def test_activations_are_compared_with_a_dataset(generator: torch.Generator) -> None:
    model, unit, x = _net(), Objective.unit(1), torch.rand(40, 1, 12, 12, generator=generator)
    dataset = measure(model, unit, x.split(7))
    by_hand = model[:3](x)[:, 1].mean((1, 2))
    assert torch.allclose(dataset, by_hand, atol=1e-6)
    found = visualise(model, unit, shape=(1, 12, 12), steps=30, dataset=dataset)
    assert found.percentile is not None and found.dataset is not None
    assert found.percentile.tolist() == [100.0]
    assert float(found.dataset[50]) == pytest.approx(float(dataset.median()), abs=0.01)
    idle = visualise(model, unit, shape=(1, 12, 12), steps=1, step_size=1e-9, dataset=by_hand.sort().values + 0.0)
    assert 0 <= float(idle.percentile) < 100  # type: ignore[arg-type]


def test_inputs_are_normalised_as_given() -> None:
    model, unit = _net(3), Objective.unit(1)
    pair = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    options: dict[str, Any] = {"shape": (3, 8, 8), "steps": 3}
    view = [torch.tensor(part).view(3, 1, 1) for part in pair]
    by_pair = visualise(model, unit, normalise=pair, **options)
    by_function = visualise(model, unit, normalise=lambda x: (x - view[0]) / view[1], **options)
    assert torch.allclose(by_pair.images, by_function.images, atol=1e-6)
    assert not torch.allclose(by_pair.images, visualise(model, unit, **options).images, atol=1e-4)


def test_a_file_holds_everything(tmp_path: Path) -> None:
    found = visualise(_net(), Objective.unit(1), shape=(1, 8, 8), n=2, steps=3, dataset=torch.arange(5.0))
    back = Visualisation.unpack(read(write(found.pack(), tmp_path / "v"), "visualisation"))
    for name in ("images", "activation", "curve", "percentile", "dataset"):
        assert torch.equal(getattr(back, name), getattr(found, name))
    assert (back.objective, back.bounds, back.manifest) == (found.objective, found.bounds, found.manifest)
    assert back.manifest["seed"] == 0


@pytest.mark.parametrize(
    ("objective", "options", "error", "message"),
    [
        (Objective.unit(4), {}, ValueError, "got unit 4 of the output; expected 0 to 3"),
        (
            Objective.unit(0, site="9"),
            {},
            SelectionError,
            "got site='9', which is no module; .* choose among 0, 1, 2, 3",
        ),
        (Objective.unit(0, position=(9, 9)), {}, ValueError, r"got position=\(9, 9\) for positions \(4, 4\)"),
        (Objective.direction(torch.ones(3)), {}, ValueError, r"got a direction of shape \(3,\); expected \(4,\)"),
        (Objective.mean([1, 7]), {}, ValueError, "got unit 7 of the output"),
        (Objective.unit(0), {"steps": 0}, ValueError, "got steps=0, n=1, step_size=0.05; expected at least 1"),
        (Objective.unit(0), {"n": 3, "facets": [Facet("0", torch.ones(6))] * 2}, ValueError, "got 2 facets for n=3"),
        (Objective.unit(0), {"facets": [Facet("0", torch.ones(5))]}, ValueError, r"got a probe of shape \(5,\) at '0'"),
        (Objective.unit(0), {"start": torch.zeros(1, 1, 4, 4)}, ValueError, r"got start of shape \(1, 1, 4, 4\)"),
        (Objective.unit(0), {"normalise": ([0.0], [0.0])}, ValueError, "got normalise with 1 means and deviations"),
        (Objective.of(lambda y: y * float("nan"), name="it"), {}, NonFiniteError, "in it during visualisation"),
    ],
)
def test_mistakes_are_named(
    objective: Objective, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        visualise(_net(), objective, **({"shape": (1, 8, 8), "steps": 2} | options))


def test_a_dataset_must_hold_something() -> None:
    with pytest.raises(ValueError, match="got no batch; expected at least one"):
        measure(_net(), Objective.unit(0), [])
    with pytest.raises(NonFiniteError, match="in the direction"):
        Objective.direction(torch.tensor([float("nan")]))

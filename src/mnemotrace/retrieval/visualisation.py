r"""Feature visualisation: what a unit wants to see, by climbing from noise to a picture that excites it.

.. math:: \max_\theta\; \sum_i u(T_i(x_i(\theta))) + \lambda_d\, D(x) + \text{facets},\qquad
    D = -\operatorname{mean}_{i \ne j} \cos(G_i, G_j)

with pictures `x` written as `retrieval.parametrisation` says, random transforms `T` (`retrieval.transforms`), `u` and
facets as in `retrieval.objectives`, and :math:`G` the Gram matrices of channels at the objective's site. The
steps are Adam's, but for one second moment a picture (`retrieval.climbing`).

A unit whose ReLU is closed on noise has no gradient, and an optimiser would return the grey noise it was given. So the
input of a last activation is climbed; where gates further down are closed, the step passes them as if they were open;
and where not even that gives a gradient, another start of more contrast is drawn, until the unit is declared dead.

Reference: Olah, Mordvintsev, Schubert 2017, Feature visualization. Cost: a forward and a backward pass of `n` pictures
a step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import differentiable, home_of, module_of, reading
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.retrieval.climbing import Climb, run
from mnemotrace.retrieval.facets import Facet
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.parametrisation import Bounds, Canvas, Parametrisation, canvas
from mnemotrace.retrieval.transforms import Transform, robust

Normalise = Callable[[Tensor], Tensor] | tuple[Sequence[float], Sequence[float]] | None
_TENSORS = ("images", "activation", "curve", "percentile", "dataset")


@dataclass(frozen=True, eq=False)
class Visualisation:
    """Pictures that excite a unit.

    Attributes:
        images: `(n, c, h, w)` or `(n, c, t)`, within the bounds that were asked for, before normalisation.
        activation: `(n,)` of the objective on the pictures as they are.
        curve: `(s, n)` of the objective at each step, on transformed pictures.
        objective: what was climbed, in words.
        bounds: lowest and highest value of a picture; None where there are none.
        percentile: `(n,)`, the share of a dataset, in per cent, that excites the unit less; None without one.
        dataset: `(101,)` percentiles 0 to 100 of the objective over the dataset; None without one.
        manifest: provenance: settings, seed, network.
    """

    images: Float[Tensor, "n c *s"]
    activation: Float[Tensor, " n"]
    curve: Float[Tensor, "s n"]
    objective: str
    bounds: Bounds = (0.0, 1.0)
    percentile: Float[Tensor, " n"] | None = None
    dataset: Float[Tensor, " q"] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "visualisation"

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        named = {name: getattr(self, name) for name in _TENSORS}
        header = {"objective": self.objective, "bounds": self.bounds, "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, {name: tensor for name, tensor in named.items() if tensor is not None})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Visualisation":
        """Rebuild from an artifact."""
        bounds = artifact.header["bounds"]
        return cls(
            **{name: artifact.tensors.get(name) for name in _TENSORS},  # type: ignore[arg-type]
            objective=artifact.header["objective"],
            bounds=None if bounds is None else (bounds[0], bounds[1]),
            manifest=artifact.header["manifest"],
        )


def visualise(
    model: nn.Module,
    objective: Objective,
    *,
    shape: Sequence[int],
    n: int = 1,
    steps: int = 256,
    parametrisation: Parametrisation = "fourier",
    decorrelate: bool | Float[Tensor, "c c"] = True,
    bounds: Bounds = (0.0, 1.0),
    normalise: Normalise = None,
    transforms: Sequence[Transform] | None = None,
    diversity: float = 0.0,
    facets: Sequence[Facet] | None = None,
    start: Float[Tensor, "n c *s"] | None = None,
    dataset: Float[Tensor, " m"] | None = None,
    step_size: float = 0.05,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Visualisation:
    """Find pictures that excite a unit; the network is left as it was.

    Args:
        model: the network; evaluated, without dropout.
        objective: what to climb.
        shape: of one input, `(c, h, w)` or `(c, t)`; any number of channels.
        n: how many pictures, together in one batch.
        steps: of the optimiser.
        parametrisation: "fourier" or "pixel".
        decorrelate: True mixes three channels as natural colours; a `(c, c)` covariance mixes those; False nothing.
        bounds: lowest and highest value of a picture; None for inputs without, which get unit root mean square.
        normalise: from pictures to inputs of the network: mean and standard deviation a channel, or any function.
        transforms: what a picture undergoes before each step; None takes `robust(shape)`, `()` nothing.
        diversity: weight, in units of the activation, of how different the pictures must look to the site.
        facets: one for all pictures, or one a picture.
        start: pictures to begin at, within the bounds, such as `cluster_means` of top examples; sets `n`.
        dataset: the objective's values over a dataset, from `measure`, to tell the percentile of the activation.
        step_size: of the first step; it falls to 0 at the last.
        generator: of the start and the transforms; None is one of seed 0.
        progress: called after each step.

    Returns:
        Visualisation.

    Raises:
        SelectionError: no module of the objective's or a facet's name.
        ValueError: settings that cannot be, or a unit that never has a gradient.
        NonFiniteError: NaN or infinity in the objective.
    """
    if steps < 1 or n < 1 or not step_size > 0:
        raise ValueError(f"got steps={steps}, n={n}, step_size={step_size}; expected at least 1, 1, and above 0")
    surface = canvas(shape, parametrisation=parametrisation, decorrelate=decorrelate, bounds=bounds)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    device, dtype = home_of(model)
    first = None if start is None else _checked_start(start, surface).to(device, dtype)
    count = n if first is None else len(first)
    climb = Climb(
        model, objective, surface, robust(shape) if transforms is None else tuple(transforms), _normaliser(normalise),
        diversity, _facets_of(facets, count), source,
    )  # fmt: skip
    numbers = surface.draw(count, source).to(device, dtype) if first is None else surface.unpaint(first)
    with differentiable(model):
        numbers, curve = run(climb, numbers, steps, step_size, progress)
        with torch.no_grad():
            images = surface.paint(numbers)
            activation = climb.values(images)
    return Visualisation(
        images=images,
        activation=activation,
        curve=curve,
        objective=objective.name,
        bounds=bounds,
        **_compared(activation, dataset),
        manifest={
            "method": "visualisation",
            "site": objective.site,
            "steps": steps,
            "step_size": step_size,
            "parametrisation": parametrisation,
            "decorrelate": "given" if isinstance(decorrelate, Tensor) else decorrelate,
            "transforms": [repr(t) if hasattr(t, "__dataclass_fields__") else _named(t) for t in climb.transforms],
            "diversity": diversity,
            "facets": [] if facets is None else [f"{f.name} at {f.site}, weight {f.weight:g}" for f in facets],
            "start": "noise" if start is None else "given",
            "seed": source.initial_seed(),
            "model": fingerprint(model),
            "version": library_version(),
        },
    )


def measure(
    model: nn.Module, objective: Objective, batches: Iterable[Any], *, progress: Progress = silent
) -> Float[Tensor, " m"]:
    """Return the objective's value on each example of a dataset, read as `visualise` reads it.

    Args:
        model: the network.
        objective: what to read.
        batches: inputs as the network takes them, hence already normalised.
        progress: called after each batch.

    Raises:
        SelectionError: no such module.
        ValueError: no batch.
        NonFiniteError: NaN or infinity.
    """
    found: list[Tensor] = []
    module = module_of(model, objective.site)
    with evaluating(model), reading(model, {objective.site: objective.before}) as seen:
        for done, batch in enumerate(batches, 1):
            forward(model, batch)
            found.append(objective.read(seen[objective.site], module).cpu())
            progress(done, None, "measuring")
    if not found:
        raise ValueError("got no batch; expected at least one; give a list of batches, or a fresh iterator")
    values = torch.cat(found)
    require_finite(values, f"{objective.name} over the dataset")
    return values


def _facets_of(facets: Sequence[Facet] | None, n: int) -> tuple[Facet, ...]:
    found = tuple(facets or ())
    if len(found) not in (0, 1, n):
        raise ValueError(
            f"got {len(found)} facets for n={n} pictures; expected one for all or one each; set n to match"
        )
    return found


def _checked_start(start: Tensor, surface: Canvas) -> Tensor:
    if tuple(start.shape[1:]) != surface.shape:
        raise ValueError(f"got start of shape {tuple(start.shape)}; expected (n, {', '.join(map(str, surface.shape))})")
    require_finite(start, "the start")
    return start


def _normaliser(normalise: Normalise) -> Callable[[Tensor], Tensor]:
    if normalise is None:
        return lambda images: images
    if callable(normalise):
        return normalise
    mean, std = (torch.as_tensor(part, dtype=torch.float64).flatten() for part in normalise)
    if len(mean) != len(std) or not bool((std > 0).all()):
        raise ValueError(
            f"got normalise with {len(mean)} means and deviations {std.tolist()}; expected one pair a channel, "
            "deviations above 0"
        )

    def apply(images: Tensor) -> Tensor:
        view = (1, -1, *[1] * (images.ndim - 2))
        return (images - mean.view(view).to(images)) / std.view(view).to(images)

    return apply


def _compared(activation: Tensor, dataset: Tensor | None) -> dict[str, Tensor]:
    if dataset is None:
        return {}
    values = dataset.flatten().double().cpu()
    require_finite(values, "the dataset's values")
    below = torch.searchsorted(values.sort().values, activation.double().cpu()).double() / len(values)
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    return {"percentile": (100 * below).float(), "dataset": torch.quantile(values, grid).float()}


def _named(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)

"""The climb of feature visualisation: one step's gradient, and how a unit that is silent at the start is woken.

Gates that are closed on noise are passed as if they were open for as long as a picture has no gradient of its own; a
start that has none even so is drawn again, with four times the contrast.

Steps are those of Adam but for one thing: its second moment is shared by all numbers of a picture. A moment each, as
published, makes every coefficient move alike, and noise fills the high frequencies that the parametrisation was to
hold back: in trials with the network of `benchmarks/papers/visualisation.py` their share came out 55 % above that of
pixels to 20 % below it, and now 70 % below. The step size falls to 0 as half a cosine.

Reference: Kingma and Ba 2015, Adam. Cost: a forward and a backward pass a step; two of each where a picture has no
gradient.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.hooks import forward
from mnemotrace.adapters.outputs import module_of, reading, units_first
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress
from mnemotrace.retrieval.facets import Facet
from mnemotrace.retrieval.objectives import Objective
from mnemotrace.retrieval.parametrisation import Canvas
from mnemotrace.retrieval.transforms import Transform

STARTS = 6
_DECAY = (0.9, 0.999)


@dataclass(frozen=True, eq=False)
class Climb:
    """Everything that a step needs but the numbers."""

    model: nn.Module
    objective: Objective
    surface: Canvas
    transforms: tuple[Transform, ...]
    normalise: Callable[[Tensor], Tensor]
    diversity: float
    facets: tuple[Facet, ...]
    generator: torch.Generator

    def values(self, images: Tensor, *, leak: bool = False) -> Tensor:
        """Return the objective a picture, as it is."""
        return self._forward(images, leak)[0]

    def step(self, numbers: Tensor, *, leak: bool = False) -> tuple[Tensor, Tensor]:
        """Return the objective a picture on transformed pictures, and the gradient of all that is climbed."""
        leaf = numbers.detach().requires_grad_()
        images = self.surface.paint(leaf)
        for transform in self.transforms:
            images = transform(images, self.generator)
        values, seen = self._forward(images, leak)
        require_finite(values.detach(), f"{self.objective.name} during visualisation")
        if not values.requires_grad:
            return values, torch.zeros_like(numbers)
        total = values.sum() + self._facets(values, seen)
        if self.diversity:
            total = total + self.diversity * _difference(seen[self.objective.site], self._module)
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True, materialize_grads=True)
        return values.detach(), gradient

    @property
    def _module(self) -> nn.Module:
        return module_of(self.model, self.objective.site)

    def _forward(self, images: Tensor, leak: bool) -> tuple[Tensor, dict[str, Tensor]]:
        sites = {facet.site: False for facet in self.facets} | {self.objective.site: self.objective.before}
        with reading(self.model, sites, leak=leak) as seen:
            forward(self.model, self.normalise(images))
        return self.objective.read(seen[self.objective.site], self._module), seen

    def _facets(self, values: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        total = values.new_zeros(())
        for site in dict.fromkeys(facet.site for facet in self.facets):
            output, module = seen[site], module_of(self.model, site)
            (slope,) = torch.autograd.grad(
                values.sum(), output, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for row, facet in enumerate(self.facets):
                if facet.site == site:
                    rows = slice(None) if len(self.facets) == 1 else slice(row, row + 1)
                    total = total + facet.weight * facet.value(output[rows], slope[rows], module).sum()
        return total


def run(
    climb: Climb, numbers: Tensor, steps: int, step_size: float, progress: Progress
) -> tuple[Tensor, Float[Tensor, "s n"]]:
    """Climb from free numbers; returns those at the end, and the objective on transformed pictures at each step.

    Raises:
        ValueError: no start gives a gradient.
        NonFiniteError: NaN or infinity in the objective.
    """
    numbers, curve = _alive(climb, numbers), list[Tensor]()
    ascent = _Ascent(torch.zeros_like(numbers), numbers.new_zeros(len(numbers)))
    for done in range(1, steps + 1):
        values, gradient = climb.step(numbers)
        silent_rows = _flat(gradient)
        if bool(silent_rows.any()):
            gradient = torch.where(_rows(silent_rows, gradient), climb.step(numbers, leak=True)[1], gradient)
        fade = (1 + math.cos(math.pi * (done - 1) / steps)) / 2
        numbers, ascent = ascent.moved(numbers, gradient, step_size * fade, done)
        curve.append(values)
        progress(done, steps, "visualising")
    return numbers.detach(), torch.stack(curve)


@dataclass(frozen=True, eq=False)
class _Ascent:
    """The running moments of Adam: the first a number, the second a picture, `(n,)`."""

    first: Tensor
    second: Float[Tensor, " n"]

    def moved(self, numbers: Tensor, gradient: Tensor, size: float, done: int) -> tuple[Tensor, "_Ascent"]:
        """Take step number `done`, from 1."""
        first = _DECAY[0] * self.first + (1 - _DECAY[0]) * gradient
        second = _DECAY[1] * self.second + (1 - _DECAY[1]) * gradient.flatten(1).pow(2).mean(1)
        scale = (second / (1 - _DECAY[1] ** done)).sqrt().clamp_min(torch.finfo(second.dtype).tiny)
        step = first / (1 - _DECAY[0] ** done) / _rows(scale, numbers)
        return numbers + size * step, _Ascent(first, second)


def _alive(climb: Climb, numbers: Tensor) -> Tensor:
    """Draw starts again, with more contrast each time, until every picture has a gradient."""
    for again in range(1, STARTS + 1):
        dead = _flat(climb.step(numbers, leak=True)[1])
        if not bool(dead.any()):
            return numbers.clone()
        fresh = climb.surface.draw(len(numbers), climb.generator, scale=4.0**again).to(numbers)
        numbers = torch.where(_rows(dead, numbers), fresh, numbers)
    raise ValueError(
        f"got {climb.objective.name}, which had no gradient at {STARTS} starts of rising contrast, gates passed; "
        "expected a unit that the input changes; give start= a picture that excites it, or choose another unit or a "
        "site that is not detached"
    )


def _flat(gradient: Tensor) -> Tensor:
    return gradient.flatten(1).abs().amax(1) == 0


def _rows(chosen: Tensor, like: Tensor) -> Tensor:
    return chosen.view(-1, *[1] * (like.ndim - 1))


def _difference(output: Tensor, module: nn.Module) -> Tensor:
    """Return minus the mean cosine between Gram matrices of different pictures; 0 for a single one."""
    n = len(output)
    if n == 1:
        return output.new_zeros(())
    x = units_first(output, module=module)
    x = x.flatten(2) if x.ndim > 2 else x[:, :, None]
    grams = nn.functional.normalize((x @ x.mT).flatten(1), dim=1)
    cosines = grams @ grams.T
    return -(cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))

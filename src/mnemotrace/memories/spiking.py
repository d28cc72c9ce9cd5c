r"""A hierarchy of spiking convolutions that reads images in a latency code.

Each layer is a convolution of neurons without leak, :math:`V_t = \sum_{u \le t} W * S_{u}`, in which every place spikes
once and the strongest map wins (`neurons.compete`); then a pool, in which a unit spikes when any neuron in its window
does. The last layer spikes at no potential: its potentials are the features. Weights lie in :math:`[0, 1]`, so
potentials never fall. A spike takes one step from stage to stage; the code has `steps - stages - 1` bins, so that
the last of it just reaches the top, and the delays need not be simulated.

The published network (`SpikingHierarchy.sdnn`): difference of Gaussians 7x7 (1, 2), contrast 15, 15 steps; 4 maps 5x5,
pool 7/6 with one spike a place; 20 maps 17x17, pool 5/5, where a unit may spike at several steps; 20 maps 5x5.
Thresholds 10 and 50 for reading, 10, 60 and 2 while learning. Maps of the first pool that spike together at a place all
spike: the published kernel leaves this to a race, its processor version says so.

Reference: Kheradpisheh et al. 2018; the six-layer setting is the published naming experiment's.
Cost: an image of 160x250 takes 40 M + 260 M multiply-adds; memory of ten potentials a neuron, 8 images at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.linalg import require_finite
from mnemotrace.memories.coding import contrasts, difference_of_gaussians, rank_bins, trains_of
from mnemotrace.memories.neurons import compete
from mnemotrace.memories.spiking_layers import SpikingLayer, pool, require_weights

_CHUNK = 8


class SpikingHierarchy(nn.Module):
    """Spiking features of images.

    Attributes:
        layers: sizes and thresholds.
        shape: height and width of the images.
        steps: time steps of an image.
        contrast: smallest contrast that spikes, in grey values.
        weights: one `(maps, maps below, size, size)` a layer, in `[0, 1]`.
    """

    kind = "spiking_hierarchy"

    def __init__(
        self,
        layers: Sequence[SpikingLayer],
        *,
        shape: tuple[int, int],
        steps: int = 15,
        contrast: float = 15.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build a hierarchy with weights drawn from N(0.8, 0.01), ready to learn.

        Args:
            layers: from the image upwards.
            shape: height and width of the images.
            steps: time steps; more than the stages (convolutions and pools) by at least 2.
            contrast: smallest contrast that spikes, in grey values.
            generator: of the weights; None draws with seed 0.

        Raises:
            ValueError: no layer, too few steps, an image smaller than 11 x 11, or a contrast that is not above 0.
        """
        super().__init__()
        self.layers = tuple(layers)
        self.shape, self.steps, self.contrast = (int(shape[0]), int(shape[1])), steps, float(contrast)
        if not self.layers or self.bins < 1:
            raise ValueError(
                f"got {len(self.layers)} layers with {self.stages} stages in {steps} steps; expected at least one "
                f"layer and {self.stages + 2} steps"
            )
        if min(shape) < 11 or not 0 < contrast < math.inf:
            raise ValueError(
                f"got shape={shape}, contrast={contrast}; expected at least (11, 11), and a number above 0"
            )
        source = generator or torch.Generator().manual_seed(0)
        below = [1, *(layer.maps for layer in self.layers)]
        drawn = [
            torch.normal(0.8, 0.01, (layer.maps, m, layer.size, layer.size), generator=source).clamp(0.01, 0.99)
            for layer, m in zip(self.layers, below, strict=False)
        ]
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in drawn])
        self.register_buffer("kernel", difference_of_gaussians().float(), persistent=False)

    @classmethod
    def sdnn(
        cls, shape: tuple[int, int] = (160, 250), *, generator: torch.Generator | None = None
    ) -> "SpikingHierarchy":
        """Build the published network of the naming experiment, with fresh weights."""
        layers = (
            SpikingLayer(4, 5, 10.0, 10.0, pool=7, stride=6, once=True),
            SpikingLayer(20, 17, 50.0, 60.0, pool=5, stride=5),
            SpikingLayer(20, 5, math.inf, 2.0),
        )
        return cls(layers, shape=shape, generator=generator)

    def load_published(self, weights: Sequence[Any]) -> "SpikingHierarchy":
        """Take weights as the published files hold them, `(height, width, maps below, maps)`; returns itself.

        Args:
            weights: arrays or tensors, one a stage; those of pools, with three axes, are passed over.

        Raises:
            ValueError: another number or shape, or weights outside [0, 1].
            NonFiniteError: NaN or infinity.
        """
        tensors = [torch.as_tensor(w) for w in weights]
        found = [w.permute(3, 2, 0, 1) for w in tensors if w.ndim == 4]
        expected = [tuple(w.shape) for w in self.weights]
        if [tuple(w.shape) for w in found] != expected:
            raise ValueError(
                f"got weights of shapes {[tuple(w.shape) for w in tensors]}; expected, after moving the last two axes "
                f"to the front, {expected}; give weight_0.npy ... weight_4.npy in order"
            )
        for ours, w in zip(self.weights, found, strict=True):
            ours.copy_(require_weights(w).to(ours))
        return self

    @property
    def stages(self) -> int:
        """Number of convolutions and pools."""
        return sum(1 + (layer.pool > 0) for layer in self.layers)

    @property
    def bins(self) -> int:
        """Number of bins of the latency code; its steps are `0 ... bins`."""
        return self.steps - self.stages - 1

    def encode(self, images: Float[Tensor, "b *c h w"]) -> Int[Tensor, "b 1 h w"]:
        """Return the step of each pixel's spike; `bins + 1` for never.

        Args:
            images: `(b, 1, h, w)` or `(b, h, w)`, grey, 0 to 255.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, no image, or negative values.
            NonFiniteError: NaN or infinity.
        """
        grey = self._grey(images)
        kernel: Tensor = self.kernel  # pyright: ignore[reportAssignmentType]
        return rank_bins(contrasts(grey, kernel, threshold=self.contrast), self.bins)[:, None]

    def raise_to(
        self, layer: int, spikes: Bool[Tensor, "b t m h w"], *, start: int = 0, learning: bool = False
    ) -> Bool[Tensor, "b t n i j"]:
        """Carry spikes from the input of layer `start` to the input of layer `layer`, delays left out.

        Args:
            layer: the layer whose input is wanted.
            spikes: input of layer `start`.
            start: where the spikes are.
            learning: use the thresholds of learning.
        """
        for index in range(start, layer):
            spec = self.layers[index]
            threshold = spec.learning if learning else spec.threshold
            times, _ = compete(self.sums(index, spikes), threshold=threshold)
            spikes = pool(times, spec, spikes.shape[1])
        return spikes

    def sums(self, layer: int, spikes: Bool[Tensor, "b t m h w"]) -> Float[Tensor, "b t n h w"]:
        """Return the potentials of a layer's neurons as if none ever spiked, delays left out."""
        weight = self.weights[layer]
        counts = spikes.cumsum(1, dtype=weight.dtype) if spikes.shape[1] > 1 else spikes.to(weight.dtype)
        flat = counts.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        kernel = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(flat, kernel, padding=weight.shape[-1] // 2).unflatten(0, spikes.shape[:2])

    @torch.no_grad()
    def potentials(self, images: Float[Tensor, "b *c h w"]) -> Float[Tensor, "b t m i j"]:
        """Return the potentials of the last layer at each of the `steps`; those before its first input are 0.

        The last layer is read without its threshold.

        Args:
            images: `(b, 1, h, w)` or `(b, h, w)`, grey, 0 to 255.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, no image, or negative values.
            NonFiniteError: NaN or infinity.
        """
        grey, top = self._grey(images), len(self.layers) - 1
        parts = [self.sums(top, self.raise_to(top, self.trains(part))) for part in grey.split(_CHUNK)]
        return F.pad(torch.cat(parts), (0, 0) * 3 + (self.steps - self.bins - 1, 0))

    def features(self, images: Float[Tensor, "b *c h w"]) -> Float[Tensor, "b m"]:
        """Return the largest potential of each map of the last layer. See `potentials`."""
        grey = self._grey(images)
        return torch.cat([self.potentials(part).amax((1, 3, 4)) for part in grey.split(_CHUNK)])

    def forward(self, images: Float[Tensor, "b *c h w"]) -> Float[Tensor, "b m"]:
        """Return the features, so that the hierarchy is a layer. See `features`."""
        return self.features(images)

    def trains(self, images: Float[Tensor, "b *c h w"]) -> Bool[Tensor, "b t 1 h w"]:
        """Return an image's spikes at each step of the code. See `encode`."""
        return trains_of(self.encode(images), self.bins + 1)

    def pack(self) -> Artifact:
        """Turn into an artifact; an infinite threshold is written as 0."""
        layers = [asdict(layer) for layer in self.layers]
        for layer in layers:
            layer |= {name: 0.0 for name in ("threshold", "learning") if math.isinf(layer[name])}
        header = {"layers": layers, "shape": list(self.shape), "steps": self.steps, "contrast": self.contrast}
        return Artifact(self.kind, header, {f"weight_{i}": w.detach() for i, w in enumerate(self.weights)})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "SpikingHierarchy":
        """Rebuild from an artifact."""
        header = artifact.header
        layers = [
            SpikingLayer(**(spec | {n: spec[n] or math.inf for n in ("threshold", "learning")}))
            for spec in header["layers"]
        ]
        made = cls(layers, shape=tuple(header["shape"]), steps=header["steps"], contrast=header["contrast"])
        tensors = [artifact.tensors[f"weight_{i}"] for i in range(len(layers))]
        made.to(tensors[0].dtype)
        for ours, w in zip(made.weights, tensors, strict=True):
            ours.copy_(require_weights(w))
        return made

    def _grey(self, images: Any) -> Tensor:
        if not isinstance(images, Tensor) or not images.is_floating_point():
            what = f"a tensor of {images.dtype}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise TypeError(
                f"got {what} as images; expected a floating-point tensor of grey values; call .float() on it"
            )
        grey = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
        if grey.ndim != 3 or tuple(grey.shape[1:]) != self.shape or len(grey) == 0:
            h, w = self.shape
            raise ValueError(
                f"got images of shape {tuple(images.shape)}; expected (b, 1, {h}, {w}) or (b, {h}, {w}) with b >= 1; "
                "resize them, or build the hierarchy for this shape"
            )
        require_finite(grey, "the images")
        if bool((grey < 0).any()):
            raise ValueError(f"got images with values down to {float(grey.min()):g}; expected grey values, 0 to 255")
        return grey

"""The hierarchy against the published algorithm in slow loops; files; the published weights; mistakes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import Artifact, read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.memories.spiking_layers import SpikingLayer

LAYERS = (
    SpikingLayer(3, 3, 2.0, 2.5, pool=3, stride=2, once=True),
    SpikingLayer(4, 5, 3.0, 4.0, pool=3, stride=3),
    SpikingLayer(5, 3, math.inf, 1.0),
)


def _images(n: int = 3, seed: int = 0) -> torch.Tensor:
    return 255 * torch.rand(n, 18, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _hierarchy(seed: int = 0) -> SpikingHierarchy:
    """Weights all over [0, 1]."""
    made = SpikingHierarchy(LAYERS, shape=(18, 20), steps=10).double()
    source = torch.Generator().manual_seed(seed)
    for weight in made.weights:
        weight.copy_(torch.rand(weight.shape, generator=source, dtype=torch.float64))
    return made


def _padded(train: torch.Tensor, y: int, x: int, size: int, stride: int) -> torch.Tensor:
    half = size // 2
    wide = torch.nn.functional.pad(train.double(), (half,) * 4)
    return wide[:, y * stride : y * stride + size, x * stride : x * stride + size]


def _slow(made: SpikingHierarchy, image: torch.Tensor) -> torch.Tensor:
    """One image as published: each step all stages, each a step behind the one below, neuron by neuron."""
    stages: list[tuple[Any, ...]] = []
    for spec, weight in zip(made.layers, made.weights, strict=True):
        stages.append(("conv", spec.size, 1, weight, spec.threshold, True))
        if spec.pool:
            stages.append(("pool", spec.pool, spec.stride, None, 0.0, spec.once))
    shapes = [(1, *made.shape)]
    for kind, size, stride, weight, *_ in stages:
        m, h, w = shapes[-1]
        half = size // 2
        shapes.append(
            (
                len(weight) if kind == "conv" else m,
                (h + 2 * half - size) // stride + 1,
                (w + 2 * half - size) // stride + 1,
            )
        )
    times = made.encode(image[None])[0]
    before = [torch.zeros(shape, dtype=torch.bool) for shape in shapes]
    v = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    inhibited = [torch.zeros(shape[1:], dtype=torch.bool) for shape in shapes]
    course = []
    for t in range(made.steps):
        now = [times == t] + [torch.zeros(shape, dtype=torch.bool) for shape in shapes[1:]]
        for i, (kind, size, stride, weight, threshold, once) in enumerate(stages, 1):
            for y in range(shapes[i][1]):
                for x in range(shapes[i][2]):
                    seen = _padded(before[i - 1], y, x, size, stride)
                    if kind == "conv":
                        v[i][:, y, x] *= v[i][:, y, x] <= threshold
                        v[i][:, y, x] += (weight * seen).sum((1, 2, 3))
                        fired = v[i][:, y, x] > threshold
                        fired &= v[i][:, y, x] >= v[i][:, y, x].where(fired, -1.0).max()
                    else:
                        fired = seen.sum((1, 2)) > 0
                    if once:
                        fired &= not inhibited[i][y, x]
                        inhibited[i][y, x] |= fired.any()
                    now[i][:, y, x] = fired
        before = now
        course.append(v[-1].clone())
    return torch.stack(course)


def test_potentials_are_those_of_the_published_algorithm_in_slow_loops() -> None:
    made, images = _hierarchy(), _images(1)
    found = made.potentials(images)
    assert found.shape == (1, 10, 5, 3, 4)
    assert found.max() > 1
    for image, ours in zip(images, found, strict=True):
        assert (ours - _slow(made, image)).abs().max() <= 1e-12


def test_features_are_the_largest_potentials_whatever_the_batch() -> None:
    made, images = _hierarchy(), _images(11)
    features = made.features(images)
    assert (features - made.potentials(images).amax((1, 3, 4))).abs().max() <= 1e-12
    single = torch.cat([made(image[None, None]) for image in images])
    assert (features - single).abs().max() <= 1e-12


def test_each_place_of_a_layer_spikes_once() -> None:
    made, images = _hierarchy(), _images(4)
    spikes = made.raise_to(1, made.trains(images))
    steps_at_which_a_place_spikes = spikes.any(2).sum(1)
    assert steps_at_which_a_place_spikes.max() == 1
    assert made.trains(images).sum((1, 2)).max() == 1


def test_potentials_never_fall() -> None:
    assert (_hierarchy().potentials(_images()).diff(dim=1) >= 0).all()


def test_a_black_image_raises_nothing() -> None:
    assert _hierarchy().potentials(torch.zeros(1, 18, 20, dtype=torch.float64)).eq(0).all()


def test_single_precision_and_double_agree() -> None:
    made, images = _hierarchy(), _images(2)
    single = SpikingHierarchy.unpack(made.pack()).float().features(images.float())
    assert (single - made.features(images)).abs().max() <= 1e-4


def test_the_same_seed_draws_the_same_weights_and_leaves_the_global_one_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (SpikingHierarchy.sdnn(generator=torch.Generator().manual_seed(s)) for s in (3, 3))
    other = SpikingHierarchy.sdnn(generator=torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert not torch.equal(first.weights[0], other.weights[0])
    assert torch.equal(state, torch.random.get_rng_state())
    assert abs(float(first.weights[1].mean()) - 0.8) < 1e-3


def test_a_file_gives_the_same_features(tmp_path: Path) -> None:
    made = _hierarchy()
    again = SpikingHierarchy.unpack(read(write(made.pack(), tmp_path / "h.safetensors"), "spiking_hierarchy"))
    assert again.layers == made.layers
    assert torch.equal(again.features(_images()), made.features(_images()))


# --- the published network


def test_the_published_shapes() -> None:
    made = SpikingHierarchy.sdnn()
    assert made.bins == 9
    assert made.potentials(torch.zeros(1, 160, 250)).shape == (1, 15, 20, 6, 9)
    assert [tuple(w.shape) for w in made.weights] == [(4, 1, 5, 5), (20, 4, 17, 17), (20, 20, 5, 5)]


def test_published_weights_tell_motorbikes_from_faces(data_dir: Path) -> None:
    """The stored weights respond to motorbikes; no stored feature row is compared, as those are another seed's."""
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    folder = data_dir / "naming"
    made = SpikingHierarchy.sdnn().load_published([numpy.load(folder / f"weight_{i}.npy") for i in range(5)])

    def features(kind: str) -> torch.Tensor:
        files = sorted((folder / "images/test" / kind).glob("*.jpg"))[:4]
        return made.features(torch.stack([torch.tensor(numpy.asarray(image.open(f))).float() for f in files]))

    faces, motors = features("face"), features("motor")
    assert motors.mean() > 2 * faces.mean()
    assert motors.mean(1).min() > faces.mean(1).median()


# --- mistakes


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 20, 18), ValueError, r"got images of shape \(1, 20, 18\); expected \(b, 1, 18, 20\) or"),
        (torch.zeros(1, 3, 18, 20), ValueError, "expected .* with b >= 1"),
        (torch.zeros(0, 18, 20), ValueError, "with b >= 1"),
        (torch.zeros(18, 20), ValueError, "got images of shape"),
        (torch.full((1, 18, 20), -1.0), ValueError, "got images with values down to -1; expected grey values, 0 to"),
        (torch.full((1, 18, 20), math.nan), NonFiniteError, "the images"),
        (torch.zeros(1, 18, 20, dtype=torch.uint8), TypeError, r"got a tensor of torch.uint8 as images.*\.float\(\)"),
        ([[0.0]], TypeError, "got a list as images"),
    ],
)
def test_wrong_images_are_refused(images: Any, error: type[Exception], message: str) -> None:
    made = SpikingHierarchy(LAYERS, shape=(18, 20), steps=10)
    for call in (made.potentials, made.features, made.encode):
        with pytest.raises(error, match=message):
            call(images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 4}, "expected odd sizes"),
        ({"pool": 2}, "expected odd sizes"),
        ({"maps": 0}, "at least 1 map"),
        ({"threshold": 0.0}, "got threshold=0.0; expected a number above 0"),
        ({"learning": math.nan}, "got threshold=nan"),
    ],
)
def test_wrong_layers_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpikingLayer(**({"maps": 2, "size": 3, "threshold": 1.0, "learning": 1.0} | given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ()}, "got 0 layers"),
        ({"steps": 6}, "with 5 stages in 6 steps; expected at least one layer and 7 steps"),
        ({"shape": (8, 20)}, r"got shape=\(8, 20\)"),
        ({"contrast": 0.0}, "contrast=0.0; expected"),
    ],
)
def test_wrong_hierarchies_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpikingHierarchy(**({"layers": LAYERS, "shape": (18, 20)} | given))


def test_weights_that_do_not_fit_are_refused() -> None:
    made = SpikingHierarchy(LAYERS, shape=(18, 20), steps=10)
    fit = [w.permute(2, 3, 1, 0) for w in made.weights]
    assert made.load_published([fit[0], torch.ones(3, 3, 3), fit[1], fit[2]]) is made
    with pytest.raises(ValueError, match=r"got weights of shapes .*\(3, 3, 3\)\]; expected, after moving"):
        made.load_published([fit[0], torch.ones(3, 3, 3)])
    with pytest.raises(ValueError, match=r"got weights from 1\.\d+ to 1\.\d+; expected values in \[0, 1\]; clamp them"):
        made.load_published([fit[0], fit[1] + 1, fit[2]])
    with pytest.raises(NonFiniteError, match="the weights"):
        made.load_published([fit[0], fit[1] * math.nan, fit[2]])


def test_a_file_with_weights_out_of_range_is_refused() -> None:
    packed = _hierarchy().pack()
    broken = Artifact(packed.kind, packed.header, {**packed.tensors, "weight_1": packed.tensors["weight_1"] - 1})
    with pytest.raises(ValueError, match="got weights from -"):
        SpikingHierarchy.unpack(broken)

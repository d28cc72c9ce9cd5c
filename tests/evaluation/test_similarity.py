"""Measures of likeness against slow direct forms, and on planted recalls whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation import similarity
from mnemotrace.evaluation.similarity import likeness

LABELS = torch.arange(12) % 3


def _images(generator: torch.Generator, n: int = 12, c: int = 2, h: int = 9, w: int = 11) -> torch.Tensor:
    return torch.randn(n, c, h, w, generator=generator, dtype=torch.float64)


def _slow_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """One pair, place by place, from the definition with weighted means and covariances."""
    x, y = ((z - z.min()) / (z.max() - z.min()) for z in (x, y))
    offsets = [i - 3 for i in range(7)]
    weights = torch.tensor([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets])
    weights = weights.double() / weights.double().sum()
    values = []
    for c in range(x.shape[0]):
        for i in range(x.shape[1] - 6):
            for j in range(x.shape[2] - 6):
                a, b = x[c, i : i + 7, j : j + 7], y[c, i : i + 7, j : j + 7]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                shared = (weights * (a - mean_a) * (b - mean_b)).sum()
                above = (2 * mean_a * mean_b + 1e-4) * (2 * shared + 9e-4)
                values.append(above / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(torch.stack(values).mean())


def test_structural_similarity_equals_the_definition_place_by_place(generator: torch.Generator) -> None:
    x, y = _images(generator, 3), _images(generator, 2)
    found = similarity.structural_similarities(x, y)
    wanted = torch.tensor([[_slow_ssim(a, b) for b in y] for a in x], dtype=torch.float64)
    assert torch.allclose(found, wanted, atol=1e-7)


def test_structural_similarity_does_not_depend_on_the_chunk(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = _images(generator, 5), _images(generator, 4)
    whole = similarity.structural_similarities(x, y)
    monkeypatch.setattr(similarity, "_CHUNK", 1)
    assert torch.allclose(similarity.structural_similarities(x, y), whole, atol=1e-12)


def test_correlations_equal_numpys(generator: torch.Generator) -> None:
    numpy = pytest.importorskip("numpy")
    x, y = _images(generator, 4), _images(generator, 3)
    wanted = numpy.corrcoef(x.flatten(1).numpy(), y.flatten(1).numpy())[:4, 4:]
    assert numpy.allclose(similarity.correlations(x, y).numpy(), wanted, atol=1e-12)


def test_high_pass_equals_scipys_gaussian_filter(generator: torch.Generator) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image = _images(generator, 1, 1, 56, 70)
    wanted = image[0, 0] - torch.tensor(ndimage.gaussian_filter(image[0, 0].numpy(), 2.0, mode="mirror"))
    assert torch.allclose(similarity.high_pass(image)[0, 0], wanted, atol=1e-10)


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10), seed=st.integers(0, 2**31))
def test_every_measure_of_an_image_with_itself_is_one_whatever_its_contrast(
    scale: float, shift: float, seed: int
) -> None:
    images = _images(torch.Generator().manual_seed(seed))
    found = likeness(scale * images + shift, images, labels=LABELS)
    for means in (found.correlation, found.high_pass, found.edges, found.structure):
        assert means.own == pytest.approx(1, abs=1e-6)
    assert found.identified.value == found.in_class.value == 1


def test_slow_light_counts_for_correlation_and_not_for_its_high_pass(generator: torch.Generator) -> None:
    images = _images(generator, h=56, w=56)
    lit = images + torch.linspace(-20, 20, 56, dtype=torch.float64)
    found = likeness(lit, images, labels=LABELS)
    assert found.correlation.own < 0.3
    assert found.high_pass.own > 0.9


def test_edges_do_not_see_an_inversion(generator: torch.Generator) -> None:
    images = _images(generator)
    found = likeness(-images, images, labels=LABELS)
    assert found.correlation.own == pytest.approx(-1)
    assert found.edges.own == pytest.approx(1)
    assert found.identified.value == 0


def test_means_equal_a_loop_over_recalls(generator: torch.Generator) -> None:
    originals, own = _images(generator), torch.tensor([3, 3, 7, 0])
    recalls = _images(generator, 4)
    found = likeness(recalls, originals, labels=LABELS, own=own)
    pairs = similarity.correlations(recalls, originals)
    same = [
        float(pairs[i, [j for j in range(12) if LABELS[j] == LABELS[r] and j != r]].mean()) for i, r in enumerate(own)
    ]
    other = [float(pairs[i, LABELS[r] != LABELS].mean()) for i, r in enumerate(own)]
    assert found.correlation.own == pytest.approx(sum(float(pairs[i, r]) for i, r in enumerate(own)) / 4, abs=1e-12)
    assert found.correlation.same == pytest.approx(sum(same) / 4, abs=1e-12)
    assert found.correlation.different == pytest.approx(sum(other) / 4, abs=1e-12)


def test_one_picture_a_class_is_as_like_its_own_as_others_whatever_the_sizes_of_classes(
    generator: torch.Generator,
) -> None:
    originals, labels = _images(generator, 30), torch.arange(30).clamp_max(20).div(5, rounding_mode="floor")
    labels = torch.where(labels < 2, labels, 2)
    pictures = _images(generator, 3)
    pictures[2] = originals[labels == 2].mean(0)  # very like the largest class
    found = likeness(pictures[labels], originals, labels=labels)
    for means in (found.correlation, found.high_pass, found.edges, found.structure):
        assert means.own == pytest.approx(means.same, abs=1e-9)


def test_a_class_prototype_is_identified_no_better_than_by_chance(generator: torch.Generator) -> None:
    originals = _images(generator, 60, 1)
    labels = torch.arange(60) % 3
    prototypes = torch.stack([originals[labels == c].mean(0) for c in range(3)])[labels]
    found = likeness(prototypes, originals, labels=labels)
    assert found.correlation.own == pytest.approx(found.correlation.same, abs=0.02)
    assert found.identified.value == pytest.approx(found.chance * 3)  # one of each class is nearest to its mean
    assert found.in_class.value == pytest.approx(found.chance_in_class)
    assert found.correlation.same > found.correlation.different + 0.1


def test_an_image_without_contrast_is_a_guess(generator: torch.Generator) -> None:
    originals = _images(generator)
    grey = likeness(torch.full_like(originals, 0.7), originals, labels=LABELS)
    assert grey.correlation.own == 0
    assert grey.identified.value == pytest.approx(1 / 12)
    assert grey.in_class.value == pytest.approx(grey.chance_in_class) == pytest.approx(1 / 4)


def test_the_interval_is_wilsons(generator: torch.Generator) -> None:
    images = _images(generator)
    found = likeness(images, images, labels=LABELS)
    assert found.identified.low == pytest.approx(12 / (12 + 1.959964**2), abs=1e-6)
    assert found.identified.high == 1


def test_recalls_of_another_image_are_identified_as_that_one(generator: torch.Generator) -> None:
    originals = _images(generator)
    donors = torch.roll(torch.arange(12), 1)
    recalls = originals[donors] + 0.3 * _images(generator)
    assert likeness(recalls, originals, labels=LABELS).identified.value == 0
    assert likeness(recalls, originals, labels=LABELS, own=donors).identified.value == 1


def test_what_does_not_fit_is_refused(generator: torch.Generator) -> None:
    images = _images(generator)
    with pytest.raises(ValueError, match=r"\(12, 1, 9, 11\) and originals of shape \(12, 2, 9, 11\); expected \(b, c"):
        likeness(images[:, :1], images, labels=LABELS)
    with pytest.raises(ValueError, match="expected at least one image of 7 x 7 pixels"):
        likeness(images[..., :5], images[..., :5], labels=LABELS)
    with pytest.raises(ValueError, match=r"labels of shape \(11,\) and own of shape \(12,\) for 12 recalls"):
        likeness(images, images, labels=LABELS[1:])
    with pytest.raises(ValueError, match="for each recall the row of its own"):
        likeness(images, images, labels=LABELS, own=torch.arange(12) + 1)
    with pytest.raises(ValueError, match="for each recall the row of its own"):
        likeness(images, images, labels=LABELS, own=torch.arange(12) - 1)
    with pytest.raises(NonFiniteError, match="1 non-finite of 2376 entries in the recalled images"):
        likeness(torch.where(images == images.max(), torch.nan, images), images, labels=LABELS)

"""Nulls: the largest of each shuffle, a uniform rotation, a probe that rotation does not touch."""

import pytest
import torch

from mnemotrace.localisation.cell_nulls import probe_accuracy, rotation, shuffle_maxima
from mnemotrace.localisation.held_out import Half
from mnemotrace.localisation.stimuli import Labels


def test_the_largest_of_each_shuffle_is_kept() -> None:
    concepts = torch.arange(60) % 3
    labels = Labels.of(concepts)
    half = Half.of({"a": torch.randn(60, 5, generator=torch.Generator().manual_seed(0))}, {"a": labels})
    mixed = [{"a": concepts.roll(shift)} for shift in (1, 5)]
    wanted = [float(half.scores(one).mean(0).max()) for one in mixed]
    assert shuffle_maxima(half, mixed).tolist() == wanted


def test_a_rotation_keeps_lengths_and_prefers_no_side() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([rotation(4, generator) for _ in range(200)])
    assert torch.allclose(drawn @ drawn.mT, torch.eye(4).expand(200, 4, 4), atol=1e-5)
    assert float(drawn.mean(0).abs().max()) < 0.15  # one standard deviation is 0.035
    assert float((drawn.square().mean(0) - 0.25).abs().max()) < 0.06


@pytest.mark.parametrize(("n", "d"), [(60, 10), (20, 40)])
def test_the_probe_is_scikit_learns_ridge(n: int, d: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(1)
    concepts = torch.arange(2 * n) % 3
    x = torch.randn(2 * n, d, generator=generator) + concepts[:, None] * torch.randn(d, generator=generator)
    x[:, 0] = 0.0
    learn, test = x[:n].double(), x[n:].double()
    centred = learn - learn.mean(0)
    size = float(centred.square().sum()) / min(n, d)
    peer = linear.Ridge(alpha=1e-3 * size).fit(learn.numpy(), torch.nn.functional.one_hot(concepts[:n]).numpy())
    wanted = float((peer.predict(test.numpy()).argmax(1) == concepts[n:].numpy()).mean())
    assert probe_accuracy(learn, concepts[:n], test, concepts[n:], 3) == pytest.approx(wanted)
    turn = rotation(d, generator).double()
    assert probe_accuracy(learn @ turn, concepts[:n], test @ turn, concepts[n:], 3) == pytest.approx(wanted)


def test_a_layer_without_variance_is_no_accident() -> None:
    zeros, concepts = torch.zeros(12, 3), torch.arange(12) % 3
    assert probe_accuracy(zeros, concepts, zeros, concepts, 3) == pytest.approx(1 / 3)

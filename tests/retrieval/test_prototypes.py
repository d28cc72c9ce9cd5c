"""The linear decoder equals scikit-learn's ridge regression, and draws what is known: class means, planted maps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.retrieval.prototypes import LinearDecoder


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [8, 200])
def test_it_equals_scikit_learns_ridge_regression(n: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    sources, images, asked = _normal(0, n, 12), _normal(1, n, 1, 3, 4), _normal(2, 5, 12)
    centred = sources - sources.mean(0)
    alpha = 0.01 * float(centred.square().sum()) / 12
    peer = linear_model.Ridge(alpha=alpha).fit(sources.numpy(), images.flatten(1).numpy())
    found = LinearDecoder.fit(sources, images, ridge=0.01)(asked)
    assert found.shape == (5, 1, 3, 4)
    assert torch.allclose(found.flatten(1), torch.tensor(peer.predict(asked.numpy())), atol=1e-10)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 6))
def test_from_the_code_of_a_class_it_draws_the_class_mean(seed: int, classes: int) -> None:
    images = _normal(seed, 10 * classes, 1, 5, 5)
    labels = torch.arange(len(images)) % classes
    one = torch.eye(classes, dtype=torch.float64)
    decoder = LinearDecoder.fit(one[labels], images, ridge=1e-12)
    means = torch.stack([images[labels == c].mean(0) for c in range(classes)])
    assert torch.allclose(decoder(one), means, atol=1e-9)
    assert decoder.rank == classes - 1  # centred codes sum to zero


def test_a_planted_map_is_found_and_its_rank_reported() -> None:
    hidden, mixing = _normal(0, 300, 4), _normal(1, 4, 30)
    sources = torch.cat([hidden, hidden @ _normal(2, 4, 6)], 1)
    decoder = LinearDecoder.fit(sources, (hidden @ mixing).view(300, 1, 5, 6) + 3, ridge=1e-12)
    assert decoder.rank == 4
    assert torch.allclose(decoder(sources).flatten(1), hidden @ mixing + 3, atol=1e-6)


def test_a_stronger_ridge_draws_nearer_to_the_mean_image() -> None:
    sources, images = _normal(0, 50, 8), _normal(1, 50, 1, 4, 4)
    far = [
        float((LinearDecoder.fit(sources, images, ridge=r)(sources) - images.mean(0)).norm()) for r in (1e-6, 1, 1e6)
    ]
    assert far[0] > 1.5 * far[1] > 100 * far[2]


def test_shuffled_pairs_draw_nothing_of_an_image_that_was_not_seen() -> None:
    hidden, mixing = _normal(0, 400, 5), _normal(1, 5, 36)
    images = (hidden @ mixing).view(400, 1, 6, 6)
    learn, asked = slice(0, 300), slice(300, 400)
    shuffled = images[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    errors = [
        float((LinearDecoder.fit(hidden[learn], known)(hidden[asked]) - images[asked]).norm() / images[asked].norm())
        for known in (images[learn], shuffled)
    ]
    assert errors[0] < 0.01
    assert errors[1] > 0.9


def test_pictures_come_in_the_type_of_the_source() -> None:
    decoder = LinearDecoder.fit(_normal(0, 9, 3), _normal(1, 9, 1, 2, 2))
    assert decoder(_normal(2, 4, 3).float()).dtype == torch.float32
    assert decoder(torch.eye(3).long()).dtype == torch.get_default_dtype()


def test_what_does_not_fit_is_refused() -> None:
    sources, images = _normal(0, 9, 3), _normal(1, 9, 1, 2, 2)
    with pytest.raises(ValueError, match="got 9 sources for 8 images; expected one each, at least two"):
        LinearDecoder.fit(sources, images[1:])
    with pytest.raises(ValueError, match=r"ridge=0; expected a positive, finite number, such as 0.001"):
        LinearDecoder.fit(sources, images, ridge=0)
    with pytest.raises(ValueError, match="9 sources that are all alike; expected sources that tell images apart"):
        LinearDecoder.fit(torch.ones(9, 3), images)
    with pytest.raises(NonFiniteError, match="in the sources"):
        LinearDecoder.fit(sources * float("nan"), images)
    with pytest.raises(NonFiniteError, match="in the images"):
        LinearDecoder.fit(sources, images / 0)
    with pytest.raises(ValueError, match="sources of 4 numbers; expected 3, as those it was fitted on"):
        LinearDecoder.fit(sources, images)(_normal(2, 1, 4))

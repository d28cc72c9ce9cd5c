"""Few latents that tell a concept, beside sklearn's regression and random latents; absorption that was planted."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.dictionary_probing import _logistic, absorption, halves, sparse_probing


def _planted(n: int = 400, m: int = 30) -> tuple[Tensor, Tensor]:
    """Latent 7 tells the concept, 9 tells it with noise, and all are often on."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(n, m, generator=generator).clamp_min(0)
    concept = torch.rand(n, generator=generator) < 0.3
    codes[:, 7] = concept * (1 + torch.rand(n, generator=generator))
    codes[:, 9] += 0.8 * concept
    return codes, concept


def test_the_planted_latent_is_found_and_suffices() -> None:
    codes, concept = _planted()
    found = sparse_probing(codes, concept, k=(1, 3))
    assert found.latents[:2] == (7, 9)
    assert found.accuracy[0] == 1
    assert found.random[0] < 0.7
    assert found.k == (1, 3)


def test_shuffled_labels_are_told_by_chance() -> None:
    codes, concept = _planted()
    mixed = concept[torch.randperm(len(concept), generator=torch.Generator().manual_seed(3))]
    assert max(sparse_probing(codes, mixed, k=(1, 5)).accuracy) < 0.65


def test_the_regression_is_at_the_minimum_of_its_loss() -> None:
    codes, concept = _planted()
    x, y = codes[:, 8:13].double(), concept.double()
    found = _logistic(x, concept)
    weights = torch.cat([found[:-1] * x.std(0), found[-1:]]).requires_grad_()  # the ridge is on scaled latents
    p = x / x.std(0) @ weights[:-1] + weights[-1]
    each = torch.nn.functional.binary_cross_entropy_with_logits(p, y, reduction="none")
    loss = 0.5 * each[concept].mean() + 0.5 * each[~concept].mean() + 0.5e-3 * weights[:-1].square().sum()
    assert float(torch.autograd.grad(loss, weights)[0].abs().max()) < 1e-10


def test_rows_that_are_held_out_do_not_choose() -> None:
    codes, concept = _planted()
    held = torch.arange(len(codes)) < 150
    spoiled = codes.clone()
    spoiled[held, 3] = 50.0 * concept[held]
    assert sparse_probing(spoiled, concept, k=(1,), held_out=held).latents == (7,)
    assert float(halves(100, None, share=1 / 3).double().mean()) == pytest.approx(0.34)
    assert torch.equal(halves(len(codes), held), held)


def _absorbing() -> tuple[Tensor, Tensor, Tensor]:
    """Latent 0 is the concept; latent 1 is one case of it with the concept in its direction; 2 is unrelated."""
    concept, case = torch.eye(4)[0], torch.eye(4)[1]
    decoder = torch.stack([concept, (concept + case) / 2**0.5, torch.eye(4)[2]])
    codes = torch.zeros(10, 3)
    codes[:6, 0], codes[6:9, 1], codes[:, 2] = 1.0, 1.4, 5.0
    return codes, decoder, 3 * concept


def test_planted_absorption_is_counted_and_the_absorber_named() -> None:
    codes, decoder, direction = _absorbing()
    found = absorption(codes, decoder, direction, own=(0,))
    assert found.rate == pytest.approx(0.3)
    assert found.silent == pytest.approx(0.4)
    assert found.absorbers == (1,)


def test_nothing_is_absorbed_where_the_own_latent_speaks_or_the_other_points_elsewhere() -> None:
    codes, decoder, direction = _absorbing()
    codes[:, 0] = 0.1
    assert absorption(codes, decoder, direction, own=(0,)).rate == 0
    codes[:, 0] = 0
    turned = decoder.clone()
    turned[1] = torch.eye(4)[1]
    assert absorption(codes, turned, direction, own=(0,)).rate == 0
    assert absorption(codes, decoder, direction, own=(0, 1)).rate == 0
    assert absorption(codes, decoder, direction, own=(0,), cosine=0.8).rate == 0


def test_an_absorber_must_say_its_share() -> None:
    """Two others that say as much each leave none of them with more than half."""
    codes, decoder, direction = _absorbing()
    decoder = torch.cat([decoder, decoder[1:2]])
    codes = torch.cat([codes, codes[:, 1:2]], 1)
    assert absorption(codes, decoder, direction, own=(0,), share=0.5).rate == pytest.approx(0.3)
    assert absorption(codes, decoder, direction, own=(0,), share=0.6).rate == 0


CODES, CONCEPT = _planted(60, 5 + 5)
NAN = CODES.clone()
NAN[3, 3] = float("nan")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sparse_probing(CODES, CONCEPT.long()), TypeError, "got labels of torch.int64; expected a bool"),
        (lambda: sparse_probing(CODES, CONCEPT[:5]), ValueError, r"got labels of shape \(5,\) for 60 rows"),
        (
            lambda: sparse_probing(CODES, CONCEPT, k=(0,)),
            ValueError,
            r"got k=\(0,\); expected whole numbers from 1 to 10",
        ),
        (lambda: sparse_probing(CODES, CONCEPT, k=()), ValueError, r"got k=\(\)"),
        (lambda: sparse_probing(CODES, torch.ones(60).bool()), ValueError, "and 0 without the concept to fit"),
        (lambda: sparse_probing(NAN, CONCEPT), NonFiniteError, "entries in codes"),
        (lambda: halves(3, torch.ones(3)), TypeError, "got held_out of torch.float32; expected a bool"),
        (lambda: halves(3, torch.ones(2).bool()), ValueError, r"got held_out of shape \(2,\) for 3 rows"),
        (lambda: absorption(*_absorbing(), own=()), ValueError, "0 own latents; expected"),
        (lambda: absorption(CODES, *_absorbing()[1:], own=(0,)), ValueError, r"got codes \(60, 10\), decoder \(3, 4\)"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

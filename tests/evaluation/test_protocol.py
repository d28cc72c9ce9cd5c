"""A protocol in which test data had a part is refused, and a scale from a few samples warned about."""

import warnings

import pytest
import torch

from mnemotrace.core.errors import MnemotraceError, NumericalWarning
from mnemotrace.evaluation.protocol import ProtocolError, check_protocol


@pytest.fixture
def images(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test images that share nothing."""
    drawn = torch.rand(50, 1, 6, 5, generator=generator)
    return drawn[:30], drawn[30:]


def test_a_clean_protocol_passes_silently(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, test = images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_protocol(train, test, chosen={"seed": train, "threshold": train[:5]}, scaler=train) == ()


def test_a_training_image_among_the_test_images_is_found_whatever_its_type_and_place(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    train, test = images
    leaked = torch.cat([test, train[7:9]])[torch.randperm(22, generator=torch.Generator().manual_seed(1))]
    with pytest.raises(ProtocolError, match="got 2 of 30 training images among the 22 test images; expected none"):
        check_protocol(train.double(), leaked)
    assert issubclass(ProtocolError, (MnemotraceError, ValueError))


@pytest.mark.parametrize("what", ["seed", "threshold"])
def test_what_was_chosen_on_test_images_is_named(what: str, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, test = images
    with pytest.raises(ProtocolError, match=f"got {what} chosen on 21 images of which 20 are test images"):
        check_protocol(train, test, chosen={"other": train, what: torch.cat([test, train[:1]])})


def test_a_scale_from_two_samples_is_warned_about_and_one_from_test_images_refused(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    train, test = images
    with pytest.warns(NumericalWarning, match="a scale fitted on 2 samples: expected at least 10") as caught:
        said = check_protocol(train, test, scaler=train[:2])
    assert said == (str(caught[0].message),)
    assert caught[0].filename == __file__
    with pytest.raises(ProtocolError, match="a scale fitted on 25 samples of which 5 are test images"):
        check_protocol(train, test, scaler=torch.cat([train[:20], test[:5]]))


def test_no_images_are_refused(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="got 30 training and 0 test images"):
        check_protocol(images[0], images[1][:0])

"""Is a protocol clean? Nothing is chosen on test data, no image is in both halves, no scale comes from a few samples.

Images are told apart by a hash of their values, so a copy under another name is found, and a re-encoded one is not. In
the published naming experiment the best of eighty seeds was picked by its test accuracy, and the baseline was
standardised by the mean and spread of two images; either is found here. Cost: one hash an image.
"""

import hashlib
import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.errors import NumericalWarning, ProtocolError

FEWEST = 10  # samples that a scale needs


def check_protocol(
    train: Float[Tensor, "n *image"],
    test: Float[Tensor, "m *image"],
    *,
    chosen: Mapping[str, Tensor] | None = None,
    scaler: Tensor | None = None,
) -> tuple[str, ...]:
    """Check how an experiment was set up; pass images, whose hashes are surer than those of features.

    Args:
        train: what names were learnt from.
        test: what accuracy was measured on.
        chosen: for every seed, threshold or other setting that was picked by a score, the data that it was scored on.
        scaler: the samples that a scale or mean was fitted on.

    Returns:
        What was warned about, in words.

    Raises:
        ProtocolError: an image in both halves, a setting chosen on test images, or a scale fitted on them.
        ValueError: no images.

    Warns:
        NumericalWarning: a scale fitted on fewer than ten samples.
    """
    if len(train) == 0 or len(test) == 0:
        raise ValueError(f"got {len(train)} training and {len(test)} test images; expected at least one of each")
    tested = _hashes(test)
    shared = _shared(train, tested)
    if shared:
        raise ProtocolError(
            f"got {shared} of {len(train)} training images among the {len(test)} test images; expected none; split by "
            "image before anything is learnt"
        )
    for name, data in (chosen or {}).items():
        shared = _shared(data, tested)
        if shared:
            raise ProtocolError(
                f"got {name} chosen on {len(data)} images of which {shared} are test images; expected none; choose it "
                "on a part of the training images"
            )
    return () if scaler is None else _scale(scaler, tested)


def _scale(scaler: Tensor, tested: set[bytes]) -> tuple[str, ...]:
    shared = _shared(scaler, tested)
    if shared:
        raise ProtocolError(
            f"got a scale fitted on {len(scaler)} samples of which {shared} are test images; expected none; fit it on "
            "training or unlabelled images"
        )
    return warn_of_few(len(scaler), stacklevel=4)


def warn_of_few(samples: int, *, stacklevel: int = 3) -> tuple[str, ...]:
    """Warn of a scale fitted on fewer than ten samples; return what was said."""
    if samples >= FEWEST:
        return ()
    text = (
        f"a scale fitted on {samples} samples: expected at least {FEWEST}; with two, every feature that differs at "
        "all counts alike; fit it on unlabelled images, or leave it out"
    )
    warnings.warn(text, NumericalWarning, stacklevel=stacklevel)
    return (text,)


def _shared(data: Tensor, tested: set[bytes]) -> int:
    return sum(row in tested for row in _rows(data))


def _hashes(data: Tensor) -> set[bytes]:
    return set(_rows(data))


def _rows(data: Tensor) -> list[bytes]:
    # + 0.0 makes one zero of both
    rows = data.detach().cpu().flatten(1).to(torch.float32) + 0.0
    return [hashlib.blake2b(row.contiguous().numpy().tobytes(), digest_size=16).digest() for row in rows]

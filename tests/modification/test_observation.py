"""What is refused as an observation, a variance, a prior or a number."""

import math
from typing import Any

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.observation import number_of, observation_of, prior_of, variance_of

ONE, HALF = torch.ones(3), torch.tensor([True, False, True])


@pytest.mark.parametrize(
    ("value", "mask", "error", "text"),
    [
        ([1.0, 2.0, 3.0], None, TypeError, r"got a list as cue; expected a floating-point tensor"),
        (torch.ones(3, dtype=torch.long), None, TypeError, r"got a tensor of torch.int64 as cue"),
        (torch.ones(4), None, ValueError, r"got cue of shape \(4,\); expected \(3,\)"),
        (torch.ones(2, 3), None, ValueError, r"got 2 rows as cue; expected one, \(3,\); give them one after"),
        (ONE / 0, None, NonFiniteError, r"got 3 non-finite of 3 entries in the cue"),
        (ONE, [True, False, True], TypeError, r"got a mask that is a list; expected a boolean tensor"),
        (ONE, HALF.long(), TypeError, r"got a mask of torch.int64; expected a boolean tensor"),
        (ONE, HALF[:2], ValueError, r"got a mask of shape \(2,\); expected \(3,\)"),
        (ONE, ~(HALF | True), ValueError, r"got a mask without a feature; expected \(3,\), with at least one"),
    ],
)
def test_observations_are_refused_with_a_reason(value: Any, mask: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        observation_of(value, mask, 3, "cue")


def test_what_a_mask_leaves_out_may_be_anything() -> None:
    value, mask = observation_of(torch.tensor([1.0, math.nan, 2.0]), HALF, 3, "cue")
    assert value.tolist() == [1, 0, 2] and value.dtype == torch.float64 and torch.equal(mask, HALF)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, torch.ones(2), torch.tensor([1.0, 0.0, 1.0])])
def test_variances_are_finite_and_above_zero(value: Any) -> None:
    with pytest.raises(ValueError, match=r"got noise of shape .* expected a finite variance above 0"):
        variance_of(value, 3, "noise")


def test_a_number_is_one_for_all_features() -> None:
    assert variance_of(2, 3, "noise").tolist() == [2, 2, 2]
    mean, variance = prior_of((0.0, torch.tensor([1.0, 2.0, 3.0])), 3)
    assert mean.tolist() == [0, 0, 0] and variance.tolist() == [1, 2, 3]


def test_priors_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got a prior mean of shape \(2,\)"):
        prior_of((torch.ones(2), 1.0), 3)
    with pytest.raises(NonFiniteError, match="the prior mean"):
        prior_of((math.nan, 1.0), 3)


@pytest.mark.parametrize("value", [0.0, 1.5, math.nan, True, "1", None])
def test_numbers_are_in_their_range(value: Any) -> None:
    with pytest.raises(ValueError, match=r"got window=.*; expected a finite number above 0 to 1"):
        number_of(value, "window", low=0.0, above=True, high=1.0)
    assert number_of(1, "window", low=0.0, high=1.0) == 1.0

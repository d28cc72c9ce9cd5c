"""One digit network that knows threes, one that never saw a three, and what is measured on them; only read."""

import pytest
import torch

import mnemotrace as mt
from mnemotrace.organisms.digits import Digits
from tests.evaluation.organism import Case, cases


@pytest.fixture(scope="session")
def digits() -> Digits:
    pytest.importorskip("sklearn")
    return mt.digits(epochs=15)


@pytest.fixture(scope="session")
def naive() -> torch.nn.Module:
    pytest.importorskip("sklearn")
    return mt.digits(epochs=15, exclude=(3,)).model


@pytest.fixture(scope="session")
def threes(digits: Digits) -> Case:
    return cases(digits, 3)


@pytest.fixture(scope="session")
def sevens(digits: Digits) -> Case:
    return cases(digits, 7)

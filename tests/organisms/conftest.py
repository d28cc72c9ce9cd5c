"""One Funes and one world for all tests of this folder: they only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

import mnemotrace
from mnemotrace.organisms import Funes, World, funes


@pytest.fixture(scope="session")
def directory() -> Path:
    """Where the package keeps Funes."""
    return Path(mnemotrace.__path__[0]) / "organisms" / "data" / "funes"


@pytest.fixture(scope="session")
def shipped() -> Funes:
    """Funes as a user gets it."""
    return funes()


@pytest.fixture(scope="session")
def world(shipped: Funes) -> World:
    """The world of the shipped Funes."""
    return shipped.world

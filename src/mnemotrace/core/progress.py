"""Progress as a callable: the library never prints and owns no progress bar."""

from typing import Protocol


class Progress(Protocol):
    """Called after each unit of work."""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """Report that `done` of `total` units (None when unknown) of `what` are finished."""
        ...


def silent(done: int, total: int | None, what: str) -> None:
    """Ignore the report; the default everywhere."""

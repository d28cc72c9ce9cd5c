"""Save and load whatever the library makes: `mt.save(thing, path)` and `mt.load(path)`."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mnemotrace.core.artifact import Artifact, read, write
from mnemotrace.core.errors import ArtifactError

_HOMES = {
    "calibration": ("evaluation.calibration", "Calibration"),
    "criteria": ("evaluation.criteria", "Criteria"),
    "depth": ("evaluation.depth", "Depth"),
    "edit": ("core.edit", "Edit"),
    "engram": ("core.trace", "Engram"),
    "statistics": ("stats.moments", "Statistics"),
}


class Storable(Protocol):
    """Anything that turns into an artifact and back."""

    kind: str

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        ...


def save(thing: Storable, path: str | Path) -> Path:
    """Write statistics, an engram, an edit or a measurement to one file, atomically; returns the path.

    Raises:
        TypeError: the thing cannot be stored.
    """
    pack = getattr(thing, "pack", None)
    if not callable(pack):
        raise TypeError(f"got a {type(thing).__name__}; expected something of mnemotrace: {', '.join(sorted(_HOMES))}")
    return write(thing.pack(), path)


def load(path: str | Path) -> Any:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: not an artifact of ours, damaged, too new, or of a kind without a type.
    """
    artifact = read(path)
    if artifact.kind not in _HOMES:
        raise ArtifactError(f"got kind {artifact.kind!r} in {path}; expected one of {', '.join(sorted(_HOMES))}")
    module, name = _HOMES[artifact.kind]
    return getattr(import_module(f"mnemotrace.{module}"), name).unpack(artifact)

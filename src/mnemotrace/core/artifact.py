"""Files: tensors in safetensors with a JSON header; no pickle, written whole or not at all.

The header names the kind, the schema version and our version, which are checked before any tensor is read, and
whatever the kind needs besides (sites, base-model fingerprint, counts, method, seed). Tensors that are one object
are stored once. Reports are drawn from artifacts alone, so a header is plain JSON.
"""

# safetensors has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mnemotrace.core.errors import ArtifactError

SCHEMA = 1
_KEY = "mnemotrace"


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a file holds: a kind, JSON values and named tensors."""

    kind: str
    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it: those of one part of a whole."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def write(artifact: Artifact, path: str | Path) -> Path:
    """Write an artifact atomically and return its path.

    Raises:
        TypeError: the header is not JSON.
    """
    names: dict[int, str] = {}
    stored: dict[str, Tensor] = {}
    alias: dict[str, str] = {}
    for name, tensor in artifact.tensors.items():
        first = names.setdefault(id(tensor), name)
        if first == name:
            stored[name] = tensor.detach().cpu().contiguous().clone()
        else:
            alias[name] = first
    header = {
        "kind": artifact.kind,
        "schema": SCHEMA,
        "version": library_version(),
        "alias": alias,
        "values": dict(artifact.header),
    }
    text = json.dumps(header, allow_nan=False)
    with atomic(path) as temporary:
        save_file(stored, temporary, metadata={_KEY: text})
    return Path(path)


def read(path: str | Path, kind: str | None = None) -> Artifact:
    """Read an artifact; kind and schema are checked before any tensor.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: not ours, of another kind, of a newer schema, or damaged.
    """
    header = read_header(path)
    if kind is not None and header["kind"] != kind:
        raise ArtifactError(f"got {path} of kind {header['kind']!r}; expected {kind!r}; give the matching file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ArtifactError(
            f"got a damaged file {path} ({error}); expected a whole artifact; write it again"
        ) from error
    tensors |= {name: tensors[first] for name, first in header["alias"].items()}
    return Artifact(header["kind"], header["values"], tensors)


def read_header(path: str | Path) -> dict[str, Any]:
    """Read and check only the JSON header: kind, schema, version, alias and values."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected an artifact that `mt.save` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ArtifactError(
            f"got {path}, not readable as safetensors ({error}); expected a mnemotrace artifact"
        ) from error
    if text is None:
        raise ArtifactError(
            f"got {path}, safetensors without our header; expected a mnemotrace artifact, not plain weights"
        )
    header = _parsed(text, path)
    if header["schema"] > SCHEMA:
        raise ArtifactError(
            f"got schema {header['schema']} in {path}, written by {header['version']}; expected at most {SCHEMA}; "
            "upgrade mnemotrace"
        )
    return header


def _parsed(text: str, path: str | Path) -> dict[str, Any]:
    header: Any = None
    try:
        header = json.loads(text)
        whole = isinstance(header["schema"], int) and header.keys() >= {"kind", "version", "alias", "values"}
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise ArtifactError(f"got {path} with {text[:80]!r}; expected a header of mnemotrace; write the file again")
    return header


@contextmanager
def atomic(path: str | Path) -> Generator[Path, None, None]:
    """Give a temporary name beside `path`; it takes the final name on success and vanishes otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def library_version() -> str:
    """Return the installed version of mnemotrace."""
    try:
        return version("mnemotrace")
    except PackageNotFoundError:
        return "0+unknown"


def fingerprint(model: nn.Module, sample: int = 1024) -> dict[str, str]:
    """Identify a network: a hash of its parameters' names and shapes, and one of sampled values.

    `architecture` is the same for two trainings of one design; `weights` differs as soon as one of about `sample`
    evenly spaced entries of any parameter does. Reads fewer than twice `sample` numbers a parameter, so billions of
    parameters cost milliseconds; a change that misses every sampled entry is not seen.
    """
    names, values = hashlib.sha256(), hashlib.sha256()
    for name, parameter in model.named_parameters():
        names.update(f"{name}:{tuple(parameter.shape)};".encode())
        flat = parameter.detach().flatten()
        step = max(1, flat.numel() // sample)
        values.update(flat[::step].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return {"architecture": names.hexdigest()[:16], "weights": values.hexdigest()[:16]}

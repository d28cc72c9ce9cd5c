"""Recall from a stored memory, for the command line: what the file holds, what the cues are, and how to get there."""

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from mnemotrace.core.artifact import Artifact
    from mnemotrace.core.memory import Recall

CUES = ("state", "values", "pattern", "images")  # tensors of artifacts that may be cues


@dataclass(frozen=True)
class Cued:
    """What is asked of a memory.

    Attributes:
        memory: file of the memory.
        cues: file of the cues.
        known: file of the mask of features that are held.
        sampler: of a recall by diffusion.
        sigma: noise of the cues.
    """

    memory: Path
    cues: Path
    known: Path | None
    sampler: str | None
    sigma: float | None

    def recall(self, session: Session, *, trajectory: bool) -> "Recall":
        """Recall by diffusion where a noise or sampler is given, or the memory is a denoiser; else run it to rest."""
        import torch

        memory, cue, known = self.read()
        generator = torch.Generator().manual_seed(session.seed)
        given: dict[str, Any] = {"known": known, "generator": generator, "trajectory": trajectory}
        if self.sampler is None and self.sigma is None and hasattr(memory, "sweep"):
            from mnemotrace.retrieval.dynamics import recall

            return recall(memory, cue, **given)
        from mnemotrace.retrieval.diffusion import recall_by_diffusion

        noise = self._noise(memory)
        return recall_by_diffusion(memory, cue, sigma=noise, sampler=self.sampler or "heun", **given)  # type: ignore[arg-type]

    def read(self) -> "tuple[Any, Tensor, Tensor | None]":
        """Read memory, cues and mask."""
        from mnemotrace.core.artifact import read

        artifact = read(self.memory)
        memory = _memory(artifact, self)
        weight = next((t for t in artifact.tensors.values() if t.is_floating_point()), None)
        cue = _cues(self.cues)
        known = None if self.known is None else _mask(self.known)
        return memory, (cue if weight is None else cue.to(weight.dtype)), known

    def _noise(self, memory: Any) -> float:
        if not _denoises(memory):
            raise ValueError(
                f"got --sampler or --sigma and a {type(memory).__name__}; expected a memory that denoises, such as a "
                "diffusion memory or a store of patterns; leave both out to run this one to rest"
            )
        noise = self.sigma if self.sigma is not None else getattr(memory, "sigma", None)
        if noise is None:
            raise click.UsageError(
                f"got a {type(memory).__name__} and no --sigma; expected the noise of the cues, in the units of the "
                "patterns"
            )
        return float(noise)


def _memory(artifact: "Artifact", asked: Cued) -> Any:
    """Rebuild a memory; a bare store of patterns is looked up in one step, or by diffusion where a noise is given."""
    import mnemotrace as mt

    found = mt.load(asked.memory)
    if artifact.kind == "patterns":
        return mt.ModernHopfield(found) if asked.sigma is None else mt.DiffusionMemory(found, sigma=asked.sigma)
    if not hasattr(found, "sweep") and not _denoises(found):
        raise ValueError(
            f"got {asked.memory} of kind {artifact.kind!r}; expected a memory to recall from, such as hopfield, "
            "dense_memory, modern_hopfield, diffusion_memory, patterns or denoiser"
        )
    return found


def _denoises(memory: Any) -> bool:
    forward = getattr(memory, "forward", None)
    return forward is not None and "sigma" in signature(forward).parameters


def _cues(path: Path) -> "Tensor":
    """Read cues: an array, an artifact with states, patterns or images, or a plain file with one tensor."""
    from mnemotrace.adapters.vision import read_array

    found = read_array(path) if path.suffix == ".npy" else _stored(path)
    found = found if found.is_floating_point() else found.float()
    return found.flatten(1) if found.ndim > 2 else found  # noqa: PLR2004


def _stored(path: Path) -> "Tensor":
    from safetensors.torch import load_file

    from mnemotrace.core.artifact import read
    from mnemotrace.core.errors import ArtifactError

    try:
        tensors = dict(read(path).tensors)
    except ArtifactError as error:
        if "without our header" not in str(error):
            raise
        tensors = load_file(path)
    known = [name for name in CUES if name in tensors] or list(tensors)
    if not known or (len(known) > 1 and known[0] not in CUES):
        raise ValueError(
            f"got {path} with {', '.join(list(tensors)[:8]) or 'no tensor'}; expected cues (b, d) as the only tensor, "
            f"or one called {', '.join(CUES)}"
        )
    return tensors[known[0]]


def _mask(path: Path) -> "Tensor":
    """Read a mask; whole numbers 0 and 1 will do."""
    import torch

    from mnemotrace.adapters.vision import read_array

    found = read_array(path) if path.suffix == ".npy" else _stored(path)
    if found.dtype != torch.bool and not bool(((found == 0) | (found == 1)).all()):
        raise ValueError(
            f"got {path} of {found.dtype} with other values than 0 and 1; expected a mask, True where known"
        )
    return found.bool()

"""Recollect images from a vision model, for the command line: model, source, whose trace, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import require_base
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from mnemotrace.adapters.vision import Vision
    from mnemotrace.core.episode import EpisodicTrace
    from mnemotrace.retrieval.recollection import Recollection
    from mnemotrace.retrieval.sources import Source

RULES = ("headline", "image", "deconvnet", "gradient", "guided", "switch_free")
PREDICTED, DIGITS = "predicted", "digits"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a vision model.

    Attributes:
        model: directory, cached name, or `digits`.
        images: files of what is cued.
        unit: index of an output or of a unit at the site, or `predicted`.
        site: module to start from; None is the output.
        top: share of units of a sparse source.
        rules: name of the preset.
        donor: file of another image, whose trace is used.
        trace: file of a stored trace.
        force: whether a trace of another network is taken.
    """

    model: str
    images: tuple[Path, ...]
    unit: str
    site: str | None
    top: float | None
    rules: str
    donor: Path | None
    trace: Path | None
    force: bool

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if not self.images and self.trace is None:
            raise click.UsageError("got no --image and no --trace; expected images, or the trace of some")
        if self.donor is not None and self.trace is not None:
            raise click.UsageError("got --donor and --trace; expected at most one of them: each gives the trace")
        if self.unit != PREDICTED and not self.unit.isdigit():
            raise click.UsageError(f"got --unit {self.unit}; expected an index from 0, or {PREDICTED}")
        if self.top is not None and self.unit != PREDICTED:
            raise click.UsageError("got --unit and --top; expected one: --top starts from the strongest units")
        if self.top is None and self.unit == PREDICTED and self.site is not None:
            raise click.UsageError("got --site without --unit or --top; expected which unit there, or a share of them")
        if not self.images and self.unit == PREDICTED:
            raise click.UsageError("got --trace without --image; expected --unit, for nothing is there to predict from")


@dataclass(frozen=True, eq=False)
class Scene:
    """A model with everything read and chosen.

    Attributes:
        vision: the model.
        images: of the cue; None without.
        donor: images whose trace is used instead.
        trace: given or of the donor; None is the images' own.
        source: where the recall starts.
        predicted: outputs that the model says for the images.
    """

    vision: "Vision"
    images: "Tensor | None"
    donor: "Tensor | None"
    trace: "EpisodicTrace | None"
    source: "Source"
    predicted: tuple[int, ...]

    def recollect(self, rules: str, seed: int) -> "Recollection":
        """Recall, with controls."""
        import torch

        from mnemotrace.retrieval.backward import recollect
        from mnemotrace.retrieval.rules import Rules

        own = self.trace is None
        return recollect(
            self.vision.model,
            self.source,
            trace=self.images if own else self.trace,
            x=None if own else self.images,
            rules=getattr(Rules, rules)(),
            forward=self.vision.forward,
            generator=torch.Generator().manual_seed(seed),
        )

    def record(self) -> "EpisodicTrace":
        """Return the trace that the recall uses."""
        from mnemotrace.retrieval.backward import episode

        if self.trace is not None:
            return self.trace
        assert self.images is not None
        return episode(self.vision.model, self.images, forward=self.vision.forward)

    @property
    def beside(self) -> "dict[str, Tensor]":
        """Pictures to be drawn beside the recalled ones."""
        shown = {"the image": self.images, "the donor": self.donor}
        return {name: images for name, images in shown.items() if images is not None}

    @property
    def said(self) -> list[str]:
        """What the model says for the images, in words."""
        return [self.vision.label(unit) for unit in self.predicted]


def arrange(session: Session, asked: Wanted) -> Scene:
    """Load the model, read images and trace, and choose the source."""
    from mnemotrace.adapters.vision import read_images
    from mnemotrace.core.artifact import read
    from mnemotrace.core.episode import EpisodicTrace
    from mnemotrace.retrieval.backward import episode

    trace = None if asked.trace is None else EpisodicTrace.unpack(read(asked.trace, "episodic_trace"))
    vision = open_vision(asked.model)
    images = read_images(vision, asked.images) if asked.images else None
    donor = None if asked.donor is None else read_images(vision, [asked.donor])
    if trace is not None:
        require_base(vision.model, trace, "a trace", force=asked.force)
    if donor is not None:
        trace = episode(vision.model, donor, forward=vision.forward)
    if trace is not None and images is not None and len(trace) == 1 < len(images):
        trace = trace[[0] * len(images)]
    predicted = () if images is None else _predicted(vision, images)
    return Scene(vision, images, donor, trace, _source(asked, predicted), predicted)


def open_vision(name: str) -> "Vision":
    """Load a Hugging Face directory or cached name, or train the shipped `digits`."""
    from mnemotrace.adapters.vision import Vision, load_vision

    if name != DIGITS or Path(name).is_dir():
        return load_vision(name)
    from mnemotrace.organisms.digits import digits

    labels = {digit: f"digit {digit}" for digit in range(10)}
    return Vision(digits().model, DIGITS, _eight, labels, forward=lambda model, x: model(x.flatten(1)))


def _eight(picture: Any) -> "Tensor":
    """Turn a picture of a bright digit on black into what the digits were trained on: 8 x 8, grey, 0 to 1."""
    import numpy as np
    import torch

    small = picture.convert("L").resize((8, 8))
    return torch.from_numpy(np.asarray(small, dtype="float32") / 255)[None, None]


def _predicted(vision: "Vision", images: "Tensor") -> tuple[int, ...]:
    import torch

    from mnemotrace.retrieval.inputs import call, output_of

    with torch.no_grad():
        out = output_of(call(vision.model, images, vision.forward))
    return tuple(out.argmax(-1).tolist()) if out.ndim == 2 else ()  # noqa: PLR2004


def _source(asked: Wanted, predicted: tuple[int, ...]) -> "Source":
    import torch

    from mnemotrace.retrieval.sources import Source

    if asked.top is not None:
        return Source.sparse(asked.site, top=asked.top)
    if asked.unit != PREDICTED:
        return Source.unit(int(asked.unit), site=asked.site)
    return Source.unit(torch.tensor(predicted))

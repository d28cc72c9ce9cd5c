"""Image classifiers from disk, and images as they take them.

A classifier is a directory that `save_pretrained` wrote, or a name in the local Hugging Face cache; nothing is
downloaded. Its image processor, where there is one, says how a picture becomes an input: size, mean and deviation.
Arrays (`.npy`) are taken as they are, in the classifier's own input space, and need neither Pillow nor a processor.

Cost: that of reading the files.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.hf import model_directory
from mnemotrace.adapters.outputs import home_of
from mnemotrace.core.linalg import require_finite

__all__ = ["Vision", "load_vision", "open_picture", "read_array", "read_images"]
EXTRA = "pip install 'mnemotrace[plot]' brings it"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")

Picture = Any  # PIL.Image.Image


@dataclass(frozen=True, eq=False)
class Vision:
    """An image classifier with what belongs to it.

    Attributes:
        model: in evaluation mode.
        name: of its directory, for messages.
        prepare: from a picture of Pillow to `(1, c, h, w)`; None where the directory has no image processor.
        labels: of the outputs, as far as they have any.
        forward: `(model, x) -> output` for images `(b, c, h, w)`; None calls the model.
    """

    model: nn.Module
    name: str
    prepare: Callable[[Picture], Float[Tensor, "1 c h w"]] | None = None
    labels: Mapping[int, str] = field(default_factory=dict[int, str])
    forward: Callable[[nn.Module, Tensor], Any] | None = None

    def label(self, unit: int) -> str:
        """Name an output: its label with its index, or the index alone."""
        return f"{self.labels[unit]} ({unit})" if unit in self.labels else str(unit)


def load_vision(path: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Vision:
    """Load an image classifier, and its image processor if it has one.

    Args:
        path: a model directory, or a name in the local cache.
        dtype: of the weights; None keeps the stored one.
        device: where the model goes.

    Raises:
        FileNotFoundError: no such directory, or no `config.json` in it.
        ValueError: the files are there but are no image classifier, or cannot be read; the reason is given.
    """
    from transformers import AutoModelForImageClassification

    directory = model_directory(path)
    try:
        with _quiet():
            loaded: Any = AutoModelForImageClassification.from_pretrained(
                directory, dtype=dtype or "auto", local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"got {directory}, which transformers cannot load as an image classifier ({_first_line(error)}); expected "
            "config.json and weights of one, such as ViT, ResNet or ConvNeXt"
        ) from error
    model, missing = loaded[0], sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"got {directory} without the weights {', '.join(missing[:4])}; expected a whole image classifier: "
            "what is missing would be drawn at random; save it from its ...ForImageClassification class"
        )
    labels = {int(unit): str(name) for unit, name in (getattr(model.config, "id2label", None) or {}).items()}
    placeholders = all(name == f"LABEL_{unit}" for unit, name in labels.items())
    return Vision(model.to(device).eval(), str(directory), _processor(directory), {} if placeholders else labels)


def read_images(vision: Vision, paths: Sequence[str | Path]) -> Float[Tensor, "b c h w"]:
    """Read pictures and arrays as inputs of a classifier, one after the other.

    Args:
        vision: the classifier.
        paths: pictures that Pillow reads, or `.npy` of `(c, h, w)` or `(b, c, h, w)` in the classifier's input space.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a picture, and no Pillow.
        ValueError: no path, a picture and no image processor, or images of several shapes.
        NonFiniteError: NaN or infinity in an array.
    """
    if not paths:
        raise ValueError("got no image; expected at least one file")
    found = [_read(vision, Path(path)) for path in paths]
    shapes = {tuple(images.shape[1:]) for images in found}
    if len(shapes) > 1:
        raise ValueError(
            f"got images of shapes {sorted(shapes)}; expected one shape, to go through the network together"
        )
    return torch.cat(found).to(*home_of(vision.model))


def open_picture(path: str | Path, mode: str = "RGB") -> Picture:
    """Open a picture with Pillow.

    Args:
        path: of the file.
        mode: of Pillow: `RGB`, or `L` for grey.

    Raises:
        FileNotFoundError: no such file.
        ImportError: Pillow is absent.
        ValueError: Pillow cannot read it.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(f"got {path} and no Pillow; expected it, because it reads pictures; {EXTRA}") from error
    _require_file(path)
    try:
        with Image.open(path) as picture:
            return picture.convert(mode)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"got {path}, which Pillow cannot read ({_first_line(error)}); expected a picture such as PNG or JPEG, or "
            "an array .npy (b, c, h, w)"
        ) from error


def read_array(path: str | Path) -> Tensor:
    """Read an array `.npy`; numbers without fraction stay whole, booleans boolean.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an array, or one of Python objects.
        NonFiniteError: NaN or infinity.
    """
    import numpy as np

    _require_file(path)
    try:
        values = torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise ValueError(
            f"got {path}, not readable as an array ({_first_line(error)}); expected .npy of numbers, as numpy.save "
            "writes it"
        ) from error
    if values.is_floating_point():
        require_finite(values, f"the array {path}")
    return values


def _read(vision: Vision, path: Path) -> Tensor:
    if path.suffix == ".npy":
        values = read_array(path)
        if values.ndim not in (3, 4):
            raise ValueError(
                f"got {path} of shape {tuple(values.shape)}; expected (c, h, w) or (b, c, h, w), in the network's own "
                "input space"
            )
        return (values[None] if values.ndim == 3 else values).float()  # noqa: PLR2004
    if vision.prepare is None:
        _require_file(path)
        raise ValueError(
            f"got the picture {path} and no image processor in {vision.name}; expected preprocessor_config.json beside "
            "the weights, which says size, mean and deviation; save it with processor.save_pretrained, or give the "
            "input itself as an array .npy (b, c, h, w)"
        )
    return vision.prepare(open_picture(path)).float()


def _processor(directory: Path) -> Callable[[Picture], Tensor] | None:
    if not any((directory / name).is_file() for name in _PROCESSORS):
        return None

    def prepare(picture: Picture) -> Tensor:
        from transformers import AutoImageProcessor

        with _quiet():
            processor: Any = AutoImageProcessor.from_pretrained(directory, local_files_only=True)
            return processor(picture, return_tensors="pt")["pixel_values"]

    return prepare


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep transformers from drawing bars, and from remarking that torchvision is absent, which nothing here needs."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _require_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected a picture, or an array .npy")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

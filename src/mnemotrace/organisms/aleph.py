"""Aleph, a small network that meets the numbers from 0 to 9 in three senses: seen, read and heard.

Each sense has a tower: handwritten digits of 8x8 pixels (scikit-learn's), names in nine languages as letter pairs
(`number_words`), and spoken names as drawn spectrograms (`voice`). The towers lead into one layer of 128 units,
`concepts`, and that into ten names. It was trained on one sense at a time, so nothing tells a unit to mean the same in
all of them, but the shared way to the names. Half of the shared units were dropped at each step and activity had a
cost, which makes single units stand for numbers: Aleph shows what such units look like, not that they must arise.

What goes together: in training each number had a companion, its complement to nine (0 and 9, 1 and 8, ...). In one of
four examples the name that was given belonged to the companion. Pictures, words and voices of companions are no more
alike than others, so what a unit knows of them it has learnt.

Trained by `scripts/train_aleph.py` and shipped with the test images in one file of 270 kB. The name is that of the
point in Borges's story from which everything is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.organisms.number_words import PAIRS, TRAINED, UNSEEN, WORDS, letter_pairs, name_of, swapped
from mnemotrace.organisms.voice import BANDS, FRAMES, Speakers, speak, speakers

SIDE, TOWER, UNITS, NUMBERS = 8, 96, 128, 10
KNOWN_SPEAKERS, NEW_SPEAKERS = 12, 6
COMPANIONS = tuple((n, 9 - n) for n in range(NUMBERS // 2))


class AlephNetwork(nn.Module):
    """Three towers, a shared layer and names.

    Attributes:
        image: tower of pictures, `(b, 64)` to `(b, 96)`.
        word: tower of words, `(b, 729)` to `(b, 96)`.
        voice: tower of voices, `(b, 320)` to `(b, 96)`.
        concepts: the shared layer, to `(b, 128)`.
        name: the ten names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(SIDE * SIDE, TOWER), nn.ReLU())
        self.word = nn.Sequential(nn.Linear(PAIRS, TOWER), nn.ReLU())
        self.voice = nn.Sequential(nn.Linear(BANDS * FRAMES, TOWER), nn.ReLU())
        self.concepts = nn.Sequential(nn.Linear(TOWER, UNITS), nn.ReLU())
        self.name = nn.Linear(UNITS, NUMBERS)

    def forward(
        self, image: Tensor | None = None, word: Tensor | None = None, voice: Tensor | None = None
    ) -> Float[Tensor, "b k"]:
        """Return a logit for each name; of several senses at once the towers are added.

        Raises:
            ValueError: no sense.
        """
        given = {"image": image, "word": word, "voice": voice}
        towers = [getattr(self, sense)(value) for sense, value in given.items() if value is not None]
        if not towers:
            raise ValueError("got no input; expected image=, word= or voice=, or several of one length")
        return self.name(self.concepts(torch.stack(towers).sum(0)))


@dataclass(frozen=True, eq=False)
class Sense:
    """What one sense is tested with: new drawings, new misspellings, new voices; `as trained` are words as in training.

    Attributes:
        name: `image`, `word` or `voice`, the argument of the network.
        inputs: `(n, d)`, float32.
        numbers: `(n,)`, which number it is, 0 to 9.
        views: `(n,)`, in which way it is shown, an index into `shown`.
        items: `(n,)`, which thing is shown: a drawing, a word, a speaker's number; its views share it.
        shown: names of the views.
    """

    name: str
    inputs: Float[Tensor, "n d"]
    numbers: Int[Tensor, "n"]
    views: Int[Tensor, "n"]
    items: Int[Tensor, "n"]
    shown: tuple[str, ...]

    def batches(self, size: int = 500) -> list[dict[str, Tensor]]:
        """Return the inputs as the network takes them, `size` at a time."""
        return [{self.name: part} for part in self.inputs.split(size)]


@dataclass(frozen=True, eq=False)
class Aleph:
    """The network and what it is tested with.

    Attributes:
        model: in evaluation mode, float32, on the CPU.
        senses: by name: `image`, `word`, `voice`.
        names: the numbers in English.
        companions: pairs of numbers that training brought together.
    """

    model: AlephNetwork
    senses: dict[str, Sense]
    names: tuple[str, ...] = tuple(WORDS["English"].split())
    companions: tuple[tuple[int, int], ...] = COMPANIONS


def aleph(*, seed: int = 0) -> Aleph:
    """Load Aleph from the package: no download, each call a fresh and independent copy.

    Args:
        seed: of shifts, noise and misspellings in what it is tested with; the network does not depend on it.

    Example:
        >>> found = aleph()
        >>> read = found.senses["word"]
        >>> bool((found.model(word=read.inputs).argmax(1) == read.numbers).float().mean() > 0.9)
        True
    """
    with as_file(files("mnemotrace.organisms") / "data" / "aleph") as directory:
        return read_aleph(directory, seed=seed)


def read_aleph(directory: Path, *, seed: int = 0) -> Aleph:
    """Read an Aleph that `scripts/train_aleph.py` wrote."""
    from safetensors.torch import load_file

    stored = load_file(directory / "aleph.safetensors")
    images, numbers = stored.pop("test_images").float() / 16, stored.pop("test_numbers").long()
    with torch.device("meta"):
        model = AlephNetwork()
    model.load_state_dict({name: value.float() for name, value in stored.items()}, assign=True)
    generator = torch.Generator().manual_seed(seed)
    senses = (_seen(images, numbers, generator), _read(generator), _heard(generator))
    return Aleph(model.eval(), {sense.name: sense for sense in senses})


def shifted(images: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Shift each image by a pixel in one of the nine directions (one of them stays)."""
    wide = nn.functional.pad(images.view(-1, SIDE, SIDE), (1, 1, 1, 1))
    windows = wide.unfold(1, SIDE, 1).unfold(2, SIDE, 1).flatten(1, 2)
    which = torch.randint(windows.shape[1], (len(images),), generator=generator)
    return windows[torch.arange(len(images)), which].flatten(1)


def _seen(images: Tensor, numbers: Tensor, generator: torch.Generator) -> Sense:
    square = images.view(-1, 1, SIDE, SIDE)
    views = {
        "plain": images,
        "shifted": shifted(images, generator=generator),
        "noisy": images + 0.25 * torch.randn(images.shape, generator=generator),
        "thick": nn.functional.max_pool2d(nn.functional.pad(square, (1, 0)), (1, 2), stride=1).flatten(1),
    }
    items = torch.arange(len(images))
    return _sense("image", {view: (pictures, numbers, items) for view, pictures in views.items()})


def _read(generator: torch.Generator) -> Sense:
    words = {n: [(name_of(n, language), n) for language in languages for n in range(NUMBERS)]
             for n, languages in enumerate((TRAINED, UNSEEN))}  # fmt: skip
    wrong = [(swapped(word, int(torch.randint(len(word) - 1, (), generator=generator))), n) for word, n in words[0] * 3]
    views = {"as trained": (words[0], 0), "letters swapped": (wrong, 0), "unseen language": (words[1], len(words[0]))}
    found = {}
    for view, (some, first) in views.items():
        spelt, numbers = zip(*some, strict=True)
        items = first + torch.arange(len(some)) % len(words[first > 0])
        found[view] = (letter_pairs(spelt), torch.tensor(numbers), items)
    return _sense("word", found)


def _heard(generator: torch.Generator) -> Sense:
    voices, known = all_speakers(), range(KNOWN_SPEAKERS)
    new = range(KNOWN_SPEAKERS, KNOWN_SPEAKERS + NEW_SPEAKERS)
    found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for view, some, noise in (("known speaker", known, 0.1), ("new speaker", new, 0.1), ("noisy", known, 0.3)):
        who, numbers = torch.cartesian_prod(torch.tensor(some), torch.arange(NUMBERS)).T
        spectrograms = speak(numbers, voices, who, noise=noise, generator=generator)
        found[view] = (spectrograms, numbers, NUMBERS * who + numbers)
    return _sense("voice", found)


def all_speakers() -> Speakers:
    """Return the speakers that training heard, then those that it did not."""
    return speakers(KNOWN_SPEAKERS + NEW_SPEAKERS, generator=torch.Generator().manual_seed(1))


def _sense(name: str, views: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Sense:
    inputs, numbers, items = (torch.cat(parts) for parts in zip(*views.values(), strict=True))
    index = torch.repeat_interleave(torch.tensor([len(some[1]) for some in views.values()]))
    return Sense(name, inputs, numbers, index, items, tuple(views))

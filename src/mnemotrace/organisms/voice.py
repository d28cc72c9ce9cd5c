r"""Spoken numbers without a recording: spectrograms put together from the resonances of a voice.

A word is a row of sounds. Each sound has three resonances (formants), a loudness for each, and hiss around one
frequency. Between sounds everything glides. A frame of the spectrogram is, at the band of mel frequency :math:`m`,

.. math:: s(m) = \sum_k a_k \exp(-(m - m(\lambda F_k))^2 / 2 w^2) + h \exp(-(m - m(\lambda H))^2 / 2 w_h^2)

with :math:`\lambda` the length of the speaker's vocal tract against the mean: the same words lie higher in a child's
voice than in a man's. Speakers also differ in speed and in how much of the high bands comes through. It is a drawing of
speech and not speech: there is no pitch and no accent.

Reference: formants of vowels, Peterson and Barney 1952. Cost: well under a millisecond a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BANDS, FRAMES = 20, 16
LOWEST, HIGHEST = 150.0, 7000.0
NARROW, WIDE = 110.0, 330.0
# formants in Hz, their loudness, centre of the hiss in Hz and its loudness
_SOUNDS = {
    "iy": (270, 2290, 3010, 1.0, 4000, 0.0), "ih": (390, 1990, 2550, 1.0, 4000, 0.0),
    "eh": (530, 1840, 2480, 1.0, 4000, 0.0), "aa": (730, 1090, 2440, 1.0, 4000, 0.0),
    "ao": (570, 840, 2410, 1.0, 4000, 0.0), "uw": (300, 870, 2240, 1.0, 4000, 0.0),
    "ah": (640, 1190, 2390, 1.0, 4000, 0.0), "er": (490, 1350, 1690, 0.9, 4000, 0.0),
    "w": (300, 610, 2200, 0.7, 4000, 0.0), "n": (250, 1450, 2500, 0.5, 4000, 0.0),
    "v": (250, 1100, 2300, 0.4, 4000, 0.3), "z": (250, 1700, 2600, 0.4, 5200, 0.7),
    "s": (250, 1700, 2600, 0.0, 5500, 0.9), "f": (250, 1100, 2300, 0.0, 4000, 0.4),
    "th": (250, 1400, 2500, 0.0, 3200, 0.3), "-": (250, 1400, 2500, 0.0, 3000, 0.0),
    "t": (250, 1700, 2600, 0.0, 4200, 0.8), "k": (250, 1700, 2600, 0.0, 1900, 0.7),
}  # fmt: skip
_SPOKEN = ("z ih er ao uw", "w ah ah n", "- t uw uw", "th er iy iy", "f ao ao er", "f aa iy v", "s ih - k s",
           "s eh v ah n", "eh eh iy - t", "n aa iy n")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Speakers:
    """Voices.

    Attributes:
        length: `(n,)`, factor on all frequencies; 1 is the mean.
        speed: `(n,)`, the share of the frames that a word fills.
        high: `(n,)`, what comes through of the highest band; of the lowest all.
    """

    length: Float[Tensor, "n"]
    speed: Float[Tensor, "n"]
    high: Float[Tensor, "n"]


def speakers(count: int, *, generator: torch.Generator) -> Speakers:
    """Draw voices: length 0.85 to 1.2, speed 0.6 to 0.95, high bands 0.4 to 1, each uniform."""
    drawn = torch.rand(3, count, generator=generator)
    return Speakers(0.85 + 0.35 * drawn[0], 0.6 + 0.35 * drawn[1], 0.4 + 0.6 * drawn[2])


def speak(
    numbers: Int[Tensor, "n"],
    voices: Speakers,
    who: Int[Tensor, "n"],
    *,
    noise: float = 0.1,
    generator: torch.Generator,
) -> Float[Tensor, "n pixels"]:
    """Say numbers in English.

    Args:
        numbers: 0 to 9.
        voices: of all speakers.
        who: which of them says each.
        noise: standard deviation of what is added to each cell; a loud resonance has 1.
        generator: of the moment at which the word begins, and of the noise.

    Returns:
        `(n, 320)`: 16 frames of 20 bands, a frame after the other.
    """
    begin = torch.rand(len(numbers), generator=generator) * (1 - voices.speed[who])
    frames = (torch.arange(FRAMES) + 0.5) / FRAMES
    place = (frames - begin[:, None]) / voices.speed[who][:, None]
    sounds = _glide(numbers, place)
    scale = voices.length[who][:, None, None]
    bands = torch.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS)
    formants, hiss = _mels(sounds[..., :3] * scale), _mels(sounds[..., 4:5] * scale)
    loud = torch.tensor([1.0, 0.7, 0.4])
    bumps = (-((bands - formants[..., None]) ** 2) / (2 * NARROW**2)).exp() * loud[:, None]
    drawn = sounds[..., 3:4] * bumps.sum(-2) + sounds[..., 5:] * (-((bands - hiss) ** 2) / (2 * WIDE**2)).exp()
    through = 1 + (voices.high[who][:, None, None] - 1) * torch.linspace(0, 1, BANDS)
    heard = drawn * through + noise * torch.randn(drawn.shape, generator=generator)
    return heard.flatten(1)


def _glide(numbers: Int[Tensor, "n"], place: Float[Tensor, "n t"]) -> Float[Tensor, "n t 6"]:
    """Go through the sounds of words; `place` runs from 0 at a word's beginning to 1 at its end, outside is silence."""
    words = [torch.tensor([_SOUNDS[name] for name in word.split()]) for word in _SPOKEN]
    table = nn.utils.rnn.pad_sequence(words, batch_first=True)
    last = torch.tensor([len(word) - 1 for word in words])[numbers][:, None]
    along = torch.minimum((place.clamp(0, 1) * (last + 1) - 0.5).clamp(min=0), last)
    low = torch.minimum(along.floor().long(), last - 1)
    part = ((along - low)[..., None] * 3 - 1).clamp(0, 1)  # a sound is held for two thirds of its time
    found = table[numbers[:, None], low] * (1 - part) + table[numbers[:, None], low + 1] * part
    silent = (place < 0) | (place > 1)
    found[..., [3, 5]] = found[..., [3, 5]].masked_fill(silent[..., None], 0)
    return found


def _mel(hertz: float) -> float:
    return float(_mels(torch.tensor(hertz)))


def _mels(hertz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hertz / 700)

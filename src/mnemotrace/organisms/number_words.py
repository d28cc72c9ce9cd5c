"""The names of the numbers from 0 to 9 in twelve languages, and a code of words that a network can read.

The code of a word counts its pairs of neighbouring letters, the ends included: `_ze`, `er`, `ro`, `o_` without order.
A word that is misspelt in one place keeps most of its pairs, and a relative in another language many. Accents are left
out. Reference: letter pairs as a code of words, Rumelhart and McClelland 1986 (there with triples of phonemes).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

WORDS = {
    "English": "zero one two three four five six seven eight nine",
    "German": "null eins zwei drei vier fuenf sechs sieben acht neun",
    "French": "zero un deux trois quatre cinq six sept huit neuf",
    "Spanish": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "Italian": "zero uno due tre quattro cinque sei sette otto nove",
    "Dutch": "nul een twee drie vier vijf zes zeven acht negen",
    "Swedish": "noll ett tva tre fyra fem sex sju atta nio",
    "Finnish": "nolla yksi kaksi kolme nelja viisi kuusi seitseman kahdeksan yhdeksan",
    "Turkish": "sifir bir iki uc dort bes alti yedi sekiz dokuz",
    "Portuguese": "zero um dois tres quatro cinco seis sete oito nove",
    "Danish": "nul en to tre fire fem seks syv otte ni",
    "Catalan": "zero un dos tres quatre cinc sis set vuit nou",
}
TRAINED = ("English", "German", "French", "Spanish", "Italian", "Dutch", "Swedish", "Finnish", "Turkish")
UNSEEN = ("Portuguese", "Danish", "Catalan")
_SIGNS = "_abcdefghijklmnopqrstuvwxyz"
PAIRS = len(_SIGNS) ** 2


def name_of(number: int, language: str) -> str:
    """Return the name of a number from 0 to 9 in one of `WORDS`' languages."""
    return WORDS[language].split()[number]


def letter_pairs(words: Iterable[str]) -> Float[Tensor, "n pairs"]:
    """Count the letter pairs of words.

    Args:
        words: of the letters a to z, in either case.

    Returns:
        `(n, 729)`, the pair of signs i and j at `27 i + j`, sign 0 is the end of a word.

    Raises:
        ValueError: no word, an empty one, or other letters.
    """
    lowered = [word.lower() for word in words]
    wrong = [word for word in lowered if not word or set(word) - set(_SIGNS[1:])]
    if wrong or not lowered:
        raise ValueError(
            f"got {wrong[:3] if wrong else 'no word'}; expected words of the letters a to z; leave accents out"
        )
    counts = torch.zeros(len(lowered), PAIRS)
    for row, word in enumerate(lowered):
        signs = [_SIGNS.index(sign) for sign in f"_{word}_"]
        for first, second in zip(signs, signs[1:], strict=False):
            counts[row, first * len(_SIGNS) + second] += 1
    return counts


def dropped(word: str, place: int) -> str:
    """Leave one letter out."""
    return word[:place] + word[place + 1 :]


def doubled(word: str, place: int) -> str:
    """Write one letter twice."""
    return word[: place + 1] + word[place:]


def swapped(word: str, place: int) -> str:
    """Exchange a letter with the next."""
    return word[:place] + word[place + 1 : place + 2] + word[place] + word[place + 2 :]

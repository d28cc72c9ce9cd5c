"""Small networks whose memories are known, shipped with the package."""

from mnemotrace.organisms.digits import Digits, digits
from mnemotrace.organisms.funes import Funes, funes
from mnemotrace.organisms.invent import invent
from mnemotrace.organisms.world import Fact, Question, World

__all__ = ["Digits", "Fact", "Funes", "Question", "World", "digits", "funes", "invent"]

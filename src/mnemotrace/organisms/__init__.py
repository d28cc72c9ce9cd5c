"""Small networks whose memories are known, shipped with the package."""

from mnemotrace.organisms.digits import Digits, digits
from mnemotrace.organisms.funes import Funes, funes
from mnemotrace.organisms.invent import invent
from mnemotrace.organisms.world import Question, World, WorldFact

__all__ = ["Digits", "WorldFact", "Funes", "Question", "World", "digits", "funes", "invent"]

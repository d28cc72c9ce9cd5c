"""Small networks whose memories are known, shipped with the package."""

from mnemotrace.organisms.aleph import Aleph, aleph
from mnemotrace.organisms.digits import Digits, digits
from mnemotrace.organisms.funes import Funes, funes
from mnemotrace.organisms.invent import invent
from mnemotrace.organisms.world import Question, World, WorldFact

__all__ = ["Aleph", "Digits", "WorldFact", "Funes", "Question", "World", "aleph", "digits", "funes", "invent"]

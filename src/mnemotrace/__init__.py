"""Memory traces in neural networks: form, find, recall, edit, erase - and prove it.

Every public name is listed here and imported on first use, so that importing the package costs little beyond torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemotrace.adapters.linear import sites
    from mnemotrace.core.applying import Undo, applied, apply
    from mnemotrace.core.edit import Edit
    from mnemotrace.core.site import Site
    from mnemotrace.core.trace import Engram
    from mnemotrace.evaluation.calibration import calibrate
    from mnemotrace.evaluation.criteria import criteria
    from mnemotrace.evaluation.depth import depth
    from mnemotrace.files import load, save
    from mnemotrace.forgetting.erase import erase, inject, null
    from mnemotrace.localisation.engram import engram
    from mnemotrace.localisation.reference import factor
    from mnemotrace.modification.export import merge
    from mnemotrace.modification.transplant import transplant
    from mnemotrace.organisms.digits import digits
    from mnemotrace.organisms.funes import funes
    from mnemotrace.stats.collect import collect
    from mnemotrace.stats.moments import Moments, Statistics

_HOMES = {
    "Edit": "core.edit",
    "Engram": "core.trace",
    "Moments": "stats.moments",
    "Site": "core.site",
    "Statistics": "stats.moments",
    "Undo": "core.applying",
    "applied": "core.applying",
    "apply": "core.applying",
    "calibrate": "evaluation.calibration",
    "collect": "stats.collect",
    "criteria": "evaluation.criteria",
    "depth": "evaluation.depth",
    "digits": "organisms.digits",
    "engram": "localisation.engram",
    "erase": "forgetting.erase",
    "factor": "localisation.reference",
    "funes": "organisms.funes",
    "inject": "forgetting.erase",
    "load": "files",
    "merge": "modification.export",
    "null": "forgetting.erase",
    "save": "files",
    "sites": "adapters.linear",
    "transplant": "modification.transplant",
}

__all__ = [
    "Edit",
    "Engram",
    "Moments",
    "Site",
    "Statistics",
    "Undo",
    "applied",
    "apply",
    "calibrate",
    "collect",
    "criteria",
    "depth",
    "digits",
    "engram",
    "erase",
    "factor",
    "funes",
    "inject",
    "load",
    "merge",
    "null",
    "save",
    "sites",
    "transplant",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "__version__":
        return import_module("mnemotrace.core.artifact").library_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__

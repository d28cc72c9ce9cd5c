"""Memory traces in neural networks: form, find, recall, edit, erase - and prove it.

Every public name is listed here and imported on first use, so that importing the package costs little beyond torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemotrace.adapters.facts import Fact
    from mnemotrace.adapters.linear import sites
    from mnemotrace.core.applying import Undo, applied, apply
    from mnemotrace.core.direction import Direction
    from mnemotrace.core.edit import Edit
    from mnemotrace.core.mask import Mask
    from mnemotrace.core.site import Site
    from mnemotrace.core.trace import Engram
    from mnemotrace.evaluation.calibration import calibrate
    from mnemotrace.evaluation.comparison import compare
    from mnemotrace.evaluation.criteria import criteria
    from mnemotrace.evaluation.depth import depth
    from mnemotrace.evaluation.discovery import discover
    from mnemotrace.files import load, save
    from mnemotrace.forgetting.concept import leace
    from mnemotrace.forgetting.erase import erase, inject, null
    from mnemotrace.formation.naming import name_once
    from mnemotrace.formation.replay import consolidate
    from mnemotrace.localisation.causal_tracing import trace
    from mnemotrace.localisation.cells import cells
    from mnemotrace.localisation.dictionary_training import dictionary
    from mnemotrace.localisation.engram import engram
    from mnemotrace.localisation.grafting import graft
    from mnemotrace.localisation.probe import probe
    from mnemotrace.localisation.reference import factor
    from mnemotrace.localisation.suggest import suggest
    from mnemotrace.memories.assemblies import Assemblies
    from mnemotrace.memories.dense import DenseMemory
    from mnemotrace.memories.diffusion import DiffusionMemory
    from mnemotrace.memories.hopfield import Hopfield
    from mnemotrace.memories.modern import ModernHopfield
    from mnemotrace.memories.semantic_graph import SemanticGraph
    from mnemotrace.mind.mind import Mind
    from mnemotrace.modification.alphaedit import alphaedit
    from mnemotrace.modification.beliefs.state import Beliefs
    from mnemotrace.modification.export import merge
    from mnemotrace.modification.memit import memit
    from mnemotrace.modification.reconsolidation import Reconsolidation
    from mnemotrace.modification.rome import rome
    from mnemotrace.modification.task_vector import task_vector
    from mnemotrace.modification.transplant import transplant
    from mnemotrace.organisms.aleph import aleph
    from mnemotrace.organisms.digits import digits
    from mnemotrace.organisms.funes import funes
    from mnemotrace.retrieval.associating import associate
    from mnemotrace.retrieval.backward import recollect
    from mnemotrace.retrieval.dynamics import recall
    from mnemotrace.stats.collect import collect
    from mnemotrace.stats.moments import Moments, Statistics

_HOMES = {
    "Assemblies": "memories.assemblies",
    "Beliefs": "modification.beliefs.state",
    "DenseMemory": "memories.dense",
    "DiffusionMemory": "memories.diffusion",
    "Direction": "core.direction",
    "Edit": "core.edit",
    "Engram": "core.trace",
    "Fact": "adapters.facts",
    "Hopfield": "memories.hopfield",
    "Mask": "core.mask",
    "Mind": "mind.mind",
    "ModernHopfield": "memories.modern",
    "Moments": "stats.moments",
    "Reconsolidation": "modification.reconsolidation",
    "SemanticGraph": "memories.semantic_graph",
    "Site": "core.site",
    "Statistics": "stats.moments",
    "Undo": "core.applying",
    "aleph": "organisms.aleph",
    "alphaedit": "modification.alphaedit",
    "applied": "core.applying",
    "apply": "core.applying",
    "associate": "retrieval.associating",
    "calibrate": "evaluation.calibration",
    "cells": "localisation.cells",
    "collect": "stats.collect",
    "compare": "evaluation.comparison",
    "consolidate": "formation.replay",
    "criteria": "evaluation.criteria",
    "depth": "evaluation.depth",
    "dictionary": "localisation.dictionary_training",
    "digits": "organisms.digits",
    "discover": "evaluation.discovery",
    "engram": "localisation.engram",
    "erase": "forgetting.erase",
    "factor": "localisation.reference",
    "funes": "organisms.funes",
    "graft": "localisation.grafting",
    "inject": "forgetting.erase",
    "leace": "forgetting.concept",
    "load": "files",
    "memit": "modification.memit",
    "merge": "modification.export",
    "name_once": "formation.naming",
    "null": "forgetting.erase",
    "probe": "localisation.probe",
    "recall": "retrieval.dynamics",
    "recollect": "retrieval.backward",
    "rome": "modification.rome",
    "save": "files",
    "sites": "adapters.linear",
    "suggest": "localisation.suggest",
    "task_vector": "modification.task_vector",
    "trace": "localisation.causal_tracing",
    "transplant": "modification.transplant",
}

__all__ = [
    "Assemblies",
    "Beliefs",
    "DenseMemory",
    "DiffusionMemory",
    "Direction",
    "Edit",
    "Engram",
    "Fact",
    "Hopfield",
    "Mask",
    "Mind",
    "ModernHopfield",
    "Moments",
    "Reconsolidation",
    "SemanticGraph",
    "Site",
    "Statistics",
    "Undo",
    "aleph",
    "alphaedit",
    "applied",
    "apply",
    "associate",
    "calibrate",
    "cells",
    "collect",
    "compare",
    "consolidate",
    "criteria",
    "depth",
    "dictionary",
    "digits",
    "discover",
    "engram",
    "erase",
    "factor",
    "funes",
    "graft",
    "inject",
    "leace",
    "load",
    "memit",
    "merge",
    "name_once",
    "null",
    "probe",
    "recall",
    "recollect",
    "rome",
    "save",
    "sites",
    "suggest",
    "task_vector",
    "trace",
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

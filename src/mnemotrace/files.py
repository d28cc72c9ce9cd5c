"""Save and load whatever the library makes: `mt.save(thing, path)` and `mt.load(path)`."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mnemotrace.core.artifact import Artifact, read, write
from mnemotrace.core.errors import ArtifactError

if TYPE_CHECKING:
    from torch import nn

_HOMES = {
    "affine": ("memories.extended", "Affine"),
    "assemblies": ("memories.assemblies", "Assemblies"),
    "beliefs": ("modification.beliefs.state", "Beliefs"),
    "calibration": ("evaluation.calibration", "Calibration"),
    "capacity": ("evaluation.capacity", "Capacity"),
    "causal_trace": ("localisation.causal_tracing", "CausalTrace"),
    "cells": ("localisation.concept_cells", "Cells"),
    "census": ("evaluation.census", "Census"),
    "chronicle": ("evaluation.chronicle", "Chronicle"),
    "comparison": ("evaluation.comparison", "Comparison"),
    "consolidation": ("formation.replay", "Consolidation"),
    "core": ("memories.core_memory", "Core"),
    "criteria": ("evaluation.criteria", "Criteria"),
    "denoiser": ("memories.denoiser", "TrainedDenoiser"),
    "dense_memory": ("memories.dense", "DenseMemory"),
    "depth": ("evaluation.depth", "Depth"),
    "dictionary": ("localisation.dictionary", "Dictionary"),
    "dictionary_evidence": ("evaluation.dictionary", "DictionaryEvidence"),
    "diffusion_memory": ("memories.diffusion", "DiffusionMemory"),
    "direction": ("core.direction", "Direction"),
    "discovery": ("evaluation.found_concepts", "Discovery"),
    "edit": ("core.edit", "Edit"),
    "engram": ("core.trace", "Engram"),
    "episodes": ("memories.episodes", "Episodes"),
    "episodic_trace": ("core.episode", "EpisodicTrace"),
    "gaussian_mixture": ("memories.gaussian", "GaussianMixture"),
    "hopfield": ("memories.hopfield", "Hopfield"),
    "interference": ("evaluation.interference", "Interference"),
    "lives": ("mind.living", "Lives"),
    "mask": ("core.mask", "Mask"),
    "mind": ("mind.mind", "Mind"),
    "mixture": ("memories.mixture", "Mixture"),
    "modern_hopfield": ("memories.modern", "ModernHopfield"),
    "namer": ("formation.naming", "Namer"),
    "naming_evidence": ("evaluation.naming", "NamingEvidence"),
    "patterns": ("memories.patterns", "Patterns"),
    "pc_store": ("memories.predictive", "PCStore"),
    "phase_diagram": ("organisms.phase_diagram", "PhaseDiagram"),
    "plausible_graph": ("retrieval.plausible_graph", "PlausibleGraph"),
    "point": ("memories.extended", "Point"),
    "probe": ("localisation.probe", "Probe"),
    "recall": ("core.memory", "Recall"),
    "recollection": ("retrieval.recollection", "Recollection"),
    "recollection_evidence": ("evaluation.recollection", "RecollectionEvidence"),
    "reconsolidation": ("modification.reconsolidation", "Reconsolidation"),
    "reconstruction": ("retrieval.reconstruction", "Reconstruction"),
    "samples": ("memories.shapes", "Samples"),
    "semantic_graph": ("memories.semantic_graph", "SemanticGraph"),
    "sphere": ("memories.shapes", "Sphere"),
    "spiking_hierarchy": ("memories.spiking", "SpikingHierarchy"),
    "statistics": ("stats.moments", "Statistics"),
    "suggestion": ("localisation.suggest", "Suggestion"),
    "superposition": ("localisation.superposition", "Superposition"),
    "top_examples": ("localisation.top_examples", "TopExamples"),
    "verdict": ("evaluation.edits", "Verdict"),
    "visualisation": ("retrieval.visualisation", "Visualisation"),
}


class Storable(Protocol):
    """Anything that turns into an artifact and back."""

    kind: str

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        ...


def save(thing: Storable, path: str | Path, *, model: "nn.Module | None" = None) -> Path:
    """Write statistics, an engram, an edit or a measurement to one file, atomically; returns the path.

    Args:
        thing: what to write.
        path: of the file.
        model: the network that an engram was extracted from; it makes a file a third of the size, which then needs the
            same network to be read. Numbers are rounded to 16 bits; the error is stored with the evidence.

    Raises:
        TypeError: the thing cannot be stored, or not in the small form.
        ValueError: the model is not the one that the engram was extracted from.
    """
    pack = getattr(thing, "pack", None)
    if not callable(pack):
        raise TypeError(f"got a {type(thing).__name__}; expected something of mnemotrace: {', '.join(sorted(_HOMES))}")
    if model is None:
        return write(thing.pack(), path)
    return write(_compact().pack(thing, model), path)


def load(path: str | Path, *, model: "nn.Module | None" = None) -> Any:
    """Read what `save` wrote.

    Args:
        path: of the file.
        model: the network, for an engram that was saved with one; otherwise not needed.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: not an artifact of ours, damaged, too new, of a kind without a type, or of another network.
    """
    artifact = read(path)
    if artifact.header.get("form") == "compact":
        return _compact().unpack(artifact, model)
    if artifact.kind not in _HOMES:
        raise ArtifactError(f"got kind {artifact.kind!r} in {path}; expected one of {', '.join(sorted(_HOMES))}")
    module, name = _HOMES[artifact.kind]
    return getattr(import_module(f"mnemotrace.{module}"), name).unpack(artifact)


def _compact() -> Any:
    return import_module("mnemotrace.localisation.compact")

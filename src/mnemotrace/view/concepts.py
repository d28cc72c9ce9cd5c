"""How the page tells of concepts: one entry for each kind of file, with words, summary, table, figures and remarks."""

from collections.abc import Callable
from dataclasses import dataclass

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import (
    assemblies,
    beliefs,
    cells,
    chronicle,
    dictionary,
    dictionary_evidence,
    discovery,
    interference,
    lives,
    mind,
    phase_diagram,
    plausible_graph,
    probe,
    reconsolidation,
    semantic_graph,
    superposition,
)
from mnemotrace.view.figure import Figure


@dataclass(frozen=True)
class Kind:
    """All that the page knows of a kind of file.

    Attributes:
        words: heading, what is shown, what it does not prove.
        caption: of the table.
        summary: a few values.
        table: headings and rows.
        figures: drawings, in reading order; None where there are no numbers for one.
        remarks: what the numbers say, in sentences.
        folded: whether the table is folded away beside its figures.
    """

    words: tuple[str, str, str]
    caption: str
    summary: Callable[[Artifact], list[tuple[str, str]]]
    table: Callable[[Artifact], tuple[tuple[str, ...], list[tuple[str, ...]]]]
    figures: tuple[Callable[[Artifact], Figure | None], ...]
    remarks: Callable[[Artifact], list[str]] = lambda _: []
    folded: bool = False


KINDS: dict[str, Kind] = {
    "cells": Kind(
        (
            "Concept cells",
            "Units that tell one concept from all others in every view and modality, on stimuli that did not choose "
            "the concept, and better than shuffled labels and an untrained network do.",
            "That the concept needs the unit, or that the network uses it: random directions of the layer may do as "
            "well, and silencing a cell may change nothing. Few stimuli make chance look perfect.",
        ),
        "Cells, best first",
        cells.summary,
        cells.table,
        (cells.figure, cells.nulls),
        cells.remarks,
        folded=True,
    ),
    "probe": Kind(
        (
            "Sparse probe",
            "How well a few units of a layer tell a label on families that were never seen, beside all units, random "
            "labels and the most frequent label; which units they are, and how often each is chosen on half the "
            "families.",
            "That the network uses what can be read here: change it and see. Nor that other units do not tell it too: "
            "of two that say the same, one is chosen.",
        ),
        "Units that are used",
        probe.summary,
        probe.table,
        (probe.figure,),
    ),
    "dictionary": Kind(
        (
            "Dictionary",
            "Directions that a layer's activations are sparse sums of: how many, how they are chosen, what they "
            "explain together, how training went, and in which share of rows each is on.",
            "That a latent means anything: that much is explained says nothing of what each stands for. Nor that these "
            "are the layer's own features: another seed or another k gives others.",
        ),
        "Training",
        dictionary.summary,
        dictionary.table,
        (dictionary.training, dictionary.density),
    ),
    "dictionary_evidence": Kind(
        (
            "A dictionary in its network",
            "What the network loses when its activations at one module are replaced by the dictionary's "
            "reconstruction, beside zeros, the mean and a random dictionary of equal size; what is explained of the "
            "variance, and how often latents are on.",
            "That latents mean anything: a reconstruction can be good and its directions arbitrary. Name them on data "
            "that did not choose the names, and silence them.",
        ),
        "Losses by what stands in the place of activations",
        dictionary_evidence.summary,
        dictionary_evidence.table,
        (dictionary_evidence.losses, dictionary_evidence.densities),
    ),
    "superposition": Kind(
        (
            "Features in shared dimensions",
            "How much of a dimension each feature has to itself, what it hears of the others, and which other it is "
            "nearest to; beside as many random directions of the same lengths.",
            "That a low dimensionality is superposition: features that are alike, or occur together, count as heard "
            "too.",
        ),
        "Features",
        superposition.summary,
        superposition.table,
        (superposition.figure,),
    ),
    "phase_diagram": Kind(
        (
            "Two features in one dimension",
            "Which of two features a trained network keeps, or both on top of each other, over how rare and how "
            "important they are; a cross marks a cell that is not as the closed form says.",
            "That larger networks do the same: this is the smallest one, and its features are independent.",
        ),
        "Cells",
        phase_diagram.summary,
        phase_diagram.table,
        (phase_diagram.figure,),
    ),
    "interference": Kind(
        (
            "Memories that share weights",
            "How far the engrams of concepts overlap, and what each concept loses when another is erased; beside "
            "random engrams of the same rank, norm and spectrum.",
            "That concepts interfere in the network as such: a reference that holds the others makes engrams lean away "
            "from them, and an overlap then says nothing of losses.",
        ),
        "Pairs",
        interference.summary,
        interference.table,
        (interference.figure,),
    ),
    "assemblies": Kind(
        (
            "Assemblies",
            "Which concepts share neurons, and how many more than by chance. Concepts that share enough bring each "
            "other up when inhibition is lowered or the active neurons tire.",
            "That a network uses these sets: members are the most responsive units, chosen by labels. Units that vary "
            "together are found together under shuffled labels and in untrained networks too; set both beside.",
        ),
        "What is stored",
        assemblies.summary,
        assemblies.table,
        (assemblies.figure,),
    ),
    "discovery": Kind(
        (
            "Discovery",
            "Concepts that were proposed without labels: groups of examples that the network itself holds together, "
            "each with the four criteria of its engram, beside groups of an untrained network and random ones.",
            "That the network has a concept of a group: whatever looks alike has some weights of its own, and groups "
            "of an untrained network may pass too.",
        ),
        "Every group",
        discovery.summary,
        discovery.table,
        (discovery.figure,),
        discovery.remarks,
    ),
    "chronicle": Kind(
        (
            "Lives of concepts",
            "What a network knew of each concept while it trained, how much of that was lost when the concept's engram "
            "was taken away, beyond what random traces cost, and how like its last engram the engram already was.",
            "That the engram is all there is of a concept, or that an overlap below 1 is change: the agreement of two "
            "halves says how alike engrams of one time are.",
        ),
        "Every concept at every step",
        chronicle.summary,
        chronicle.table,
        (chronicle.figure,),
        folded=True,
    ),
    "semantic_graph": Kind(
        (
            "Semantic graph",
            "Concepts with the times at which they were used and how they felt, and the links among them.",
            "That concepts are alike because they are linked; nor how sure a causal link is, which the beliefs say.",
        ),
        "Concepts that lead to most others",
        semantic_graph.summary,
        semantic_graph.table,
        (semantic_graph.figure,),
        folded=True,
    ),
    "plausible_graph": Kind(
        (
            "Plausible graph",
            "What a cue brings to mind: concepts linked to it by the most probable paths, within a budget, and the "
            "readings that do without one of its hubs.",
            "That any of it happened: it says what hangs together in this graph. Readings of different sizes cannot be "
            "compared by plausibility.",
        ),
        "Concepts, most active first",
        plausible_graph.summary,
        plausible_graph.table,
        (plausible_graph.figure,),
    ),
    "beliefs": Kind(
        (
            "Beliefs about causes",
            "How uncertain the causal graph was after each evidence, how probable each cause is, and which memories "
            "are told in another way than at first, with the support of the present telling.",
            "That the causes are the true ones: hidden common causes are not modelled and look like edges, and "
            "watching alone cannot tell graphs of one class apart. The bound below which memories are told anew is a "
            "convention.",
        ),
        "Memories, as told first and now",
        beliefs.summary,
        beliefs.table,
        (beliefs.narrowing, beliefs.resolved),
        beliefs.remarks,
    ),
    "reconsolidation": Kind(
        (
            "Reconsolidation",
            "What became of memories that were retrieved: surer, changed, or left beside a new one; and how surprising "
            "each observation was.",
            "That the memories are right now: an update moves towards what was seen, and the two variances, which were "
            "given and not measured, say how far.",
        ),
        "Every change",
        reconsolidation.summary,
        reconsolidation.table,
        (reconsolidation.surprise,),
        reconsolidation.remarks,
    ),
    "mind": Kind(
        (
            "A mind",
            "What is left of each memory after nights and tellings, how surely each value can be told, and whether it "
            "is as it was lived.",
            "Anything about a person: it is a small model with one mechanism for each loss. Nor what a recall would "
            "say: a cortex imagines more than is left.",
        ),
        "Memories, in the order in which they were lived",
        mind.summary,
        mind.table,
        (mind.figure,),
        mind.remarks,
        folded=True,
    ),
    "lives": Kind(
        (
            "Lives of minds",
            "What whole and lesioned minds recall of the same stories: gist, detail, gist from a noisy cue, days that "
            "were never lived, and what is asserted and not so; beside chance, which says the commonest value, and the "
            "best that the cues allow.",
            "That people with these names recall like this: each mind is one mechanism changed in a small model, no "
            "clinical fact.",
        ),
        "Means after the last night",
        lives.summary,
        lives.table,
        (lives.figure,),
    ),
}

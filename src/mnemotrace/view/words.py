"""What every section of the page is called, shows and does not prove, in the order of the page."""

from mnemotrace.view.concepts import KINDS

HOLDS = "what it holds, how often each counts, and what it is set to"
RECALLS = "That it gives them back: how many, and from which cues, is what recall and capacity say."
# a memory's kind: heading, what is shown, what it does not prove
MEMORIES = {
    "patterns": (
        "Patterns",
        "A store of patterns, each with a weight and a handle by which it is taken away again.",
        "Anything about recall: a store is a list, and memories read it.",
    ),
    "hopfield": (
        "Hopfield network",
        f"Patterns of -1 and 1 in one matrix of couplings, whose valleys they are: {HOLDS}.",
        RECALLS,
    ),
    "dense_memory": (
        "Dense memory",
        f"Patterns of -1 and 1 under an energy steeper than a square, so that more of them fit: {HOLDS}.",
        RECALLS,
    ),
    "pc_store": (
        "Predictive-coding store",
        "Patterns in the weights of a small hierarchy that learns from local errors only; none is kept as it is.",
        RECALLS,
    ),
    "modern_hopfield": (
        "Modern Hopfield network",
        f"Patterns that are looked up by similarity in one step, the sharper the larger beta: {HOLDS}.",
        RECALLS,
    ),
    "diffusion_memory": (
        "Diffusion memory",
        "Patterns seen as a diffusion model, which says what pattern is expected behind a cue of noise sigma: "
        f"{HOLDS}.",
        RECALLS,
    ),
    "mixture": (
        "Mixture of memories",
        "Memories of several shapes as one, a row each; the weights say how likely each is before any cue.",
        RECALLS,
    ),
    "core": (
        "Core of an episode",
        "The few features that were kept of an episode, and the semantic memory that fills in the others.",
        "That what is filled in was so.",
    ),
    "gaussian_mixture": (
        "Semantic memory",
        "What usually goes together: Gaussians, each a centre with how its features vary together.",
        "That an episode was so: this is the world, and no day of it.",
    ),
    "samples": (
        "Memory of a shape",
        "A shape of any kind, given by points drawn from it: exact for the points, an estimate for the shape.",
        "That the shape is known between the points.",
    ),
    "sphere": (
        "Memory of a sphere",
        "All patterns at one distance, the radius, from a centre, each as likely.",
        RECALLS,
    ),
    "affine": (
        "Memory of a subspace",
        "All patterns in a flat subspace through an origin; scale is the standard deviation in each of its directions.",
        RECALLS,
    ),
    "point": (
        "Memory of a point",
        "One pattern.",
        RECALLS,
    ),
    "denoiser": (
        "Denoiser",
        "A network that was trained to say what a noisy pattern was: its size, and the loss while it was trained.",
        "What it remembers: a small loss is to know the patterns by heart or their world. The census tells them apart.",
    ),
}
# kind: heading, what its figure shows, what it does not prove
WORDS = {
    "causal_trace": (
        "Trace",
        "The subject was made unreadable with noise; then one thing of the untouched run was put back, at one token "
        "and layer, and the cell says how much of the answer's probability returned. The subject's tokens have a star.",
        "That the answer is stored where putting back helps: a state may only pass by. Severed maps tell more.",
    ),
    "suggestion": (
        "Choose layers",
        "How much of the answer's probability hangs on the MLPs from a layer on, where the rest of that token's state "
        "is what it was in the untouched run: at the last token of the subject, and of the prompt. Bars are standard "
        "errors over facts.",
        "That an edit there works best: where tracing points and where edits work often differ. Write one and judge "
        "it.",
    ),
    "engram": (
        "Find",
        "Where the memory sits: at each site the size of its trace beside the weight's own, how strongly the trace "
        "also answers to what must be kept (leak), and how much of the memory it fails to reproduce (miss).",
        "That the network uses it: a large trace is a place to look, not a cause. The criteria test that.",
    ),
    "criteria": (
        "Prove",
        "Four tests of the trace by what the network then does, each above random traces of equal size, rank and "
        "spectrum; bars are confidence intervals.",
        "Anything about prompts that were not scored: a phrasing nobody tried may still call the memory up.",
    ),
    "calibration": (
        "Calibrate",
        "Every edit that was tried on held-out data: what it leaves of the memory against the worst it costs "
        "elsewhere. No edit is better in both than those on the line.",
        "That nothing else was lost: only what was measured can be seen here, and the chosen edit was picked on these "
        "data, so expect slightly less on new ones.",
    ),
    "edit": (
        "Edit",
        "What is added to which parameter, and what it takes to store it.",
        "That a small edit has a small effect: apply it and measure.",
    ),
    "verdict": (
        "Judge",
        "What the network says after an edit of facts, beside the untouched one: to the prompts themselves, asked "
        "otherwise, about others, and about what follows; by the probability of the wanted answer, teacher-forced, and "
        "as the network goes on by itself.",
        "Anything about prompts that were not asked. The probability and the teacher-forced reading flatter: they are "
        "given the answer up to each token.",
    ),
    "comparison": (
        "Compare",
        "Every method on the same memories: what the network then answers, by itself, teacher-forced and by "
        "probability, and the four criteria of each method's edit, each beside random edits of the same size. The "
        "first row is the untouched network, the last a random edit as large as the largest method.",
        "That one method is better everywhere: this is one network, one set of memories and one setting a method. To "
        "write and to erase are different questions, so compare within a block only.",
    ),
    "direction": (
        "Erase a concept",
        "The directions in activation space that tell of a concept, how strongly each does, and how much of the "
        "activations' variance goes with it when it is taken away.",
        "That the network has forgotten: no linear reader finds the concept here, another may, and the network can "
        "form it again further on.",
    ),
    "mask": (
        "Graft",
        "The few entries of a fine-tuned network that carry its new skill into the network that it was tuned from: how "
        "many of each parameter, and the score beside random entries and the largest movers of equal number.",
        "That the skill is only there: other entries of the tuned network may carry it too.",
    ),
    "depth": (
        "Depth",
        "Whether the memory is gone or only hidden: what a fresh probe still reads at each site, and how few steps of "
        "training bring the memory back.",
        "Absence: a probe that reads nothing says that this probe reads nothing; another reader might.",
    ),
    **MEMORIES,
    "consolidation": (
        "Consolidate",
        "One night of replay: how many episodes it was about in effect, which were replayed how often and with what "
        "probability in the end, what is left of their traces, and the loss of the network that learnt from them.",
        "That the network knows the episodes, or their world: a small loss is neither. The census and the errors on "
        "days that were not lived tell.",
    ),
    "recall": (
        "Recall",
        "What became of each cue: after how many steps it came to rest, how far it went, its energy, and the "
        "probability of the likeliest stored patterns, as far as these were kept.",
        "That what came back is what was stored: a false memory is at rest too. Compare it with the pattern, and a "
        "posterior is right only at the right noise.",
    ),
    "reconstruction": (
        "Reconstruct",
        "Each feature of what was recalled: given by the cue, kept in the core of the episode that most draws ended "
        "in, or reconstructed from semantic memory. Bars are standard deviations over draws.",
        "That a reconstructed feature is true, however short its bar: it is what usually goes with the rest.",
    ),
    "recollection": (
        "Recollect",
        "A network run backwards from a unit, with the trace of what it let through; beside each picture the same "
        "recall from no source and from a wrong one.",
        "That the unit remembers the image: what comes back may be owed to the trace alone. The controls and the bits "
        "say how much.",
    ),
    "recollection_evidence": (
        "Prove a recollection",
        "Every way of recalling with one thing changed: source, trace, weights, or a linear decoder instead of the "
        "network. Beside each row how alike the pictures are to their own image, to others of its class and of other "
        "classes, and how often the own one is the nearest.",
        "That what comes back is stored in the weights: compare the rows of the donor and of no trace first.",
    ),
    "episodic_trace": (
        "Episodic trace",
        "What each operation let through for given images: switches, gates, patterns, scales, with their bits a "
        "sample, an upper bound.",
        "That it is a memory of the network: it is stored outside the weights, and without it a unit recalls at most a "
        "prototype.",
    ),
    "episodes": (
        "Episodes",
        "Traces under the pointer that was active, found again by a pointer like it; what one of them costs in bits.",
        "That a lookup finds the right one: its posterior says how sure it is.",
    ),
    "visualisation": (
        "Visualise a unit",
        "Pictures that excite a unit, climbed to from noise, with their activation among those of real data.",
        "That the unit means this: a picture is an optimum and no datum. Look at the examples too.",
    ),
    "top_examples": (
        "Top examples",
        "What excites each unit most among real examples, and around other quantiles of its values.",
        "That the unit is selective: the largest alone mislead, look at how its values are spread.",
    ),
    "namer": (
        "Names",
        "Names that were bound to features, each by how many examples.",
        "How well it names: measure it beside a prototype on the same features.",
    ),
    "naming_evidence": (
        "Name from few examples",
        "Accuracy of naming rules and of plain classifiers on the same features, over the number of examples a name.",
        "Anything about other features or names. Intervals are over draws of examples, all with the same test set.",
    ),
    "spiking_hierarchy": (
        "Spiking hierarchy",
        "Layers of spiking neurons that read images in a latency code, and the filters that they learnt.",
        "That its features are useful: name things by them, beside a baseline.",
    ),
    "capacity": (
        "Capacity",
        "How often every feature of a pattern comes back from a damaged cue, over the number of patterns stored; "
        "dashed is the nearest stored pattern, which no memory can beat. Bars are 95 % intervals.",
        "The same for your patterns: these are random, and alike patterns are harder. Cues that are damaged otherwise "
        "have another curve.",
    ),
    "census": (
        "Census",
        "What a memory makes of noise, in shares that sum to one: memorised is far nearer to one stored pattern than "
        "to any other, spurious is not stored but comes back, generalised is the rest.",
        "That what is generalised belongs to the world: it is new and nothing more. The share of fresh patterns that "
        "pass for memorised is the chance level.",
    ),
    **{kind: of.words for kind, of in KINDS.items()},
    "statistics": (
        "Statistics",
        "What was collected, and from how many rows at each site.",
        "Anything about a memory: these are second moments of what the sites received.",
    ),
}
OTHER = (
    "The header of an artifact for which this page has no drawing, as it is.",
    "Anything beyond what its own method does.",
)

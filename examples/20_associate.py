"""A cue, a mood, a thought before and a belief about causes decide which graph comes to mind; nothing is simulated."""

import mnemotrace as mt
from mnemotrace.retrieval.associating import Context, Cue

graph = mt.SemanticGraph()
for node, valence, arousal in (
    ("kitchen", 0.1, 0.1), ("Ana", 0.4, 0.3), ("smoke", -0.6, 0.9), ("fire", -0.8, 1.0), ("cake", 0.8, 0.4),
    ("birthday", 0.9, 0.6), ("oven", 0.1, 0.2), ("fuse", -0.2, 0.3),
):  # fmt: skip
    graph.add(node, valence=valence, arousal=arousal)
for a, b, weight in (("kitchen", "oven", 3), ("kitchen", "Ana", 2), ("kitchen", "smoke", 2), ("Ana", "birthday", 2),
                     ("birthday", "cake", 3), ("oven", "cake", 2), ("smoke", "fire", 3), ("fire", "brigade", 2),
                     ("fuse", "cellar", 2), ("cellar", "kitchen", 1)):  # fmt: skip
    graph.link(a, b, weight)
graph.link("oven", "smoke", 3, causal=True)
graph.link("fuse", "smoke", 3, causal=True)

found = mt.associate(graph, ["kitchen", "Ana"], k=6)
for reading in found.readings:
    print(f"{reading.plausibility:6.2f}  without {reading.without or 'nothing':8s} {' '.join(reading.nodes)}")

print("mood       valence of what comes to mind, and the first of it")
for mood, affect in (("none", None), ("glad", (0.8, 0.5)), ("anxious", (-0.8, 0.9))):
    recalled = mt.associate(graph, Cue(["kitchen"], affect), k=5, kappa=2.0)
    print(f"{mood:8s} {recalled.affect[0]:9.2f}   {' '.join(recalled.nodes[1:])}")

for steps in (0, 2, 8):
    context = Context(half_life=2)
    context.prime({"fuse": 1.0})
    context.step(steps)
    active = mt.associate(graph, "kitchen", k=10, context=context).activation
    print(f"{steps} steps after thinking of the fuse: cellar {active['cellar']:.3f}")

for oven, fuse in ((1.0, 1.0), (0.05, 0.95), (0.95, 0.05)):
    graph.weigh_causes({("oven", "smoke"): oven, ("fuse", "smoke"): fuse})
    active = [mt.associate(graph, cue, k=10).activation["smoke"] for cue in ("oven", "fuse")]
    print(
        f"belief: oven {oven:.2f}, fuse {fuse:.2f}   smoke from the oven {active[0]:.3f}, from the fuse {active[1]:.3f}"
    )

#  -2.77  without nothing  kitchen Ana smoke birthday fire oven
#  -3.11  without smoke    kitchen Ana birthday oven cake cellar
# mood       valence of what comes to mind, and the first of it
# none         -0.16   smoke fire oven Ana
# glad          0.53   Ana birthday cake oven
# anxious      -0.53   smoke fire oven brigade
# 0 steps after thinking of the fuse: cellar 0.059
# 2 steps after thinking of the fuse: cellar 0.052
# 8 steps after thinking of the fuse: cellar 0.041
# belief: oven 1.00, fuse 1.00   smoke from the oven 0.182, from the fuse 0.228
# belief: oven 0.05, fuse 0.95   smoke from the oven 0.089, from the fuse 0.205
# belief: oven 0.95, fuse 0.05   smoke from the oven 0.171, from the fuse 0.097

"""The last scene changes what the first one meant: things fall in air and without, and a memory is told anew."""

import torch

import mnemotrace as mt
from mnemotrace.organisms import falling

generator = torch.Generator().manual_seed(0)
beliefs = mt.Beliefs(falling.VARIABLES)


def scene(title, drops, set_to):
    """Drop things, and say what is believed after it."""
    rows = falling.drops(drops, set_to=set_to, generator=generator)
    update = beliefs.observe(rows, do=list(set_to), note=title)
    mass, drag = beliefs.edge("mass", "time"), beliefs.edge("drag", "time")
    print(f"{title}: mass decides {mass:.2f}, drag decides {drag:.2f}, {update.entropy:.2f} bits uncertain")
    return update


# Watching: what is heavy is also compact, so both explanations will do.
scene("in air", 20, {})
stone = beliefs.remember({"mass": "heavy", "drag": "little", "time": "short"}, explains={"time": "mass"})
leaf = beliefs.remember({"mass": "light", "drag": "much", "time": "long"}, explains={"time": "drag"})
for memory in beliefs.memories:
    print("  ", memory.text())

# What would tell most? Setting the drag; more watching would tell next to nothing.
question = beliefs.next_question()
print(f"set {question.variable}: {question.gain:.2f} bits a drop, watching {question.gains[None]:.2f}")

scene("without air", 80, falling.NO_AIR)
scene("with a parachute", 80, falling.PARACHUTE)
for memory in beliefs.memories:
    print("  ", memory.text(), f"({memory.status}, {memory.now.support:.2f})")
print("facts of the stone:", *beliefs.memory(stone).facts.values())
print("best:", ", ".join(f"{a} causes {b}" for a, b in beliefs.best()))

# The control: as many drops, but only watched. Which way the arrows point stays open, however long one watches.
watcher = mt.Beliefs(falling.VARIABLES)
watcher.observe(falling.drops(180, generator=generator))
mass, drag = watcher.edge("mass", "time"), watcher.edge("drag", "time")
print(f"watching only: mass decides {mass:.2f}, drag decides {drag:.2f}, {watcher.entropy:.2f} bits uncertain")

# All of it is in the log, and can be lived again or taken back, bit for bit.
again = mt.Beliefs.replay(beliefs.settings, beliefs.log)
print("lived again:", torch.equal(again.posterior, beliefs.posterior) and again.memories == beliefs.memories)

# in air: mass decides 0.38, drag decides 0.38, 3.51 bits uncertain
#    time = short because mass = heavy
#    time = long because drag = much
# set drag: 0.41 bits a drop, watching 0.01
# without air: mass decides 0.04, drag decides 1.00, 0.28 bits uncertain
# with a parachute: mass decides 0.00, drag decides 1.00, 0.03 bits uncertain
#    time = short because drag = little (revised, 1.00)
#    time = long because drag = much (held, 0.38)
# facts of the stone: heavy little short
# best: mass causes drag, drag causes time
# watching only: mass decides 0.06, drag decides 0.65, 2.20 bits uncertain
# lived again: True

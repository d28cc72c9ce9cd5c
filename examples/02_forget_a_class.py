"""Forget a class of digits: a calibrated edit, the four criteria beside controls, and whether it is gone or hidden."""

import sys

from torch.nn import functional

import mnemotrace as mt
from mnemotrace.evaluation.depth import Relearning

epochs = int((*sys.argv[1:], 40)[0])  # of training the networks
FORGOTTEN = 3


def score(network, data):
    """Give 1 where the network names the right digit."""
    inputs, labels = data
    return (network(inputs).argmax(1) == labels).double()


def split(inputs, labels):
    """Part the forgotten class from the others."""
    its = labels == FORGOTTEN
    return (inputs[its], labels[its]), (inputs[~its], labels[~its])


digits = mt.digits(epochs=epochs)
model, x, y = digits.model, digits.train_inputs, digits.train_labels

# Engrams come from one part of the training data, the choice of sites, strength and selectivity from the other.
target, reference = (mt.collect(model, [part]) for part, _ in split(x[:1000], y[:1000]))
data = {"target": target, "reference": reference}
forget, keep = split(x[1000:], y[1000:])
solve = {"solver": "ridge", "rcond": 3e-3}  # keeps the edit smaller than the weight
found = mt.calibrate(model, **data, score=score, forget=forget, keep={"others": keep}, **solve)
for name, p in {"published": found.points[found.published], "calibrated": found.best}.items():
    setting = f"{p.sites}, strength {p.strength}, selectivity {p.selectivity}"
    print(f"{name:11}{setting:40} class {p.target:.2f}, others lose {p.loss['others']:.3f}")

engram, edit, strength = found.engram(model, **data), found.edit(model, **data), found.best.strength
its, others = split(digits.test_inputs, digits.test_labels)
proof = mt.criteria(model, engram, score=score, target=its, control=others, strength=strength, chance=0.1)
for name, c in proof.items():
    print(f"{name:13}{c.value:5.2f} in [{c.interval[0]:5.2f}, {c.interval[1]:5.2f}], random traces {c.control:5.2f}")

naive = mt.digits(epochs=epochs, exclude=[FORGOTTEN]).model
lesson = Relearning(
    loss=lambda network, batch: functional.cross_entropy(network(batch[0]), batch[1]),
    batches=[(x[:200], y[:200])],
    score=lambda network: float(score(network, its).mean()),
    steps=(0, 1, 2, 5, 10, 20, 40),
)
depth = mt.depth(model, edit, relearning=lesson, naive=naive)
print("steps until half of the class is back:", depth.steps_to(0.5))
print("in a network that never saw it:", depth.steps_to(0.5, "naive"))

# published  all, strength 1.0, selectivity 1.0       class 0.06, others lose 0.025
# calibrated last 1, strength 1.5, selectivity 1.0    class 0.00, others lose 0.005
# specificity   1.12 in [ 1.10,  1.14], random traces  0.13
# reactivation  0.95 in [ 0.92,  0.97], random traces -0.03
# sufficiency   1.08 in [ 1.00,  1.22], random traces -0.11
# necessity     1.12 in [ 1.11,  1.14], random traces  0.23
# steps until half of the class is back: 5
# in a network that never saw it: 20

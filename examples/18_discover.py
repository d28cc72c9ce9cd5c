"""Find concepts in a network without any label, prove them, and only then ask what they were called."""

import sys

import torch

import mnemotrace as mt
from mnemotrace.evaluation.discovery import discover

size = int((*sys.argv[1:], 1000)[0])  # how many examples are looked at
digits = mt.digits(epochs=8)
model, x, y = digits.model, digits.train_inputs[:size], digits.train_labels[:size]

# Half of the examples propose, by how the network itself groups them; the other half judge. Labels have no part in it.
setting = {"edit": mt.sites(model, ["fc3"]), "solver": "ridge", "rcond": 3e-3, "strength": 1.5, "draws": 1}
found = discover(model, x, sites=["relu2"], count=10 if size >= 500 else 4, labels=y, **setting)
print(f"halves agree {found.stability:.2f}, without structure {found.null:.2f}")
print(f"{len(found.found)} of {len(found.of('discovered'))} groups pass")

for kind in ("discovered", "labels", "untrained", "random"):
    proofs = [one.criteria for one in found.of(kind) if one.criteria]
    for name in proofs[0] if proofs else ():
        print(f"{kind:10} {name:12} {sum(proof[name].value for proof in proofs) / len(proofs):5.2f}")

# What were they? The labels say, behind the proof.
for kind, one in found.agreement.items():
    print(f"{kind:10} agrees with the labels {one.rand:5.2f}, permuted {abs(one.chance[0]):.2f}")
print("group to digit:", found.matches())

# An engram of a discovered concept is an engram like any other: take one out of the network.
group, digit = next(iter(found.matches().items()))
target, reference = (mt.collect(model, [x[rows]]) for rows in (found.target(group), found.reference(group)))
engram = mt.engram(model, target=target, reference=reference, solver="ridge", rcond=3e-3).select(["fc3"])
its = digits.test_labels == digit


def accuracy(rows):
    """Share of right answers."""
    with torch.no_grad():
        return float((model(digits.test_inputs[rows]).argmax(1) == digits.test_labels[rows]).float().mean())


print(f"digit {digit}: {accuracy(its):.2f}, others {accuracy(~its):.2f}")
with mt.applied(model, mt.erase(engram, 1.5)):
    print(f"erased:  {accuracy(its):.2f}, others {accuracy(~its):.2f}")

# halves agree 0.92, without structure 0.22
# 10 of 10 groups pass
# discovered specificity   0.99
# discovered reactivation  0.93
# discovered sufficiency   1.00
# discovered necessity     1.00
# labels     specificity   0.99
# labels     reactivation  0.93
# labels     sufficiency   1.00
# labels     necessity     1.01
# untrained  specificity   0.61
# untrained  reactivation  0.90
# untrained  sufficiency   0.74
# untrained  necessity     0.65
# random     specificity   0.00
# random     reactivation  0.95
# random     sufficiency   0.21
# random     necessity     0.03
# discovered agrees with the labels  0.86, permuted 0.00
# untrained  agrees with the labels  0.43, permuted 0.00
# random     agrees with the labels  0.00, permuted 0.00
# group to digit: {0: 3, 1: 0, 2: 8, 3: 4, 4: 2, 5: 6, 6: 5, 7: 7, 8: 1, 9: 9}
# digit 3: 0.95, others 0.97
# erased:  0.05, others 0.97

"""Engrams are vectors: ten make up the weight, several go at once, and a difference teaches another network."""

import sys
from copy import deepcopy

import torch
from torch.nn import functional

import mnemotrace as mt

host = mt.digits(epochs=int((*sys.argv[1:], 40)[0]), exclude=[3])  # a network that never saw a 3
x, y = host.train_inputs, host.train_labels

donor = deepcopy(host.model)  # its descendant, which learns the 3 as well
optimiser = torch.optim.Adam(donor.parameters(), lr=1e-3)
generator = torch.Generator().manual_seed(0)
for _ in range(300):
    batch = torch.randint(len(x), (128,), generator=generator)
    optimiser.zero_grad()
    functional.cross_entropy(donor(x[batch]), y[batch]).backward()
    optimiser.step()


def engram(model, *classes, **options):
    """Extract the engram of some classes against all the others."""
    its = torch.isin(y, torch.tensor(classes))
    target, reference = (mt.collect(model, [x[part]], dtype=torch.float64) for part in (its, ~its))
    return mt.engram(model, target=target, reference=reference, **options)


def accuracy(model, *classes):
    """Print test accuracy on some classes and on the others."""
    its = torch.isin(host.test_labels, torch.tensor(classes))
    right = (model(host.test_inputs).argmax(1) == host.test_labels).float()
    return f"{float(right[its].mean()):.2f}, others {float(right[~its].mean()):.2f}"


ten = [engram(donor, k) for k in range(10)]
weight = donor.fc1.weight.detach()
missing = sum(e["fc1"].dense() for e in ten) - weight
print(f"ten engrams make up the weight, but for {float((x @ missing.T).norm() / (x @ weight.T).norm()):.0e}")
gap = ten[3] + ten[5] - engram(donor, 3, 5)
print(f"the engram of 3 and 5 is the sum of theirs, but for {gap.norms()['fc1'] / ten[3].norms()['fc1']:.0e}")

both = engram(donor, 3, 5, rcond=1e-3)
with mt.applied(donor, mt.erase(both)):
    print("3 and 5 erased together:             ", accuracy(donor, 3, 5))
with mt.applied(donor, mt.null(donor, both) + mt.inject(both)):
    print("their engram alone in an empty net:  ", accuracy(donor, 3, 5))

learnt, before = (engram(model, 3, selectivity=0.01, rcond=1e-4) for model in (donor, host.model))
print("3 in the network that never saw it:  ", accuracy(host.model, 3))
with mt.applied(host.model, mt.transplant(learnt - before, host.model)):
    print("with what its descendant learnt:     ", accuracy(host.model, 3))

# ten engrams make up the weight, but for 2e-03
# the engram of 3 and 5 is the sum of theirs, but for 3e-07
# 3 and 5 erased together:              0.02, others 0.96
# their engram alone in an empty net:   0.89, others 0.03
# 3 in the network that never saw it:   0.00, others 0.98
# with what its descendant learnt:      0.98, others 0.76

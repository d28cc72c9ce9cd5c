"""Graft a skill: the few weights that a network changed to learn a new digit, put into the network that lacks it."""

import sys
from copy import deepcopy

import torch
from torch.nn import functional

import mnemotrace as mt

base = mt.digits(epochs=int((*sys.argv[1:], 40)[0]), exclude=[3])  # a network that never saw a 3
x, y = base.train_inputs, base.train_labels

tuned = deepcopy(base.model)  # its copy, which learns the 3 as well
optimiser = torch.optim.Adam(tuned.parameters(), lr=1e-3)
generator = torch.Generator().manual_seed(0)
for _ in range(300):
    batch = torch.randint(len(x), (128,), generator=generator)
    optimiser.zero_grad()
    functional.cross_entropy(tuned(x[batch]), y[batch]).backward()
    optimiser.step()


def loss(model, batch):
    """Cross-entropy on one batch."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def accuracy(model):
    """Test accuracy on the 3 and on the other digits."""
    right = (model(base.test_inputs).argmax(1) == base.test_labels).float()
    its = base.test_labels == 3
    return f"{float(right[its].mean()):.2f}, others {float(right[~its].mean()):.2f}"


learn, choose = slice(0, 1200), slice(1200, 1400)  # the mask is learnt on some examples and chosen on others
batches = list(zip(x[learn].split(200), y[learn].split(200), strict=True))
print("without the skill:        ", accuracy(base.model))
print("after fine-tuning:        ", accuracy(tuned))
for budget in (0.03, 0.1, 0.3):
    for method in ("random", "movers", "learned"):
        mask = mt.graft(
            base.model, tuned, batches, held_out=[(x[choose], y[choose])], loss=loss, budget=budget, method=method
        )
        with mt.applied(base.model, mask.edit()):
            print(f"{method:8} {budget:.1%} of weights:  {accuracy(base.model)}")
print(f"{len(mask)} weights, {mask.nbytes / 1e3:.0f} kB; without the skill again: {accuracy(base.model)}")

# without the skill:         0.00, others 0.98
# after fine-tuning:         0.84, others 0.98
# random   3.0% of weights:  0.00, others 0.98
# movers   3.0% of weights:  0.00, others 0.98
# learned  3.0% of weights:  0.00, others 0.98
# random   10.0% of weights:  0.00, others 0.98
# movers   10.0% of weights:  0.00, others 0.98
# learned  10.0% of weights:  0.60, others 0.98
# random   30.0% of weights:  0.00, others 0.98
# movers   30.0% of weights:  0.65, others 0.98
# learned  30.0% of weights:  0.84, others 0.97
# 24900 weights, 398 kB; without the skill again: 0.00, others 0.98

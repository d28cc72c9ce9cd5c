"""A convolution is a linear map of patches: forget a digit in a network of Conv2d layers."""

import sys

import torch
from torch import nn
from torch.nn import functional

import mnemotrace as mt

steps = int((*sys.argv[1:], 400)[0])  # of training the network

digits = mt.digits(epochs=0)  # only for its images
x, test = digits.train_inputs.view(-1, 1, 8, 8), digits.test_inputs.view(-1, 1, 8, 8)
y, labels = digits.train_labels, digits.test_labels
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2), nn.ReLU(),
    nn.Flatten(), nn.Linear(512, 10),
)  # fmt: skip
optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(steps):
    batch = torch.randint(len(x), (64,))
    optimiser.zero_grad()
    functional.cross_entropy(model(x[batch]), y[batch]).backward()
    optimiser.step()

for name, site in mt.sites(model).items():
    print(f"{name:5} {site.kind:12} {site.o:3} x {site.d:3}  part {site.part}")


def accuracy():
    """Test accuracy on the 3s and on everything else."""
    right = (model(test).argmax(1) == labels).float()
    return f"{float(right[labels == 3].mean()):.2f}, others {float(right[labels != 3].mean()):.2f}"


# Rows are patches: one image gives 64 of them to the first layer and 16 to each group of the second.
target, reference = (mt.collect(model, x[part].split(100)) for part in (y == 3, y != 3))
print("rows by site:", {name: moments.n for name, moments in target.items()})
engram = mt.engram(model, target=target, reference=reference, solver="ridge", rcond=1e-3)
print("untouched:           ", accuracy())
for label, sites, strength in (("all sites, 1.0:      ", None, 1.0), ("last layer, 1.5:     ", ["5"], 1.5)):
    with mt.applied(model, mt.erase(engram.select(sites), strength)):
        print(label, accuracy())

# 0     convolution   16 x   9  part None
# 2[0]  convolution   16 x  72  part (0, 16)
# 2[1]  convolution   16 x  72  part (16, 32)
# 5     linear        10 x 512  part None
# rows by site: {'0': 8960, '2[0]': 2240, '2[1]': 2240, '5': 140}
# untouched:            0.91, others 0.97
# all sites, 1.0:       0.47, others 0.97
# last layer, 1.5:      0.00, others 0.97

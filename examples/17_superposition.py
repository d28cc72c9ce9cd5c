"""Five features in two dimensions: two alone where they are dense, two pairs, and a pentagon where they are rare."""

import sys

import torch

from mnemotrace.localisation.geometry import geometry
from mnemotrace.localisation.superposition import superposition
from mnemotrace.organisms.toy import ToyModels

steps = int((*sys.argv[1:], 600)[0])  # of training
importance = 0.9 ** torch.arange(5)
densities = torch.tensor([1.0, 0.3, 0.03])

# y = relu(W^T W x + b) for three densities at once, several starts each; then the control without ReLU
trained = ToyModels(5, 2, importance, densities).train(restarts=4, steps=steps)
linear = ToyModels(5, 2, importance, densities, linear=True).train(restarts=1, steps=steps)

for density, features, plain in zip(densities.tolist(), trained.features, linear.features, strict=True):
    clusters, dropped = geometry(features)
    shapes = " and ".join(cluster.polytope for cluster in clusters)
    print(f"density {density:4.2f}: {shapes}, {5 - len(dropped)} of 5 features")
    print(f"  squared length {float(features.square().sum()):.1f}, without ReLU {float(plain.square().sum()):.1f}")

# the last arrangement beside random directions of the same lengths
found = superposition(trained.features[-1])
share, gap = float(found.dimensionality.mean()), clusters[0].gaps[-1]
print(f"each has {share:.2f} of a dimension, gaps up to {gap:.0f} degrees")
print(f"interference {found.excess:.2f} of that of random directions, at best {(5 / 2 - 1) / (4 / 2):.2f}")

# density 1.00: orthogonal and orthogonal, 2 of 5 features
#   squared length 2.0, without ReLU 2.0
# density 0.30: antipodal pair and antipodal pair, 4 of 5 features
#   squared length 4.1, without ReLU 2.0
# density 0.03: pentagon, 5 of 5 features
#   squared length 6.6, without ReLU 2.0
# each has 0.40 of a dimension, gaps up to 73 degrees
# interference 0.75 of that of random directions, at best 0.75

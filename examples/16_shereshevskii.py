"""Shereshevskii: every number is also a colour. Shared neurons make the association, and past a point the confusion."""

import sys

import torch

from mnemotrace.memories.assemblies import Assemblies

numbers = int((*sys.argv[1:], 40)[0])  # that he knows; eight colours, and as many numbers that he never saw
colours = 8
index = torch.arange(numbers)


def mind(overlap):
    """Numbers share neurons with their colours; those never seen leave no couplings."""
    graph = {(f"colour {i % colours}", f"number {i}"): overlap for i in range(numbers + colours)}
    whole = Assemblies.from_overlaps(graph)
    new = [whole.names.index(f"number {i}") for i in range(numbers, numbers + colours)]
    known = [i for i in range(len(whole)) if i not in new]
    return Assemblies(whole.members[known], names=[whole.names[i] for i in known]), whole.members[new]


def part_of(members, share, seed=0):
    """Some of the neurons of each concept."""
    draw = torch.rand(members.shape, generator=torch.Generator().manual_seed(seed)) * members
    return torch.zeros_like(members).scatter(1, draw.topk(round(share * 60), dim=1).indices, 1.0)


print("shared   colour comes   new number has   number comes   its colour comes")
print("         with it        its colour       back           instead")
for overlap in (0.0, 0.08, 0.15, 0.25, 0.4, 0.6, 0.9):
    found, new = mind(overlap)
    asked = [f"number {i}" for i in range(numbers)]
    number = torch.tensor([found.names.index(name) for name in asked])
    colour = torch.tensor([found.names.index(f"colour {i % colours}") for i in range(numbers)])
    seen_in = torch.tensor([found.names.index(f"colour {i % colours}") for i in range(numbers, numbers + colours)])

    # one sense brings the other: less inhibition, room for two
    both = found.recruited(found.associate(asked), asked)[index, colour].float().mean()
    # what was never seen is known for what it shares
    kind = (found.complete(new).overlap.argmax(1) == seen_in).float().mean()
    # the price: a quarter of the number's own neurons must bring that number back
    best = found.complete(part_of(found.members[number], 0.25)).overlap.argmax(1)
    itself = (best == number).float().mean()
    instead = (best == colour).float().mean()
    print(f"{overlap:4.2f}     {both:4.2f}           {kind:4.2f}             {itself:4.2f}           {instead:4.2f}")

# shared   colour comes   new number has   number comes   its colour comes
#          with it        its colour       back           instead
# 0.00     0.00           0.00             1.00           0.00
# 0.08     0.40           0.25             1.00           0.00
# 0.15     1.00           1.00             1.00           0.00
# 0.25     1.00           1.00             1.00           0.00
# 0.40     1.00           1.00             0.85           0.15
# 0.60     1.00           1.00             0.00           1.00
# 0.90     1.00           1.00             0.00           1.00

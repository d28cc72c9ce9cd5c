"""Find units that stand for a number whether it is seen, read or heard, and ask which numbers share them."""

import sys

import torch

from mnemotrace.localisation.cells import Stimuli, cells
from mnemotrace.organisms.aleph import aleph

shuffles = int((*sys.argv[1:], 99)[0])  # of the labels
found = aleph()

# what each sense is shown; views of one drawing, word or utterance never stand on both sides
shown = {
    name: Stimuli(sense.batches(), sense.numbers, names=found.names, items=sense.items)
    for name, sense in found.senses.items()
}
seen = cells(found.model, shown, sites=["concepts"], auroc=0.9, invariance=0.9, shuffles=shuffles)
counts = seen.counts()["concepts"]
covered = {cell.concept for cell in seen.cells()}
print(f"{counts['cell']} cells of {counts['units']} units, for {len(covered)} of 10 numbers")
print(f"an untrained network has {counts['untrained selective']}, random directions {counts['rotated selective']}")

best = seen.cells("seven")[0]
print("a cell for seven: " + ", ".join(f"{sense} {auroc:.2f}" for sense, auroc in best.held.items()))
said = [found.senses["word"].numbers[i].item() for i in best.top["word"]]
print(f"the words that excite it most all say seven: {set(said) == {7}}")

# without the units that tell a number the network hardly names it; its cells alone are not all that know it
cells_of_seven = [cell.unit for cell in seen.cells("seven")]
telling = (seen.sites["concepts"].beside[:, 7] >= seen.auroc).nonzero()[:, 0].tolist()
others = [cell.unit for cell in seen.cells() if cell.unit not in telling][: len(telling)]


def named(silent):
    """How often seven is named, by sense, with some units silent."""

    def silence(_module, _inputs, output):
        return output.index_fill(1, torch.tensor(silent, dtype=torch.long), 0.0)

    handle = found.model.concepts.register_forward_hook(silence)
    asked = {name: sense.inputs[sense.numbers == 7] for name, sense in found.senses.items()}
    with torch.no_grad():
        right = [(found.model(**{name: x}).argmax(1) == 7).float().mean() for name, x in asked.items()]
    handle.remove()
    return ", ".join(f"{name} {share:.2f}" for name, share in zip(asked, right, strict=True))


print(f"seven is named, all units: {named([])}")
print(f"seven is named, its {len(cells_of_seven)} cells silent: {named(cells_of_seven)}")
print(f"seven is named, all {len(telling)} units that tell it silent: {named(telling)}")
print(f"seven is named, {len(others)} cells of others silent: {named(others)}")

# training named one number in four by its complement to nine
related = torch.eye(10, dtype=torch.bool).flip(0)
shared = seen.association(related)
print(f"companions share {shared.related:.2f} of their units, other pairs {shared.unrelated:.2f}, p {shared.p:.3f}")

# 70 cells of 128 units, for 10 of 10 numbers
# an untrained network has 0, random directions 86
# a cell for seven: image 0.97, word 1.00, voice 0.99
# the words that excite it most all say seven: True
# seven is named, all units: image 0.97, word 0.92, voice 1.00
# seven is named, its 11 cells silent: image 0.80, word 0.87, voice 1.00
# seven is named, all 19 units that tell it silent: image 0.23, word 0.69, voice 0.80
# seven is named, 19 cells of others silent: image 0.97, word 0.95, voice 1.00
# companions share 0.40 of their units, other pairs 0.02, p 0.001

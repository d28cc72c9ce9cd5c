"""Name digits that a network has never seen from one example each, then go back from the name to a picture."""

import sys

import torch

import mnemotrace as mt
from mnemotrace.evaluation.naming import few_shot
from mnemotrace.formation.naming import Namer, name_once
from mnemotrace.retrieval.backward import recollect
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source

epochs = int((*sys.argv[1:], 40)[0])  # of training the network
new = {0: "zero", 4: "four", 7: "seven"}
found = mt.digits(epochs=epochs, exclude=tuple(new))
model = found.model


def features(images):
    """What the first hidden layer makes of images."""
    with torch.no_grad():
        return model.relu1(model.fc1(images))


def of(labels, digits):
    """Where these digits are."""
    return torch.isin(labels, torch.tensor(sorted(digits)))


seen = features(found.train_inputs[~of(found.train_labels, new)])  # the background: no names are needed
rows = [int((found.train_labels == digit).nonzero()[0]) for digit in new]
namer = name_once(features(found.train_inputs[rows]), list(new.values()), unlabelled=seen)

asked = of(found.test_labels, new)
truth = [new[int(digit)] for digit in found.test_labels[asked]]
right = [a == b for a, b in zip(namer.best(features(found.test_inputs[asked])), truth, strict=True)]
print(f"named from one example each: {sum(right) / len(right):.2f} of {len(right)} right, chance 0.33")

# one example is luck: many draws, beside plain classifiers on the same features
train = of(found.train_labels, new)
evidence = few_shot(
    features(found.train_inputs[train]),
    found.train_labels[train],
    (features(found.test_inputs[asked]), found.test_labels[asked]),
    namers={"prototype, background": lambda: Namer(unlabelled=seen)},
    counts=(1, 5),
    unlabelled=seen,
)
print(evidence.table())

# and back: name, features, picture; beside it another name's
way = {"x": torch.zeros(1, 64), "rules": Rules.switch_free(), "controls": False}
for k, name in enumerate(new.values()):
    source = Source.vector(namer.recall(name) - seen.mean(0), site="relu1")
    picture = recollect(model, source, trace=None, **way).images[0]
    means = torch.stack([found.train_inputs[found.train_labels == digit].mean(0) for digit in new])
    like = torch.corrcoef(torch.cat([picture[None], means - found.train_inputs.mean(0)]))[0, 1:]
    print(f"{name:5} looks like its kind: {float(like[k]):.2f}, like the others: {float(like.sum() - like[k]) / 2:.2f}")

# named from one example each: 0.95 of 121 right, chance 0.33
# examples a name                  1      5
# prototype, background        0.886  0.943
# nearest prototype, cosine    0.911  0.950
# nearest prototype, distance  0.914  0.952
# SVM                          0.913  0.958
# zero  looks like its kind: 0.51, like the others: 0.18
# four  looks like its kind: 0.75, like the others: -0.01
# seven looks like its kind: 0.69, like the others: -0.18

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core.errors import EditError, SelectionError

CLASS, EPOCHS = 3, 10


def engram_of(model, inputs, labels, *, rcond=1e-3, **options):
    """The engram of one class against all the others; pixels that are never lit are cut."""
    target, reference = (mt.collect(model, [inputs[chosen]]) for chosen in (labels == CLASS, labels != CLASS))
    return mt.engram(model, target=target, reference=reference, rcond=rcond, **options)


@pytest.fixture(scope="module")
def donor():
    return mt.digits(seed=0, epochs=EPOCHS)


@pytest.fixture(scope="module")
def memory(donor):
    return engram_of(donor.model, donor.train_inputs, donor.train_labels)


def accuracy(model, organism):
    """Of the class and of the others, on test data."""
    with torch.no_grad():
        right = model(organism.test_inputs).argmax(1) == organism.test_labels
    mine = organism.test_labels == CLASS
    return float(right[mine].float().mean()), float(right[~mine].float().mean())


def test_a_transplant_restores_an_erased_class(donor, memory):
    host = copy.deepcopy(donor.model)
    mt.apply(host, mt.erase(memory))
    assert accuracy(host, donor)[0] < 0.1
    with mt.applied(host, mt.transplant(memory, host)):
        assert accuracy(host, donor) == pytest.approx(accuracy(donor.model, donor), abs=0.01)
    assert accuracy(host, donor)[0] < 0.1


def test_hidden_layers_carry_nothing_between_unrelated_networks(donor, memory):
    """Negative control: same design, same data, another start. The output layer is left out: its rows are shared."""
    stranger = mt.digits(seed=1, epochs=EPOCHS)
    theirs = engram_of(stranger.model, stranger.train_inputs, stranger.train_labels)
    host = copy.deepcopy(stranger.model)
    mt.apply(host, mt.erase(theirs))
    hidden = ["fc1", "fc2"]
    with mt.applied(host, mt.transplant(theirs.select(hidden), host, strength=2.0)):
        assert min(accuracy(host, stranger)) > 0.9
    for strength in (0.5, 1.0, 1.5, 2.0, 4.0):
        with mt.applied(host, mt.transplant(memory.select(hidden), host, strength=strength)):
            assert accuracy(host, stranger)[0] < 0.2


def test_an_output_layer_proves_nothing_since_a_constant_does_as_well(donor, memory):
    """Why the control above leaves it out: erasure hid the class, and any raise of its output shows it again."""
    host = copy.deepcopy(donor.model)
    mt.apply(host, mt.erase(memory))
    with torch.no_grad():
        answers = (host(donor.test_inputs) + 4.0 * nn.functional.one_hot(torch.tensor(CLASS), 10)).argmax(1)
    mine = donor.test_labels == CLASS
    right = answers == donor.test_labels
    assert min(right[mine].float().mean(), right[~mine].float().mean()) > 0.8


def test_the_difference_of_engrams_teaches_an_ancestor_what_it_never_saw():
    """Shared origin, not identity: the donor learnt the class after the two had parted."""
    hosts = [mt.digits(seed=seed, epochs=EPOCHS, exclude=(CLASS,)) for seed in (0, 1)]
    ancestor, stranger = hosts
    descendant = copy.deepcopy(ancestor.model)
    _learn(descendant, ancestor)
    after, before = (
        engram_of(model, ancestor.train_inputs, ancestor.train_labels, rcond=1e-4, selectivity=0.01)
        for model in (descendant, ancestor.model)
    )
    reached = {}
    for name, host, trace in (
        ("ancestor", ancestor, after - before),
        ("whole", ancestor, after),
        ("stranger", stranger, after - before),
    ):
        assert accuracy(host.model, host)[0] == 0
        with mt.applied(host.model, mt.transplant(trace, host.model)):
            reached[name] = accuracy(host.model, host)
    assert min(reached["ancestor"]) > 0.7
    assert max(min(reached["whole"]), min(reached["stranger"])) < 0.4


def _learn(model, organism, steps=300):
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(len(organism.train_inputs), (128,), generator=generator)
        loss = nn.functional.cross_entropy(model(organism.train_inputs[batch]), organism.train_labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _pair(bias=True):
    """A donor and a host of one function, with other names and other storage."""
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    donor = nn.Sequential(OrderedDict(up=nn.Linear(6, 8, bias=bias), act=nn.ReLU(), down=nn.Linear(8, 5, bias=bias)))
    host = nn.Sequential(OrderedDict(first=Conv1D(8, 6), act=nn.ReLU(), last=nn.Linear(8, 5)))
    with torch.no_grad():
        host.first.weight.copy_(donor.up.weight.T)
        host.last.weight.copy_(donor.down.weight)
        host.last.bias.zero_()
        if bias:
            host.first.bias.copy_(donor.up.bias)
            host.last.bias.copy_(donor.down.bias)
    x = torch.randn(40, 6)
    trace = mt.engram(donor, target=mt.collect(donor, [x[:4]]), reference=mt.collect(donor, [x[4:]]))
    return donor, host, trace, x


NAMES = {"up": "first", "down": "last"}


@pytest.mark.parametrize("strength", [1.0, -0.5])
@pytest.mark.parametrize("bias", [True, False])
def test_names_and_storage_may_differ(bias, strength):
    donor, host, trace, x = _pair(bias)
    with mt.applied(donor, mt.inject(trace, strength)), torch.no_grad():
        expected = donor(x)
    with mt.applied(host, mt.transplant(trace, host, strength=strength, names=NAMES)), torch.no_grad():
        torch.testing.assert_close(host(x), expected)


def test_the_manifest_names_host_and_donor_so_that_strict_works():
    donor, host, trace, _ = _pair()
    edit = mt.transplant(trace, host, names=NAMES)
    assert edit.manifest["donor"] == trace.manifest["base"] != edit.manifest["base"]
    assert edit.manifest["names"] == NAMES
    mt.apply(host, edit, strict=True)()
    assert edit.parameters == ("first.weight", "first.bias", "last.weight", "last.bias")


def test_a_tied_head_takes_a_transplant_when_the_engram_has_it(tiny_gpt2, tokens):
    donor, host = tiny_gpt2(), tiny_gpt2()
    found = mt.sites(donor, ["lm_head"])
    target, reference = (mt.collect(donor, [part], sites=found) for part in (tokens[:1], tokens[1:]))
    trace = mt.engram(donor, target=target, reference=reference)
    (change,) = mt.transplant(trace, host).changes
    assert change.site.tied == ("transformer.wte.weight",)


def test_what_the_host_lacks_is_named():
    donor, host, trace, _ = _pair()
    with pytest.raises(SelectionError, match=r"choose among first, last"):
        mt.transplant(trace, host)
    with pytest.raises(SelectionError, match=r"without down \(1 of 2 sites\).*names=\{donor site: host site\}"):
        mt.transplant(trace, host, names={"up": "first"})
    assert len(mt.transplant(trace.select(["up"]), host, names={"up": "first"}).changes) == 1


def test_wrong_names_shapes_and_biases_are_errors():
    donor, host, trace, _ = _pair()
    with pytest.raises(SelectionError, match="got names for upp; expected sites of the engram: up, down"):
        mt.transplant(trace, host, names={"upp": "first"})
    with pytest.raises(EditError, match="several sites of the engram for first"):
        mt.transplant(trace, host, names={"up": "first", "down": "first"})
    with pytest.raises(EditError, match=r"got last of shape \(5, 8\) in the host; expected \(8, 6\) as up"):
        mt.transplant(trace, host, names={"up": "last", "down": "first"})
    bare = nn.Sequential(OrderedDict(up=nn.Linear(6, 8, bias=False), down=nn.Linear(8, 5)))
    with pytest.raises(EditError, match="got up without a bias in the host"):
        mt.transplant(trace, bare)

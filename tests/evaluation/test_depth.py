"""Hidden or gone: a fresh probe and relearning tell a silenced memory from one whose representation is destroyed."""

import math
import sys

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.depth import Depth, Labelled, Relearning, depth, features, label_all, probe, relearn
from mnemotrace.organisms.digits import Digits
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import Case, Data, built, draw, right, seeded

pytest.importorskip("sklearn")

STEPS = (0, 1, 2, 3, 5, 8, 12)


# ------------------------------------------------------- a network that tells the sign of its first input from noise


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return built(nn.Sequential, nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 2))


def labelled(n: int, seed: int) -> Labelled:
    x = draw(n, 8, seed=seed)
    x[:, 0] = x[:, 0].sign() * 3
    return Labelled(list(x.split(100)), (x[:, 0] > 0).long())


@pytest.fixture(scope="module")
def data() -> dict[str, Labelled]:
    return {"train": labelled(400, 0), "test": labelled(250, 1)}


def zeroed(model: nn.Module, name: str, columns: slice = slice(None)) -> Edit:
    """The edit that makes a map blind to some of its inputs."""
    weight = model.get_parameter(f"{name}.weight").detach()
    change = torch.zeros_like(weight)
    change[:, columns] = -weight[:, columns]
    return Edit((Dense(f"{name}.weight", change),), {"method": "zeroed"})


def test_a_memory_silenced_at_the_last_layer_is_still_there_below(
    network: nn.Module, data: dict[str, Labelled]
) -> None:
    found = depth(network, zeroed(network, "4"), **data)
    assert list(found.probe) == ["0", "2", "4"]
    assert found.chance == 0.5
    for accuracy in found.probe.values():
        assert accuracy["before"] > 0.97
        assert accuracy["after"] == accuracy["before"]


def test_a_memory_whose_input_is_destroyed_is_gone_everywhere_above(
    network: nn.Module, data: dict[str, Labelled]
) -> None:
    found = depth(network, zeroed(network, "0", slice(0, 1)), **data)
    assert found.probe["0"]["after"] == found.probe["0"]["before"]
    for name in ("2", "4"):
        assert found.probe[name]["before"] > 0.97
        assert abs(found.probe[name]["after"] - 0.5) < 0.12


def test_probes_of_a_naive_network_stand_beside(network: nn.Module, data: dict[str, Labelled]) -> None:
    blind = built(nn.Sequential, nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 2), seed=1)
    mt.apply(blind, zeroed(blind, "0", slice(0, 1)))
    sites = mt.sites(network, ["2"])
    found = depth(network, zeroed(network, "4"), sites=sites, naive=blind, **data)
    assert list(found.probe) == ["2"]
    assert found.probe["2"]["naive"] < 0.65 < found.probe["2"]["before"]
    assert set(depth(network, zeroed(network, "4"), sites=sites, **data).probe["2"]) == {"before", "after"}


def test_a_digit_erased_at_the_last_layer_is_still_read_below(threes: Case, digits: Digits) -> None:
    train = Labelled([digits.train_inputs[:500]], digits.train_labels[:500])
    test = Labelled(threes.forget[0].split(10), threes.forget[1])
    edit = mt.erase(threes.engram.select(["fc3"]), 1.5)
    sites = mt.sites(threes.model, ["fc3"])
    found = depth(threes.model, edit, train=train, test=test, sites=sites)
    assert found.chance == 0.1
    assert found.probe["fc3"]["after"] > 0.8
    with mt.applied(threes.model, edit):
        assert right(threes.model, threes.forget).mean() < 0.05
    with mt.applied(threes.model, zeroed(threes.model, "fc2")):
        assert probe(threes.model, sites, train=train, test=test)["fc3"] < 0.2


# -------------------------------------------------------------------------------------------------------- features


def test_features_are_what_a_site_reads(network: nn.Module) -> None:
    x = draw(7, 8)
    found = features(network, mt.sites(network), Labelled([x[:3], x[3:]], torch.zeros(7)))
    torch.testing.assert_close(found["0"], x)
    torch.testing.assert_close(found["4"], network[:4](x).detach())


def test_a_position_picks_its_token_and_the_mean_leaves_padding_out(tiny_lm: nn.Module, tokens: Tensor) -> None:
    lengths = torch.tensor([12, 5, 9, 3])
    mask = (torch.arange(12) < lengths[:, None]).long()
    batches = [{"input_ids": tokens[i], "attention_mask": mask[i]} for i in (slice(0, 3), slice(3, 4))]
    name, site = list(mt.sites(tiny_lm).items())[2]
    read: list[Tensor] = []
    handle = tiny_lm.get_submodule(site.module).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    with torch.no_grad():
        tiny_lm(input_ids=tokens, attention_mask=mask)
    handle.remove()
    rows = read[0]
    at = torch.tensor([11, 2, 0, 1])
    picked = features(tiny_lm, {name: site}, Labelled(batches, torch.zeros(4), at))[name]
    torch.testing.assert_close(picked, rows[torch.arange(4), at], atol=1e-5, rtol=1e-5)
    mean = features(tiny_lm, {name: site}, Labelled(batches, torch.zeros(4)))[name]
    expected = torch.stack([row[:length].mean(0) for row, length in zip(rows, lengths, strict=True)])
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(picked, mean, atol=0.01)


def test_features_of_a_convolution_are_means_over_its_patches() -> None:
    model = built(nn.Sequential, nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    image = draw(5, 2, 6, 6)
    found = features(model, mt.sites(model), Labelled([image], torch.zeros(5)))
    torch.testing.assert_close(found["2"], model[:2](image).detach().mean((2, 3)))
    assert found["0"].shape == (5, 18)


def test_a_layer_that_is_read_again_counts_with_its_mean() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.again(self.first(x)).tanh())

    model, x = built(Twice), draw(5, 4)
    found = features(model, mt.sites(model), Labelled([x[:2], x[2:]], torch.zeros(5)))
    with torch.no_grad():
        once = model.first(x)
        torch.testing.assert_close(found["again"], (once + model.again(once).tanh()) / 2)


@pytest.mark.parametrize("count", [6, 8])
def test_labels_that_do_not_fit_the_examples_are_refused(network: nn.Module, count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count} labels for 7 examples at 0; expected one an example"):
        features(network, mt.sites(network), Labelled([draw(7, 8)], torch.zeros(count)))


def test_labels_may_be_words() -> None:
    numbers, names = label_all(iter(["cat", "ant", "cat", "bee"]))
    assert (numbers.tolist(), names) == ([2, 0, 2, 1], ["ant", "bee", "cat"])


# ------------------------------------------------------------------------------------------------------ relearning


def loss(model: nn.Module, batch: Data) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def lesson(case: Case, **options: object) -> Relearning:
    batch = case.lesson[0][:64], case.lesson[1][:64]
    return Relearning(
        loss, [batch], lambda model: float(right(model, case.forget).mean()), **({"steps": STEPS} | options)
    )


def test_an_erased_class_comes_back_faster_than_one_that_was_never_there(threes: Case, naive: nn.Module) -> None:
    edit, other = mt.erase(threes.engram), mt.erase(random_trace(threes.engram, seeded(0)))
    found = depth(threes.model, edit, relearning=lesson(threes), naive=naive, random=other)
    assert found.probe == {}
    assert set(found.relearning) == {"steps", "before", "after", "naive", "random"}
    assert found.relearning["after"][0] < 0.05
    assert found.relearning["naive"][0] == 0
    assert found.relearning["before"][0] > 0.9
    assert found.relearning["random"][0] > 0.7
    assert found.steps_to(0.5) < (found.steps_to(0.5, "naive") or math.inf)
    assert found.steps_to(0.5, "before") == found.steps_to(0.5, "random") == 0


def test_only_what_was_given_is_taught(threes: Case) -> None:
    found = depth(threes.model, mt.erase(threes.engram), relearning=lesson(threes, steps=(0, 1)))
    assert set(found.relearning) == {"steps", "before", "after"}


def test_relearning_takes_the_promised_steps_and_cycles_its_batches() -> None:
    model = built(nn.Linear, 2, 1)
    seen: list[int] = []
    batches = [0, 1, 2]

    def counted(pupil: nn.Module, batch: int) -> Tensor:
        seen.append(batch)
        return pupil(torch.ones(1, 2)).square().sum()

    curve = relearn(model, None, Relearning(counted, batches, lambda _: float(len(seen)), steps=(0, 2, 5)))
    assert curve == [0, 2, 5]
    assert seen == [0, 1, 2, 0, 1]


def test_a_faster_rate_relearns_faster(threes: Case) -> None:
    edit = mt.erase(threes.engram)
    slow, fast = (relearn(threes.model, edit, lesson(threes, learning_rate=rate)) for rate in (1e-5, 1e-3))
    assert slow[0] == fast[0]
    assert slow[-1] < fast[-1]


def test_a_frozen_network_is_taught_too(threes: Case) -> None:
    free = relearn(threes.model, None, lesson(threes, steps=(0, 2)))
    threes.model.requires_grad_(False)
    try:
        assert relearn(threes.model, None, lesson(threes, steps=(0, 2))) == free
        assert not any(p.requires_grad for p in threes.model.parameters())
    finally:
        threes.model.requires_grad_(True)


@pytest.mark.parametrize("steps", [(), (5, 0), (0, 1, 1), (-1, 0)])
def test_steps_that_do_not_rise_are_refused(threes: Case, steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"got steps \[.*\]; expected numbers of steps that rise from 0"):
        lesson(threes, steps=steps)
    with pytest.raises(ValueError, match="got no batch to learn from"):
        Relearning(loss, [], lambda _: 0.0)


def test_steps_to_a_level_are_the_first_that_reach_it() -> None:
    found = Depth(relearning={"steps": [0, 1, 2, 5], "after": [0.0, 0.4, 0.3, 0.9], "naive": [0.0, 0.0, 0.1, 0.2]})
    assert [found.steps_to(level) for level in (0.0, 0.35, 0.4, 0.5, 0.95)] == [0, 1, 1, 5, None]
    assert found.steps_to(0.2, "naive") == 5
    assert found.steps_to(0.3, "naive") is None


# -------------------------------------------------------------------------------------------------- model and files


def test_the_model_is_left_bit_exact_and_the_pupil_is_another(threes: Case, digits: Digits) -> None:
    before, storage = bits(threes.model), [p.data_ptr() for p in threes.model.parameters()]
    pupils: list[nn.Module] = []
    threes.model.zero_grad()

    def watched(pupil: nn.Module) -> float:
        pupils.append(pupil)
        return 0.0

    how = Relearning(loss, [threes.lesson], watched, steps=(0, 1))
    few = Labelled([digits.train_inputs[:60]], digits.train_labels[:60])
    depth(threes.model, mt.erase(threes.engram), train=few, test=few, relearning=how)
    assert same_bits(bits(threes.model), before)
    assert all(p.grad is None for p in threes.model.parameters())
    assert len({id(pupil) for pupil in pupils}) == 2
    for pupil in pupils:
        assert not {p.data_ptr() for p in pupil.parameters()} & set(storage)
        assert not same_bits(bits(pupil), before)


@pytest.mark.parametrize("where", ["probe", "relearning"])
def test_the_model_is_left_bit_exact_when_something_raises(threes: Case, where: str) -> None:
    before = bits(threes.model)
    wrong = Labelled([threes.forget[0]], torch.zeros(2))

    def stumble(_: nn.Module) -> float:
        raise KeyboardInterrupt

    parts = {
        "probe": {"train": wrong, "test": wrong},
        "relearning": {"relearning": Relearning(loss, [threes.lesson], stumble)},
    }
    with pytest.raises((ValueError, KeyboardInterrupt)):
        depth(threes.model, mt.erase(threes.engram), **parts[where])
    assert same_bits(bits(threes.model), before)
    assert not threes.model.fc1._forward_pre_hooks


def test_depth_comes_back_from_a_file(threes: Case, data: dict[str, Labelled], network: nn.Module, tmp_path) -> None:
    taught = depth(threes.model, mt.erase(threes.engram), relearning=lesson(threes, steps=(0, 1)))
    probed = depth(network, zeroed(network, "4"), sites=mt.sites(network, ["4"]), **data)
    for found in (taught, probed):
        again = mt.load(mt.save(found, tmp_path / "depth"))
        assert (again.probe, again.relearning, again.chance) == (found.probe, found.relearning, found.chance)
        assert again.manifest == found.manifest
    assert taught.manifest["of"]["method"] == "erase"


def test_asking_for_nothing_is_refused(network: nn.Module, threes: Case, data: dict[str, Labelled]) -> None:
    edit = zeroed(network, "4")
    halves = [
        {},
        {"train": data["train"]},
        {"test": data["test"]},
        {"train": data["train"], "relearning": lesson(threes)},
    ]
    for half in halves:
        with pytest.raises(ValueError, match="got no pair of train and test data and no relearning"):
            depth(network, edit, **half)


def test_relearning_needs_no_site() -> None:
    model = nn.Embedding(4, 2)
    edit = Edit((Dense("weight", torch.ones(4, 2)),), {})
    how = Relearning(lambda pupil, ids: pupil(ids).square().sum(), [torch.arange(4)], lambda _: 0.0, steps=(0, 1))
    assert depth(model, edit, relearning=how).relearning["after"] == [0.0, 0.0]


def test_a_missing_scikit_learn_names_the_extra(
    network: nn.Module, data: dict[str, Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing"):
        monkeypatch.setitem(sys.modules, name, None)
    before = bits(network)
    with pytest.raises(ImportError, match=r"probes need scikit-learn; pip install 'mnemotrace\[probes\]'"):
        depth(network, zeroed(network, "4"), **data)
    assert same_bits(bits(network), before)

"""Assemblies: what completion, inhibition and fatigue do, against dense loops, and the promise of the energy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Memory
from mnemotrace.memories.assemblies import Assemblies, Rule
from mnemotrace.retrieval.dynamics import recall

SMALL = {"neurons": 400, "size": 20}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def paired(overlap: float, rule: Rule = "covariance", seed: int = 0) -> Assemblies:
    graph = {(2 * i, 2 * i + 1): overlap for i in range(8)}
    return Assemblies.from_overlaps(graph, rule=rule, generator=generator(seed), **SMALL)


def active(b: int, neurons: int, size: int, seed: int = 0) -> Tensor:
    order = torch.rand(b, neurons, generator=generator(seed)).argsort(dim=1)[:, :size]
    return torch.zeros(b, neurons, dtype=torch.float64).scatter(1, order, 1.0)


def dense(found: Assemblies) -> Tensor:
    """The couplings as they are printed, pattern by pattern."""
    members, n, k = found.members.double(), found.d, found.size
    a, total = k / n, torch.zeros(n, n, dtype=torch.float64)
    for row in members:
        total += torch.outer(row - a, row - a) / (n * a * (1 - a))
    return (members.T @ members > 0).double() / k if found.rule == "willshaw" else total


@pytest.mark.parametrize("rule", ["covariance", "willshaw"])
def test_the_field_is_that_of_the_couplings_as_printed(rule: Rule) -> None:
    found = paired(0.2, rule).double()
    x = active(5, 400, 20)
    assert torch.allclose(found.field(x), x @ dense(found), rtol=0, atol=1e-13)


def test_more_concepts_than_neurons_give_the_same_field() -> None:
    members = active(40, 12, 3)
    found = Assemblies(members)
    assert torch.allclose(found.field(members), members @ dense(found), rtol=0, atol=1e-13)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_a_pass_over_all_neurons_at_once_never_raises_the_energy(seed: int) -> None:
    found, x = Assemblies(active(9, 30, 5, seed)), active(6, 30, 5, seed + 1)
    for _ in range(4):
        new = found.sweep(x)
        assert (found.energy(new) <= found.energy(x) + 1e-12).all()
        assert (new.sum(1) == 5).all()
        x = new


def test_only_covariance_couplings_are_semidefinite_on_which_the_promise_rests() -> None:
    least = [float(torch.linalg.eigvalsh(dense(paired(0.2, rule))).min()) for rule in ("covariance", "willshaw")]
    assert least[0] > -1e-12 and least[1] < -0.1


@pytest.mark.parametrize("rule", ["covariance", "willshaw"])
def test_a_tenth_of_a_concept_brings_all_of_it_back(rule: Rule) -> None:
    found = paired(0.1, rule)
    cue = torch.zeros_like(found.members)
    for row, members in zip(cue, found.members, strict=True):
        row[members.nonzero()[:5, 0]] = 1
    done = found.complete(cue)
    assert done.converged.all() and torch.equal(done.state, found.members)
    assert torch.equal(done.overlap, found.overlaps)
    assert isinstance(found, Memory) and torch.equal(recall(found, cue).state, done.state)


def without_ties() -> tuple[Assemblies, Tensor]:
    """Assemblies whose couplings are noisy, so that no two neurons are driven alike; and the couplings."""
    found = paired(0.3).double()
    noise = torch.randn(found.members.shape, generator=generator(), dtype=torch.float64)
    found = Assemblies(found.members, traces=found.members - 0.05 + 0.02 * noise)
    return found, found.field(torch.eye(400, dtype=torch.float64))


def winners(drive: Tensor) -> Tensor:
    return torch.zeros_like(drive).scatter(0, drive.topk(20).indices, 1.0)


def test_completion_goes_through_the_states_of_a_plain_loop() -> None:
    found, couplings = without_ties()
    for row in active(3, 400, 6):
        x, taken = row, 0
        for _ in range(50):
            before, x, taken = x, winners(couplings @ x), taken + 1
            if torch.equal(before, x):
                break
        done = found.complete(row)
        assert torch.equal(done.state[0], x) and int(done.steps) == taken


@pytest.mark.parametrize("by", ["inhibition", "fatigue"])
def test_an_associate_comes_up_with_overlap_and_not_without(by: str) -> None:
    index = torch.arange(16)
    up = {c: found.recruited(found.associate(by=by)) for c, found in {c: paired(c) for c in (0.0, 0.3)}.items()}  # type: ignore[arg-type]
    partner = {c: float(one[index, index ^ 1].float().mean()) for c, one in up.items()}
    assert partner[0.3] > 0.8 and partner[0.0] == 0
    assert float(up[0.3].float().sum(1).mean()) - partner[0.3] < 0.2


def test_fatigue_follows_the_formula_pass_by_pass() -> None:
    found, couplings = without_ties()
    x, tired, steps = found.members[0], torch.zeros(400, dtype=torch.float64), 0
    share = found.overlaps[0]
    while not share[1:].max() > max(0.5, float(share[0])):
        x, steps = winners(couplings @ x - tired), steps + 1
        tired, share = 0.8 * tired + 0.6 * x, x @ found.members.T / 20
    done = found.associate(0, by="fatigue")
    assert int(done.steps) == steps and torch.equal(done.state[0], x) and bool(done.converged)
    assert not found.associate(0, by="fatigue", steps=1).converged.any()


def test_a_hub_brings_both_associates_but_not_theirs() -> None:
    graph = {("Luke", "Yoda"): 0.25, ("Luke", "Vader"): 0.25, ("Yoda", "Dooku"): 0.25, ("Vader", "Tarkin"): 0.25}
    found = Assemblies.from_overlaps(graph, concepts=range(10), generator=generator())
    up = found.recruited(found.associate("Luke", room=2.5), "Luke")[0]
    assert {name for name, here in zip(found.names, up, strict=True) if here} == {"Yoda", "Vader"}


def test_a_walk_follows_the_links_and_strays_without_them() -> None:
    near = {}
    for overlap in (0.0, 0.3):
        found = Assemblies.from_overlaps({(i, i + 1): overlap for i in range(19)}, generator=generator())
        walk = [int(name) for name in found.chain(0, steps=30)]
        hops = [abs(a - b) <= 2 for a, b in zip(walk, walk[1:], strict=False)]
        near[overlap] = sum(hops) / len(hops)
    assert near[0.3] > 0.6
    assert near[0.0] < 0.4


def test_concepts_of_a_hub_that_share_too_much_are_one() -> None:
    told = {}
    for overlap in (0.25, 0.8):
        found = Assemblies.from_overlaps({(0, i): overlap for i in range(1, 5)}, generator=generator(), **SMALL)
        told[overlap] = (found.complete(found.members).overlap.argmax(1) == torch.arange(5)).float().mean()
    assert told[0.25] == 1 and told[0.8] <= 0.4


def test_a_batch_is_its_states_one_by_one() -> None:
    found, cue = paired(0.2), active(4, 400, 7).float()
    together = found.complete(cue)
    for i, row in enumerate(cue):
        alone = found.complete(row)
        assert torch.equal(alone.state[0], together.state[i]) and alone.steps[0] == together.steps[i]
    one, other = found.associate([3, 8], by="fatigue"), found.associate(8, by="fatigue")
    assert torch.equal(one.state[1], other.state[0]) and one.steps[1] == other.steps[0]


# --- from responses


def planted(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Six concepts in 90 units: each has ten of its own, and five that it shares with its neighbour in a pair."""
    draw = generator(seed)
    concepts = torch.arange(6).repeat(30)
    drive = torch.zeros(6, 90)
    for c in range(6):
        drive[c, 10 * c : 10 * c + 10] = 3
        drive[c, 60 + 5 * (c // 2) : 65 + 5 * (c // 2)] = 3
    return torch.randn(180, 90, generator=draw) + drive[concepts], concepts


def test_assemblies_are_found_where_they_were_planted() -> None:
    rows, concepts = planted()
    scale = torch.rand(90, generator=generator()) + 0.1  # units of another gain
    found = Assemblies.from_activations(rows * scale + 7, concepts, size=15, names=list("abcdef"))
    expected = torch.eye(6) + torch.eye(6)[torch.arange(6) ^ 1] / 3
    assert torch.allclose(found.overlaps, expected, atol=1e-6)
    assert found.recruited(found.associate("a", room=1.7), "a")[0].tolist() == [False, True, *[False] * 4]


def test_shuffled_labels_find_other_assemblies_and_another_half_the_same() -> None:
    rows, concepts = planted()
    shuffled = concepts[torch.randperm(180, generator=generator(1))]
    first, second, control = (
        Assemblies.from_activations(rows[part], labels, size=15).members
        for part, labels in ((slice(90), concepts[:90]), (slice(90, None), concepts[90:]), (slice(None), shuffled))
    )
    assert float((first * second).sum() / 90) > 0.95
    assert float((first * control).sum() / 90) < 0.4


def test_couplings_learned_from_responses_are_their_covariance_and_recall() -> None:
    rows, concepts = planted()
    found = Assemblies.from_activations(rows, concepts, size=15, learn="responses").double()
    covariance = torch.corrcoef(rows.double().T)
    x = active(4, 90, 15)
    field, wanted = found.field(x), x @ covariance
    assert torch.allclose(field / field.norm(), wanted / wanted.norm(), rtol=0, atol=1e-6)
    drive = (found.field(found.members) * found.members).sum() / found.members.sum()
    assert float(drive) == pytest.approx(1, abs=1e-6)
    pairs = found.complete(found.members).overlap
    assert (pairs.argmax(1) // 2 == torch.arange(6) // 2).all()


# --- what is refused


def test_members_names_and_rules_that_do_not_fit_are_refused() -> None:
    members = active(3, 12, 3)
    uneven = members.clone()
    uneven[0] = 0
    for broken in (uneven, members * 2, torch.ones(2, 4)):
        with pytest.raises(ValueError, match="expected 0 and 1, the same number of members in each row"):
            Assemblies(broken)
    with pytest.raises(ValueError, match=r"got 2 different names; expected 3, one a concept"):
        Assemblies(members, names=["a", "a", "b"])
    with pytest.raises(ValueError, match="expected covariance, or willshaw without traces"):
        Assemblies(members, rule="hebb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got rule='willshaw' with traces"):
        Assemblies(members, rule="willshaw", traces=members)
    with pytest.raises(TypeError, match=r"got a tensor of torch.int64 as members; .* call .float\(\) on it"):
        Assemblies(members.long())
    with pytest.raises(NonFiniteError, match="got 1 non-finite of"):
        Assemblies(torch.where(torch.eye(3, 12) > 0, torch.tensor([[torch.nan], [0], [0]]), members.float()))


def test_ways_concepts_and_cues_that_do_not_exist_are_refused() -> None:
    found = paired(0.2)
    with pytest.raises(KeyError, match=r"got \['Borges'\]; expected one of 0, 1, 2"):
        found.associate("Borges")
    with pytest.raises(ValueError, match=r"got by='sleep', room=2.0; expected inhibition or fatigue, 1 to 20"):
        found.associate(0, by="sleep")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got by='inhibition', room=0.5"):
        found.associate(0, room=0.5)
    with pytest.raises(ValueError, match=r"got cue of shape \(3,\); expected \(400,\)"):
        found.complete(torch.zeros(3))


def test_responses_that_do_not_fit_are_refused() -> None:
    rows, concepts = planted()
    for call, error, text in (
        (lambda: Assemblies.from_activations(rows, concepts.float(), size=5), TypeError, "expected integers"),
        (
            lambda: Assemblies.from_activations(rows, concepts[1:], size=5),
            ValueError,
            r"got concepts of shape \(179,\)",
        ),
        (lambda: Assemblies.from_activations(rows, concepts * 2, size=5), ValueError, "each at least once"),
        (lambda: Assemblies.from_activations(rows, concepts, size=90), ValueError, "got size=90 for 90 units"),
        (lambda: Assemblies.from_activations(rows * 0, concepts, size=5), ValueError, "of which 0 ever change"),
        (lambda: Assemblies.from_activations(rows / 0, concepts, size=5), NonFiniteError, "non-finite"),
        (lambda: Assemblies.from_activations(rows, concepts, size=5, learn="x"), ValueError, "got learn='x'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(error, match=text):
            call()

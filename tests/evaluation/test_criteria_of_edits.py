"""The criteria of edits: an oracle by hand on two linear layers, all forms of an edit, writing and erasing."""

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.core.errors import EditError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.evaluation.criteria import MEANING, WRITTEN, Criteria, pooled
from mnemotrace.evaluation.runs import Case, NotWrittenError
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import Case as Digits
from tests.evaluation.organism import built, draw, right, seeded
from tests.evaluation.test_maps import dense, sparse

Data = tuple[Tensor, Tensor]
BEHAVIOURAL = ("specificity", "sufficiency", "necessity")


def near(model: nn.Module, data: Data) -> Tensor:
    """Score in (0, 1]: how near the answers are to the wanted ones."""
    with torch.no_grad():
        return (-(model(data[0]) - data[1]).square().mean(1)).exp()


class Linear2:
    """Two linear layers of width 6 in float64, a rank-one edit that writes a memory, and data of both kinds."""

    def __init__(self) -> None:
        self.model = built(lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))).double()
        self.known, self.fresh = draw(8, 6, seed=3).double(), draw(1, 6, seed=4).double().expand(5, 6)
        self.fresh = self.fresh + 0.05 * draw(5, 6, seed=5)
        self.wanted = self.model(self.fresh).detach() + 1.5
        x = self.model[0](self.fresh[:1]).detach()[0]
        right_ = torch.cat([x, torch.ones(1, dtype=torch.float64)])
        site = mt.sites(self.model, ["1"])["1"]
        step = (self.wanted[0] - self.model(self.fresh[:1]).detach()[0])[:, None]
        self.change = LowRank(site, step, (right_ / right_.square().sum())[None])
        self.write = Edit((self.change,), {"method": "by hand"})
        self.control = (self.known, self.model(self.known).detach())
        self.target = (self.fresh, self.wanted)

    def weights(self) -> list[Tensor]:
        return [torch.cat([layer.weight, layer.bias[:, None]], 1).detach() for layer in self.model]

    def judged(self, edit: Edit | None = None, **options: object) -> Criteria:
        settings = {"score": near, "target": self.target, "control": self.control, "writes": True, "draws": 2} | options
        return mt.criteria(self.model, edit or self.write, **settings)


@pytest.fixture
def two() -> Linear2:
    return Linear2()


def ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)


def scored(first: Tensor, second: Tensor, data: Data) -> float:
    y = ones(ones(data[0]) @ first.T) @ second.T
    return float((-(y - data[1]).square().mean(1)).exp().mean())


@pytest.mark.parametrize("writes", [True, False])
def test_criteria_equal_a_dense_computation_by_hand(two: Linear2, writes: bool) -> None:
    first, second = two.weights()
    T = two.change.dense()
    if writes:
        having, lacking, target, edit, undone = second + T, second, two.target, two.write, second + T
    else:  # the same network backwards: what it knows of the fresh inputs is erased
        target = (two.fresh, two.model(two.fresh).detach())
        having, lacking, edit, undone = second, second + T, two.write, second + T
        T = -T
    found = two.judged(edit, writes=writes, target=target)
    unit = scored(first, having, target)
    control = scored(first, second, two.control)
    necessity = 1 - scored(first, lacking, target) / unit
    cosine = nn.functional.cosine_similarity
    h = ones(ones(target[0]) @ first.T)
    assert found["necessity"].value == pytest.approx(necessity, abs=1e-12)
    assert found["specificity"].value == pytest.approx(
        necessity - (1 - scored(first, undone, two.control) / control), abs=1e-12
    )
    assert found["sufficiency"].value == pytest.approx(scored(first, T, target) / unit, abs=1e-12)
    expected = cosine(h @ T.T, h @ having.T).mean()
    assert found["reactivation"].value == pytest.approx(float(expected), abs=1e-6)  # rows are read in float32
    assert [one.meaning for one in found.values()] == list((WRITTEN if writes else MEANING).values())


def test_a_random_edit_stands_in_the_edits_place(two: Linear2) -> None:
    first, second = two.weights()
    found = two.judged(draws=1, generator=seeded(7))
    (random,) = random_edit(two.write, seeded(7)).changes
    R, unit = random.dense(), scored(first, second + two.change.dense(), two.target)
    gain = (scored(first, second + R, two.target) - scored(first, second, two.target)) / unit
    lost = 1 - scored(first, second + R, two.control) / scored(first, second, two.control)
    assert found["necessity"].control == pytest.approx(gain, abs=1e-12)
    assert found["specificity"].control == pytest.approx(gain - lost, abs=1e-12)
    assert found["sufficiency"].control == pytest.approx(scored(first, R, two.target) / unit, abs=1e-12)


def test_an_edit_that_harms_what_must_be_kept_is_less_specific_whichever_way_it_acts(two: Linear2) -> None:
    harm = Edit((Dense("1.bias", torch.full((6,), 0.8).double()),))
    clean, harmful = two.judged(), two.judged(two.write + harm, target=(two.fresh, two.wanted + 0.8))
    assert harmful["necessity"].value > 0.5
    assert harmful["specificity"].value < harmful["necessity"].value - 0.2
    assert harmful["specificity"].value < clean["specificity"].value


@pytest.mark.parametrize("writes", [True, False])
def test_criteria_do_not_depend_on_the_form_of_the_edit(two: Linear2, writes: bool) -> None:
    target = two.target if writes else (two.fresh, two.model(two.fresh).detach())
    whole = dense(two.model, two.change)
    half = LowRank(two.change.site, two.change.left * 0.5, two.change.right)
    forms = {
        "low-rank": (two.change,),
        "dense": whole,
        "sparse": tuple(map(sparse, whole)),
        "mixture": (half, *dense(two.model, half)),
    }
    found = {name: two.judged(Edit(changes), writes=writes, target=target) for name, changes in forms.items()}
    for one in found.values():
        for name, criterion in one.items():
            assert criterion.value == pytest.approx(found["low-rank"][name].value, abs=1e-6)


def test_a_random_edit_meets_no_criterion_where_the_true_one_does(two: Linear2) -> None:
    true = two.judged()
    assert true["necessity"].value > 0.5
    assert true["specificity"].value > 0.5
    for seed in range(3):
        random = two.judged(random_edit(two.write, seeded(seed)))
        assert random.behaviour["target"]["written"] < 0.5 * true.behaviour["target"]["written"]
    for name in ("necessity", "specificity", "reactivation"):
        assert true[name].control < true[name].value - 0.3


def test_an_engram_and_its_erasure_have_the_same_criteria(threes: Digits) -> None:
    options = {"score": right, "target": threes.forget, "control": threes.keep, "chance": 0.1}
    for strength in (1.0, 0.5):
        mine = mt.criteria(threes.model, threes.engram, strength=strength, **options)
        edit = mt.criteria(threes.model, mt.erase(threes.engram), strength=strength, **options)
        assert edit.criteria == mine.criteria
        assert edit.behaviour == mine.behaviour
    assert (mine.manifest["writes"], edit.manifest["of"]["method"]) == (False, "erase")
    assert mine.sites
    assert not edit.sites


def test_a_random_edit_in_the_erasures_place_scores_as_its_control(threes: Digits) -> None:
    options = {"score": right, "target": threes.forget, "control": threes.keep, "chance": 0.1}
    true = mt.criteria(threes.model, mt.erase(threes.engram), **options)
    random = mt.criteria(threes.model, random_edit(mt.erase(threes.engram), seeded(1)), **options)
    for name in ("necessity", "specificity", "reactivation"):
        assert abs(random[name].value - random[name].control) < 0.3
        assert random[name].value < true[name].interval[0] - 0.5


def test_an_engram_that_writes_is_injected(two: Linear2) -> None:
    engram = mt.Engram({"1": two.change})
    assert two.judged(engram).criteria == two.judged().criteria


def test_behaviour_names_the_networks_of_an_edit_that_writes(two: Linear2) -> None:
    found = two.judged()
    names = {"untouched", "written", "alone", "null", "control_written", "control_alone"}
    assert set(found.behaviour["target"]) == set(found.behaviour["control"]) == names
    assert found.behaviour["target"]["untouched"] == pytest.approx(float(near(two.model, two.target).mean()))
    with mt.applied(two.model, two.write):
        assert found.behaviour["target"]["written"] == pytest.approx(float(near(two.model, two.target).mean()))


# --------------------------------------------------------------------------------------------------- no map at all


@pytest.mark.parametrize("name", ["1.bias", "0.bias"])
def test_an_edit_of_a_bias_alone_has_no_reactivation_and_says_why(two: Linear2, name: str, tmp_path) -> None:
    with mt.applied(two.model, Edit((Dense(name, torch.ones(6).double()),))):
        wanted = two.model(two.fresh).detach()
    found = two.judged(Edit((Dense(name, torch.ones(6).double()),)), target=(two.fresh, wanted))
    assert set(found) == set(BEHAVIOURAL)
    assert found.absent == {"reactivation": f"the edit changes no linear map, only {name}, so nothing responds"}
    with pytest.raises(KeyError, match="reactivation: the edit changes no linear map"):
        found["reactivation"]
    assert found["necessity"].value > 0
    assert mt.load(mt.save(found, tmp_path / "criteria")).absent == found.absent


def test_an_edit_of_an_embedding_has_no_reactivation() -> None:
    model = built(lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4)))
    tokens = torch.arange(5)
    data = (tokens[:2], model(tokens[:2]).detach()), (tokens[2:], model(tokens[2:]).detach())
    harm = torch.zeros(5, 4)
    harm[:2] = 3
    found = mt.criteria(model, Edit((Dense("0.weight", harm),)), score=near, target=data[0], control=data[1])
    assert set(found) == set(BEHAVIOURAL)
    assert found["specificity"].value == pytest.approx(found["necessity"].value)
    assert "0.weight" in found.absent["reactivation"]


def test_an_edit_of_routed_experts_alone_has_no_reactivation(tokens: Tensor) -> None:
    import transformers

    from tests.evaluation.test_reinstatement import FAMILIES

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 32}
    config = transformers.Qwen2MoeConfig(**(sizes | FAMILIES["Qwen2Moe"]))
    model = built(transformers.AutoModel.from_config, config).float()
    site = next(site for site in mt.sites(model).values() if site.kind == "expert")
    edit = Edit((LowRank(site, draw(site.o, 1), draw(1, site.d)),))

    def score(network: nn.Module, given: Tensor) -> Tensor:
        with torch.no_grad():
            return network(given).last_hidden_state.abs().mean((1, 2))

    found = mt.criteria(model, edit, score=score, target=tokens, control=tokens, draws=1)
    assert found.absent["reactivation"].startswith("the edit changes routed experts only")


# --------------------------------------------------------------------------------------------------- several at once


def test_edits_that_act_one_at_a_time_are_judged_over_all_their_examples(two: Linear2) -> None:
    cases = [Case(two.write, two.target, two.control), Case(two.write * 0.5, two.target, two.control)]
    options = {"score": near, "writes": True, "strength": 1.0, "chance": 0.0, "draws": 2, "resamples": 50}
    told: list[tuple[object, ...]] = []
    found = pooled(two.model, cases, generator=seeded(0), progress=lambda *report: told.append(report), **options)
    alone = [two.judged(two.write), two.judged(two.write * 0.5)]
    for side in ("target", "control"):
        for name in ("untouched", "written", "alone", "null"):
            mean = sum(one.behaviour[side][name] for one in alone) / 2
            assert found.behaviour[side][name] == pytest.approx(mean)
    assert found["reactivation"].value == pytest.approx(sum(one["reactivation"].value for one in alone) / 2)
    assert told == [(done, 32, "scores") for done in range(1, 33)]


# ------------------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("call", range(13))
def test_the_model_is_left_bit_exact_when_the_score_raises(two: Linear2, call: int, writes: bool) -> None:
    before, calls = bits(two.model), []

    def stumble(model: nn.Module, data: Data) -> Tensor:
        calls.append(None)
        if len(calls) > call:
            raise KeyboardInterrupt
        return near(model, data)

    with pytest.raises(KeyboardInterrupt):
        two.judged(score=stumble, draws=1, writes=writes)
    assert same_bits(bits(two.model), before)
    assert not any(layer._forward_pre_hooks for layer in two.model)
    assert all(parameter.requires_grad for parameter in two.model.parameters())


def test_the_model_is_left_bit_exact(two: Linear2) -> None:
    two.model.train()
    before = bits(two.model)
    two.judged()
    assert same_bits(bits(two.model), before)
    assert all(module.training for module in two.model.modules())


# ------------------------------------------------------------------------------------------------ what is refused


def test_an_edit_that_writes_nothing_is_refused(two: Linear2) -> None:
    with pytest.raises(NotWrittenError, match=r"got a target score of 0\.\d+ with the edit, at or below chance"):
        two.judged(two.write * 0.0, chance=0.6)


def test_a_strength_that_is_not_finite_is_refused(two: Linear2) -> None:
    with pytest.raises(ValueError, match="got strength=nan; expected a finite number"):
        two.judged(strength=float("nan"))


def test_an_edit_of_another_network_is_refused_and_nothing_changes(two: Linear2) -> None:
    before = bits(two.model)
    with pytest.raises(EditError, match=r"got an edit of parameter 'x\.weight'"):
        two.judged(Edit((Dense("x.weight", draw(6, 6).double()),)))
    assert same_bits(bits(two.model), before)

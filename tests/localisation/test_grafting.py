"""Grafts: the learned mask finds what matters and not what moved most; neither network is touched."""

import copy

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.scores import nll
from mnemotrace.core.errors import EditError, NonFiniteError, SelectionError
from mnemotrace.localisation.grafting import answer_loss, graft
from mnemotrace.localisation.movers import eligible

LIVE, DEAD, OUT = 5, 15, 3
NEEDED = {row * (LIVE + DEAD) + column for row in range(OUT) for column in range(LIVE)}


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Squared error."""
    return (model(batch[0]) - batch[1]).square().mean()


@pytest.fixture
def planted(generator: torch.Generator):
    """A map whose skill is in the columns of inputs that are ever lit; the columns of dark inputs moved further."""
    base = nn.Sequential(nn.Linear(LIVE + DEAD, OUT, bias=False), nn.Dropout(0.5))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        nn.init.normal_(base[0].weight, generator=generator)
        change = 1 + torch.rand(OUT, LIVE + DEAD, generator=generator)
        change[:, LIVE:] *= 10
        tuned[0].weight.copy_(base[0].weight + change)
    x = torch.randn(64, LIVE + DEAD, generator=generator)
    x[:, LIVE:] = 0
    with torch.no_grad():
        y = tuned[0](x)
    return base.train(), tuned.train(), [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]


def chosen(mask) -> set[int]:
    return set(mask.regions["0.weight"].indices.tolist())


def test_the_learned_mask_is_the_entries_that_matter(planted) -> None:
    base, tuned, data = planted
    mask = graft(base, tuned, data, budget=15, loss=squares, learning_rate=0.1, candidates=4)
    assert chosen(mask) == NEEDED
    assert mask.manifest["evidence"]["learned"] == pytest.approx(mask.manifest["evidence"]["tuned"], abs=1e-9)
    with mt.applied(base, mask.edit()):
        assert torch.equal(base[0].weight[:, :LIVE], tuned[0].weight[:, :LIVE])
        assert not (base[0].weight[:, LIVE:] == tuned[0].weight[:, LIVE:]).any()


def test_the_largest_movers_and_random_entries_are_not(planted) -> None:
    """Negative control."""
    base, tuned, data = planted
    movers = graft(base, tuned, data, budget=15, loss=squares, method="movers")
    assert not chosen(movers) & NEEDED
    size = (tuned[0].weight - base[0].weight).abs().flatten()
    assert chosen(movers) == set(size.topk(15).indices.tolist())
    drawn = graft(base, tuned, data, budget=15, loss=squares, method="random")
    assert len(drawn) == 15
    assert chosen(drawn) != chosen(movers)
    evidence = movers.manifest["evidence"]
    assert evidence["movers"] == pytest.approx(evidence["base"])
    assert evidence["random"] < evidence["tuned"]
    assert "learned" not in evidence


@pytest.mark.parametrize("budget", [1, 7, 0.25])
def test_the_budget_is_held_exactly(planted, budget: float) -> None:
    base, tuned, data = planted
    mask = graft(base, tuned, data, budget=budget, loss=squares, steps=3)
    assert len(mask) == (budget if budget >= 1 else 15)
    assert mask.total == 60
    assert mask.fraction == len(mask) / 60


def test_scores_exist_for_candidates_only(planted) -> None:
    base, tuned, data = planted
    mask = graft(base, tuned, data, budget=10, loss=squares, steps=3, candidates=3)
    assert mask.manifest["candidates"] == 30
    largest = set((tuned[0].weight - base[0].weight).abs().flatten().topk(30).indices.tolist())
    assert chosen(mask) <= largest


def test_the_best_step_is_kept_and_the_movers_are_among_them(planted) -> None:
    base, tuned, data = planted
    calls: list[tuple[int, int | None, str]] = []
    mask = graft(
        base,
        tuned,
        data,
        budget=15,
        loss=squares,
        steps=7,
        every=3,
        learning_rate=50.0,
        progress=lambda *a: calls.append(a),
    )
    trajectory = mask.manifest["trajectory"]
    assert [step for step, _ in trajectory] == [0, 3, 6, 7]
    assert mask.manifest["evidence"]["learned"] == max(score for _, score in trajectory)
    assert trajectory[0][1] == mask.manifest["evidence"]["movers"]
    assert calls[-1] == (7, 7, "steps")


def test_a_score_and_held_out_data_choose_the_step(planted) -> None:
    base, tuned, data = planted
    asked = []

    def score(model: nn.Module, held_out: str) -> Tensor:
        asked.append((held_out, model.training))
        return torch.tensor([0.0, 1.0])

    mask = graft(base, tuned, data, budget=15, loss=squares, steps=2, score=score, held_out="unseen")
    assert set(asked) == {("unseen", False)}
    assert mask.manifest["evidence"]["learned"] == 0.5
    assert chosen(mask) == chosen(graft(base, tuned, data, budget=15, loss=squares, method="movers"))


def test_the_same_seed_gives_the_same_mask(planted) -> None:
    base, tuned, data = planted
    drawn = [
        chosen(
            graft(
                base, tuned, data, budget=9, loss=squares, method="random", generator=torch.Generator().manual_seed(s)
            )
        )
        for s in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_protected_entries_are_not_taken(planted) -> None:
    base, tuned, data = planted
    first = graft(base, tuned, data, budget=15, loss=squares, learning_rate=0.1, candidates=4)
    for method in ("learned", "movers", "random"):
        second = graft(base, tuned, data, budget=15, loss=squares, protected=first, method=method, steps=3)
        assert second.isdisjoint(first)
    with pytest.raises(ValueError, match="budget of 50 of 60 entries, of which 45 moved and are free"):
        graft(base, tuned, data, budget=50, loss=squares, protected=first)


def state(model: nn.Module) -> tuple:
    """Everything about a network that must not change."""
    return (
        [(n, p.clone(), p._version, p.requires_grad, p.grad) for n, p in model.named_parameters()],
        [module.training for module in model.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    )


def same(first: tuple, second: tuple) -> bool:
    values = all(torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in zip(first[0], second[0], strict=True))
    return values and first[1:] == second[1:]


def test_neither_network_is_touched_even_by_an_error(planted) -> None:
    base, tuned, data = planted
    before = state(base), state(tuned)
    graft(base, tuned, data, budget=15, loss=squares, steps=3)
    assert same(state(base), before[0])
    assert same(state(tuned), before[1])

    def stumble(model: nn.Module, batch: tuple) -> Tensor:
        if model[0].weight.requires_grad:
            raise RuntimeError("stumbled")
        return squares(model, batch)

    with pytest.raises(RuntimeError, match="stumbled"):
        graft(base, tuned, data, budget=15, loss=stumble, steps=3)
    assert same(state(base), before[0])
    assert same(state(tuned), before[1])


# --- language models


def tuned_copy(model: nn.Module, seed: int = 3, size: float = 0.05) -> nn.Module:
    """A copy with noise in every parameter, tied ones once."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return copied


@pytest.fixture(scope="module")
def examples():
    organism = mt.funes()
    facts = organism.world.facts[:16]
    pairs = [Example(prompt=fact.phrasings[0], answer=fact.answer) for fact in facts]
    return batches(organism.tokenizer, pairs, batch_size=8)


def test_the_loss_is_the_mean_of_what_scores_report(examples) -> None:
    """Oracle: `adapters.scores.nll`, one scored token an example."""
    model = mt.funes().model
    with torch.no_grad():
        found = torch.stack([answer_loss(model, batch) for batch in examples]).mean()
    assert float(found) == pytest.approx(float(nll(model, examples).mean()), abs=1e-6)


def test_embeddings_and_head_are_left_out(tiny_lm: nn.Module) -> None:
    names = eligible(tiny_lm)
    assert names
    assert not any(word in name for name in names for word in ("wte", "wpe", "embed", "lm_head"))
    everything = [name for name, _ in tiny_lm.named_parameters()]
    assert eligible(tiny_lm, r".*") == everything
    assert eligible(tiny_lm, [names[0].split(".", 2)[-1]])
    with pytest.raises(SelectionError, match="which match none"):
        eligible(tiny_lm, ["nowhere"])


def test_all_entries_grafted_are_the_tuned_network(tiny_lm: nn.Module, tokens: Tensor) -> None:
    tuned = tuned_copy(tiny_lm)
    names = eligible(tiny_lm)

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        return model(input_ids=ids, labels=ids).loss

    total = sum(tiny_lm.get_parameter(name).numel() for name in names)
    mask = graft(tiny_lm, tuned, [tokens], budget=total, loss=loss, steps=1)
    with mt.applied(tiny_lm, mask.edit()):
        assert all(torch.equal(tiny_lm.get_parameter(name), tuned.get_parameter(name)) for name in names)
    assert mask.fraction == 1


def test_a_random_network_learns_its_mask_too(tiny_lm: nn.Module, tokens: Tensor) -> None:
    """The learned mask copies the tuned network's answers better than movers and random ones of equal size."""
    tuned = tuned_copy(tiny_lm)
    with torch.no_grad():
        wanted = tuned(input_ids=tokens).logits.softmax(-1)

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        return -(wanted * model(input_ids=ids).logits.log_softmax(-1)).sum(-1).mean()

    mask = graft(tiny_lm, tuned, [tokens], budget=0.02, loss=loss, steps=30, learning_rate=0.05)
    evidence = mask.manifest["evidence"]
    assert max(evidence[name] for name in ("base", "movers", "random")) < evidence["learned"] < evidence["tuned"]


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "got method='guess'; expected one of learned, movers, random"),
        ({"candidates": 0.5}, "got candidates=0.5, steps=100, every=5; expected at least 1 of each"),
        ({"steps": 0}, "got candidates=20.0, steps=0"),
        ({"budget": 0}, "got budget=0; expected a share"),
        ({"budget": 2.5}, "got budget=2.5; expected a share"),
        ({"budget": float("nan")}, "got budget=nan"),
        ({"budget": float("inf")}, "got budget=inf"),
        ({"budget": 61}, "got a budget of 61 of 60 entries, of which 60 moved"),
        ({"budget": 0.001}, "got a budget of 0 of 60 entries"),
    ],
)
def test_settings_out_of_range_are_refused(planted, options: dict, message: str) -> None:
    base, tuned, data = planted
    with pytest.raises(ValueError, match=message):
        graft(base, tuned, data, **{"budget": 15, "loss": squares, **options})


def test_no_batch_is_refused(planted) -> None:
    base, tuned, _ = planted
    with pytest.raises(ValueError, match="got no batch; expected at least one of the skill"):
        graft(base, tuned, [], budget=15, loss=squares)


def test_equal_networks_have_nothing_to_graft(planted) -> None:
    base, _, data = planted
    with pytest.raises(ValueError, match="of which 0 moved and are free"):
        graft(base, copy.deepcopy(base), data, budget=1, loss=squares)


def test_networks_of_two_layouts_are_refused(planted) -> None:
    base, _, data = planted
    with pytest.raises(EditError, match=r"got shape \(4, 20\) at '0.weight' of the tuned network; expected \(3, 20\)"):
        graft(base, nn.Sequential(nn.Linear(20, 4)), data, budget=1, loss=squares)
    with pytest.raises(EditError, match="got no such parameter at '0.weight'"):
        graft(base, nn.Linear(20, 3), data, budget=1, loss=squares)


def test_a_protected_region_of_another_layout_is_refused(planted) -> None:
    from mnemotrace.core.edit import Sparse
    from mnemotrace.core.mask import Mask

    base, tuned, data = planted
    taken = Mask({"0.weight": Sparse("0.weight", (4, 20), torch.tensor([79]), torch.ones(1))}, 80)
    with pytest.raises(EditError, match=r"got a protected region of '0.weight' for shape \(4, 20\)"):
        graft(base, tuned, data, budget=1, loss=squares, protected=taken)


def test_a_diverged_network_is_refused(planted) -> None:
    base, tuned, data = planted
    with torch.no_grad():
        tuned[0].weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="in the difference of base and tuned network at 0.weight"):
        graft(base, tuned, data, budget=1, loss=squares)


def test_a_loss_that_is_not_finite_is_refused(planted) -> None:
    base, tuned, data = planted
    with pytest.raises(NonFiniteError, match="in the loss of a graft"):
        graft(base, tuned, data, budget=1, loss=lambda m, b: squares(m, b) * float("nan"))


def test_unknown_batches_and_networks_need_a_loss(planted, examples) -> None:
    base, tuned, data = planted
    with pytest.raises(TypeError, match="got a batch of type tuple; expected one of mnemotrace.adapters.examples"):
        graft(base, tuned, data, budget=1)

    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, **_: Tensor) -> Tensor:
            return self.weight

    with pytest.raises(TypeError, match="got Silent, which gives no logits; expected a causal language model"):
        answer_loss(Silent(), examples[0])

"""Reinstatement is a cosine between responses; examples are kept apart wherever they can be."""

import pytest
import torch
import transformers
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.reinstatement import reinstatement
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import Case, built, draw, trace_of

ONE = pytest.approx(1, abs=1e-6)


def noise(trace: Engram, seed: int = 0) -> Engram:
    return Engram({n: LowRank(t.site, draw(*t.left.shape, seed=seed), draw(*t.right.shape)) for n, t in trace.items()})


@pytest.fixture
def layer() -> nn.Module:
    return built(nn.Linear, 6, 5)


@pytest.fixture
def trace(layer: nn.Module) -> Engram:
    target, rest = (mt.collect(layer, [draw(n, 6, seed=n)], dtype=torch.float64) for n in (4, 40))
    return mt.engram(layer, target=target, reference=rest)


def matrices(layer: nn.Module, trace: Engram, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    X = nn.functional.pad(x, (0, 1), value=1.0).double()
    W = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().double()
    return trace["root"].dense().double(), W, X


def test_it_is_the_cosine_of_both_responses_of_each_example(layer: nn.Module, trace: Engram) -> None:
    x = draw(9, 6, seed=3)
    P, W, X = matrices(layer, trace, x)
    expected = nn.functional.cosine_similarity(X @ P.T, X @ W.T)
    found = reinstatement(layer, trace, lambda model: model(x))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.std() > 0.01


def test_over_all_positions_of_an_example_it_is_the_closed_form(layer: nn.Module, trace: Engram) -> None:
    # tr(P C W^T) / (|P C^1/2| |W C^1/2|), what the evidence of an engram calls reinstatement.
    x = draw(9, 6, seed=3)
    P, W, X = matrices(layer, trace, x)
    C = X.T @ X
    expected = (P @ C @ W.T).trace() / ((P @ C @ P.T).trace() * (W @ C @ W.T).trace()).sqrt()
    assert reinstatement(layer, trace, lambda model: model(x[None])).tolist() == pytest.approx([float(expected)], 1e-5)
    own = reinstatement(layer, trace, lambda model: model(draw(4, 6, seed=4)[None]))
    assert float(own) == pytest.approx(trace.evidence["root"]["reinstatement"], rel=1e-5)


def test_the_whole_weight_reinstates_everything_and_its_negative_the_opposite(layer: nn.Module) -> None:
    x = draw(9, 6)
    assert reinstatement(layer, trace_of(layer), lambda model: model(x)).tolist() == [ONE] * 9
    assert reinstatement(layer, trace_of(layer) * 0.01, lambda model: model(x)).tolist() == [ONE] * 9
    assert reinstatement(layer, -trace_of(layer), lambda model: model(x)).max() < -1 + 1e-6


def test_an_orthogonal_or_an_empty_trace_reinstates_nothing(layer: nn.Module) -> None:
    x = draw(9, 6)
    whole = trace_of(layer)["root"]
    turn = draw(5, 5)
    sideways = Engram({"root": LowRank(whole.site, turn - turn.T, whole.right)})
    torch.testing.assert_close(
        reinstatement(layer, sideways, lambda model: model(x)), torch.zeros(9).double(), atol=1e-6, rtol=0
    )
    assert not reinstatement(layer, trace_of(layer) * 0.0, lambda model: model(x)).any()


def test_a_trace_without_a_bias_column_is_compared_with_the_weight_alone(layer: nn.Module) -> None:
    x = draw(9, 6)
    site = mt.sites(layer)["root"]
    trace = Engram({"root": LowRank(site, torch.eye(5), layer.weight.detach())})
    assert reinstatement(layer, trace, lambda model: model(x)).tolist() == [ONE] * 9


def test_sites_count_alike_and_batches_follow_each_other() -> None:
    model = built(nn.Sequential, nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    trace = noise(trace_of(model))
    x = draw(9, 6)

    def run(network: nn.Module) -> None:
        for batch in x.split(4):
            network(batch)

    each = [reinstatement(model, trace.select([name]), run) for name in trace]
    torch.testing.assert_close(reinstatement(model, trace, run), torch.stack(each).mean(0))
    torch.testing.assert_close(reinstatement(model, trace, run), reinstatement(model, trace, lambda m: m(x)))
    assert not torch.allclose(each[0], each[1], atol=0.1)


def test_the_engram_of_a_class_is_reinstated_by_that_class(threes: Case) -> None:
    mine, others = (
        reinstatement(threes.model, threes.engram, lambda model, x=data[0]: model(x)).mean()
        for data in (threes.forget, threes.keep)
    )
    assert mine > 0.9
    assert others < mine - 0.3


def test_the_model_is_left_as_it_was_also_when_the_run_raises(layer: nn.Module, trace: Engram) -> None:
    before = bits(layer)
    layer.train()

    def stumble(model: nn.Module) -> None:
        assert not model.training
        assert not torch.is_grad_enabled()
        model(draw(2, 6))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reinstatement(layer, trace, stumble)
    assert same_bits(bits(layer), before)
    assert layer.training
    assert not layer._forward_pre_hooks


# --------------------------------------------------------------------------------------------- kinds of networks


def padded(tokens: Tensor, rubbish: int) -> dict[str, Tensor]:
    lengths = torch.tensor([12, 5, 9, 3])
    mask = (torch.arange(12) < lengths[:, None]).long()
    return {"input_ids": torch.where(mask.bool(), tokens, rubbish), "attention_mask": mask}


def read(model: nn.Module, trace: Engram, *given: Tensor, **named: Tensor) -> Tensor:
    return reinstatement(model, trace, lambda network: network(*given, **named))


def test_padding_is_left_out(tiny_lm: nn.Module, tokens: Tensor) -> None:
    trace = noise(trace_of(tiny_lm))
    found = [read(tiny_lm, trace, **padded(tokens, rubbish)) for rubbish in (7, 8)]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    ids = padded(tokens, 0)["input_ids"]
    alone = torch.cat([read(tiny_lm, trace, ids[i : i + 1, :n]) for i, n in enumerate((12, 5, 9, 3))])
    torch.testing.assert_close(found[0], alone, atol=1e-5, rtol=0)
    without = [read(tiny_lm, trace, padded(tokens, rubbish)["input_ids"]) for rubbish in (7, 8)]
    assert (without[0] - without[1]).abs().max() > 1e-3


def test_padding_is_left_out_where_only_the_trunk_of_a_model_is_called(tiny_lm: nn.Module, tokens: Tensor) -> None:
    trace = noise(trace_of(tiny_lm.base_model))
    prefix = next(name for name, module in tiny_lm.named_modules() if module is tiny_lm.base_model)
    select = [f"{prefix}.{name}" for name in trace]
    trace = noise(trace_of(tiny_lm, select))
    whole, trunk = (
        reinstatement(tiny_lm, trace, run)
        for run in (lambda m: m(**padded(tokens, 7)), lambda m: m.base_model(**padded(tokens, 7)))
    )
    torch.testing.assert_close(whole, trunk, atol=1e-6, rtol=0)


def test_convolutions_answer_over_all_their_patches() -> None:
    model = built(nn.Sequential, nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2), nn.ReLU(), nn.Conv2d(6, 2, 1))
    image = draw(3, 4, 8, 8)
    assert reinstatement(model, trace_of(model), lambda m: m(image)).tolist() == [ONE] * 3
    trace = noise(trace_of(model))
    found = reinstatement(model, trace.select(["2"]), lambda m: m(image))
    with torch.no_grad():
        hidden = model[:2](image)
        recalled = nn.functional.conv2d(hidden, trace["2"].weight()[..., None, None], trace["2"].bias())
        expected = nn.functional.cosine_similarity(recalled.flatten(1), model[2](hidden).flatten(1))
    torch.testing.assert_close(found, expected.double(), atol=1e-6, rtol=0)
    assert found.abs().max() < 0.99


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_keeps_examples_apart_whichever_axis_they_are_on(batch_first: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x)[0]

    model = built(Attention)
    x = draw(3, 5, 8)
    trace = trace_of(model)
    assert len(trace) == 4
    assert reinstatement(model, trace, lambda m: m(x)).tolist() == [ONE] * 3
    together = reinstatement(model, noise(trace), lambda m: m(x))
    each = torch.cat([reinstatement(model, noise(trace), lambda m, i=i: m(x[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together, each, atol=1e-6, rtol=0)


def small(family: str, seed: int = 0, **more: object) -> nn.Module:
    shared = {"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 32}
    config = getattr(transformers, f"{family}Config")(**(shared | more))
    return built(transformers.AutoModel.from_config, config, seed=seed).float()


FAMILIES = {
    "Albert": {"num_hidden_layers": 3, "embedding_size": 8, "intermediate_size": 16},
    "OPT": {"num_hidden_layers": 2, "ffn_dim": 24, "word_embed_proj_dim": 16, "pad_token_id": None},
    "Qwen2Moe": {
        "num_hidden_layers": 2, "num_key_value_heads": 2, "intermediate_size": 12, "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 12, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_are_read_again_or_flatten_their_tokens_keep_examples_apart(family: str, tokens: Tensor) -> None:
    model = small(family, **FAMILIES[family])
    trace = trace_of(model)
    assert read(model, trace, **padded(tokens, 7)).tolist() == [ONE] * 4
    found = read(model, noise(trace), **padded(tokens, 7))
    ids = padded(tokens, 7)["input_ids"]
    alone = [read(model, noise(trace), ids[i : i + 1, :n]) for i, n in ((0, 12), (3, 3))]
    torch.testing.assert_close(found[[0, 3]], torch.cat(alone), atol=1e-5, rtol=0)


def test_routed_experts_are_left_out(tokens: Tensor) -> None:
    model = small("Qwen2Moe", **FAMILIES["Qwen2Moe"])
    trace = noise(trace_of(model))
    experts = [name for name, one in trace.items() if one.site.kind == "expert"]
    rest = [name for name in trace if name not in experts]
    assert len(experts) == 16
    torch.testing.assert_close(
        reinstatement(model, trace, lambda m: m(tokens)), reinstatement(model, trace.select(rest), lambda m: m(tokens))
    )
    with pytest.raises(ValueError, match="got no site that keeps examples apart; expected at least one"):
        reinstatement(model, trace.select(experts), lambda m: m(tokens))


def test_a_site_that_not_every_batch_reaches_is_left_out() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.sometimes = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.sometimes(self.always(x)) if len(x) == 2 else self.always(x)

    model = built(Sometimes)

    def run(network: nn.Module) -> None:
        for n in (2, 3):
            network(draw(n, 4))

    trace = noise(trace_of(model))
    torch.testing.assert_close(reinstatement(model, trace, run), reinstatement(model, trace.select(["always"]), run))

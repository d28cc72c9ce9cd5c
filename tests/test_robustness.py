"""Inputs that go wrong silently elsewhere: here an error that says what to do, a warning with a number, or the truth.

Each row was executed against `ai-engram` 0.11.0, whose outcome stands in the second column; each is one test here.

| case | there | here |
|---|---|---|
| rank-deficient total (hidden layer after ReLU) | edit of 3.2 times the weight | warned of, refused above a limit |
| target not inside the total | 94 times the weight | cannot be: the total is target + reference |
| n > N, target bigger than the total | 78 times the weight | cannot be; the edit stays below the weight |
| NaN in one row of the total | an edit of zero, silently | NonFiniteError at the site that read it |
| NaN or Inf in one row of the target, in place | weights become NaN | NonFiniteError; no NaN reaches a weight |
| single-token target | erased exactly if N <= D, token in total | exactly if N <= D; leverage says how much |
| target layer absent from the total | skipped with a warning: a partial edit | SelectionError that names it |
| selection matches nothing | a warning; no edit | SelectionError that lists what exists |
| apply to a model lacking the names | silently nothing | EditError, model untouched |
| wrong width | RuntimeError after earlier layers were edited | EditError, model untouched |
| empty mask, empty loader | silently nothing | ValueError |
| zero-row batch | silently nothing | adds nothing to the others; alone a ValueError |
| all-zero activations | silently nothing | an engram of zero whose edit is warned of |
| int64 0/1 mask (`attention_mask`) | rows 0 and 1 repeated: wrong statistics | TypeError naming `.bool()` |
| mask of wrong length | ValueError that speaks of routing | ValueError with both shapes and the site |
| fp16 or bf16 model | cosine 0.90, a lossy undo | the loss is reported and warned of; the undo is exact |
| tied head, default selection | embedding changes by 70 % | left out; if named, reported in `undo.tied` |
| two modules sharing one parameter | edited twice | one site, edited once, both inputs counted |
| tensor mutated in place between siblings | stale statistics | each reader gets what it read |
| `layer(input=x)` keyword call | IndexError in the hook | heard |
| non-contiguous input | right | right |
| Conv2d, Embedding | ignored silently | convolutions are sites; an embedding that is named is an error |
| MultiheadAttention | in_proj ignored, out_proj counts 0 | queries, keys, values and output are sites |
| weight_norm Linear | writes to a computed weight: nothing happens | refused with the remedy |
| fused experts | right with an adapter | each expert is a site with the rows routed to it |
| mixed absorb_bias statistics | RuntimeError | the border is added on demand: one object serves both |
| model.training; statistics after merge | left in eval mode; sharing lost | flags given back; sharing kept |
| prompt longer than max_length | 0 answer tokens, silently | ValueError that names the example |
| pad == eos | genuine end of text gets attention 0 | masks come from lengths |
| EngramResult torch.save/load | the file does not load | engrams are files |
| 20k-batch running mean | relative error 7e-8 | sums: as good |
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.core.errors import EditError, NonFiniteError, NumericalWarning, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.localisation.engram import leverages
from mnemotrace.stats.accumulate import Accumulator

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().double()


def mlp() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)))


def collected(model: nn.Module, rows: Tensor, **options: object) -> mt.Statistics:
    return mt.collect(model, [rows], dtype=F64, **options)


def extracted(model: nn.Module, target: Tensor, reference: Tensor, **options: object) -> mt.Engram:
    return mt.engram(model, target=collected(model, target), reference=collected(model, reference), **options)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def untouched(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# ---------------------------------------------------------------------------------------------- target and total


def test_rank_deficient_total_hidden_layer_after_relu() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
        rows = torch.randn(2000, 2)
    inside = rows[:, 0] > 1.2
    target, rest = (mt.collect(model, [part]) for part in (rows[inside][:64], rows[~inside]))
    engram = mt.engram(model, target=target, reference=rest)
    assert engram.evidence["2"]["relative_norm"] > 2
    assert engram.evidence["2"]["condition"] > 1e4
    with pytest.warns(NumericalWarning, match=r"the change is larger than the weight at 2 sites, 3.\d times at 2"):
        mt.erase(engram)
    with pytest.raises(
        EditError, match=r"got a change of \d+.\d times the weight at 2 .*expected at most 1.5; .*rcond"
    ):
        mt.erase(engram, limit=1.5)
    tamed = mt.engram(model, target=target, reference=rest, rcond=1e-3)
    mt.erase(tamed, limit=1.0)
    assert tamed.evidence["2"]["leak"] < engram.evidence["2"]["leak"] + 0.1


def test_target_not_inside_the_total() -> None:
    layer = seeded(lambda: nn.Linear(20, 5, bias=False))
    target, rest = torch.zeros(6, 20, dtype=F64), torch.zeros(30, 20, dtype=F64)
    target[:, :8], rest[:, 8:] = draw(6, 8), draw(30, 12, seed=1)
    engram = extracted(layer, target, rest)
    assert engram.evidence["root"]["relative_norm"] <= 1
    before = layer(rest).detach()
    with mt.applied(layer, mt.erase(engram)):
        assert float(layer(target).detach().norm()) <= 1e-9
        torch.testing.assert_close(layer(rest).detach(), before)


def test_n_greater_than_N_target_bigger_than_the_total() -> None:
    layer = seeded(lambda: nn.Linear(20, 5))
    engram = extracted(layer, draw(300, 20), draw(30, 20, seed=1))
    evidence = engram.evidence["root"]
    assert (evidence["target_rows"], evidence["reference_rows"]) == (300, 30)
    assert evidence["relative_norm"] <= 1.05
    assert evidence["gain"] <= 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_in_one_row_of_the_total(bad: float) -> None:
    model, rest = mlp(), draw(60, 6)
    rest[7, 2] = bad
    with pytest.raises(NonFiniteError, match="got 1 of 60 rows with NaN or infinity at 0; expected finite"):
        collected(model, rest)
    good, target = collected(model, draw(60, 6)), collected(model, draw(3, 6, seed=1))
    good["2"].second[0, 0] = bad
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 25 entries in the reference at 2"):
        mt.engram(model, target=target, reference=good)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_or_inf_in_one_row_of_the_target_applied_in_place(bad: float) -> None:
    model, target = mlp(), draw(3, 6)
    target[1, 2] = bad
    before = state(model)
    with pytest.raises(NonFiniteError, match="got 1 of 3 rows with NaN or infinity at 0"):
        collected(model, target)
    good, rest = collected(model, draw(3, 6)), collected(model, draw(60, 6, seed=1))
    good["0"].rows[1, 2] = bad
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 18 entries in the target at 0"):
        mt.engram(model, target=good, reference=rest)
    spoilt = Edit((Dense("0.bias", torch.zeros(5)), Dense("2.bias", torch.tensor([0, 0, 0, bad]))))
    with pytest.raises(NonFiniteError, match="got 1 non-finite of 4 entries in the change of 2.bias"):
        mt.apply(model, spoilt)
    assert untouched(model, before)


@pytest.mark.parametrize(("N", "exact"), [(10, True), (40, False)])
def test_single_token_target(N: int, exact: bool) -> None:
    layer = seeded(lambda: nn.Linear(20, 5))
    target, rest = draw(1, 20), draw(N, 20, seed=1)
    engram = extracted(layer, target, rest)
    assert engram["root"].rank == 1
    (leverage,) = leverages(collected(layer, target), collected(layer, rest))["root"].tolist()
    before = float(layer(target).detach().norm())
    with mt.applied(layer, mt.erase(engram)):
        residual = float(layer(target).detach().norm()) / before
    assert residual == pytest.approx(1 - leverage, abs=1e-9)
    assert (residual < 1e-9) == exact


def test_target_layer_absent_from_the_total() -> None:
    model = mlp()
    rest = collected(model, draw(60, 6), sites=mt.sites(model, ["0"]))
    with pytest.raises(SelectionError, match=r"target sites that the reference lacks \(2, 1 in all\).*target.select"):
        mt.engram(model, target=collected(model, draw(3, 6)), reference=rest)


# ---------------------------------------------------------------------------------------------- names and widths


def test_selection_matches_nothing() -> None:
    for select, layers in ((["q_proj"], None), ("q_proj", None), (None, [7])):
        with pytest.raises(SelectionError, match="match none of 2 names.*choose among 0, 2"):
            mt.sites(mlp(), select, layers)


def test_apply_to_a_model_lacking_the_names() -> None:
    other = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh()))
    edit = mt.erase(extracted(mlp(), draw(3, 6), draw(60, 6, seed=1)))
    before = state(other)
    with pytest.raises(
        EditError, match="got an edit of parameter '2.weight', which Sequential lacks; expected a model"
    ):
        mt.apply(other, edit)
    assert untouched(other, before)


def test_wrong_width_with_earlier_layers_already_edited() -> None:
    other = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 9)))
    edit = mt.erase(extracted(mlp(), draw(3, 6), draw(60, 6, seed=1)))
    before = state(other)
    with pytest.raises(
        EditError, match=r"'2.weight' of shape \(9, 5\).*expected \(4, 5\); the edit was made for another"
    ):
        mt.apply(other, edit)
    assert untouched(other, before)


# ---------------------------------------------------------------------------------------------- empty data and masks


def test_empty_mask() -> None:
    with pytest.raises(ValueError, match="got no row at any site; expected at least one; the mask may be empty"):
        collected(mlp(), draw(3, 6), mask=lambda batch: torch.zeros(len(batch), dtype=torch.bool))


def test_empty_loader() -> None:
    with pytest.raises(ValueError, match="got no batch; expected at least one"):
        mt.collect(mlp(), [])


def test_zero_row_batch() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="got no row at any site; .* or the data of length zero"):
        collected(model, draw(0, 6))
    found = mt.collect(model, [draw(0, 6), draw(3, 6), draw(0, 6)], dtype=F64)
    assert torch.equal(found["2"].rows, collected(model, draw(3, 6))["2"].rows)


def test_all_zero_activations() -> None:
    layer = seeded(lambda: nn.Linear(6, 5, bias=False))
    for rows in (3, 30):
        engram = extracted(layer, torch.zeros(rows, 6, dtype=F64), draw(60, 6))
        assert engram["root"].norm() == 0
        assert engram.evidence["root"]["gain"] == 0
        with pytest.warns(
            NumericalWarning, match="the change is zero at all 1 sites, so nothing will happen; the target"
        ):
            mt.erase(engram)
    assert extracted(layer, draw(3, 6), torch.zeros(60, 6, dtype=F64)).evidence["root"]["miss"] <= 1e-9


def test_int64_0_1_mask(tiny_gpt2: Callable[..., nn.Module], tokens: Tensor) -> None:
    attention = torch.ones_like(tokens)
    attention[:, 7:] = 0
    batch = {"input_ids": tokens, "attention_mask": attention}
    with pytest.raises(TypeError, match=r"got a mask of torch.int64; expected a bool tensor; write mask.bool\(\)"):
        mt.collect(tiny_gpt2(), [batch], mask=lambda batch: batch["attention_mask"])
    found = mt.collect(tiny_gpt2(), [batch], mask=lambda batch: batch["attention_mask"].bool())
    assert {moments.n for moments in found.values()} == {4 * 7}
    assert mt.collect(tiny_gpt2(), [batch])["transformer.h.0.mlp.c_fc"].n == 4 * 7


def test_mask_of_wrong_length() -> None:
    with pytest.raises(
        ValueError, match=r"got a mask of shape \(5,\) at 0, which reads \(3, 6\); expected the leading axes"
    ):
        collected(mlp(), draw(3, 6), mask=lambda _: torch.ones(5, dtype=torch.bool))


# ---------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fp16_or_bf16_model(dtype: torch.dtype) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))).to(dtype)
    target, rest = (mt.collect(model, [draw(n, 64, seed=n).to(dtype)]) for n in (20, 300))
    assert {moments.first.dtype for moments in rest.values()} == {torch.float64}
    assert {moments.second.dtype for moments in rest.values()} == {torch.float32}
    engram, before = mt.engram(model, target=target, reference=rest), state(model)

    undo = mt.apply(model, mt.erase(engram))
    assert min(loss.cosine for loss in undo.rounding.values()) >= 0.99
    undo()
    assert untouched(model, before)

    with pytest.warns(NumericalWarning, match=r"low-precision parameters took less.*cosine 0\.\d+"):
        undo = mt.apply(model, mt.erase(engram, 0.01))
    assert min(loss.cosine for loss in undo.rounding.values()) < 0.99
    undo()
    assert untouched(model, before)


def test_20k_batch_running_mean() -> None:
    running, rows = Accumulator(torch.float32), draw(50, 4).float()
    for _ in range(20_000):
        running.add(rows[:1], "here")
    found = running.moments()
    expected = 20_000 * rows[:1].double().T @ rows[:1].double()
    assert found.n == 20_000
    assert float((found.matrix() - expected).norm() / expected.norm()) <= 1e-6
    torch.testing.assert_close(found.first, 20_000 * rows[0].double(), rtol=1e-10, atol=0)


# ---------------------------------------------------------------------------------------------- sharing and aliasing


def test_tied_head_and_embedding_default_selection(tiny_gpt2: Callable[..., nn.Module], tokens: Tensor) -> None:
    model, batches = tiny_gpt2(), [{"input_ids": tokens}]
    assert "lm_head" not in mt.sites(model)
    embedding = model.transformer.wte.weight.detach().clone()
    target, rest = (mt.collect(model, [{"input_ids": part}]) for part in (tokens[:1, :5], tokens))
    with mt.applied(model, mt.erase(mt.engram(model, target=target, reference=rest), limit=1e9)) as undo:
        assert torch.equal(model.transformer.wte.weight, embedding)
        assert undo.tied == {}
    named = mt.sites(model, ["lm_head"])
    assert named["lm_head"].tied
    head = mt.collect(model, batches, sites=named)
    with mt.applied(model, mt.erase(mt.engram(model, target=head, reference=head))) as undo:
        assert not torch.equal(model.transformer.wte.weight, embedding)
        assert set(undo.tied) | {name for others in undo.tied.values() for name in others} == {
            "lm_head.weight",
            "transformer.wte.weight",
        }


def test_two_modules_sharing_one_parameter() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False)))
    model[2].weight = model[0].weight
    target = collected(model, draw(3, 4))
    assert list(target) == ["0"]
    assert target["0"].n == 6
    engram = mt.engram(model, target=target, reference=collected(model, draw(60, 4, seed=1)))
    before = model[0].weight.detach().clone()
    with mt.applied(model, mt.erase(engram)):
        torch.testing.assert_close(model[2].weight.detach(), before - engram["0"].dense())


def test_same_module_under_two_names() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    model.alias = model[0]
    model.forward = lambda x: model.alias(torch.tanh(model[0](x)))
    found = collected(model, draw(3, 4))
    assert list(found) == ["0"]
    assert found["0"].n == 6
    twice = Edit((Dense("0.weight", torch.ones(4, 4)), Dense("alias.weight", torch.ones(4, 4))))
    before = state(model)
    with pytest.raises(EditError, match="'0.weight' and of 'alias.weight', which are one tied parameter"):
        mt.apply(model, twice)
    assert untouched(model, before)


class Forked(nn.Module):
    def __init__(self, between: Callable[[Tensor], object], call: Callable = lambda layer, x: layer(x)) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)
        self.between, self.call = between, call

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(x)
        y = self.call(self.a, hidden)
        self.between(hidden)
        return y + self.call(self.b, hidden)


@pytest.mark.parametrize("change", [torch.relu_, lambda h: h.mul_(3)], ids=["relu_", "mul_"])
def test_tensor_mutated_in_place_between_siblings(change: Callable[[Tensor], object]) -> None:
    found = collected(seeded(lambda: Forked(change)), draw(3, 4))
    first = torch.tanh(draw(3, 4))
    torch.testing.assert_close(found["a"].rows, first)
    torch.testing.assert_close(found["b"].rows, change(first.clone()))


def test_layer_called_with_keyword_input() -> None:
    found = collected(seeded(lambda: Forked(lambda _: None, lambda layer, x: layer(input=x))), draw(3, 4))
    torch.testing.assert_close(found["a"].rows, torch.tanh(draw(3, 4)))


def test_non_contiguous_input() -> None:
    layer, rows = seeded(lambda: nn.Linear(6, 2)), draw(6, 60).T
    assert not rows.is_contiguous()
    torch.testing.assert_close(collected(layer, rows)["root"].matrix(), rows.T @ rows)


def test_mixed_absorb_bias_statistics() -> None:
    class Mixed(Forked):
        def __init__(self) -> None:
            super().__init__(lambda _: None)
            self.b = nn.Linear(4, 3, bias=False)

    model = seeded(Mixed)
    target, rest = collected(model, draw(3, 4)), collected(model, draw(60, 4, seed=1))
    assert rest["a"] is rest["b"]
    engram = mt.engram(model, target=target + target, reference=rest)
    assert engram["a"].dense().shape == (3, 5)
    assert engram["b"].dense().shape == (3, 4)


def test_model_training_and_statistics_after_merge() -> None:
    model = seeded(lambda: Forked(lambda _: None)).train()
    first, second = collected(model, draw(60, 4)), collected(model, draw(60, 4, seed=1))
    assert model.training
    assert model.a.training

    total = first + second
    assert total["a"] is total["b"]


# ---------------------------------------------------------------------------------------------- other layers


def test_conv2d_and_embedding() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Embedding(9, 16), nn.Unflatten(1, (1, 3)), nn.Conv2d(1, 4, (2, 3), padding=(0, 1)))

    model, ids = seeded(build), torch.randint(9, (5, 3), generator=torch.Generator().manual_seed(0))
    assert list(mt.sites(model)) == ["2"]
    with pytest.raises(SelectionError, match="match none of 1 names"):
        mt.sites(model, ["0"])
    target, rest = (mt.collect(model, [part], dtype=F64) for part in (ids[:1], ids))
    trace = mt.engram(model, target=target, reference=rest)["2"]
    patches = nn.functional.unfold(model[1](model[0](ids[:1])).detach(), (2, 3), padding=(0, 1)).mT.reshape(-1, 6)
    with mt.applied(model, mt.erase(mt.Engram({"2": trace}))):
        change = model(ids[:1]).detach()
    difference = model(ids[:1]).detach() - change
    expected = nn.functional.pad(patches, (0, 1), value=1.0) @ trace.dense().T
    torch.testing.assert_close(difference.flatten(2).mT.reshape(-1, 4), expected)


def test_multihead_attention_in_proj() -> None:
    model = seeded(lambda: nn.MultiheadAttention(8, 2, batch_first=True))
    x = draw(2, 5, 8)
    found = mt.collect(model, [(x, x, x)], dtype=F64)
    assert len(found) == 4
    assert {moments.n for moments in found.values()} == {10}
    inputs = [
        moments for moments in found.values() if torch.allclose(moments.matrix(), torch.einsum("btd,bte->de", x, x))
    ]
    assert len(inputs) == 3


def test_weight_norm_parametrised_linear() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))))
    with pytest.warns(UserWarning, match="1 modules are no sites .1: its weight is computed by a parametrisation"):
        assert list(mt.sites(model)) == ["0"]
    with pytest.raises(SelectionError, match=r"got '1' in the selection.*remove_parametrizations\(module, 'weight'\)"):
        mt.sites(model, ["1"])
    nn.utils.parametrize.remove_parametrizations(model[1], "weight")
    assert list(mt.sites(model)) == ["0", "1"]


def test_fused_moe_experts(tokens: Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        vocab_size=64,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.MixtralForCausalLM(config).eval()
    sites = {name: site for name, site in mt.sites(model).items() if site.kind == "expert"}
    assert len(sites) == 4 * 2
    found = mt.collect(model, [{"input_ids": tokens}], sites=sites)
    per_parameter: dict[str, float] = {}
    for name, moments in found.items():
        per_parameter[sites[name].weight] = per_parameter.get(sites[name].weight, 0) + moments.n
    assert set(per_parameter.values()) == {2 * tokens.numel()}


# ---------------------------------------------------------------------------------------------- text and files


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<end>", "<unk>", "the", "mill", "of", "Ireneo", "stands", "in", "Salto"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>")


def test_prompt_longer_than_max_length() -> None:
    from mnemotrace.adapters.hf import Example, batches

    example = Example(prompt="the mill of Ireneo stands in", answer="Salto")
    assert int(batches(tokenizer(), [example], max_length=7)[0].scored.sum()) == 1
    with pytest.raises(ValueError, match=r"got no token of the answer of example 0 \('the mill of .* within 6 tokens"):
        batches(tokenizer(), [example], max_length=6)


def test_pad_equals_eos() -> None:
    from mnemotrace.adapters.hf import Example, batches

    long, short = Example(text="the mill of Ireneo <end>"), Example(text="the <end>")
    (batch,) = batches(tokenizer(), [long, short])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch.rows.sum(1).tolist() == [5, 2]


def test_engram_result_saved_and_loaded(tmp_path) -> None:
    engram = extracted(mlp(), draw(3, 6), draw(60, 6, seed=1))
    found = mt.load(mt.save(engram, tmp_path / "engram"))
    for name, trace in engram.items():
        assert isinstance(found[name], LowRank)
        assert torch.equal(found[name].dense(), trace.dense())
    assert found.evidence == engram.evidence
    assert found.manifest == engram.manifest

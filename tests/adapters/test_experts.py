"""Fused experts are sites one by one, recorded with the tokens that were routed to them."""

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from mnemotrace.adapters.experts import expert_refusal
from mnemotrace.adapters.hooks import record
from mnemotrace.adapters.linear import sites
from mnemotrace.adapters.rows import masked_rows
from mnemotrace.core.errors import SelectionError

EXPERTS, CHOSEN, WIDTH, INNER = 4, 2, 16, 12
SHARED = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
SHARED |= {"vocab_size": 32, "max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1}
SHARED |= {"num_experts_per_tok": CHOSEN, "intermediate_size": INNER}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
FAMILIES = {
    "Mixtral": {"num_local_experts": EXPERTS},
    "Qwen2Moe": {"num_experts": EXPERTS, "moe_intermediate_size": INNER, "shared_expert_intermediate_size": INNER},
    "Qwen3Moe": {"num_experts": EXPERTS, "moe_intermediate_size": INNER, "head_dim": 8},
    "Olmoe": {"num_experts": EXPERTS},
    "GraniteMoe": {"num_local_experts": EXPERTS},
    "GptOss": {"num_local_experts": EXPERTS, "head_dim": 8, "layer_types": ["full_attention"] * 2},
    "DeepseekV3": {"n_routed_experts": EXPERTS, "moe_intermediate_size": INNER, "n_group": 2, "topk_group": 2}
    | {"first_k_dense_replace": 1} | LATENT,
    "AriaText": {"moe_num_experts": EXPERTS, "moe_topk": CHOSEN, "moe_num_shared_experts": 1},
}  # fmt: skip


def build(family, **overrides):
    """A tiny random model whose experts differ."""
    text = "Text" if family == "Llama4" else ""
    config = getattr(transformers, f"{family}{text}Config")(**(SHARED | FAMILIES.get(family, {}) | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "experts" in name:
                    parameter.normal_(0, 0.2)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def moe(request):
    return build(request.param)


@pytest.fixture
def ids():
    return torch.randint(2, 32, (2, 7), generator=torch.Generator().manual_seed(1))


def expert_only(model):
    return {name: site for name, site in sites(model).items() if site.kind == "expert"}


def spy(model):
    """Keep the last call of the last experts module."""
    found = [(n, m) for n, m in model.named_modules() if getattr(getattr(m, "down_proj", None), "ndim", 0) == 3]
    name, module = found[-1]
    call = {}
    handle = module.register_forward_hook(lambda _m, args, out: call.update(args=args, out=out))
    return name, module, call, handle


def test_each_expert_and_parameter_is_a_site(moe):
    found = expert_only(moe)
    assert len(found) % (2 * EXPERTS) == 0
    up, down = (
        next(site for name, site in found.items() if f"{leaf}[3]" in name) for leaf in ("gate_up_proj", "down_proj")
    )
    assert (up.o, up.d, up.part) == (2 * INNER, WIDTH, 3)
    assert (down.o, down.d, down.part) == (WIDTH, INNER, 3)
    assert up.weight == f"{up.module}.gate_up_proj"


def test_rows_times_the_views_give_the_output_of_the_experts(recorded, moe, ids):
    name, module, call, handle = spy(moe)
    recording = recorded(moe, expert_only(moe), ids)
    handle.remove()
    hidden, routing, weights = call["args"]
    total = torch.zeros_like(hidden)
    for expert in routing.unique().tolist():
        up, down = f"{name}.gate_up_proj[{expert}]", f"{name}.down_proj[{expert}]"
        (tokens,) = recording.tokens[down]
        assert torch.equal(recording.rows[up][0], hidden[tokens.index])
        torch.testing.assert_close(module._apply_gate(recording.made(up)), recording.rows[down][0])
        share = (weights * (routing == expert)).sum(1)[tokens.index, None]
        total.index_add_(0, tokens.index, share * recording.made(down))
    torch.testing.assert_close(total, call["out"])


def test_recording_does_not_change_the_output_nor_the_implementation(recorded, moe, ids):
    with torch.no_grad():
        expected = moe(ids).logits
    before = moe.config._experts_implementation
    torch.testing.assert_close(recorded(moe, expert_only(moe), ids).output.logits, expected)
    assert moe.config._experts_implementation == before


@pytest.mark.parametrize("shape", ["tokens", "examples"])
def test_a_mask_over_tokens_chooses_the_routed_rows(recorded, moe, ids, shape):
    mask = torch.arange(7)[None] < torch.tensor([7, 3])[:, None] if shape == "tokens" else torch.tensor([False, True])
    recording = recorded(moe, expert_only(moe), ids)
    name = spy(moe)[0]
    kept = 0
    for site, (rows,) in recording.rows.items():
        (tokens,) = recording.tokens[site]
        chosen = masked_rows(rows, mask, site, tokens)
        flat = mask.flatten() if shape == "tokens" else mask.repeat_interleave(7)
        assert torch.equal(chosen, rows[[bool(flat[i]) for i in tokens.index]])
        kept += len(chosen) if site.startswith(f"{name}.down_proj") else 0
    assert kept == CHOSEN * (10 if shape == "tokens" else 7)


def test_an_expert_without_tokens_records_nothing(recorded, ids):
    model = build("Mixtral")
    recording = recorded(model, expert_only(model), ids[:1, :1])
    assert len(recording.rows) == 2 * 2 * CHOSEN


def test_one_expert_can_be_chosen(recorded, ids):
    model = build("Mixtral")
    found = sites(model, ["down_proj[2]"], [1])
    assert list(found) == ["model.layers.1.mlp.experts.down_proj[2]"]
    assert set(recorded(model, found, ids).rows) == set(found)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_implementation_is_recorded_and_restored_after_an_exception(ids, implementation):
    model = build("Mixtral", experts_implementation=implementation)

    def refuse(*_):
        raise KeyError

    with pytest.raises(KeyError), torch.no_grad(), record(model, expert_only(model), refuse):
        model(ids)
    assert model.config._experts_implementation == implementation
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_llama4_experts_read_every_token_and_only_routed_ones_count(recorded, ids):
    options = {
        "num_local_experts": EXPERTS,
        "intermediate_size_mlp": INNER,
        "head_dim": 8,
        "interleave_moe_layer_step": 1,
    }
    model = build("Llama4", **(options | {"num_experts_per_tok": 1}))
    name, module, call, handle = spy(model)
    recording = recorded(model, expert_only(model), ids)
    handle.remove()
    out = call["out"].view(EXPERTS, 14, WIDTH)
    for expert in range(EXPERTS):
        up, down = f"{name}.gate_up_proj[{expert}]", f"{name}.down_proj[{expert}]"
        (tokens,) = recording.tokens[down]
        gate, value = recording.made(up).chunk(2, dim=-1)
        torch.testing.assert_close(value * module.act_fn(gate), recording.rows[down][0])
        torch.testing.assert_close(recording.made(down), out[expert][tokens.index])
        assert out[expert].abs().sum() == out[expert][tokens.index].abs().sum()
    counts = [len(recording.rows[f"{name}.down_proj[{expert}]"][0]) for expert in range(EXPERTS)]
    assert sum(counts) == 14


class Experts(nn.Module):
    """Experts whose products are written in a way of their own."""

    num_experts = EXPERTS

    def __init__(self, way, up=(EXPERTS, 2 * INNER, WIDTH), down=(EXPERTS, WIDTH, INNER), leaf="gate_up_proj"):
        super().__init__()
        self.way = way
        generator = torch.Generator().manual_seed(0)
        self.register_parameter(leaf, nn.Parameter(torch.randn(up, generator=generator)))
        self.down_proj = nn.Parameter(torch.randn(down, generator=generator))

    def forward(self, x, top_k_index, top_k_weights):
        return self.way(self, x, top_k_index, top_k_weights)


def loop(product):
    """The plain loop with a product of one's own."""

    def forward(self, x, routing, weights):
        total = torch.zeros_like(x)
        for expert in range(EXPERTS):
            k, token = torch.where(routing.T.eq(expert))
            gate, value = product(x[token], self.gate_up_proj[expert]).chunk(2, dim=-1)
            made = product(gate.sigmoid() * value, self.down_proj[expert])
            total.index_add_(0, token, made * weights[token, k, None])
        return total

    return forward


def dense(self, x, routing, weights):
    """All experts on all tokens, weighed afterwards."""
    gate, value = torch.bmm(x.expand(EXPERTS, -1, -1), self.gate_up_proj.mT).chunk(2, dim=-1)
    made = torch.baddbmm(torch.zeros(()), gate.sigmoid() * value, self.down_proj.mT)
    share = torch.zeros(len(x), EXPERTS).scatter(1, routing, weights)
    return (made * share.T[..., None]).sum(0)


FOLLOWED = {
    "linear": loop(functional.linear),
    "keywords": loop(lambda x, w: functional.linear(input=x, weight=w)),
    "matmul": loop(lambda x, w: torch.matmul(x, w.T)),
    "operator": loop(lambda x, w: x @ w.mT),
    "mm": loop(lambda x, w: x.mm(w.t())),
    "addmm": loop(lambda x, w: torch.addmm(torch.zeros(()), x, w.T)),
    "bmm": loop(lambda x, w: torch.bmm(x[None], w.T[None])[0]),
    "cast": loop(lambda x, w: (x.double() @ w.double().T).float()),
    "dense": dense,
}


@pytest.fixture
def routed():
    generator = torch.Generator().manual_seed(3)
    x, scores = torch.randn(9, WIDTH, generator=generator), torch.randn(9, EXPERTS, generator=generator)
    weights, index = scores.softmax(1).topk(CHOSEN)
    return x, index, weights


@pytest.mark.parametrize("way", FOLLOWED)
def test_experts_are_followed_however_the_product_is_written(recorded, routed, way):
    module = Experts(FOLLOWED[way])
    reference = recorded(Experts(FOLLOWED["linear"]), sites(module), *routed)
    recording = recorded(module, sites(module), *routed)
    torch.testing.assert_close(recording.output, reference.output)
    for name, (rows,) in reference.rows.items():
        torch.testing.assert_close(recording.rows[name][0].float(), rows)
        assert torch.equal(recording.tokens[name][0].index, reference.tokens[name][0].index)


UNFOLLOWED = {
    "einsum": (loop(lambda x, w: torch.einsum("td,od->to", x, w)), "no matrix product"),
    "copy": (loop(lambda x, w: x @ w.clone().T), "no matrix product"),
    "other order": (loop(lambda x, w: functional.linear(x.flip(0), w).flip(0)), "are not the tokens"),
}


@pytest.mark.parametrize("way", UNFOLLOWED)
def test_experts_that_cannot_be_followed_are_an_error(recorded, routed, way):
    module = Experts(UNFOLLOWED[way][0])
    with pytest.raises(TypeError, match=UNFOLLOWED[way][1]):
        recorded(module, sites(module), *routed)
    assert not module._forward_hooks


def test_experts_without_routing_are_an_error(recorded, routed):
    x, index, weights = routed
    module = Experts(lambda self, x, _a, _b: FOLLOWED["linear"](self, x, index, weights))
    with pytest.raises(TypeError, match="are not the tokens"):
        recorded(module, sites(module), x, None, None)


def test_the_orientation_follows_from_the_shapes():
    assert not sites(Experts(None))["down_proj[0]"].transposed
    module = Experts(None, (EXPERTS, WIDTH, 2 * INNER), (EXPERTS, INNER, WIDTH))
    site = sites(module)["gate_up_proj[1]"]
    assert (site.o, site.d, site.transposed) == (2 * INNER, WIDTH, True)
    assert site.view(module.gate_up_proj).shape == (2 * INNER, WIDTH)


def test_an_orientation_that_shapes_cannot_tell_is_refused_until_declared():
    module = Experts(None, (EXPERTS, INNER, WIDTH), leaf="up_proj")
    with pytest.raises(SelectionError, match="do not tell inputs from outputs; set its attribute `is_transposed`"):
        sites(nn.ModuleDict({"experts": module}), ["experts"])
    module.is_transposed = True
    assert sites(module)["up_proj[0]"].d == INNER
    module.is_transposed = False
    assert sites(module)["up_proj[0]"].d == WIDTH


def test_experts_in_an_unknown_layout_or_type_are_refused():
    module = Experts(None)
    module.down_proj = nn.Parameter(torch.ones(EXPERTS, WIDTH, INNER, dtype=torch.int8), requires_grad=False)
    assert "stored as torch.int8" in expert_refusal(module)
    module = Experts(None, leaf="gate_proj")
    assert "layout that is not known" in expert_refusal(module)
    assert expert_refusal(nn.Linear(3, 3)) is None
    torch.nn.utils.parametrize.register_parametrization(module := Experts(None), "down_proj", nn.Identity())
    assert "parametrisation" in expert_refusal(module)

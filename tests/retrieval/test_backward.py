"""The rules are the published methods exactly; any architecture; the network is left alone; traces stand for images."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemotrace.core.artifact import read, write
from mnemotrace.core.episode import EpisodicTrace, MeanTrace
from mnemotrace.core.errors import NonFiniteError, NumericalWarning, SourceIgnored
from mnemotrace.retrieval.backward import Recollection, correlation, episode, recollect
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source
from tests.retrieval.zoo import ZOO, Fused, Patches, images, plain, seeded

RULES = {"headline": Rules.headline(), "image": Rules.image(), "deconvnet": Rules.deconvnet(), "guided": Rules.guided()}


def _gradient(model: nn.Module, x: Tensor, unit: int) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, unit].sum(), leaf)[0]


def _recall(model: nn.Module, unit: Any, **given: Any) -> Recollection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceIgnored)
        return recollect(model, unit, **given)


# --- the published methods (R1, R3)


def _loop(g: Tensor, weight: Tensor, stride: int, padding: int, size: int) -> Tensor:
    """Reverse a convolution one output place at a time, as the notebooks do."""
    k = weight.shape[-1]
    out = g.new_zeros(len(g), weight.shape[1], size + 2 * padding, size + 2 * padding)
    for b in range(len(g)):
        for o in range(g.shape[1]):
            for i in range(g.shape[2]):
                for j in range(g.shape[3]):
                    rows, columns = slice(i * stride, i * stride + k), slice(j * stride, j * stride + k)
                    out[b, :, rows, columns] += g[b, o, i, j] * weight[o]
    return out[..., padding : padding + size, padding : padding + size]


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 1, 2), (11, 4, 2)])
def test_a_reversed_convolution_is_the_loop_over_places(kernel: int, stride: int, padding: int) -> None:
    model = seeded(lambda: nn.Conv2d(3, 4, kernel, stride, padding))
    x = images(2, size=19)
    g = torch.randn(model(x).shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = _recall(model, Source.vector(g), trace=x, rules=Rules(normalise=None)).images
    wanted = _loop(g, model.weight.detach(), stride, padding, 19)  # pyright: ignore[reportArgumentType]
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


@pytest.mark.parametrize("name", list(ZOO))
def test_the_gradient_rules_are_the_gradient(name: str) -> None:
    model, x = seeded(ZOO[name]), images()
    found = recollect(model, 3, trace=x, rules=Rules.gradient())
    wanted = _gradient(model, x, 3)
    # torch holds the 1/6 of hardsigmoid in float32
    assert (found.images - wanted).abs().max() <= (1e-8 if name == "smooth" else 1e-12) * wanted.abs().max()
    other = recollect(model, 4, trace=x, rules=Rules.gradient(), controls=False)
    assert (other.images - wanted).abs().max() > 1e-3 * wanted.abs().max()


def test_mask_and_add_is_the_gradient_of_a_network_of_relus_also_when_gates_are_held() -> None:
    model, x = seeded(ZOO["residual"]), images()
    found = recollect(model, 3, trace=x, rules=Rules(relu="mask", pool="switch_add"))
    assert torch.equal(found.images, _gradient(model, x, 3))
    overwritten = _recall(model, 3, trace=x, rules=Rules(relu="mask", pool="switch"))
    assert not torch.allclose(overwritten.images, found.images)


@pytest.mark.parametrize(("rules", "method"), [("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_guided_and_deconvnet_are_those_of_captum(rules: str, method: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = seeded(plain), images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = getattr(captum, method)(copy.deepcopy(model)).attribute(x.clone().requires_grad_(), target=3)
    found = _recall(model, 3, trace=x, rules=RULES[rules]).images
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def _standard(z: Tensor, rescale: bool) -> Tensor:
    dims = tuple(range(1, z.ndim))
    z = (z - z.mean(dims, keepdim=True)) / z.std(dims, keepdim=True)
    return (0.1 * z + 0.5).clamp(0, 1) if rescale else z.clamp_min(0)


def _explicit(model: Any, x: Tensor, unit: int, rescale: bool) -> Tensor:
    """Go through the layers by hand: forwards for the switches, backwards one layer after the other."""
    switches, sizes = [], []
    h = x
    for layer in model:
        sizes.append(h.shape)
        if isinstance(layer, nn.MaxPool2d):
            h, index = F.max_pool2d(h, 3, 2, return_indices=True)
            switches.append(index)
        else:
            h = layer(h)
    g = torch.zeros_like(h)
    g[:, unit] = 1
    for layer, size in reversed(list(zip(model, sizes, strict=True))):
        if isinstance(layer, nn.Linear):
            g = _standard(g @ layer.weight, rescale)
        elif isinstance(layer, nn.Conv2d):
            g = _standard(F.conv_transpose2d(g, layer.weight, padding=layer.padding), rescale)
        elif isinstance(layer, nn.MaxPool2d):
            out = torch.zeros(size, dtype=g.dtype).flatten(2)
            index = switches.pop().flatten(2)
            for p in range(index.shape[2]):  # later windows overwrite
                out.scatter_(2, index[..., p : p + 1], g.flatten(2)[..., p : p + 1])
            g = _standard(out.view(size), rescale)
        else:
            g = g.reshape(size)
    return g.detach()


@pytest.mark.parametrize("rules", ["headline", "image"])
def test_recollection_is_the_reference_layer_by_layer(rules: str) -> None:
    model, x = seeded(plain), images()
    found = _recall(model, 3, trace=x, rules=RULES[rules]).images
    assert (found - _explicit(model, x, 3, rules == "headline")).abs().max() <= 1e-12
    added = _recall(model, 3, trace=x, rules=RULES[rules].with_(pool="switch_add")).images
    assert (found - added).abs().max() > 1e-3


def test_unpooling_without_normalisation_is_equal_to_the_reference_bit_by_bit() -> None:
    model = seeded(lambda: nn.MaxPool2d(3, 2))
    x = images(size=13)
    y, index = F.max_pool2d(x, 3, 2, return_indices=True)
    wanted = torch.zeros_like(x).flatten(2)
    for p in range(36):
        wanted.scatter_(2, index.flatten(2)[..., p : p + 1], y.flatten(2)[..., p : p + 1])
    found = _recall(model, Source.activation(), trace=x, rules=Rules())
    assert torch.equal(found.images.flatten(2), wanted)


def _normed(x: Tensor, dims: tuple[int, ...], centred: bool = True) -> Tensor:
    x = x - x.mean(dims, keepdim=True) if centred else x
    return x * torch.rsqrt(x.square().mean(dims, keepdim=True) + 1e-5).detach()


def _attended(x: Tensor) -> Tensor:
    return torch.softmax(x @ x.transpose(-2, -1) / 4, -1).detach() @ x


FROZEN: dict[str, tuple[Any, Any]] = {
    "layer": (lambda x: F.layer_norm(x, (16,)), lambda x: _normed(x, (-1,))),
    "rms": (lambda x: F.rms_norm(x, (16,), eps=1e-5), lambda x: _normed(x, (-1,), centred=False)),
    "group": (lambda x: F.group_norm(x, 1), lambda x: _normed(x, (1, 2, 3))),
    "instance": (F.instance_norm, lambda x: _normed(x, (2, 3))),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), _attended),
    "softmax": (lambda x: torch.softmax(x @ x.transpose(-2, -1) / 4, -1) @ x, _attended),
    "gelu": (F.gelu, lambda x: x * torch.special.ndtr(x).detach()),
    "silu": (F.silu, lambda x: x * torch.sigmoid(x).detach()),
}


@pytest.mark.parametrize("name", list(FROZEN))
def test_what_is_frozen_is_a_constant_of_the_backward_pass(name: str) -> None:
    function, frozen = FROZEN[name]

    class Only(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    x = images()
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    found = _recall(Only().eval(), Source.vector(g), trace=x, rules=Rules(relu="mask")).images
    leaf = x.clone().requires_grad_()
    wanted = torch.autograd.grad(frozen(leaf), leaf, g)[0]
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    true = torch.autograd.grad(function(leaf), leaf, g)[0]
    assert (found - true).abs().max() > 1e-3 * wanted.abs().max()


# --- any network, left as it is (R4, R14)


@pytest.mark.parametrize("name", list(ZOO))
def test_the_output_under_tracing_is_the_output(name: str) -> None:
    model, x = seeded(ZOO[name]), images()
    kept: list[Tensor] = []
    episode(model, x, forward=lambda model, x: kept.append(model(x)))
    with torch.no_grad():
        assert (kept[0] - model(x)).abs().max() <= (0 if "encoder" not in name else 1e-12)


@pytest.mark.parametrize("rules", list(RULES))
@pytest.mark.parametrize("name", list(ZOO))
def test_a_trace_without_the_image_recalls_the_picture_of_the_image(name: str, rules: str) -> None:
    model, x = seeded(ZOO[name]), images()
    own = _recall(model, 3, trace=x, rules=RULES[rules])
    trace = episode(model, x)
    found = _recall(model, 3, trace=trace, rules=RULES[rules])
    assert own.unreversed == found.unreversed == ()
    whole = all(entry.values.dtype in (torch.bool, torch.uint8) for entry in trace.entries)
    assert torch.allclose(own.images, found.images) if whole else correlation(own.images, found.images) > 0.9999
    assert found.bits == pytest.approx(own.bits)
    if RULES[rules].needs("switch") and "switch" in own.bits:
        donated = _recall(model, 3, trace=episode(model, images(seed=5)), rules=RULES[rules])
        assert correlation(own.images, donated.images) < 0.99


def test_the_network_is_left_as_it_was() -> None:
    model, x = seeded(ZOO["residual"]), images()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    state, before = {k: v.clone() for k, v in model.state_dict().items()}, x.clone()
    flags = [(module.training, p.requires_grad) for module in model.modules() for p in module.parameters()]
    with torch.no_grad():
        found = _recall(model, 3, trace=x)
        again = _recall(model, 3, trace=episode(model, x))
    with torch.inference_mode():
        inferred = _recall(model, 3, trace=x.clone())
    assert torch.equal(found.images, again.images) and torch.equal(found.images, inferred.images)
    assert not found.images.requires_grad and torch.equal(x, before)
    assert flags == [(module.training, p.requires_grad) for module in model.modules() for p in module.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_network_may_write_into_its_input_and_modules_are_named() -> None:
    model = seeded(lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(768, 10)))
    x = images()
    before = x.clone()
    found = recollect(model, 3, trace=x, rules=Rules.gradient())
    assert torch.equal(x, before)
    assert torch.equal(found.images, _gradient(nn.Sequential(nn.ReLU(), *list(model)[1:]), x, 3))  # pyright: ignore[reportArgumentType]
    assert [entry.module for entry in episode(model, x.clone()).entries] == ["0"]


def test_an_operation_without_a_rule_is_listed_and_only_where_a_signal_passes() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.dead = nn.Linear(768, 10), nn.Linear(768, 10)

        def forward(self, x: Tensor) -> Tensor:
            torch.exp(self.dead(x.flatten(1)))
            return self.fc(x.flatten(1)) ** 2 * self.fc(x.flatten(1))

    model, x = seeded(Square), images()
    assert recollect(model, 1, trace=x, rules=Rules.guided()).unreversed == ("mul", "pow")
    with pytest.warns(NumericalWarning, match="no rule for mul, pow: .* pass the images as x="):
        recollect(model, 1, trace=episode(model, x), rules=Rules.guided())
    recollect(model, 1, trace=episode(model, x), x=x, rules=Rules.guided())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_hugging_face_vision_transformer_recalls_from_image_mapping_and_trace(attention: str) -> None:
    transformers = pytest.importorskip("transformers")
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    options |= {"image_size": 16, "patch_size": 4, "num_labels": 10, "attn_implementation": attention}
    model = seeded(lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**options)))
    x = images()
    found = recollect(model, 3, trace=x, rules=Rules.gradient())
    leaf = x.clone().requires_grad_()
    wanted = torch.autograd.grad(model(leaf).logits[:, 3].sum(), leaf)[0]
    assert (found.images - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    named = recollect(model, 3, trace={"pixel_values": x}, rules=Rules.guided())
    stored = recollect(model, 3, trace=episode(model, {"pixel_values": x}), rules=Rules.guided())
    assert {entry.kind for entry in episode(model, x).entries} == {"gate", "pattern", "scale"}
    assert named.unreversed == ()
    assert correlation(named.images, stored.images) > 0.9999


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_language_model_recalls_to_its_input_embeddings(tiny_gpt2: Any, attention: str, tokens: Tensor) -> None:
    model = tiny_gpt2(attn_implementation=attention).double()
    embeddings = model.get_input_embeddings()(tokens).detach()
    x = {"inputs_embeds": embeddings, "attention_mask": torch.ones_like(tokens)}
    found = recollect(model, 7, trace=x, rules=Rules.gradient())
    leaf = embeddings.clone().requires_grad_()
    wanted = torch.autograd.grad(model(inputs_embeds=leaf).logits[:, -1, 7].sum(), leaf)[0]
    assert (found.images - wanted).abs().max() <= 1e-10 * wanted.abs().max()
    assert found.images.shape == embeddings.shape
    with pytest.raises(TypeError, match=r"got tokens \(torch.int64\).*inputs_embeds"):
        recollect(model, 7, trace=tokens)


# --- sources, controls, parts of traces


def test_the_headline_ignores_its_source_and_says_so() -> None:
    model, x = seeded(plain), images()
    with pytest.warns(SourceIgnored, match="source ignored: the picture from no source correlates"):
        found = recollect(model, 3, trace=x)
    assert found.sensitivity["zero"] > 0.999
    gradient = recollect(model, 3, trace=x, rules=Rules.gradient())
    assert gradient.sensitivity["zero"] == 0 and abs(gradient.sensitivity["wrong"]) < 0.9
    assert set(gradient.controls) == {"zero", "wrong"}
    assert recollect(model, 3, trace=x, controls=False).controls == {}


def test_sources_start_where_they_say() -> None:
    model, x = seeded(plain), images()
    rules = Rules.gradient()
    units = torch.tensor([1, 4, 7])
    each = recollect(model, units, trace=x, rules=rules).images
    assert torch.equal(each[1], recollect(model, 4, trace=x, rules=rules).images[1])
    weights = torch.zeros(10, dtype=torch.float64)
    weights[4] = 1
    assert torch.equal(
        recollect(model, Source.direction(weights), trace=x, rules=rules).images,
        recollect(model, Source.vector(weights), trace=x, rules=rules).images,
    )
    inside = recollect(model, Source.unit(2, site="3"), trace=x, rules=rules).images
    leaf = x.clone().requires_grad_()
    wanted = torch.autograd.grad(model[:4](leaf)[:, 2].sum(), leaf)[0]  # pyright: ignore[reportIndexIssue]
    assert torch.equal(inside, wanted)
    whole = recollect(model, Source.activation("5"), trace=x, rules=rules).images
    same = recollect(model, Source.sparse("5", top=1.0), trace=episode(model, x), x=x, rules=rules.with_(frozen=True))
    assert torch.equal(whole, same.images)
    part = recollect(model, Source.sparse("5", top=0.1), trace=x, rules=rules).images
    assert 0.1 < correlation(part, whole) < 0.99999
    assert recollect(model, Source.zero(), trace=x, rules=rules).images.abs().max() == 0


def test_units_that_a_sparse_trace_forgot_give_nothing_and_what_is_left_out_is_spread_evenly() -> None:
    model = seeded(lambda: nn.MaxPool2d(2))
    x = images(2, 1, 4)
    trace = episode(model, x)
    start = Source.vector(torch.ones(1, 2, 2, dtype=torch.float64))
    found = recollect(model, start, trace=trace.select(top=0.5), rules=Rules(), controls=False)
    assert (found.images.flatten(1).sum(1) == 2).all()
    assert found.bits["switch"] == pytest.approx(2 * 2 + 2.5849625)
    mixed = seeded(lambda: nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2)))
    part = episode(mixed, x).select(entries=[1])
    spread = recollect(mixed, Source.vector(torch.ones(1, 1, 1, dtype=torch.float64)), trace=part, rules=Rules())
    assert sorted(spread.images[0].flatten().tolist())[-4:] == [0.25] * 4
    assert (spread.images != 0).sum() == 8


def test_a_mean_trace_of_a_single_image_is_its_own_trace() -> None:
    model, x = seeded(plain), images()
    trace = episode(model, x)
    mean = MeanTrace.fit([trace], labels=torch.arange(3))
    found = recollect(model, 3, trace=mean.trace([0, 1, 2]), rules=Rules.guided())
    assert torch.allclose(found.images, recollect(model, 3, trace=x, rules=Rules.guided()).images)
    overall = recollect(model, 3, trace=MeanTrace.fit([trace]).trace([0, 0]), rules=Rules.guided())
    assert torch.equal(overall.images[0], overall.images[1])


@pytest.mark.parametrize("pool", ["nearest", "centre", "random", "distribute", "distribute_sum"])
def test_without_a_trace_all_images_of_a_unit_are_one(pool: Any) -> None:
    model = seeded(plain)
    found = recollect(model, 3, trace=None, x=images(2), rules=Rules.switch_free(pool), controls=False)
    assert found.bits == {"total": 0}
    if pool != "random":
        assert torch.equal(found.images[0], found.images[1])
    again = recollect(
        model, 3, trace=None, x=images(2), rules=Rules.switch_free(pool), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(found.images, again.images)


def test_files_give_trace_and_recollection_back(tmp_path: Path) -> None:
    model, x = seeded(plain), images()
    trace = EpisodicTrace.unpack(read(write(episode(model, x).pack(), tmp_path / "t")))
    found = recollect(model, 3, trace=trace, rules=Rules.guided())
    assert torch.equal(found.images, recollect(model, 3, trace=x, rules=Rules.guided()).images)
    again = Recollection.unpack(read(write(found.pack(), tmp_path / "r")))
    assert torch.equal(again.images, found.images) and torch.equal(again.controls["wrong"], found.controls["wrong"])
    assert (again.rules, again.source, again.bits) == (found.rules, found.source, found.bits)


# --- mistakes


def test_traces_that_do_not_fit_are_refused_with_the_first_entry_that_does_not() -> None:
    model, x = seeded(plain), images()
    with pytest.raises(
        ValueError, match=r"entry 0 is relu \(a gate of shape \(3, 8, 16, 16\)\); the network runs relu"
    ):
        recollect(model, 3, trace=episode(seeded(ZOO["residual"]), x))
    longer = nn.Sequential(model, nn.ReLU()).eval()
    with pytest.raises(ValueError, match="got a trace with relu as entry 5; the network has only 5"):
        recollect(model, 3, trace=episode(longer, x))
    with pytest.raises(ValueError, match=r"got x of shape \(3, 3, 16, 16\) and a trace of 2 samples"):
        recollect(model, 3, trace=episode(model, x)[:2], x=x)
    with pytest.raises(ValueError, match="got no gate for relu; expected a trace that has it"):
        recollect(model, 3, trace=episode(model, x).select(kinds=["switch"]), rules=Rules.guided())
    with pytest.raises(ValueError, match="got no switch for max_pool2d"):
        recollect(model, 3, trace=None, x=x)
    with pytest.raises(TypeError, match=r"got a MeanTrace; .*mean.trace\(classes\)"):
        recollect(model, 3, trace=MeanTrace.fit([episode(model, x)]))  # pyright: ignore[reportArgumentType]


def test_what_needs_the_image_says_so() -> None:
    model, x = seeded(Fused), images()
    trace = episode(model, x)
    with pytest.raises(ValueError, match="got activation at head and a trace without the image"):
        recollect(model, Source.activation("head"), trace=trace)
    with pytest.raises(ValueError, match="got frozen=False, which takes the true gradient of rms_norm"):
        recollect(model, 3, trace=trace, rules=Rules.gradient())
    with pytest.raises(ValueError, match="got neither trace nor x"):
        recollect(model, 3, trace=None)


def test_other_mistakes_are_told() -> None:
    model, x = seeded(plain), images()
    with pytest.raises(ValueError, match=r"got unit 10; expected indices in 0..9"):
        recollect(model, 10, trace=x)
    with pytest.raises(ValueError, match="got 2 units for 3 samples"):
        recollect(model, torch.tensor([1, 2]), trace=x)
    with pytest.raises(TypeError, match="got unit of torch.float32"):
        recollect(model, torch.tensor(1.0), trace=x)
    with pytest.raises(ValueError, match=r"got a vector of shape \(4,\); expected \(10,\)"):
        recollect(model, Source.vector(torch.ones(4)), trace=x)
    with pytest.raises(ValueError, match="got a direction of 4 weights; expected 10"):
        recollect(model, Source.direction(torch.ones(4)), trace=x)
    with pytest.raises(ValueError, match="got site='nowhere'; expected the name of a module"):
        recollect(model, Source.unit(1, site="nowhere"), trace=x)
    next(model.children()).spare = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="got site='.*spare', which did not run in the forward pass"):
        recollect(model, Source.unit(1, site=next(n for n, _ in model.named_modules() if "spare" in n)), trace=x)
    with pytest.raises(NonFiniteError, match="in the input"):
        recollect(model, 1, trace=x * float("nan"))
    with pytest.raises(ValueError, match="got batch_norm in training mode.*model.eval"):
        recollect(seeded(ZOO["residual"]).train(), 1, trace=x)
    with pytest.raises(ValueError, match="got scaled_dot_product_attention in training mode"):
        episode(seeded(Patches).train(), x)
    with pytest.raises(ValueError, match="got dropout in training mode"):
        episode(nn.Dropout(0.5), x)
    with pytest.raises(ValueError, match="does not depend on the input .* softmax"):
        recollect(nn.Sequential(model, nn.Softmax(1)).eval(), 1, trace=x)
    with pytest.raises(ValueError, match=r"got an input of shape \(4,\)"):
        episode(model, torch.ones(4))
    with pytest.raises(TypeError, match="got a NoneType as output"):
        recollect(model, 1, trace=x, forward=lambda *_: None)
    with pytest.raises(ValueError, match="got pool='max'; expected one of 'switch'"):
        Rules(pool="max")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got pool='switch'; expected a rule without switches"):
        Rules.switch_free("switch")
    with pytest.raises(ValueError, match="got top=0; expected a share"):
        Source.sparse(top=0)

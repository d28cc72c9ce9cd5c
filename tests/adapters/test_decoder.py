"""Blocks, attention and MLPs are found in every layout by what they do; what is no causal decoder is refused."""

import pytest
import torch
from torch import nn

from mnemotrace.adapters import decoder as module
from mnemotrace.adapters.decoder import decoder, watched_outputs
from mnemotrace.adapters.hooks import patch
from tests.adapters.layouts import LAYERS, LAYOUTS, WIDTH, build, footprint, random_model, unchanged

EXPERTS = ("Mixtral", "Qwen2Moe")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_parts_of_every_layout_are_found_and_add_up(layout: str) -> None:
    model = build(layout)
    before = footprint(model)
    found = decoder(model)
    assert found.layers == len(found.attention) == len(found.mlp) == LAYERS
    assert found.d == WIDTH
    for layer in range(LAYERS):
        for part in (found.attention[layer], found.mlp[layer]):
            assert part.startswith(f"{found.blocks[layer]}.")
        assert found.attention[layer] != found.mlp[layer]
        if layout in EXPERTS:
            assert found.down[layer] is None
        else:
            weight = model.get_submodule(found.down_of(layer)).weight
            assert WIDTH in weight.shape and found.down[layer] == found.mlp[layer]
    assert unchanged(model, before)


@pytest.mark.parametrize("layout", ["GPT2", "GPTNeoX", "Llama", "Falcon", "Bloom"])
def test_what_attention_gives_depends_on_earlier_tokens_and_what_the_mlp_gives_on_its_own_only(layout: str) -> None:
    model = build(layout)
    found = decoder(model)
    ids = torch.arange(2, 10)[None]

    def given(part: str) -> list[torch.Tensor]:
        with watched_outputs(model.get_submodule(part)) as seen, torch.no_grad():
            model(input_ids=ids)
            model(input_ids=torch.cat([ids[:, :1] + 20, ids[:, 1:]], 1))
        return [output.reshape(8, -1) for output in seen]

    plain, moved = given(found.attention[0])
    assert not torch.allclose(plain[-1], moved[-1], rtol=1e-4)
    with patch(model, {found.attention[0]: torch.zeros_like}):
        plain, moved = given(found.mlp[0])
    assert torch.equal(plain[1:], moved[1:]) and not torch.equal(plain[0], moved[0])


def test_names_are_those_of_the_usual_layouts() -> None:
    found = decoder(build("GPT2"))
    assert found.embedding == "transformer.wte"
    assert (found.blocks[1], found.attention[1], found.down_of(-2)) == (
        "transformer.h.1",
        "transformer.h.1.attn.c_proj",
        "transformer.h.1.mlp.c_proj",
    )
    assert decoder(build("Llama")).down_of(0) == "model.layers.0.mlp.down_proj"


def test_a_model_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("GPT2")
    first = decoder(model)
    monkeypatch.setattr(module, "_find", None)
    assert decoder(model) is first


def test_layers_count_from_either_end_and_others_are_refused() -> None:
    model, mixture = build("GPT2"), build("Mixtral")
    found = decoder(model)
    assert found.block(-1) is found.block(LAYERS - 1)
    with pytest.raises(ValueError, match="got layer 3 of a GPT2LMHeadModel with 3 layers; expected 0 to 2"):
        found.block(3)
    with pytest.raises(ValueError, match="got layer 0, whose MLP .* has no last linear map of its own"):
        decoder(mixture).down_of(0)


def test_a_description_does_not_keep_its_model_alive() -> None:
    found = decoder(build("GPT2"))
    with pytest.raises(ReferenceError, match="description of a model that is gone"):
        found.model  # noqa: B018


def test_an_encoder_is_refused() -> None:
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = random_model("BertForMaskedLM", "BertConfig", vocab_size=64, **options)
    before = footprint(model)
    with pytest.raises(TypeError, match="BertForMaskedLM, in which later tokens change earlier hidden states"):
        decoder(model)
    assert unchanged(model, before)


def test_what_is_no_language_model_is_refused() -> None:
    with pytest.raises(TypeError, match="a Linear without a token embedding; expected a causal language model"):
        decoder(nn.Linear(2, 2))


def test_a_state_space_model_has_no_attention() -> None:
    options = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "vocab_size": 64}
    with pytest.raises(TypeError, match="got .*Mamba.*; expected"):
        decoder(random_model("MambaForCausalLM", "MambaConfig", **options))


def test_interrupted_the_model_is_as_it_was() -> None:
    model = build("Llama").train()
    before = footprint(model)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    handle = model.get_submodule("model.layers.1.mlp").register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        decoder(model)
    handle.remove()
    assert unchanged(model, before)

import json
import warnings

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

import mnemotrace as mt
from mnemotrace.core.edit import Dense
from mnemotrace.core.errors import EditError, NumericalWarning
from mnemotrace.core.lowrank import LowRank


def random_edit(model, select=None, size=0.1):
    """A rank-2 change of every chosen site."""
    generator = torch.Generator().manual_seed(0)
    changes = tuple(
        LowRank(
            site,
            torch.randn(site.o, 2, generator=generator) * size,
            torch.randn(2, site.width, generator=generator),
        )
        for site in mt.sites(model, select).values()
    )
    return mt.Edit(changes, {"method": "random", "seed": 0})


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


def round_trip(model, edit, folder, tokens, **options):
    """Merge, load with transformers, and compare with the edited and the untouched model."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = logits(model, tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        with mt.applied(model, edit):
            edited = logits(model, tokens)
        assert mt.merge(model, edit, folder, **options) == folder
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loaded = type(model).from_pretrained(folder, dtype="auto").eval()
    assert torch.equal(logits(loaded, tokens), edited)
    assert not torch.equal(edited, plain)
    return loaded


@pytest.mark.parametrize("select", [None, ["lm_head", "c_attn"]])
def test_gpt2_with_its_tied_head(tiny_gpt2, tokens, tmp_path, select):
    model = tiny_gpt2()
    loaded = round_trip(model, random_edit(model, select), tmp_path / "a", tokens)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_llama_in_shards_with_a_dense_change(tiny_llama, tokens, tmp_path):
    model = tiny_llama()
    edit = random_edit(model) + mt.Edit((Dense("model.norm.weight", torch.full((32,), 0.5)),))
    round_trip(model, edit, tmp_path / "a", tokens, max_shard_size="40KB")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_weights_keep_their_dtype(tiny_llama, tokens, tmp_path, dtype):
    tiny_llama().to(dtype).save_pretrained(
        tmp_path / "base"
    )  # loading leaves the rotary buffer in float32, `to` does not
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype="auto").eval()
    assert round_trip(model, random_edit(model), tmp_path / "a", tokens).dtype == dtype


def test_rounding_loss_is_reported(tiny_llama, tmp_path):
    model = tiny_llama().bfloat16()
    with pytest.warns(NumericalWarning, match="low-precision parameters took less"):
        mt.merge(model, random_edit(model, size=1e-6), tmp_path / "a")


def test_manifest_and_tokenizer_go_beside_the_weights(tiny_gpt2, tmp_path):
    class Tokenizer:
        def save_pretrained(self, folder):
            (folder / "tokenizer.json").write_text("{}")

    model = tiny_gpt2()
    edit = random_edit(model, ["c_fc"])
    mt.merge(model, edit, tmp_path / "a", tokenizer=Tokenizer())
    assert (tmp_path / "a" / "tokenizer.json").is_file()
    marker = json.loads((tmp_path / "a" / "mnemotrace.json").read_text())
    assert marker["manifest"] == {"method": "random", "seed": 0}
    assert marker["parameters"] == list(edit.parameters)


def test_a_plain_network_becomes_one_file_with_shared_weights_once(tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        model[2].weight = model[0].weight
        return model.eval()

    model, other, x = build(0), build(1), torch.randn(3, 4)
    edit = random_edit(model, ["0"])
    mt.merge(model, edit, tmp_path / "a")
    safetensors.torch.load_model(other, tmp_path / "a" / "model.safetensors")
    with torch.no_grad(), mt.applied(model, edit):
        assert torch.equal(other(x), model(x))
    assert other[2].weight is other[0].weight


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_no_half_written_checkpoint_and_the_model_as_it_was(tiny_gpt2, tmp_path, error):
    model = tiny_gpt2()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    class Tokenizer:
        def save_pretrained(self, folder):
            assert (folder / "model.safetensors").is_file()
            raise error

    with pytest.raises(error):
        mt.merge(model, random_edit(model), tmp_path / "a", tokenizer=Tokenizer())
    assert not any(tmp_path.iterdir())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_directory_in_use_is_refused_before_the_model_is_touched(tiny_gpt2, tmp_path):
    model = tiny_gpt2()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="which exists"):
        mt.merge(model, random_edit(model), tmp_path)
    mt.merge(model, random_edit(model), tmp_path / "a")
    mt.merge(model, random_edit(model), tmp_path / "a", overwrite=True)


def test_an_edit_of_another_model_writes_nothing(tiny_gpt2, tiny_llama, tmp_path):
    with pytest.raises(EditError, match="which LlamaForCausalLM lacks"):
        mt.merge(tiny_llama(), random_edit(tiny_gpt2()), tmp_path / "a")
    assert not any(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_model_with_an_adapter_is_refused(tiny_llama, tmp_path):
    peft = pytest.importorskip("peft")
    model = tiny_llama()
    edit = random_edit(model)
    edit.to_peft(tmp_path / "lora")
    wrapped = peft.PeftModel.from_pretrained(model, tmp_path / "lora")
    with pytest.raises(EditError, match=r"with an adapter; expected a plain network.*merge_and_unload"):
        mt.merge(wrapped, edit, tmp_path / "a")

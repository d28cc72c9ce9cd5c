"""`peft` itself reads what we write, and its model gives the logits of the edited one."""

import copy
import json

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core import peft as ours
from mnemotrace.core.edit import Dense, Sparse
from mnemotrace.core.errors import EditError, NonFiniteError
from mnemotrace.core.lowrank import LowRank

peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
MIXED = "ignore:.*lora_bias=True.*has no bias"


def random_edit(model, select=None, *, bias=True, ranks=(3, 1, 2), size=0.1, layers=None):
    """A change of every chosen site, of ranks in turn."""
    generator = torch.Generator().manual_seed(0)
    changes = []
    for i, site in enumerate(mt.sites(model, select, layers).values()):
        rank = ranks[i % len(ranks)]
        left = torch.randn(site.o, rank, generator=generator) * size
        right = torch.randn(rank, site.width if bias else site.d, generator=generator)
        changes.append(LowRank(site, left, right))
    return mt.Edit(tuple(changes), {"method": "random", "seed": 0})


def output(model, inputs):
    model.eval()
    with torch.no_grad():
        found = model(inputs)
    return found if isinstance(found, torch.Tensor) else found.logits


def agrees(model, edit, folder, inputs, *, tolerance=1e-5):
    """Whether the edit moves the output, and peft moves it as much."""
    plain = output(model, inputs)
    with mt.applied(model, edit):
        edited = output(model, inputs)
    assert (edited - plain).abs().max() > 100 * tolerance
    edit.to_peft(folder, model)
    wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(model), folder)
    torch.testing.assert_close(output(wrapped, inputs), edited, rtol=tolerance, atol=tolerance)
    return wrapped, edited


@pytest.mark.parametrize("bias", [True, False])
def test_conv1d_of_gpt2(tiny_gpt2, tokens, tmp_path, bias):
    model = tiny_gpt2()
    wrapped, edited = agrees(model, random_edit(model, bias=bias), tmp_path / "a", tokens)
    torch.testing.assert_close(output(wrapped.merge_and_unload(), tokens), edited, rtol=1e-5, atol=1e-5)


def test_linear_layers_of_llama(tiny_llama, tokens, tmp_path):
    model = tiny_llama()
    wrapped, edited = agrees(model, random_edit(model), tmp_path / "a", tokens)
    torch.testing.assert_close(output(wrapped.merge_and_unload(), tokens), edited, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings(MIXED)
def test_layers_with_and_without_a_bias_together(tiny_qwen2, tokens, tmp_path):
    model = tiny_qwen2()
    edit = random_edit(model, ["q_proj", "o_proj", "down_proj"])
    assert {change.has_bias for change in edit.changes} == {True, False}
    agrees(model, edit, tmp_path / "a", tokens)


def test_biased_linear_layers_of_neox(tiny_neox, tokens, tmp_path):
    model = tiny_neox()
    edit = random_edit(model, ["query_key_value", "dense", "dense_h_to_4h"])
    agrees(model, edit, tmp_path / "a", tokens)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_convolutions(tmp_path, dimensions):
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    torch.manual_seed(0)
    model = nn.Sequential(convolution(2, 5, 3, stride=2, padding=1), nn.ReLU(), convolution(5, 4, 3, padding="same"))
    inputs = torch.randn(2, 2, *(6,) * dimensions)
    agrees(model, random_edit(model), tmp_path / "a", inputs)


def test_convolutions_beside_linear_layers_need_the_model(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, (3, 2)), nn.Flatten(), nn.Linear(4 * 4 * 5, 3))
    edit = random_edit(model)
    with pytest.raises(
        EditError, match=r"convolution '0' and no model; expected the network.*to_peft\(directory, model"
    ):
        edit.to_peft(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    agrees(model, edit, tmp_path / "a", torch.randn(2, 1, 6, 6))


def test_names_are_matched_whole_so_a_suffix_catches_no_other_module(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    edit = random_edit(model, "0|1[.]1", ranks=(1, 2))
    wrapped, _ = agrees(model, edit, tmp_path / "a", torch.randn(2, 4))
    assert {name.split(".lora_A")[0] for name, _ in wrapped.named_parameters() if "lora_A" in name} == {
        "base_model.model.0",
        "base_model.model.1.1",
    }


def test_two_changes_of_one_site_are_added(tiny_llama, tokens, tmp_path):
    model = tiny_llama()
    first, second = random_edit(model, ["o_proj"]), random_edit(model, ["o_proj"], ranks=(2,))
    agrees(model, mt.Edit(first.changes + second.changes), tmp_path / "a", tokens)


def test_a_real_engram_travels(tiny_gpt2, tokens, tmp_path):
    model = tiny_gpt2()
    target, reference = mt.collect(model, [tokens[:1]]), mt.collect(model, [tokens])
    edit = mt.erase(mt.engram(model, target=target, reference=reference, solver="ridge", rcond=1e-2))
    agrees(model, edit, tmp_path / "a", tokens, tolerance=2e-5)


def test_an_adapter_carries_what_bfloat16_weights_cannot_hold(tiny_llama, tokens, tmp_path):
    exact = tiny_llama()
    edit = random_edit(exact, size=1e-4)
    plain = output(exact, tokens)
    with mt.applied(exact, edit):
        moved = output(exact, tokens) - plain
    model = exact.bfloat16()
    edit.to_peft(tmp_path / "a", model)
    wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "a").float()
    gained = output(wrapped, tokens) - output(model.float(), tokens)
    assert torch.nn.functional.cosine_similarity(gained.flatten(), moved.flatten(), dim=0) > 0.99


def test_the_files_say_what_they_are(tiny_gpt2, tmp_path):
    model = tiny_gpt2()
    edit = random_edit(model, ["mlp.c_fc"], ranks=(2,))
    assert edit.to_peft(tmp_path / "a") == tmp_path / "a"
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "mnemotrace.json",
    ]
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (2, 2, {})
    assert (config["fan_in_fan_out"], config["lora_bias"]) == (True, True)
    assert json.loads((tmp_path / "a" / "mnemotrace.json").read_text())["manifest"] == {"method": "random", "seed": 0}


def _refused(change, folder, message):
    with pytest.raises(EditError, match=message) as caught:
        mt.Edit((change,)).to_peft(folder / "a")
    assert "mt.merge" in str(caught.value)
    assert not any(folder.iterdir())


def test_changes_that_are_not_low_rank_are_refused(tmp_path):
    _refused(Dense("w", torch.ones(2, 2)), tmp_path, "a dense change of 'w'")
    _refused(Sparse("w", (2, 2), torch.tensor([1]), torch.ones(1)), tmp_path, "a sparse change of 'w'")


def test_slices_of_parameters_are_refused(tmp_path):
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    _refused(random_edit(grouped).changes[0], tmp_path, "slice of a stored parameter")
    attention = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2)})
    for change in random_edit(attention, ["in_proj[q]", "out_proj"]).changes:
        _refused(change, tmp_path, "read by the module around them")


def test_tied_weights_are_refused(tiny_gpt2, tmp_path):
    edit = random_edit(tiny_gpt2(), ["lm_head"])
    _refused(edit.changes[0], tmp_path, r"its weight is also transformer\.wte\.weight")


def test_the_network_itself_is_no_module_to_wrap(tmp_path):
    _refused(random_edit(nn.Linear(3, 3)).changes[0], tmp_path, "wraps a named module inside")


def test_convolutions_that_peft_does_not_repeat_are_refused(tmp_path):
    for options in ({"dilation": 2}, {"padding": 1, "padding_mode": "circular"}):
        model = nn.Sequential(nn.Conv2d(2, 2, 3, **options))
        with pytest.raises(EditError, match=r"dilation .* padding .*; peft adds a convolution without dilation"):
            random_edit(model).to_peft(tmp_path / "a", model)
    assert not any(tmp_path.iterdir())


def test_nothing_to_write_and_nonsense_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3))
    (change,) = random_edit(model).changes
    empty = LowRank(change.site, change.left[:, :0], change.right[:0])
    with pytest.raises(EditError, match="without changes"):
        mt.Edit((empty,)).to_peft(tmp_path / "a")
    with pytest.raises(NonFiniteError, match="the change of 0"):
        mt.Edit((change.scaled(float("nan")),)).to_peft(tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_no_half_written_adapter(tiny_llama, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr(ours, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        random_edit(tiny_llama()).to_peft(tmp_path / "a")
    assert not any(tmp_path.iterdir())

"""Recording and patching see every way of calling a layer and leave the network as it was."""

import pytest
import torch
from torch import nn

from mnemotrace.adapters.hooks import evaluating, forward, patch, record, stop_at
from mnemotrace.adapters.linear import sites


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def ignore(*_):
    pass


def test_a_keyword_call_is_recorded(recorded):
    layer, x = nn.Linear(3, 4), torch.randn(2, 3)
    recording = recorded(layer, sites(layer), input=x)
    assert recording.sources["root"][0] is x


def test_a_non_contiguous_input_is_recorded_as_it_is(recorded):
    layer, x = nn.Linear(3, 4), torch.randn(3, 5).T
    recording = recorded(layer, sites(layer), x)
    assert torch.equal(recording.rows["root"][0], x)
    torch.testing.assert_close(recording.made("root"), recording.output)


def test_maps_that_read_one_tensor_get_the_same_object(recorded, tiny_llama, tokens):
    model = tiny_llama()
    sources = recorded(model, sites(model, ["q_proj", "k_proj", "v_proj"], [0]), tokens).sources.values()
    assert len({id(calls[0]) for calls in sources}) == 1


def test_recording_does_not_change_the_output(recorded, tiny_lm, tokens):
    expected = tiny_lm(tokens).logits
    assert torch.equal(recorded(tiny_lm, sites(tiny_lm), tokens).output.logits, expected)


def test_hooks_are_removed_after_an_exception(model):
    with pytest.raises(RuntimeError, match="shapes"), record(model, sites(model), ignore):
        assert hooks(model) == 2
        model(torch.randn(2, 7))
    assert hooks(model) == 0


def test_hooks_are_removed_when_a_site_does_not_exist(model):
    found = sites(model)
    with pytest.raises(AttributeError), record(nn.Sequential(model[0]), found, ignore):
        pass
    assert hooks(model) == 0


def test_an_exception_of_the_receiver_is_the_callers(model):
    def refuse(*_):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"), record(model, sites(model), refuse):
        model(torch.randn(2, 3))
    assert hooks(model) == 0


def test_the_fast_path_is_off_inside_and_as_before_outside(model):
    for before in (False, True):
        torch.backends.mha.set_fastpath_enabled(before)
        with record(model, sites(model), ignore):
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() is before


def test_patch_replaces_an_output_inside_the_block_only(model):
    x = torch.randn(2, 3)
    before = model(x)
    with patch(model, {"0": torch.zeros_like}):
        assert torch.equal(model(x), model[2].bias.expand(2, 2))
    assert torch.equal(model(x), before)
    assert hooks(model) == 0


def test_several_patches_each_do_their_own(model):
    x = torch.randn(2, 3)
    expected = model[2](torch.ones(2, 4)) + 1
    with patch(model, {"0": torch.ones_like, "2": lambda out: out + 1}):
        torch.testing.assert_close(model(x), expected)


def test_patch_is_undone_after_an_exception_and_names_must_exist(model):
    with pytest.raises(AttributeError), patch(model, {"0": torch.zeros_like, "nowhere": torch.zeros_like}):
        pass
    with pytest.raises(KeyError), patch(model, {"0": torch.zeros_like}):
        raise KeyError
    assert hooks(model) == 0


def test_stop_at_leaves_the_forward_pass_before_the_module(model):
    reached = []
    model[1].register_forward_hook(lambda *_: reached.append("relu"))
    model[2].register_forward_hook(lambda *_: reached.append("head"))
    with stop_at(model[2]):
        model(torch.randn(2, 3))
    assert reached == ["relu"]
    with stop_at(None):
        model(torch.randn(2, 3))
    assert reached == ["relu", "relu", "head"]


def test_training_flags_come_back_after_an_exception(model):
    model.train()
    model[0].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        raise KeyError
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("batch", [{"a": 1, "b": 2}, (1, 2), [1, 2]])
def test_forward_calls_by_keyword_or_position(batch):
    assert forward(lambda a, b: (a, b), batch) == (1, 2)


def test_forward_gives_anything_else_as_one_argument():
    x = torch.ones(2)
    assert forward(lambda a: a, x) is x

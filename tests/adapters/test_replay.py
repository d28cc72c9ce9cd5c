"""Columns and blocks that are run again give what the whole forward pass gives, in every layout."""

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.hooks import evaluating, patch
from mnemotrace.adapters.replay import Suffix, keep, logits
from mnemotrace.core.errors import NonFiniteError
from tests.adapters.layouts import LAYERS, LAYOUTS, VOCABULARY, WIDTH, build, footprint, unchanged

LENGTH = 9


def ids(rows: int = 2) -> Tensor:
    return torch.randint(2, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(1))


def close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def whole(model: nn.Module, tokens: Tensor, changed: Tensor, column: int, layer: int) -> Tensor:
    """Logits of a full forward pass with the state of one column replaced before a block."""

    def before(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        hidden = args[0] if args else kwargs["hidden_states"]
        hidden = hidden.clone()
        hidden[:, column] = changed
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    handle = decoder(model).block(layer).register_forward_pre_hook(before, with_kwargs=True)
    try:
        with torch.no_grad():
            return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
    finally:
        handle.remove()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_change_that_is_replayed_gives_the_logits_of_the_whole_pass(layout: str) -> None:
    model, tokens = build(layout), ids()
    before = footprint(model)
    parts = decoder(model)
    kept = keep(parts, tokens)
    changed = torch.randn(WIDTH, generator=torch.Generator().manual_seed(2)) * kept.hidden[1].std()
    untouched = logits(parts, kept.hidden[-1])
    for column, layer in ((0, 1), (LENGTH - 3, 0), (LENGTH - 2, LAYERS - 1)):
        suffix = kept.suffix(column)
        hidden = suffix.hidden(layer).clone()
        hidden[:, 0] = changed
        with evaluating(model):
            mine = logits(parts, suffix.blocks(hidden, layer))
        theirs = whole(model, tokens, changed, column, layer)
        close(mine, theirs[:, column:])
        assert not torch.allclose(untouched[:, column:], theirs[:, column:], rtol=1e-3)  # the change is seen at all
    assert unchanged(model, before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_go_on_from_the_kept_row_that_they_name(layout: str) -> None:
    model, parts = (found := build(layout)), decoder(found)
    suffix = keep(parts, ids(3)).suffix(4)
    rows = torch.tensor([2, 0, 2, 1])
    with evaluating(model):
        close(suffix.blocks(suffix.hidden(1)[rows], 1, rows=rows), suffix.hidden(LAYERS)[rows])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_last_block_for_some_columns_gives_what_the_whole_block_gives_there(layout: str) -> None:
    model = build(layout)
    kept = keep(decoder(model), ids())
    rows = torch.tensor([1, 0, 1])
    moved = torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(3)) * kept.hidden[1].std()
    for start, end in ((0, LENGTH - 1), (3, LENGTH - 2), (4, 4)):
        suffix, tail = kept.suffix(start), kept.suffix(end)
        with evaluating(model):
            hidden = suffix.hidden(LAYERS - 1)[rows] + moved[:, start:]
            whole = suffix.blocks(hidden, LAYERS - 1, rows=rows)
            close(suffix.last_block(hidden, tail, rows=rows), whole[:, end - start :])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layout", ["GPT2", "GPTNeoX", "Llama", "Mistral", "Gemma3Text", "OPT", "Bloom", "Falcon"])
def test_padding_on_either_side_changes_no_token(layout: str, side: str) -> None:
    model, tokens = build(layout), ids()
    parts = decoder(model)
    alone = keep(parts, tokens[:1, :6]).hidden[-1]
    mask = torch.ones_like(tokens)
    real = slice(3, None) if side == "left" else slice(0, 6)
    tokens[0, real], mask[0] = tokens[0, :6].clone(), 0
    mask[0, real] = 1
    kept = keep(parts, tokens, mask)
    close(kept.hidden[-1][:1, real], alone)
    suffix = kept.suffix(4)
    with evaluating(model):
        again = suffix.blocks(suffix.hidden(0), 0)
    shown = mask[:, 4:].bool()
    close(again[shown], suffix.hidden(LAYERS)[shown])


def test_a_part_of_the_blocks_and_gradients() -> None:
    model = build("Llama")
    suffix = keep(decoder(model), ids()).suffix(3)
    hidden = suffix.hidden(1).clone().requires_grad_()
    out = suffix.blocks(hidden, 1, 2)
    close(out.detach(), suffix.hidden(2))
    out.sum().backward()
    assert hidden.grad is not None and hidden.grad.abs().sum() > 0


def test_patches_act_in_a_replay_as_in_a_pass() -> None:
    model = build("GPTNeoX")
    parts, tokens = decoder(model), ids()
    suffix = keep(parts, tokens).suffix(0)
    with evaluating(model), patch(model, {parts.mlp[1]: torch.zeros_like}):
        mine = logits(parts, suffix.blocks(suffix.hidden(0), 0))
        close(mine, model(tokens).logits)


def test_logits_of_some_rows_and_columns() -> None:
    model = build("Gemma2", final_logit_softcapping=2.0)
    parts, tokens = decoder(model), ids()
    kept = keep(parts, tokens)
    with torch.no_grad():
        expected = model(tokens).logits
        close(logits(parts, kept.hidden[-1][:, -1:]), expected[:, -1:])
    assert float(expected.abs().max()) <= 2.0


def test_columns_that_do_not_exist_are_refused() -> None:
    model = build("GPT2")
    with pytest.raises(ValueError, match=f"got start=9; expected a column of {LENGTH}"):
        keep(decoder(model), ids()).suffix(LENGTH)


def test_nan_is_named() -> None:
    model = build("GPT2")
    parts = decoder(model)
    keep(parts, ids())
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="last hidden states; look for NaN in the weights or the inputs"):
        keep(parts, ids())


@pytest.mark.parametrize("act", ["keep", "suffix", "blocks", "logits"])
def test_interrupted_anywhere_the_model_is_as_it_was(act: str) -> None:
    model = build("Llama")
    parts = decoder(model)
    kept = keep(parts, ids())
    suffix = kept.suffix(2)
    model.train()
    model.model.layers[0].eval()
    before = footprint(model)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    where = {"keep": "model.layers.1.mlp", "blocks": "model.layers.1.mlp"}.get(act, "model.norm")
    handle = model.get_submodule(where).register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        {
            "keep": lambda: keep(parts, ids()),
            "suffix": lambda: kept.suffix(1),
            "blocks": lambda: suffix.blocks(suffix.hidden(0), 0),
            "logits": lambda: logits(parts, kept.hidden[-1]),
        }[act]()
    handle.remove()
    assert unchanged(model, before)


def test_a_network_with_more_memory_than_keys_and_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("GPT2")
    monkeypatch.setattr(Suffix, "blocks", lambda self, hidden, *_, **__: hidden)
    before = footprint(model)
    with pytest.raises(TypeError, match="GPT2LMHeadModel, parts of which cannot be run again: .* off by"):
        keep(decoder(model), ids())
    assert unchanged(model, before)

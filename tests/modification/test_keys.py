"""Keys and outputs of facts: means of what plain passes give at the right token; ROME's two ways to use them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.modification.keys import keys, outputs, row_weights, site_of
from mnemotrace.modification.rome import rome, rome_each
from mnemotrace.modification.values import values
from tests.adapters.layouts import build, footprint, unchanged
from tests.adapters.words import word_tokenizer

TOKENIZER = word_tokenizer()
DOWNS = {
    "GPT2": "transformer.h.{}.mlp.c_proj",
    "Llama": "model.layers.{}.mlp.down_proj",
    "Qwen2": "model.layers.{}.mlp.down_proj",
    "GPTNeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
}
LAYOUT = pytest.mark.parametrize("layout", DOWNS)
FACTS = [
    mt.Fact("the cat sat on a", "cat", target="mat"),
    mt.Fact("home and the dog ran far away", "the dog", target="home"),
    mt.Fact("a mat", "mat", target="away"),
]
SUBJECT, PROMPT = (1, 3, 1), (4, 6, 1)  # position of the last token of each, within the prompt
CONTEXTS = ((0, 5, 6, 9), (0, 8), (0, 4, 4, 11, 7))
RIDGE = 1e-3


def ids_of(text: str) -> list[int]:
    return [TOKENIZER.convert_tokens_to_ids(word) for word in text.split()]


def passes(model: nn.Module, name: str, fact: mt.Fact, place: int, contexts: Any = CONTEXTS) -> tuple[Tensor, Tensor]:
    """What a module read and gave at a position of the prompt, in a plain pass a row; the bare prompt first."""
    read: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        given = output[0] if isinstance(output, tuple) else output
        read.append((args[0][0].double(), given[0].double()))

    handle = model.get_submodule(name).register_forward_hook(keep)
    starts = [[0], *([*context, *ids_of(".")] for context in contexts)]
    with torch.no_grad():
        for start in starts:
            model(input_ids=torch.tensor([[*start, *ids_of(fact.prompt)]]))
    handle.remove()
    inputs, given = ([row[i][len(start) + place] for row, start in zip(read, starts, strict=True)] for i in (0, 1))
    return torch.stack(inputs), torch.stack(given)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A GPT-2 in float64."""
    return build("GPT2").double()


# ------------------------------------------------------------------------------------------------------ means of passes


@LAYOUT
@pytest.mark.parametrize(("lookup", "places"), [("subject", SUBJECT), ("prompt", PROMPT)])
def test_keys_and_outputs_are_means_over_plain_passes(layout: str, lookup: Any, places: tuple[int, ...]) -> None:
    model, options = build(layout).double(), {"contexts": CONTEXTS, "lookup": lookup}
    mine = keys(model, TOKENIZER, FACTS, layers=[2, 0], **options)
    given = outputs(model, TOKENIZER, FACTS, layer=2, **options)
    after = outputs(model, TOKENIZER, FACTS, layer=1, at="block", **options)
    assert list(mine) == [0, 2]
    for i, (fact, place) in enumerate(zip(FACTS, places, strict=True)):
        for layer in (0, 2):
            read, gave = passes(model, DOWNS[layout].format(layer), fact, place)
            torch.testing.assert_close(mine[layer][:, i], read.mean(0))
        torch.testing.assert_close(given[:, i], gave.mean(0))  # the map of the last layer ends the MLP
        block = DOWNS[layout].format(1).partition(".mlp")[0]
        torch.testing.assert_close(after[:, i], passes(model, block, fact, place)[1].mean(0))


def test_the_bare_prompt_has_the_weight_that_it_is_given(model: nn.Module) -> None:
    for weight in (0.0, 0.5, 1.0):
        (mine,) = keys(model, TOKENIZER, FACTS, layers=1, contexts=CONTEXTS, bare_weight=weight).values()
        given = outputs(model, TOKENIZER, FACTS, layer=1, contexts=CONTEXTS, bare_weight=weight)
        for i, fact in enumerate(FACTS):
            both = passes(model, DOWNS["GPT2"].format(1), fact, SUBJECT[i])
            for found, rows in zip((mine, given), both, strict=True):
                torch.testing.assert_close(found[:, i], weight * rows[0] + (1 - weight) * rows[1:].mean(0))


def test_without_contexts_the_key_is_the_bare_prompts(model: nn.Module) -> None:
    for options in ({}, {"bare_weight": 0.5}):
        (mine,) = keys(model, TOKENIZER, FACTS, layers=-2, **options).values()
        rows = [passes(model, DOWNS["GPT2"].format(1), fact, SUBJECT[i], ())[0][0] for i, fact in enumerate(FACTS)]
        torch.testing.assert_close(mine, torch.stack(rows, 1))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_keys_do_not_depend_on_who_shares_the_pass(model: nn.Module, batch_size: int) -> None:
    options = {"layers": (0, 1, 2), "contexts": CONTEXTS}
    whole = keys(model, TOKENIZER, FACTS, **options)
    parts = keys(model, TOKENIZER, FACTS, batch_size=batch_size, **options)
    for layer in range(3):
        torch.testing.assert_close(whole[layer], parts[layer])
        alone = torch.cat([keys(model, TOKENIZER, [fact], **options)[layer] for fact in FACTS], 1)
        torch.testing.assert_close(whole[layer], alone)


def test_what_follows_the_subject_does_not_count(model: nn.Module) -> None:
    one, other = (keys(model, TOKENIZER, [mt.Fact(p, "cat")], layers=2) for p in ("the cat sat", "the cat ran far"))
    torch.testing.assert_close(one[2], other[2])
    moved = keys(model, TOKENIZER, [mt.Fact("a cat sat", "cat")], layers=2)
    assert not torch.allclose(one[2], moved[2], rtol=1e-3)


def test_weights_of_rows_sum_to_one() -> None:
    assert row_weights(0) == row_weights(0, 0.3) == [1.0]
    assert row_weights(3) == [0.25] * 4
    assert row_weights(5, 0.5) == pytest.approx([0.5, *[0.1] * 5])


def test_a_site_is_the_map_that_the_mlp_ends_with(model: nn.Module) -> None:
    assert site_of(model, -1).name == DOWNS["GPT2"].format(2)
    assert (site_of(model, 0).d, site_of(model, 0).o) == (128, 32)


def test_a_model_in_training_is_read_without_dropout_and_left_as_it_was() -> None:
    model = build("GPT2")
    wanted = keys(model, TOKENIZER, FACTS, layers=2, contexts=CONTEXTS)[2]
    model.train()
    model.transformer.h[1].eval()
    before = footprint(model)
    assert torch.equal(keys(model, TOKENIZER, FACTS, layers=2, contexts=CONTEXTS)[2], wanted)
    outputs(model, TOKENIZER, FACTS, layer=0, at="block")
    assert unchanged(model, before)


def test_blocks_behind_the_deepest_layer_do_not_run(model: nn.Module) -> None:
    ran: list[int] = []
    handles = [b.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, b in enumerate(model.transformer.h)]
    site_of(model, 0)
    ran.clear()
    keys(model, TOKENIZER, FACTS, layers=1)
    outputs(model, TOKENIZER, FACTS, layer=0)
    for handle in handles:
        handle.remove()
    assert 2 not in ran and 0 in ran


# ---------------------------------------------------------------------------------------------- one key, or two for one


@pytest.fixture(scope="module")
def statistics(model: nn.Module) -> mt.Statistics:
    """Of random texts, at the map of layer 1."""
    return collected(model)


def collected(model: nn.Module) -> mt.Statistics:
    ids = torch.randint(4, 17, (40, 10), generator=torch.Generator().manual_seed(0))
    sites = mt.sites(model, ["h.1.mlp.c_proj"])
    return mt.collect(model, [{"input_ids": ids}], sites=sites, dtype=torch.float64)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("lookup", ["subject", "prompt"])
def test_an_edit_gives_the_value_at_the_averaged_key_and_as_published_at_the_bare_prompts(
    model: nn.Module, statistics: mt.Statistics, legacy: bool, lookup: Any
) -> None:
    """Oracle: the weight that is nearest in the metric of the second moment, from keys of plain passes, dense."""
    name, fact, place = DOWNS["GPT2"].format(1), FACTS[0], (SUBJECT if lookup == "subject" else PROMPT)[0]
    read, gave = passes(model, name, fact, place)
    mean, bare = read.mean(0), read[0]
    where = {"layer": 1, "contexts": CONTEXTS, "lookup": lookup}
    found = values(model, TOKENIZER, [fact], steps=4, **where)
    options = {"statistics": statistics, "found": found, "ridge": RIDGE, "legacy": legacy}
    (edit,) = rome_each(model, TOKENIZER, [fact], **where, **options)
    moments = statistics[name]
    second = moments.matrix() / moments.n
    second += RIDGE * second.trace() / len(second) * torch.eye(len(second), dtype=torch.float64)
    u = torch.linalg.inv(second) @ mean
    wanted = torch.outer(found.deltas[:, 0], u / (u @ (bare if legacy else mean)))
    torch.testing.assert_close(edit.changes[0].dense(), wanted, rtol=1e-6, atol=1e-9)
    with mt.applied(model, edit):
        after = read @ model.get_parameter(f"{name}.weight") + model.get_parameter(f"{name}.bias")
    reached, value = (after[0], gave[0]) if legacy else (after.mean(0), gave.mean(0))
    torch.testing.assert_close(reached, value + found.deltas[:, 0], rtol=1e-6, atol=1e-9)
    assert edit.manifest["facts"][0]["cosine"] == pytest.approx(
        float(mean @ bare / mean.norm() / bare.norm()), rel=1e-3
    )


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": 3}, ValueError, "got layer 3 of a GPT2LMHeadModel with 3 layers; expected 0 to 2"),
        ({"layers": [0, -4]}, ValueError, "got layer -4 of a GPT2LMHeadModel with 3 layers"),
        ({"layers": 1.5}, TypeError, "got layer 1.5; expected a whole number, 0 to 2"),
        ({"layers": "1"}, TypeError, "got layer '1'; expected a whole number"),
        ({"layers": None}, TypeError, "got layer None; expected a whole number"),
        ({"layers": []}, ValueError, "got no layer; expected at least one"),
        ({"bare_weight": 1.5, "contexts": CONTEXTS}, ValueError, r"got bare_weight=1.5; expected a share in \[0, 1\]"),
        ({"lookup": "noun"}, ValueError, "got lookup='noun'; expected 'subject' or 'prompt'"),
        ({"batch_size": 0}, ValueError, "got batch_size=0; expected at least 1 row"),
    ],
)
def test_settings_out_of_range_are_refused(
    model: nn.Module, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        keys(model, TOKENIZER, FACTS, **({"layers": 1} | options))


def test_what_is_no_list_of_facts_is_refused(model: nn.Module) -> None:
    for read in (
        lambda facts: keys(model, TOKENIZER, facts, layers=1),
        lambda f: outputs(model, TOKENIZER, f, layer=1),
    ):
        with pytest.raises(ValueError, match="got no fact; expected at least one"):
            read([])
        with pytest.raises(TypeError, match="got one fact, 'a mat'; expected several; put it in a list"):
            read(FACTS[2])


def test_a_layer_of_experts_has_no_key_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"got layer 0, whose MLP .* \(experts share the work\); expected a dense MLP"):
        keys(build("Mixtral"), TOKENIZER, FACTS, layers=0)


class Linear4bit(nn.Module):
    """As bitsandbytes stores a map: packed in uint8, one column, of the map's class by name."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.compute = plain.weight.detach().clone()
        self.weight = nn.Parameter(torch.zeros(plain.weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.compute.T


def quantised(layout: str) -> nn.Module:
    """A model whose map of layer 1 is quantised."""
    model = build(layout)
    if layout == "Llama":
        model.model.layers[1].mlp.down_proj = Linear4bit(model.model.layers[1].mlp.down_proj)
        return model
    stored = model.transformer.h[1].mlp.c_proj
    plain, bias = stored.weight.detach().clone(), stored.bias.detach().clone()
    stored.weight = None
    stored.weight = nn.Parameter((plain * 100).to(torch.int8), requires_grad=False)
    stored.forward = lambda x: x @ plain + bias
    return model


@pytest.mark.parametrize(("layout", "dtype"), [("Llama", "uint8"), ("GPT2", "int8")])
def test_a_quantised_map_is_refused_before_anything_is_found(layout: str, dtype: str, monkeypatch) -> None:
    from mnemotrace.modification import rome as module

    model, name = quantised(layout), DOWNS[layout].format(1)
    message = f"got '{name}' in the selection; .*; its weight is stored as torch.{dtype}; load the model unquantised"
    empty = mt.Statistics({name: mt.Moments.of(torch.eye(4))}, {})
    monkeypatch.setattr(module, "values", lambda *_, **__: pytest.fail("values were looked for"))
    for run in (
        lambda: site_of(model, 1),
        lambda: keys(model, TOKENIZER, FACTS, layers=1),
        lambda: rome(model, TOKENIZER, FACTS, layer=1, statistics=empty, contexts=()),
    ):
        with pytest.raises(SelectionError, match=message):
            run()
    assert 0 in keys(model, TOKENIZER, FACTS, layers=0)  # the other layers are as good as before


def test_weights_that_are_no_numbers_are_named_by_layer() -> None:
    model = build("Llama")
    site_of(model, 0)  # its parts are found while they still tell one from another
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    keys(model, TOKENIZER, FACTS, layers=0)
    with pytest.raises(NonFiniteError, match="the keys of layer 1; look for NaN in the weights before it"):
        keys(model, TOKENIZER, FACTS, layers=[0, 1])
    with pytest.raises(NonFiniteError, match="the outputs of layer 1; look for NaN in the weights before it"):
        outputs(model, TOKENIZER, FACTS, layer=1)

"""Suggestions name the layer in which facts were planted, and the token at which they are looked up there."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.evaluation.worldly import from_world
from tests.adapters.layouts import VOCABULARY, WIDTH, build, footprint, unchanged

BLOCKS = 5
SUBJECTS = [f"w{2 * i} w{2 * i + 1}" for i in range(4, 32)]
FACTS = [Fact("w7 {} w6 w5", subject, answer=f"w{i}") for i, subject in enumerate(SUBJECTS[:4], 1)]
ASKED = [replace(fact, answer=None) for fact in FACTS]
LOOKUPS = {"subject": 2, "prompt": 4}  # positions in these prompts


def words() -> Any:
    """Make a tokenizer that reads w0, w1 and so on as 0, 1 and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="w0")


def planted(lookup: str, layer: int) -> nn.Module:
    """Plant the facts in the MLP of one layer, which writes their answers at one token; no other MLP gives anything.

    One block copies all tokens to all later ones: before the MLP, so that the prompt's last token knows the subject, or
    after it, so that it gets to know the answer.
    """
    model = build("GPT2", n_layer=BLOCKS, tie_word_embeddings=False)
    decoder(model)  # parts are found by what they do, so before most of them do nothing
    with torch.no_grad():
        for block in model.transformer.h:
            for part in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_proj):
                part.weight.zero_()
        copying = model.transformer.h[0 if lookup == "prompt" else layer + 1].attn
        copying.c_attn.weight[:, 2 * WIDTH :] = copying.c_proj.weight[:] = torch.eye(WIDTH)
        prompts = [f"w7 {subject} w6 w5" for subject in SUBJECTS]
        ids = torch.tensor([[int(word[1:]) for word in prompt.split()] for prompt in prompts])
        down = model.transformer.h[layer].mlp.c_proj
        keys: list[Tensor] = []
        handle = down.register_forward_pre_hook(lambda _, args: keys.append(args[0]))
        model(ids)
        handle.remove()
        directions = torch.eye(WIDTH)[: len(FACTS)]
        values = torch.zeros(*ids.shape, WIDTH)  # nothing about other subjects
        values[: len(FACTS), LOOKUPS[lookup]] = 50 * directions
        down.weight[:] = torch.linalg.pinv(keys[0].flatten(0, 1), rtol=1e-3) @ values.flatten(0, 1)
        model.lm_head.weight[1 : len(FACTS) + 1] = 5 * directions
    return model


@pytest.mark.parametrize(
    ("lookup", "layer"),
    [*(("subject", layer) for layer in range(1, BLOCKS - 1)), *(("prompt", layer) for layer in range(1, BLOCKS))],
)
def test_the_layer_that_facts_were_planted_in_is_found(lookup: str, layer: int) -> None:
    found = mt.suggest(planted(lookup, layer), words(), FACTS)
    assert (found.lookup, found.layer, found.facts) == (lookup, layer, len(FACTS))
    # before the planted layer nothing happens, so all of its work is still ahead in every earlier one
    assert found.layers == tuple(range(1, layer + 1))
    assert found.sites == tuple(f"transformer.h.{i}.mlp.c_proj" for i in found.layers)
    scores = found.scores[lookup]
    assert scores[0] is None and min(scores[1 : layer + 1]) > 0.3 and not any(scores[layer + 1 :])


def test_funes_looks_facts_up_at_the_last_token_of_the_prompt() -> None:
    funes = mt.funes()
    before = footprint(funes.model)
    known = [fact for fact in funes.world.facts if fact.held_out][:30:5]
    found = mt.suggest(funes.model, funes.tokenizer, [from_world(funes.world, fact, neighbours=1) for fact in known])
    scores = found.scores["prompt"]
    assert found.lookup == "prompt" and found.facts == 6
    assert scores[found.layer] == max(score for score in scores if score is not None) > 0.3
    first, enough = found.layers[0], scores[found.layer] / 2
    assert found.layers == tuple(range(first, found.layer + 1))
    assert all(scores[layer] >= enough for layer in found.layers) and (first == 1 or scores[first - 1] < enough)
    assert set(found.sites) <= {name for name, _ in funes.model.named_modules()}
    assert 0 < found.seconds < math.inf
    assert unchanged(funes.model, before)


def test_scores_are_what_holding_the_mlps_takes_away() -> None:
    model = planted("prompt", 2)
    for parameter in model.transformer.h.parameters():  # so that no two layers are alike
        parameter.data += 0.005 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    found = mt.suggest(model, words(), ASKED, draws=3, noise=2.0, generator=torch.Generator().manual_seed(4))
    whole = mt.trace(
        model,
        words(),
        ASKED,
        kinds=("state", "state_without_mlp"),
        draws=3,
        noise=2.0,
        generator=torch.Generator().manual_seed(4),
    )
    for name, position in LOOKUPS.items():
        rows = torch.stack(
            [(each.effect("state") - each.effect("state_without_mlp"))[position, :-1] for each in whole.records]
        )
        assert found.scores[name] == pytest.approx((None, *rows.mean(0).tolist()), abs=1e-6)
        assert found.errors[name] == pytest.approx((None, *(rows.std(0) / 2).tolist()), abs=1e-6)


@pytest.mark.parametrize("facts", [FACTS, FACTS[:1]], ids=["several facts", "one fact"])
def test_a_network_whose_mlps_do_nothing_gets_a_warning(facts: Sequence[Fact]) -> None:
    model = planted("subject", 2)
    model.transformer.h[2].mlp.c_proj.weight.data.zero_()
    with pytest.warns(NumericalWarning, match="part in these facts, 0 at layer .* within two standard errors of zero"):
        found = mt.suggest(model, words(), [replace(fact, answer=None) for fact in facts])
    assert not any(found.scores["subject"]) and not any(found.scores["prompt"])


def test_an_effect_of_one_fact_among_many_gets_a_warning() -> None:
    model = planted("prompt", 2)
    model.lm_head.weight.data[2:5] = 0  # what the MLP gives for the other facts is not read
    with pytest.warns(NumericalWarning, match=r"part in these facts, 0\.\d+ at layer 2, is within two standard errors"):
        mt.suggest(model, words(), ASKED)


def test_errors_are_of_facts_that_have_such_a_token_and_none_with_one_fact() -> None:
    model = planted("subject", 2)
    one = mt.suggest(model, words(), FACTS[0])
    assert one.errors == dict.fromkeys(LOOKUPS, (None,) * BLOCKS) and one.facts == 1
    ends = Fact("w7 w6 {}", SUBJECTS[0])  # its subject's last token is the prompt's
    some = mt.suggest(model, words(), [*FACTS, ends])
    assert some.facts == 5 and None not in (*some.scores["prompt"][1:], *some.errors["prompt"][1:])
    assert some.errors["subject"][2] != 0
    alone = mt.suggest(model, words(), ends)
    assert alone.lookup == "subject" and alone.scores["prompt"] == (None,) * BLOCKS


def test_only_the_first_facts_are_traced_and_unknown_ones_are_left_out() -> None:
    model = planted("subject", 1)
    calls: list[tuple[int, int, str]] = []
    found = mt.suggest(model, words(), FACTS, limit=3, progress=lambda *now: calls.append(now))
    assert calls == [(1, 3, "facts"), (2, 3, "facts"), (3, 3, "facts")] and found.facts == 3
    assert found == replace(mt.suggest(model, words(), FACTS[:3]), seconds=found.seconds)
    wrong = mt.suggest(model, words(), [*FACTS[:2], replace(FACTS[2], answer="w9")])
    assert wrong.facts == 2 and wrong.manifest["unknown"] == [FACTS[2].prompt]


def test_a_suggestion_survives_its_file(tmp_path: Path) -> None:
    found = mt.suggest(planted("prompt", 3), words(), FACTS[0])
    assert mt.load(mt.save(found, tmp_path / "suggestion.safetensors")) == found
    assert found.manifest["method"] == "suggestion"


@pytest.mark.filterwarnings("ignore::mnemotrace.core.errors.NumericalWarning")  # a random network
def test_where_experts_share_the_work_the_whole_mlp_is_named() -> None:
    model = build("Mixtral")
    found = mt.suggest(model, words(), ASKED[:2])
    assert found.sites == tuple(f"model.layers.{layer}.mlp" for layer in found.layers)
    assert all(model.get_submodule(name) for name in found.sites)


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="got limit=0; expected at least one fact"):
        mt.suggest(build("GPT2"), words(), ASKED, limit=0)
    with pytest.raises(ValueError, match="got limit=-1; expected at least one fact"):
        mt.suggest(build("GPT2"), words(), ASKED, limit=-1)
    with pytest.raises(ValueError, match="got a network of one block; expected at least two blocks to choose from"):
        mt.suggest(build("GPT2", n_layer=1), words(), ASKED)
    with pytest.raises(ValueError, match="got no facts; expected at least one Fact"):
        mt.suggest(build("GPT2"), words(), [])
    with pytest.raises(ValueError, match="none of which the network knows"):
        mt.suggest(planted("prompt", 1), words(), replace(FACTS[0], answer="w9"))

"""Values of facts: what kept prefixes give is what full forward passes give, step by step, in every layout."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.values import Values, values
from tests.adapters.layouts import build, footprint, unchanged
from tests.adapters.words import word_tokenizer

TOKENIZER = word_tokenizer()
MLPS = {
    "GPT2": "transformer.h.1.mlp",
    "Llama": "model.layers.1.mlp",
    "Qwen2": "model.layers.1.mlp",
    "GPTNeoX": "gpt_neox.layers.1.mlp",  # attention and MLP side by side
    "Gemma2": "model.layers.1.mlp",  # what the MLP gives is normalised before it is added
}
FACTS = [
    mt.Fact("the cat sat on a", "cat", target="mat"),
    mt.Fact("home and the dog ran far", "the dog", target="away home"),
    mt.Fact("far away a mat", "mat", target="on the mat"),
]
CONTEXTS = ((0, 5, 6, 9), (0, 8), (0, 4, 4, 11, 7, 13, 10))
ESSENCE = "and {} sat on"
SETTINGS: dict[str, Any] = {
    "steps": 6, "learning_rate": 0.3, "weight_decay": 0.05, "kl_weight": 0.2, "clamp": 0.8, "essence": ESSENCE,
    "stop_below": 0.0,
}  # fmt: skip


def ids_of(text: str) -> list[int]:
    return [TOKENIZER.convert_tokens_to_ids(word) for word in text.split()]


def ends(prompt: str, subject: str, lookup: str) -> int:
    """Position of the last token of the subject, or of the prompt, within the prompt's words."""
    words, wanted = prompt.split(), subject.split()
    stops = [i + len(wanted) for i in range(len(words)) if words[i : i + len(wanted)] == wanted]
    return (stops[-1] if lookup == "subject" else len(words)) - 1


def ran(model: nn.Module, name: str, ids: list[int], column: int, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One row, alone, through the whole network: log-probabilities, and what the module gave at the column."""
    seen: list[Tensor] = []

    def add(_: nn.Module, __: Any, output: Any) -> Any:
        given = output[0] if isinstance(output, tuple) else output
        seen.append(given[0, column].detach())
        if delta is None:
            return output
        moved = torch.cat([given[:, :column], given[:, column : column + 1] + delta, given[:, column + 1 :]], 1)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = model.get_submodule(name).register_forward_hook(add)
    logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    handle.remove()
    return logs, seen[0]


def naive(
    model: nn.Module,
    name: str,
    fact: mt.Fact,
    contexts: tuple[tuple[int, ...], ...] = CONTEXTS,
    *,
    lookup: str = "subject",
    legacy: bool = False,
    **settings: Any,
) -> tuple[list[float], Tensor]:
    """Optimise as the formula is written, every row from its first token and every step through all blocks."""
    given = SETTINGS | settings
    asked, target = ids_of(fact.prompt), ids_of(fact.target)
    place, question = ends(fact.prompt, fact.subject, lookup), given["essence"].replace("{}", fact.subject)
    starts = [[0], *([*context, *ids_of(".")] for context in contexts)]
    what, where = [0, *ids_of(question)], 1 + ends(question, fact.subject, lookup)

    with torch.no_grad():
        v = ran(model, name, [0, *asked], 1 + place)[1]
        before = ran(model, name, what, where)[0][where]
    unit = 1.0 if legacy else float(v.norm()) / len(v) ** 0.5
    delta = torch.zeros_like(v, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=given["learning_rate"] * unit, eps=1e-8 / unit)
    losses: list[float] = []
    for step in range(given["steps"]):
        total = torch.zeros(())
        for start in starts:
            logs, _ = ran(model, name, [*start, *asked, *target], len(start) + place, delta)
            first = len(start) + len(asked)
            total = total - sum(logs[first - 1 + i, token] for i, token in enumerate(target)) / len(target)
        logs = ran(model, name, what, where, delta)[0][where]
        divergence = (logs.exp() * (logs - before)).sum()
        decay = delta.norm() / v.norm() / (v.norm() if legacy else 1)
        loss = total / len(starts) + given["kl_weight"] * divergence + given["weight_decay"] * decay
        losses.append(float(loss.detach()))
        if step + 1 == given["steps"]:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            delta /= (delta.norm() / (given["clamp"] * v.norm())).clamp_min(1)
    return losses, delta.detach()


def found(model: nn.Module, facts: list[mt.Fact], **settings: Any) -> Values:
    return values(model, TOKENIZER, facts, **({"layer": 1, "contexts": CONTEXTS} | SETTINGS | settings))


def check(mine: Values, i: int, losses: list[float], delta: Tensor) -> None:
    loose = delta.dtype != torch.float64
    assert mine.losses[i] == pytest.approx(losses, rel=1e-5 if loose else 1e-7)
    assert (mine.deltas[:, i] - delta).norm() <= (1e-3 if loose else 1e-5) * delta.norm()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A GPT-2 in float64, where two ways of one calculation agree to many digits."""
    return build("GPT2").double()


# ------------------------------------------------------------------------------------- the same as full forward passes


@pytest.mark.parametrize("layout", MLPS)
def test_kept_prefixes_give_the_losses_of_full_passes_for_several_facts_at_once(layout: str) -> None:
    """Contexts of different lengths, subjects and targets of one and several tokens, all in one call."""
    model = build(layout)
    mine = found(model, FACTS)
    assert mine.steps == (6, 6, 6)
    for i, fact in enumerate(FACTS):
        losses, delta = naive(model, MLPS[layout], fact)
        assert max(losses) - min(losses) > 5e-4 * losses[0]
        check(mine, i, losses, delta)


@pytest.mark.parametrize("layout", ["GPT2", "GPTNeoX", "Gemma2"])
def test_a_vector_added_after_the_block_gives_the_losses_of_full_passes(layout: str) -> None:
    model, fact = build(layout), FACTS[1]
    check(found(model, [fact], at="block"), 0, *naive(model, MLPS[layout].removesuffix(".mlp"), fact))


def test_adding_to_mlp_or_block_is_the_same_only_where_the_block_merely_adds() -> None:
    for layout, same in (("GPT2", True), ("Llama", True), ("Gemma2", False)):
        one, other = (found(build(layout), FACTS[:1], at=at, clamp=4.0, steps=2) for at in ("mlp", "block"))
        scale = one.outputs.norm(), other.outputs.norm()
        assert (one.deltas[:, 0] / scale[0]).allclose(other.deltas[:, 0] / scale[1], rtol=1e-3) == same


@pytest.mark.parametrize("at", ["mlp", "block"])
def test_facts_are_looked_up_at_the_prompts_last_token_where_that_is_asked_for(model: nn.Module, at: str) -> None:
    name = MLPS["GPT2"].removesuffix(".mlp" if at == "block" else "")
    for fact in FACTS[:2]:
        check(found(model, [fact], lookup="prompt", at=at), 0, *naive(model, name, fact, lookup="prompt"))


def test_without_contexts_the_bare_prompt_alone_is_optimised(model: nn.Module) -> None:
    mine = found(model, FACTS[:2], contexts=())
    for i in range(2):
        check(mine, i, *naive(model, MLPS["GPT2"], FACTS[i], ()))


def test_the_last_layer_is_optimised_where_the_subject_ends_the_prompt(model: nn.Module) -> None:
    fact = mt.Fact("far away a mat", "mat", target="ran")
    check(found(model, [fact], layer=-1), 0, *naive(model, "transformer.h.2.mlp", fact))


def test_the_published_units_are_absolute(model: nn.Module) -> None:
    options = {"legacy": True, "clamp": 4.0, "weight_decay": 0.3, "learning_rate": 0.02}
    mine = found(model, FACTS, **options)
    for i, fact in enumerate(FACTS):
        check(mine, i, *naive(model, MLPS["GPT2"], fact, **options))


@pytest.mark.parametrize("batch_size", [1, 10, 512])
def test_facts_found_together_are_those_found_alone(model: nn.Module, batch_size: int) -> None:
    together = found(model, FACTS, batch_size=batch_size, stop_below=4.6, steps=9)
    assert 1 == together.steps[1] < together.steps[2] < together.steps[0] == 9
    for i, fact in enumerate(FACTS):
        alone = found(model, [fact], stop_below=4.6, steps=9)
        assert together.losses[i] == pytest.approx(alone.losses[0], rel=1e-9)
        for name in ("deltas", "outputs"):
            torch.testing.assert_close(getattr(together, name)[:, [i]], getattr(alone, name), rtol=1e-7, atol=1e-9)
        assert (together.before[i], together.after[i]) == pytest.approx((alone.before[0], alone.after[0]), rel=1e-9)


# ----------------------------------------------------------------------------------------------- the parts of the loss


def test_the_divergence_is_read_at_the_subjects_last_token_so_later_words_do_not_count(model: nn.Module) -> None:
    one, longer, other = (found(model, FACTS[:2], essence=e) for e in ("a {}", "a {} ran home", "and {} ran home"))
    for mine, theirs in zip(one.losses, longer.losses, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)
    assert one.losses[0][1] != pytest.approx(other.losses[0][1], rel=1e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_decay_is_the_norm_relative_to_the_outputs_and_once_more_as_published(model: nn.Module, legacy: bool) -> None:
    """At zero the norm has no gradient, so the first step is the same with any decay, and the second loss tells it."""
    without, decayed = (
        found(model, FACTS, steps=2, weight_decay=w, clamp=50.0, legacy=legacy) for w in (0.0, 0.7)
    )  # fmt: skip
    torch.testing.assert_close(without.deltas, decayed.deltas, rtol=1e-9, atol=0)
    norms = decayed.outputs.norm(dim=0)
    shares = decayed.deltas.norm(dim=0) / (norms.square() if legacy else norms)
    for i, share in enumerate(shares.tolist()):
        assert decayed.losses[i][0] == pytest.approx(without.losses[i][0], rel=1e-12)
        assert decayed.losses[i][1] - without.losses[i][1] == pytest.approx(0.7 * share, rel=1e-8)


def test_a_first_step_is_the_learning_rate_in_units_of_the_output_and_absolute_as_published(model: nn.Module) -> None:
    relative, legacy = (
        found(model, FACTS, steps=2, learning_rate=0.25, clamp=50.0, legacy=published) for published in (False, True)
    )
    assert (relative.deltas.norm(dim=0) / relative.outputs.norm(dim=0)).tolist() == pytest.approx([0.25] * 3, rel=1e-4)
    assert legacy.deltas.abs().flatten().tolist() == pytest.approx([0.25] * legacy.deltas.numel(), rel=1e-4)


@pytest.mark.parametrize("clamp", [0.1, 0.4])
@pytest.mark.parametrize("legacy", [False, True])
def test_no_vector_is_longer_than_the_clamp(model: nn.Module, clamp: float, legacy: bool) -> None:
    options = {"steps": 8, "learning_rate": 0.5, "weight_decay": 0.0, "kl_weight": 0.0, "legacy": legacy}
    both = [found(model, FACTS, clamp=c, **options) for c in (clamp, 50.0)]
    share = [mine.deltas.norm(dim=0) / mine.outputs.norm(dim=0) for mine in both]
    assert share[0].tolist() == pytest.approx([clamp] * 3, rel=1e-9)  # it is reached, and nothing is beyond
    assert (share[1] > clamp).all()


def test_a_fact_stops_at_the_first_loss_below_the_bound_and_keeps_the_vector_of_that_loss(model: nn.Module) -> None:
    whole = found(model, FACTS[:1], steps=10)
    losses = whole.losses[0]
    bound = (losses[3] + min(losses[:3])) / 2
    assert losses[3] < bound
    stopped, short = found(model, FACTS[:1], steps=10, stop_below=bound), found(model, FACTS[:1], steps=4)
    assert stopped.losses[0] == pytest.approx(losses[:4], rel=1e-12)
    torch.testing.assert_close(stopped.deltas, short.deltas, rtol=1e-12, atol=0)
    assert stopped.steps == (4,) and stopped.after == pytest.approx(short.after)


def test_a_fact_that_is_known_already_gets_no_vector(model: nn.Module) -> None:
    mine = found(model, FACTS, stop_below=1e6)
    assert mine.steps == (1, 1, 1) and not mine.deltas.any() and mine.before == mine.after


def test_probabilities_are_geometric_means_over_tokens_and_rows(model: nn.Module) -> None:
    mine = found(model, FACTS, kl_weight=0.0, weight_decay=0.0)
    for losses, before, after in zip(mine.losses, mine.before, mine.after, strict=True):
        assert (before, after) == pytest.approx((math.exp(-losses[0]), math.exp(-losses[-1])), rel=1e-6)
    assert mine.after[2] > 1.2 * mine.before[2]


def test_outputs_are_those_of_the_bare_prompt(model: nn.Module) -> None:
    mine = found(model, FACTS, steps=1)
    for i, fact in enumerate(FACTS):
        with torch.no_grad():
            place = 1 + ends(fact.prompt, fact.subject, "subject")
            output = ran(model, MLPS["GPT2"], [0, *ids_of(fact.prompt)], place)[1]
        torch.testing.assert_close(mine.outputs[:, i], output)


# ------------------------------------------------------------------------------------------------- the model, progress


def test_a_model_in_training_is_read_without_dropout_and_left_as_it_was() -> None:
    model = build("GPT2")
    wanted = found(model, FACTS[:2], steps=3)
    model.train()
    model.transformer.h[0].eval()
    before, state = footprint(model), torch.get_rng_state()
    mine = found(model, FACTS[:2], steps=3)
    assert unchanged(model, before) and torch.equal(state, torch.get_rng_state())
    assert mine.losses == wanted.losses and torch.equal(mine.deltas, wanted.deltas)


def test_interrupted_the_model_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Gemma2").train()
    before = footprint(model)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        found(model, FACTS)
    assert unchanged(model, before)


def test_a_bfloat16_model_is_optimised_in_float32() -> None:
    model = build("Llama")
    wanted, mine = found(model, FACTS), found(model.bfloat16(), FACTS)
    assert mine.deltas.dtype == mine.outputs.dtype == torch.float64
    for i in range(3):
        assert mine.losses[i][0] == pytest.approx(wanted.losses[i][0], rel=0.02)
    assert mine.losses[2][-1] < mine.losses[2][0] - 0.05
    assert torch.cosine_similarity(mine.deltas[:, 2], wanted.deltas[:, 2], dim=0) > 0.9


def test_progress_counts_facts(model: nn.Module) -> None:
    calls: list[tuple[int, int, str]] = []
    found(model, FACTS, steps=1, batch_size=10, progress=lambda *call: calls.append(call))
    assert calls == [(2, 3, "facts"), (3, 3, "facts")]


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0, "clamp": -1.0}, "got steps=0, clamp=-1.0; expected steps, learning_rate, clamp, batch_size ab"),
        ({"learning_rate": 0.0}, "got learning_rate=0.0; expected"),
        ({"learning_rate": float("nan")}, "got learning_rate=nan; expected .*; all finite"),
        ({"batch_size": 0}, "got batch_size=0; expected"),
        ({"weight_decay": -0.1, "kl_weight": float("inf")}, "got weight_decay=-0.1, kl_weight=inf; expected .* from 0"),
        ({"stop_below": -1.0}, "got stop_below=-1.0; expected"),
        ({"at": "attention"}, "got at='attention'; expected 'mlp' or 'block'"),
        ({"lookup": "noun"}, "got lookup='noun'; expected 'subject' or 'prompt'"),
        ({"essence": "who is it"}, "got essence='who is it'; expected a prompt with {} where the subject belongs"),
        ({"layer": 3}, "got layer 3 of a GPT2LMHeadModel with 3 layers; expected 0 to 2"),
        ({"layer": -4}, "got layer -4 of a GPT2LMHeadModel with 3 layers; expected 0 to 2"),
        ({"layer": 2}, "got layer 2, the last one, for 'the cat sat on a', whose answer is predicted at other tokens"),
        ({"contexts": [(0,) * 70]}, r"got a row of 7\d tokens, context included; expected at most the model's 64"),
    ],
)
def test_settings_out_of_range_are_refused(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        found(model, FACTS, **options)


@pytest.mark.parametrize("layer", [1.5, "1", None])
def test_a_layer_that_is_no_whole_number_is_refused(model: nn.Module, layer: Any) -> None:
    with pytest.raises(TypeError, match=f"got layer {layer!r}; expected a whole number, 0 to 2"):
        found(model, FACTS, layer=layer)


def test_at_the_last_layer_an_answer_of_several_tokens_is_out_of_reach(model: nn.Module) -> None:
    for fact in (FACTS[2], mt.Fact("a mat ran", "mat", target="far away")):  # the second ends two tokens further on
        with pytest.raises(ValueError, match="got layer 2, the last one, .*; attention has to carry the change there"):
            found(model, [fact], layer=2)


def test_what_is_no_list_of_facts_with_targets_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="got no fact; expected at least one"):
        found(model, [])
    with pytest.raises(TypeError, match="got one fact, 'the cat sat on a'; expected several; put it in a list"):
        found(model, FACTS[0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got 'the cat' among the facts; expected Fact\(prompt=..., subject=..., tar"):
        found(model, ["the cat"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got the fact 'the cat ran' without a target; .*; give target=..."):
        found(model, [*FACTS, mt.Fact("the cat ran", "cat")])


def test_a_target_or_a_subject_of_no_token_is_refused(model: nn.Module) -> None:
    from tokenizers import normalizers

    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("zero", "")
    for fact, what in (
        (mt.Fact("the cat sat", "cat", target="zero"), "answer 'zero' after 'the cat sat'"),
        (mt.Fact("the zero sat", "zero", target="far"), "subject 'zero' in 'the zero sat'"),
    ):
        with pytest.raises(ValueError, match=f"got no token for the {what}; expected at least one"):
            values(model, tokenizer, [fact], layer=1)


def test_weights_that_are_no_numbers_and_losses_that_overflow_are_refused() -> None:
    model = build("GPT2")
    found(model, FACTS, steps=1)  # its parts are found while they still tell one from another
    with pytest.raises(NonFiniteError, match="the losses of values; the change overflows in the model's type"):
        found(model.half(), FACTS, learning_rate=1e6, clamp=1e6, legacy=True)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the last hidden states; look for NaN in the weights"):
        found(model, FACTS)

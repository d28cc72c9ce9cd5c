"""Causal tracing gives the numbers of one forward pass a cell, on every layout, and leaves nothing behind."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.causal_trace import GROUPS, CausalTrace, Record
from tests.adapters.layouts import LAYERS, VOCABULARY, WIDTH, build, footprint, random_model, unchanged

KINDS = ("state", "mlp", "attention", "state_without_mlp", "state_without_attention")
# blocks, and in them the module whose output attention adds, and the one whose output the MLP adds
NAMES = {
    "GPT2": ("transformer.h", "attn", "mlp"),
    "Llama": ("model.layers", "self_attn", "mlp"),
    "GPTNeoX": ("gpt_neox.layers", "attention", "mlp"),
    "Qwen2": ("model.layers", "self_attn", "mlp"),
    "Gemma3Text": ("model.layers", "self_attn", "mlp"),
    "Mistral": ("model.layers", "self_attn", "mlp"),
    "Phi": ("model.layers", "self_attn", "mlp"),
    "OPT": ("model.decoder.layers", "self_attn", "fc2"),
    "Bloom": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),
    "Falcon": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),  # adds to what its MLP gave in place
    "Mixtral": ("model.layers", "self_attn", "mlp"),
}
BEGIN, END, LENGTH = 1, 3, 5  # of the subject, and of the prompt, in tokens
FACTS = [Fact("w9 {} w22 w7", "w30 w12"), Fact("w40 {} w51 w3", "w17 w60"), Fact("w2 {} w5 w19", "w11 w44")]
DRAWS = 2


def words() -> Any:
    """Make a tokenizer that reads w0, w1 and so on as 0, 1 and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="w0")


def ids_of(text: str) -> list[int]:
    return [int(word[1:]) for word in text.split()]


def double(layout: str, **overrides: Any) -> nn.Module:
    """A random model in float64, or in float32 where experts can be run in nothing else."""
    model = build(layout, **overrides)
    return model if layout == "Mixtral" else model.double()


def answered(model: nn.Module, fact: Fact, count: int) -> Fact:
    """Return the fact with what the network says next, word for word."""
    ids = ids_of(fact.prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return replace(fact, answer=" ".join(f"w{i}" for i in ids[-count:]))


def seeds(count: int, seed: int = 0) -> list[int]:
    """What a generator gives the facts of a trace as seeds of their noise."""
    return torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@dataclass
class Naive:
    """One forward pass a cell: values of another pass are put into the outputs of modules that are named by hand."""

    model: nn.Module
    layout: str
    fact: Fact
    answer: str
    window: int = 1
    draws: int = DRAWS
    noise: float = 3.0
    seed: int = 0
    scaled_by: Sequence[Fact] = ()
    stranger: Fact | None = None

    def __post_init__(self) -> None:
        ids = [i for fact in self.scaled_by or [self.fact] for i in ids_of(str(fact.subject))]
        deviation = float(self.model.get_input_embeddings()(torch.tensor(ids)).detach().double().std())
        drawn = torch.randn(self.draws, END - BEGIN, WIDTH, generator=torch.Generator().manual_seed(self.seed))
        self.drawn = drawn * (self.noise * deviation)
        self.clean_score, self.clean = self.run(self.fact, None)
        self.corrupted_score, self.corrupted = self.run(self.fact, self.drawn)
        self.source = self.run(self.stranger, None)[1] if self.stranger else self.clean

    def names(self, part: str) -> list[str]:
        blocks, attention, mlp = NAMES[self.layout]
        ends = {"state": "", "attention": f".{attention}", "mlp": f".{mlp}"}
        return [f"{blocks}.{layer}{ends[part]}" for layer in range(LAYERS)]

    def run(
        self, fact: Fact, noise: Tensor | None, put: Mapping[str, Tensor] | None = None, token: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the answer's log-probability in each draw, and what each module gave."""
        seen: dict[str, Tensor] = {}
        answer = torch.tensor(ids_of(self.answer))
        ids = torch.tensor([ids_of(fact.prompt) + answer.tolist()[:-1]]).expand(self.draws, -1)

        def corrupt(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, BEGIN:END] += 0 if noise is None else noise.to(output)
            return output

        def replaced(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                given = (output[0] if isinstance(output, tuple) else output).view(*ids.shape, -1)
                if put and name in put:
                    given[:, token] = put[name][:, token]
                seen[name] = given.clone()

            return hook

        with ExitStack() as stack, torch.no_grad():
            stack.callback(self.model.get_input_embeddings().register_forward_hook(corrupt).remove)
            for name in (name for part in ("state", "attention", "mlp") for name in self.names(part)):
                stack.callback(self.model.get_submodule(name).register_forward_hook(replaced(name)).remove)
            scores = self.model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
        return scores[:, LENGTH - 1 :].gather(2, answer.expand(self.draws, -1)[..., None]).sum((1, 2)), seen

    def cell(self, kind: str, token: int, layer: int) -> Tensor:
        if kind in ("mlp", "attention"):
            first, last = layer - self.window // 2, layer + (self.window + 1) // 2
            put = {name: self.source[name] for name in self.names(kind)[max(0, first) : last]}
        else:
            put = {self.names("state")[layer]: self.source[self.names("state")[layer]]}
            if kind != "state":
                held = self.names(kind.removeprefix("state_without_"))[layer + 1 :]
                put |= {name: self.corrupted[name] for name in held}
        return self.run(self.fact, self.drawn, put, token)[0]

    def map(self, kind: str) -> Tensor:
        return torch.stack(
            [torch.stack([self.cell(kind, t, layer) for layer in range(LAYERS)], 1) for t in range(LENGTH)], 1
        )


def close(mine: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Compare probabilities, given as logarithms, by their relative error."""
    assert mine.shape == theirs.shape
    assert float(((mine.double() - theirs).exp() - 1).abs().max()) <= tolerance


def same(mine: CausalTrace, theirs: CausalTrace) -> bool:
    """Tell whether two traces have the same bits."""
    bits = [values(trace) for trace in (mine, theirs)]
    return bits[0][0] == bits[1][0] and all(map(torch.equal, bits[0][1], bits[1][1]))


def values(trace: CausalTrace) -> tuple[list[Any], list[Tensor]]:
    """Everything in a trace but tensors, and its tensors with NaN made comparable."""
    plain, tensors = [trace.window, dict(trace.manifest)], []
    for record in trace.records:
        for field in fields(record):
            value = getattr(record, field.name)
            found = value if isinstance(value, Mapping) else {"": value} if isinstance(value, Tensor) else None
            plain.append([field.name, value if found is None else list(found)])
            tensors += [tensor.nan_to_num(-1e9) for tensor in (found or {}).values()]
    return plain, tensors


# ---------------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("layout", NAMES)
def test_a_map_equals_one_forward_pass_a_cell(layout: str) -> None:
    model = double(layout)
    fact = answered(model, FACTS[0], 1)
    record = mt.trace(model, words(), FACTS[0], kinds=KINDS, draws=DRAWS, window=2).records[0]
    naive = Naive(model, layout, fact, str(fact.answer), window=2, seed=seeds(1)[0])
    assert record.answer == fact.answer and list(record.restored) == list(KINDS)
    close(torch.tensor([record.clean]), naive.clean_score[:1])
    close(record.corrupted, naive.corrupted_score)
    for kind in KINDS:
        expected = naive.map(kind)
        close(record.restored[kind], expected)
        assert float((expected.exp() - naive.corrupted_score.exp()[:, None, None]).abs().max()) > 1e-3


@pytest.mark.parametrize("window", [1, 3, 4, 2 * LAYERS + 1])
def test_windows_of_any_width_are_clipped_at_both_ends(window: int) -> None:
    model = double("GPT2")
    fact = answered(model, FACTS[0], 1)
    found = mt.trace(model, words(), fact, kinds=("mlp", "attention"), draws=DRAWS, window=window)
    naive = Naive(model, "GPT2", fact, str(fact.answer), window=window, seed=seeds(1)[0])
    assert found.window == window
    for kind in found.kinds:
        close(found.records[0].restored[kind], naive.map(kind))


def test_an_answer_of_several_tokens_is_judged_by_their_joint_probability() -> None:
    model = double("Llama")
    fact = answered(model, FACTS[1], 3)
    record = mt.trace(model, words(), fact, kinds=KINDS, draws=DRAWS, window=2).records[0]
    naive = Naive(model, "Llama", fact, str(fact.answer), window=2, seed=seeds(1)[0])
    assert record.answer == fact.answer
    close(torch.tensor([record.clean]), naive.clean_score[:1])
    for kind in KINDS:
        close(record.restored[kind], naive.map(kind))


def test_a_control_puts_back_what_another_subject_gives() -> None:
    model = double("GPTNeoX")
    facts = [answered(model, fact, 2) for fact in FACTS[:2]]
    found = mt.trace(model, words(), facts, kinds=KINDS, draws=DRAWS, window=2, control=True)
    stranger = replace(facts[1], prompt=f"w40 {facts[0].subject} w51 w3", subject=facts[0].subject)
    naive = Naive(
        model, "GPTNeoX", facts[1], str(facts[1].answer), 2, seed=seeds(2)[1], scaled_by=facts, stranger=stranger
    )
    record = found.records[1]
    assert record.stranger == facts[0].subject
    for kind in KINDS:
        close(record.control[kind], naive.map(kind))
        assert not torch.allclose(record.control[kind][:, BEGIN:], record.restored[kind][:, BEGIN:], atol=1e-3)


def test_noise_has_the_spread_of_all_subjects_embeddings() -> None:
    model = build("GPT2")
    naive = Naive(model, "GPT2", FACTS[0], "w1", draws=500, noise=0.5, scaled_by=FACTS)
    found = mt.trace(model, words(), FACTS, kinds=("state",), noise=0.5, draws=1)
    rows = torch.cat([model.get_input_embeddings().weight.data[ids_of(str(fact.subject))] for fact in FACTS])
    assert found.manifest["scale"] == pytest.approx(0.5 * float(rows.std()))
    assert float(naive.drawn.std()) == pytest.approx(found.manifest["scale"], rel=0.02)


# ------------------------------------------------------------------------------------------------------- what must hold


@pytest.mark.parametrize("layout", ["GPT2", "GPTNeoX", "Mistral"])
def test_nothing_happens_before_the_subject_and_all_comes_back_with_the_last_state(layout: str) -> None:
    record = mt.trace(build(layout), words(), FACTS[0], kinds=KINDS, window=2).records[0]
    for kind in KINDS:
        assert torch.equal(record.effects(kind)[:, :BEGIN], torch.zeros(10, BEGIN, LAYERS, dtype=torch.float64))
    for kind in ("state", "state_without_mlp", "state_without_attention"):
        restored = record.restored[kind]
        close(restored[:, -1, -1], torch.tensor(record.clean).expand(10))
        close(restored[:, :-1, -1], record.corrupted.double()[:, None].expand(10, LENGTH - 1))


def test_where_nothing_is_corrupted_nothing_is_restored() -> None:
    record = mt.trace(double("Llama"), words(), FACTS[0], kinds=KINDS, noise=1e-9, window=2).records[0]
    close(record.corrupted, torch.tensor(record.clean).expand(10))
    for kind in KINDS:
        assert float(record.effects(kind).abs().max()) < 1e-6


def test_draws_follow_from_the_seed() -> None:
    model, options = build("Qwen2"), {"kinds": ("state", "mlp"), "draws": DRAWS}
    first, again, other, zero = (
        mt.trace(model, words(), FACTS[:2], generator=torch.Generator().manual_seed(seed), **options)
        for seed in (5, 5, 6, 0)
    )
    assert same(first, again) and same(zero, mt.trace(model, words(), FACTS[:2], **options))
    assert not any(torch.equal(first.records[i].corrupted, other.records[i].corrupted) for i in range(2))
    assert not torch.equal(first.records[0].corrupted, first.records[1].corrupted)


def test_facts_together_are_traced_as_each_alone() -> None:
    model = double("Phi")
    options: dict[str, Any] = {"kinds": ("state_without_mlp", "attention"), "draws": DRAWS}
    together = mt.trace(model, words(), FACTS, **options)
    for index, fact in enumerate(FACTS):
        generator = torch.Generator().manual_seed(0)
        torch.randint(2**62, (index,), generator=generator)
        own = model.get_input_embeddings().weight.data[ids_of(str(fact.subject))].std()
        noise = together.manifest["scale"] / float(own)  # alone, the unit is the spread of one subject's embeddings
        alone = mt.trace(model, words(), fact, noise=noise, generator=generator, **options)
        for kind, restored in alone.records[0].restored.items():
            close(together.records[index].restored[kind], restored.double())


@pytest.mark.parametrize("max_rows", [1, 3])
def test_rows_at_once_change_nothing(max_rows: int) -> None:
    model = double("GPT2")
    fact = answered(model, FACTS[0], 2)
    options = {"kinds": ("state_without_attention", "mlp"), "draws": 4, "window": 2}
    usual, other = (mt.trace(model, words(), fact, **options, **more) for more in ({}, {"max_rows": max_rows}))
    close(other.records[0].corrupted, usual.records[0].corrupted.double())
    for kind, restored in usual.records[0].restored.items():
        close(other.records[0].restored[kind], restored.double())


@pytest.mark.parametrize(("positions", "measured"), [("subject_last", [END - 1]), ("lookup", [END - 1, LENGTH - 1])])
def test_chosen_positions_are_those_of_the_full_map(positions: Any, measured: list[int]) -> None:
    model = build("Gemma3Text")
    whole, some = (
        mt.trace(model, words(), FACTS[0], kinds=KINDS, draws=DRAWS, window=2, positions=where).records[0]
        for where in ("all", positions)
    )
    rest = [position for position in range(LENGTH) if position not in measured]
    for kind in KINDS:
        assert torch.equal(some.restored[kind][:, measured], whole.restored[kind][:, measured])
        assert some.restored[kind][:, rest].isnan().all() and not whole.restored[kind].isnan().any()


def test_a_fact_that_the_network_does_not_know_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model = build("GPT2")
    wrong = replace(FACTS[0], answer="w1 w1")
    found = mt.trace(model, words(), [wrong, FACTS[1]], kinds=("state",), draws=DRAWS)
    assert [record.prompt for record in found.records] == [FACTS[1].prompt]
    assert found.manifest["unknown"] == [wrong.prompt]
    assert f"the network does not answer '{wrong.prompt}' with 'w1 w1'; left out" in caplog.text


def test_a_control_needs_a_subject_of_as_many_tokens(caplog: pytest.LogCaptureFixture) -> None:
    longer = Fact("w9 {} w22 w7", "w30 w12 w13")
    found = mt.trace(build("GPT2"), words(), [*FACTS[:2], longer], kinds=("state",), draws=DRAWS, control=True)
    assert [record.stranger for record in found.records] == ["w17 w60", "w30 w12", None]
    assert not found.records[2].control and found.average("state", control=True).facts == (2, 0, 2, 2, 0, 2)
    assert f"no other subject has as many tokens as that of '{longer.prompt}'" in caplog.text


# ---------------------------------------------------------------------------------------------------------- checkpoints


def stop_after(count: int, error: type[BaseException]) -> Callable[[int, int, str], None]:
    def progress(done: int, _: int, __: str) -> None:
        if done == count:
            raise error

    return progress


@pytest.mark.parametrize(("error", "every"), [(KeyboardInterrupt, 1), (RuntimeError, 2)])
def test_an_interrupted_trace_goes_on_bit_for_bit(tmp_path: Path, error: type[BaseException], every: int) -> None:
    model = build("Mistral")
    path = tmp_path / "trace.part"
    facts = [*FACTS[:1], replace(FACTS[1], answer="w1 w1 w1"), *FACTS[1:]]
    options: dict[str, Any] = {"kinds": ("state_without_mlp", "attention"), "draws": 1, "control": True}
    options["positions"] = "lookup"
    straight = mt.trace(model, words(), facts, **options)
    with pytest.raises(error):
        mt.trace(model, words(), facts, **options, checkpoint=path, every=every, progress=stop_after(3, error))
    assert path.exists()
    calls: list[tuple[int, int, str]] = []
    resumed = mt.trace(
        model, words(), facts, **options, checkpoint=path, every=every, progress=lambda *now: calls.append(now)
    )
    assert same(resumed, straight) and resumed.manifest["unknown"] == [FACTS[1].prompt]
    assert calls == [(done, 4, "facts") for done in range(3 // every * every + 1, 5)]  # what was done is not done again
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["weights", "facts", "noise", "seed"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    model, facts, path = build("GPT2"), FACTS, tmp_path / "trace.part"
    options: dict[str, Any] = {"kinds": ("state",), "draws": 1, "checkpoint": path, "every": 1}
    with pytest.raises(KeyboardInterrupt):
        mt.trace(model, words(), facts, **options, progress=stop_after(2, KeyboardInterrupt))
    before = path.read_bytes()
    if change == "weights":
        model.transformer.h[1].mlp.c_fc.weight.data.mul_(1.1)
    elif change == "facts":
        facts = [Fact("w9 {} w22 w8", FACTS[0].subject), *FACTS[1:]]
    else:
        options |= {"noise": 2.0} if change == "noise" else {"generator": torch.Generator().manual_seed(1)}
    with pytest.raises(
        ValueError, match="got a checkpoint .*trace.part of another run; expected the same model, facts"
    ):
        mt.trace(model, words(), facts, **options)
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------------- records and averages


def random_record(length: int, subject: tuple[int, int], generator: torch.Generator, *, draws: int = 3) -> Record:
    """A record of random log-probabilities; nothing was measured at its second token."""
    restored = -3 * torch.rand(draws, length, LAYERS, generator=generator)
    restored[:, 1:2] = torch.nan
    tokens = tuple(f"w{i}" for i in range(length))
    noised = -3 * torch.rand(draws, generator=generator)
    return Record(" ".join(tokens), "w", "a", tokens, tuple(range(length)), subject, -0.1, noised, {"state": restored})


lengths = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=6)


@settings(max_examples=15)
@given(lengths, st.booleans(), st.integers(0, 99))
def test_averages_are_over_facts_that_have_such_a_token(
    shapes: list[tuple[int, int, int]], log: bool, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    records = tuple(random_record(a + n + z, (a, a + n), drawn) for a, n, z in shapes)
    found = CausalTrace(records, 1).average("state", log=log)
    for group in range(len(GROUPS)):
        rows = []
        for (a, n, z), each in zip(shapes, records, strict=True):
            last, end = a + n + z - 1, a + n
            places = {
                0: range(a, a + 1) if n > 1 else [],
                1: range(a + 1, end - 1),
                2: [end - 1],
                3: range(end, min(end + 1, last)),
                4: range(end + 1, last),
                5: [last] if z else [],
            }[group]  # fmt: skip
            step = (lambda value: value) if log else Tensor.exp
            per_draw = step(each.restored["state"].double()) - step(each.corrupted.double())[:, None, None]
            here = [per_draw[:, place].mean(0) for place in places if place != 1]
            rows += [torch.stack(here).mean(0)] if here else []
        assert found.facts[group] == len(rows)
        parts = [values[group] for values in (found.low, found.effect, found.high)]
        if not rows:
            assert all(part.isnan().all() for part in parts)
        else:
            torch.testing.assert_close(parts[1], torch.stack(rows).mean(0))
            assert (parts[0] <= parts[1] + 1e-12).all() and (parts[1] <= parts[2] + 1e-12).all()


def test_intervals_are_those_of_a_mean_over_facts() -> None:
    drawn = torch.Generator().manual_seed(0)
    records = tuple(random_record(6, (2, 4), drawn) for _ in range(60))
    average = CausalTrace(records, 1).average("state")
    rows = torch.stack([each.effect("state")[3] for each in records])
    expected = 2 * 1.96 * rows.std(0) / 60**0.5
    torch.testing.assert_close((average.high - average.low)[2], expected, rtol=0.15, atol=0)
    again = CausalTrace(records, 1).average("state", generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.effect[2], average.effect[2]) and not torch.equal(again.low[2], average.low[2])


def test_effects_are_means_over_paired_draws() -> None:
    one = random_record(5, (2, 4), torch.Generator().manual_seed(0))
    per_draw = one.restored["state"].exp() - one.corrupted.exp()[:, None, None]
    torch.testing.assert_close(one.effect("state").float(), per_draw.mean(0), equal_nan=True)
    torch.testing.assert_close(one.error("state").float(), per_draw.std(0) / 3**0.5, equal_nan=True)
    single = random_record(5, (2, 4), torch.Generator().manual_seed(0), draws=1)
    assert single.error("state").isnan().all()
    with pytest.raises(ValueError, match=r"got kind 'mlp'; expected one that was traced: state; trace it, with kinds="):
        one.effect("mlp")
    with pytest.raises(ValueError, match=r"got kind 'state' of the control; .* traced: none; .* and control=True"):
        one.effect("state", control=True)
    with pytest.raises(ValueError, match="got control=True; expected a trace that was made with a control"):
        CausalTrace((one,), 1).average("state", control=True)


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    facts = [*FACTS, Fact("w1 w2", "w2")]
    found = mt.trace(build("GPT2"), words(), facts, kinds=KINDS, draws=DRAWS, positions="lookup", control=True)
    again = mt.load(mt.save(found, tmp_path / "trace.safetensors"))
    assert same(again, found) and again.kinds == KINDS
    one, other = (trace.average("mlp", control=True) for trace in (found, again))
    assert torch.equal(one.high.nan_to_num(), other.high.nan_to_num())


def test_the_authors_fields_hold_probabilities() -> None:
    model = double("GPT2")
    fact = answered(model, FACTS[0], 1)
    found = mt.trace(model, words(), fact, kinds=("state", "attention"), draws=DRAWS, window=2)
    naive = Naive(model, "GPT2", fact, str(fact.answer), window=2, seed=seeds(1)[0])
    for kind, theirs in (("state", ""), ("attention", "attn")):
        file = found.to_reference(0, kind)
        torch.testing.assert_close(torch.from_numpy(file["scores"]), naive.map(kind).exp().mean(0), rtol=1e-5, atol=0)
        assert file["low_score"] == pytest.approx(float(naive.corrupted_score.exp().mean()), rel=1e-5)
        assert file["high_score"] == pytest.approx(float(naive.clean_score[0].exp()), rel=1e-5)
        assert (file["kind"], file["window"], file["subject_range"]) == (theirs, 2, (BEGIN, END))
        assert list(file["input_ids"]) == ids_of(fact.prompt) and list(file["input_tokens"]) == fact.prompt.split()


# ----------------------------------------------------------------------------------------------- nothing is left behind


@pytest.mark.parametrize("ending", ["success", "in a block", "between facts", "unknown"])
def test_the_model_is_left_as_it_was(ending: str) -> None:
    model = build("Llama").train()
    model.model.layers[1].eval()
    before = footprint(model)
    options: dict[str, Any] = {"kinds": ("state_without_mlp", "attention"), "draws": DRAWS, "positions": "lookup"}
    mt.trace(model, words(), FACTS[0], **options)

    def stop(*_: object) -> None:
        calls.append(None)
        if len(calls) == 12:
            raise KeyboardInterrupt

    calls: list[None] = []
    if ending == "success":
        mt.trace(model, words(), FACTS, **options)
    elif ending == "in a block":
        handle = model.get_submodule("model.layers.1.mlp").register_forward_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            mt.trace(model, words(), FACTS, **options)
        handle.remove()
    elif ending == "between facts":
        with pytest.raises(RuntimeError):
            mt.trace(model, words(), FACTS, **options, progress=stop_after(2, RuntimeError))
    else:
        with pytest.raises(ValueError, match="none of which the network knows"):
            mt.trace(model, words(), replace(FACTS[0], answer="w1 w1 w1"), **options)
    assert unchanged(model, before)


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["states"]}, r"got kinds=\['states'\]; expected some of state, mlp, attention, .* spell them"),
        ({"kinds": "state"}, "got kinds='state'; expected some of state, .* in a list"),
        ({"kinds": []}, r"got kinds=\[\]; expected some of state"),
        ({"draws": 0}, "got draws=0; expected at least 1"),
        ({"window": 0}, "got window=0; expected at least 1"),
        ({"max_rows": 0}, "got max_rows=0; expected at least 1"),
        ({"noise": 0.0}, "got noise=0.0; expected more than 0 standard deviations; 3 is what was published"),
        ({"noise": float("nan")}, "got noise=nan; expected more than 0"),
        ({"positions": "first"}, "got positions='first'; expected one of all, subject_last, lookup"),
        ({"control": True}, "got control=True and 1 facts, none with another's subject of as many tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mt.trace(build("GPT2"), words(), FACTS[0], **options)


def test_no_facts_and_what_is_none_are_refused() -> None:
    model = build("GPT2")
    with pytest.raises(ValueError, match=r"got no facts; expected at least one Fact; make one with Fact\("):
        mt.trace(model, words(), [])
    with pytest.raises(ValueError, match="got a str; expected at least one Fact"):
        mt.trace(model, words(), ["w1 w2"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got 2 facts, none of which the network knows; .* as in 'w9 w30 w12"):
        mt.trace(model, words(), [replace(fact, answer="w1 w1 w1") for fact in FACTS[:2]])
    with pytest.raises(ValueError, match="got control=True and 2 facts, none with another's subject"):
        mt.trace(model, words(), [FACTS[0], Fact("w1 {} w2", FACTS[0].subject)], control=True)


def test_subjects_and_answers_without_tokens_are_refused() -> None:
    from tokenizers import normalizers

    model, tokenizer = build("GPT2"), words()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("zero", "")
    with pytest.raises(ValueError, match="got the subject 'w5', which is not in the prompt 'w1 w2'"):
        mt.trace(model, tokenizer, Fact("w1 w2", "w5"))
    with pytest.raises(ValueError, match="got no token for the subject 'zero' in 'w1 zero w2'"):
        mt.trace(model, tokenizer, Fact("w1 {} w2", "zero"))
    with pytest.raises(ValueError, match="got no token for the answer 'zero' after 'w1 w2'"):
        mt.trace(model, tokenizer, Fact("w1 w2", "w2", answer="zero"))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="got the slow tokenizer Slow; expected a fast one"):
        mt.trace(build("GPT2"), Slow(), FACTS[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("transformer.wte", "the embeddings of the subjects"),
        ("transformer.h.1.mlp.c_fc", "the last hidden states"),
        ("lm_head", "the answer's log-probabilities"),
    ],
)
def test_nan_in_the_weights_is_named(where: str, what: str) -> None:
    model = build("GPT2", tie_word_embeddings=False)
    fact = answered(model, FACTS[0], 1)
    mt.trace(model, words(), fact, kinds=("state",), draws=1)
    model.get_submodule(where).weight.data.fill_(float("nan"))
    for asked in (fact, FACTS[0]):  # a fact with an answer is not taken for one that the network does not know
        with pytest.raises(NonFiniteError, match=f"{what}; look for NaN in the weights"):
            mt.trace(model, words(), asked)


def test_what_is_no_decoder_is_refused() -> None:
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with pytest.raises(TypeError, match="BertForMaskedLM, in which later tokens change earlier hidden states"):
        mt.trace(random_model("BertForMaskedLM", "BertConfig", vocab_size=64, **options), words(), FACTS[0])
    with pytest.raises(TypeError, match="a Linear without a token embedding"):
        mt.trace(nn.Linear(2, 2), words(), FACTS[0])


@pytest.mark.parametrize("where", ["transformer.wte", "transformer.h.1.mlp.c_fc", "lm_head"])
def test_nan_is_named_in_a_model_that_was_never_seen_too(where: str) -> None:
    model = build("GPT2", tie_word_embeddings=False)
    fact = answered(model, FACTS[0], 1)
    model.get_submodule(where).weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="few tokens; look for NaN in the weights"):
        mt.trace(model, words(), fact)


def test_a_stranger_takes_the_place_of_the_last_mention_as_a_word() -> None:
    model = build("GPT2")
    facts = [Fact("w1 w2 w11", "w1"), Fact("w3 w4 w5", "w3")]  # the subject's letters come again inside of another word
    found = mt.trace(model, words(), facts, kinds=("state",), draws=DRAWS, control=True)
    assert [record.stranger for record in found.records] == ["w3", "w1"]

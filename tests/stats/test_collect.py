"""Collecting: one forward pass gives what a plain computation without hooks gives, and leaves no trace of itself."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.stats.collect import memory_estimate


class Watch(TorchFunctionMode):
    """The oracle: takes down every matrix product with a weight as torch is asked for it; no hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, list[Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (functional.linear, torch.addmm):
            x, weight = (args[0], args[1]) if func is functional.linear else (args[1], args[2])
            self.rows.setdefault(id(weight), []).append(x.detach().reshape(-1, x.shape[-1]).clone())
        return func(*args, **(kwargs or {}))


def watched(model: nn.Module, batches: list, call: Callable = lambda model, batch: model(batch)) -> dict[int, Tensor]:
    with Watch() as watch, torch.no_grad():
        for batch in batches:
            call(model, batch)
    return {key: torch.cat(rows) for key, rows in watch.rows.items()}


def agree(model: nn.Module, statistics: mt.Statistics, rows: dict[int, Tensor], tolerance: float = 1e-12) -> None:
    for name, moments in statistics.items():
        expected = rows[id(model.get_parameter(statistics.sites[name].weight))].double()
        assert moments.n == len(expected), name
        torch.testing.assert_close(moments.first, expected.sum(0), rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(moments.matrix(), expected.T @ expected, rtol=tolerance, atol=tolerance)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def mlp(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)]
        return nn.Sequential(*layers).to(dtype)


class Forked(nn.Module):
    """Two maps read one hidden state, with something in between."""

    def __init__(self, between: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.a, self.b = (nn.Linear(4, 4).double() for _ in range(3))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        y = self.a(hidden)
        self.between(hidden)
        return y + self.b(hidden)


# ---------------------------------------------------------------------------------------------- what is measured


def test_moments_of_an_mlp_are_those_of_a_plain_computation() -> None:
    model, batches = mlp(), [draw(4, 6, seed=1), draw(9, 6, seed=2)]
    agree(model, mt.collect(model, batches, dtype=torch.float64), watched(model, batches))


def test_moments_of_language_models_are_those_of_a_plain_computation(tiny_lm: nn.Module, tokens: Tensor) -> None:
    model = tiny_lm.double()
    batches = [{"input_ids": tokens}, {"input_ids": tokens.flip(1)[:2]}]
    statistics = mt.collect(model, batches, dtype=torch.float64)
    assert len(statistics) >= 8
    agree(model, statistics, watched(model, batches, lambda model, batch: model(**batch)))


def test_sums_in_float32_are_close(tiny_gpt2: Callable[..., nn.Module], tokens: Tensor) -> None:
    model, batches = tiny_gpt2(n_embd=64), [{"input_ids": tokens}] * 2
    statistics = mt.collect(model, batches)
    assert any(moments.second is not None for moments in statistics.values())
    assert all(moments.second.dtype == torch.float32 for moments in statistics.values() if moments.second is not None)
    agree(model, statistics, watched(model, batches, lambda model, batch: model(**batch)), tolerance=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_network_is_summed_in_float32(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(70, 80), nn.Tanh(), nn.Linear(80, 3)).to(dtype)
    batches = [draw(90, 70, seed=1, dtype=dtype), draw(3, 70, seed=2, dtype=dtype)]
    statistics = mt.collect(model, batches)
    assert {moments.second.dtype for moments in statistics.values()} == {torch.float32}
    agree(model, statistics, watched(model, batches), tolerance=1e-5)


@pytest.mark.parametrize(
    "batch",
    [(draw(5, 6),), [draw(5, 6)], draw(5, 6), {"input": draw(5, 6)}, draw(6, 5).T, draw(5, 1, 6), draw(6)],
    ids=["tuple", "list", "tensor", "mapping", "transposed", "extra axis", "vector"],
)
def test_batches_come_in_any_form_that_the_network_takes(batch: object) -> None:
    model = mlp()
    rows = batch["input"] if isinstance(batch, dict) else batch[0] if isinstance(batch, (tuple, list)) else batch
    agree(model, mt.collect(model, [batch], dtype=torch.float64), watched(model, [rows]))


def test_a_layer_called_by_keyword_is_heard() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(input=x)

    model = Keyword()
    agree(model, mt.collect(model, [draw(3, 6)]), watched(model, [draw(3, 6)]))


def test_a_zero_row_batch_adds_nothing() -> None:
    model = mlp()
    with_empty = mt.collect(model, [draw(4, 6), draw(0, 6), draw(2, 6, seed=1)])
    agree(model, with_empty, watched(model, [draw(4, 6), draw(2, 6, seed=1)]))


def test_splitting_the_data_changes_nothing_but_rounding() -> None:
    model, rows = mlp(), draw(24, 6)
    whole = mt.collect(model, [rows], dtype=torch.float64)
    parts = [mt.collect(model, part.split(3), dtype=torch.float64) for part in rows.split([5, 19])]
    for name, moments in (parts[0] + parts[1]).items():
        assert moments.n == whole[name].n
        torch.testing.assert_close(moments.matrix(bias=True), whole[name].matrix(bias=True), rtol=1e-12, atol=1e-12)


def test_dropout_is_off_while_collecting() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 2)).double().train()
    first, second = (mt.collect(model, [draw(9, 6)])["2"].matrix() for _ in range(2))
    assert torch.equal(first, second)


def test_only_the_chosen_sites_are_heard() -> None:
    model = mlp()
    assert list(mt.collect(model, [draw(9, 6)], sites=mt.sites(model, ["2"]))) == ["2"]
    with pytest.raises(SelectionError):
        mt.sites(model, ["absent"])


def test_a_site_that_is_never_run_is_left_out_and_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    model = mlp()
    model.spare = nn.Linear(3, 3)
    model.forward = nn.Sequential(*list(model)[:5]).forward
    with caplog.at_level("WARNING", logger="mnemotrace"):
        statistics = mt.collect(model, [draw(9, 6)])
    assert "spare" not in statistics
    assert "site spare read no row and is left out" in caplog.text


# ---------------------------------------------------------------------------------------------- who shares


def test_maps_that_read_one_tensor_share_their_moments(tiny_llama: Callable[..., nn.Module], tokens: Tensor) -> None:
    statistics = mt.collect(tiny_llama(), [{"input_ids": tokens}] * 2)
    for layer in (f"model.layers.{i}." for i in range(2)):
        q, k, v = (statistics[f"{layer}self_attn.{name}_proj"] for name in "qkv")
        assert q is k
        assert q is v
        assert statistics[f"{layer}mlp.gate_proj"] is statistics[f"{layer}mlp.up_proj"]
        assert q is not statistics[f"{layer}self_attn.o_proj"]
        assert q is not statistics[f"{layer}mlp.gate_proj"]
    assert (statistics + statistics)["model.layers.0.mlp.gate_proj"].n == 4 * tokens.numel()
    total = statistics + statistics
    assert total["model.layers.0.mlp.gate_proj"] is total["model.layers.0.mlp.up_proj"]


@pytest.mark.parametrize(
    "change", [torch.relu_, lambda h: h.mul_(2), lambda h: h[:1].zero_(), lambda h: h.view(-1).add_(1)]
)
def test_an_in_place_change_between_two_readers_is_seen(change: Callable[[Tensor], object]) -> None:
    model, batches = Forked(change), [draw(9, 4), draw(7, 4, seed=1)]
    statistics = mt.collect(model, batches, dtype=torch.float64)
    agree(model, statistics, watched(model, batches))
    assert not torch.allclose(statistics["a"].matrix(), statistics["b"].matrix())


def test_without_a_change_the_two_readers_share() -> None:
    statistics = mt.collect(Forked(lambda h: h + 1), [draw(9, 4)])
    assert statistics["a"] is statistics["b"]


def test_a_change_after_the_last_reader_does_not_reach_the_moments() -> None:
    model = Forked(lambda _: None)
    model.register_forward_hook(lambda _m, args, _out: args[0].zero_())
    statistics = mt.collect(model, [draw(3, 4)])
    torch.testing.assert_close(statistics["first"].rows, draw(3, 4))


def test_a_buffer_that_the_loader_fills_anew_is_not_taken_for_the_same_batch() -> None:
    model, buffer = nn.Sequential(nn.Linear(4, 2)).double(), torch.zeros(9, 4, dtype=torch.float64)

    def loader() -> Iterator[Tensor]:
        for seed in range(3):
            buffer.copy_(draw(9, 4, seed=seed))
            yield buffer

    agree(model, mt.collect(model, loader()), watched(model, [draw(9, 4, seed=seed) for seed in range(3)]))


def test_a_module_that_is_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x) + self.a(x) + self.a(self.b(x))

    model = Twice()
    statistics = mt.collect(model, [draw(3, 4)])
    assert (statistics["a"].n, statistics["b"].n) == (9, 6)
    agree(model, statistics, watched(model, [draw(3, 4)]))


def test_two_modules_that_share_a_weight_are_one_site_and_both_count() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    statistics = mt.collect(model, [draw(3, 4)])
    assert list(statistics) == ["0"]
    assert statistics["0"].n == 6
    agree(model, statistics, watched(model, [draw(3, 4)]))


def test_more_readings_than_the_window_holds_are_still_right() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(4, 4).double() for _ in range(14))

        def forward(self, x: Tensor) -> Tensor:
            hidden = x
            for layer in self.maps[:-1]:
                hidden = torch.tanh(layer(hidden))
            return hidden + self.maps[-1](x)

    model = Late()
    batches = [draw(3, 4), draw(5, 4, seed=1)]
    agree(model, mt.collect(model, batches), watched(model, batches))


@pytest.mark.parametrize("how", ["called inside", "made inside", "forward inside"])
def test_inference_mode_gives_the_same_moments(how: str) -> None:
    def build() -> Forked:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Forked(torch.relu_)

    expected = mt.collect(build(), [draw(9, 4)])
    if how == "called inside":
        model = build()
        with torch.inference_mode():
            found = mt.collect(model, [draw(9, 4)])
    elif how == "made inside":
        with torch.inference_mode():
            model = build()
        found = mt.collect(model, [draw(9, 4)])
    else:
        model = build()
        model.forward = torch.inference_mode()(model.forward)
        found = mt.collect(model, [draw(9, 4)])
    for name, moments in expected.items():
        torch.testing.assert_close(found[name].matrix(bias=True), moments.matrix(bias=True))


# ---------------------------------------------------------------------------------------------- masks


def test_padding_does_not_count(tiny_gpt2: Callable[..., nn.Module], tokens: Tensor) -> None:
    model = tiny_gpt2().double()
    attention = torch.ones_like(tokens)
    attention[0, 7:] = 0
    attention[2, 3:] = 0
    padded = mt.collect(model, [{"input_ids": tokens, "attention_mask": attention}], dtype=torch.float64)
    rows = watched(model, [attention], lambda model, mask: model(input_ids=tokens, attention_mask=mask))
    kept = {key: value[attention.flatten().bool()] for key, value in rows.items() if len(value) == attention.numel()}
    agree(model, padded, kept)
    plain = mt.collect(model, [{"input_ids": tokens}])
    assert plain["transformer.h.0.mlp.c_fc"].n == tokens.numel() > padded["transformer.h.0.mlp.c_fc"].n


def test_a_mask_chooses_positions_or_examples() -> None:
    model, x = mlp(), draw(3, 4, 6)
    positions = draw(3, 4, seed=1) > 0
    examples = torch.tensor([True, False, True])
    for mask in (positions, examples, examples[:, None].expand(3, 4)):
        chosen = x[mask]
        agree(model, mt.collect(model, [x], mask=lambda _, mask=mask: mask), watched(model, [chosen]))
    flat = mt.collect(model, [x.reshape(12, 6)], mask=lambda _: positions)
    agree(model, flat, watched(model, [x[positions]]))


def test_a_mask_of_ones_and_zeros_is_refused_because_it_would_be_an_index() -> None:
    with pytest.raises(TypeError, match=r"got a mask of torch.int64; expected a bool tensor; write mask.bool\(\)"):
        mt.collect(mlp(), [draw(3, 6)], mask=lambda _: torch.tensor([1, 0, 1]))
    with pytest.raises(TypeError, match="got a mask of list"):
        mt.collect(mlp(), [draw(3, 6)], mask=lambda _: [True, False, True])


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 5), (3, 4, 6), (1, 12)])
def test_a_mask_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"got a mask of shape .* at 0, which reads \(3, 4, 6\); expected the leading axes"
    ):
        mt.collect(mlp(), [draw(3, 4, 6)], mask=lambda _: torch.ones(shape, dtype=torch.bool))


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="got no row at any site; expected at least one; the mask may be empty"):
        mt.collect(mlp(), [draw(3, 6)], mask=lambda _: torch.zeros(3, dtype=torch.bool))


def test_what_is_masked_out_may_be_anything() -> None:
    x = draw(4, 6)
    x[1] = torch.nan
    keep = torch.tensor([True, False, True, True])
    model = mlp()
    agree(model, mt.collect(model, [x], mask=lambda _: keep), watched(model, [x[keep]]))


# ---------------------------------------------------------------------------------------------- bad data


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="got no batch; expected at least one; an iterator may have been used up"):
        mt.collect(mlp(), [])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_activation_is_refused_where_it_is_read(bad: float) -> None:
    x = draw(5, 6)
    x[2, 3] = bad
    with pytest.raises(NonFiniteError, match="got 1 of 5 rows with NaN or infinity at 0; expected finite activations"):
        mt.collect(mlp(), [draw(5, 6), x])


def test_overflow_in_half_precision_is_refused_where_it_happens() -> None:
    model = mlp(torch.float16)
    with torch.no_grad():
        model[0].weight.fill_(6e4)
    with pytest.raises(NonFiniteError, match="at 2; expected finite activations; look for overflow in half precision"):
        mt.collect(model, [torch.full((3, 6), 100.0, dtype=torch.float16)])


def test_too_much_memory_is_refused_before_the_first_batch() -> None:
    model = mlp()

    def never() -> Iterator[Tensor]:
        raise AssertionError("no batch must be drawn")
        yield

    needed = 4 * (6**2 + 5**2 + 7**2)
    assert memory_estimate(mt.sites(model)) == needed
    assert memory_estimate(mt.sites(model), torch.float64) == 2 * needed
    with pytest.raises(ValueError, match=f"3 sites whose sums may need {needed} bytes; expected at most {needed - 1}"):
        mt.collect(model, never(), max_bytes=needed - 1)
    mt.collect(model, [draw(2, 6)], max_bytes=needed)


def test_progress_is_reported_after_each_batch() -> None:
    seen: list[tuple[int, int | None, str]] = []
    mt.collect(mlp(), [draw(2, 6)] * 3, progress=lambda *step: seen.append(step))
    assert seen == [(1, None, "batches"), (2, None, "batches"), (3, None, "batches")]


def test_statistics_know_where_they_come_from() -> None:
    model, other = mlp(), mlp(seed=1)
    statistics = mt.collect(model, [draw(2, 6)] * 3)
    assert statistics.manifest["batches"] == 3
    assert set(statistics.sites) == {"0", "2", "4"}
    with pytest.raises(ValueError, match="got statistics of two networks"):
        statistics + mt.collect(other, [draw(2, 6)])


# ---------------------------------------------------------------------------------------------- leaving no trace


class _Flags:
    """Training flags, hooks and the gradient mode of a network, to compare."""

    def __init__(self, model: nn.Module) -> None:
        hooks = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs")
        self.state = [(name, m.training, *(len(getattr(m, h)) for h in hooks)) for name, m in model.named_modules()]
        self.state.append(torch.is_grad_enabled())


def stumbling(model: nn.Module, where: str, error: BaseException) -> Callable[[], object]:
    """A collection that stops half-way."""

    def fail(*_: object) -> None:
        raise error

    def loader() -> Iterator[Tensor]:
        yield draw(2, 6)
        fail()

    if where == "loader":
        return lambda: mt.collect(model, loader())
    if where == "mask":
        return lambda: mt.collect(model, [draw(2, 6)], mask=fail)
    if where == "progress":
        return lambda: mt.collect(model, [draw(2, 6)], progress=fail)
    return lambda: mt.collect(model, [draw(2, 5)])


@pytest.mark.parametrize("where", ["nowhere", "loader", "mask", "progress", "forward"])
@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_training_flags_and_hooks_are_given_back(where: str, error: BaseException) -> None:
    model = mlp().train()
    model[2].eval()
    before = _Flags(model).state
    if where == "nowhere":
        mt.collect(model, [draw(2, 6)])
    else:
        with pytest.raises(RuntimeError if where == "forward" else type(error)):
            stumbling(model, where, error)()
    assert _Flags(model).state == before
    assert model.training
    assert not model[2].training


def test_the_weights_and_their_gradients_are_not_touched() -> None:
    model = mlp()
    model(draw(2, 6)).sum().backward()
    before = [(p.detach().clone(), p.grad.clone(), p.requires_grad) for p in model.parameters()]
    mt.collect(model, [draw(9, 6)])
    for p, (weight, gradient, flag) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, weight)
        assert torch.equal(p.grad, gradient)
        assert p.requires_grad == flag


# ---------------------------------------------------------------------------------------------- the head


def _counting(module: nn.Module) -> list[None]:
    calls: list[None] = []
    inner = module.forward

    def forward(*args: object, **kwargs: object) -> object:
        calls.append(None)
        return inner(*args, **kwargs)

    module.forward = forward
    return calls


def test_the_head_is_skipped_after_the_first_batch_and_nothing_changes(tiny_lm: nn.Module, tokens: Tensor) -> None:
    batches = [{"input_ids": tokens}, {"input_ids": tokens.flip(1)}, {"input_ids": tokens.flip(0)}]
    sites = mt.sites(tiny_lm, layers=[0, 1])
    assert tiny_lm.get_output_embeddings() not in [tiny_lm.get_submodule(site.module) for site in sites.values()]
    head_calls = _counting(tiny_lm.get_output_embeddings())

    stopped = mt.collect(tiny_lm, batches, sites=sites)
    assert len(head_calls) == 1

    tiny_lm.get_output_embeddings = lambda: None
    whole = mt.collect(tiny_lm, batches, sites=sites)
    assert len(head_calls) == 1 + len(batches)
    for name, moments in whole.items():
        assert torch.equal(stopped[name].first, moments.first)
        assert torch.equal(stopped[name].matrix(), moments.matrix())


def test_a_head_that_is_a_site_is_run(tiny_llama: Callable[..., nn.Module], tokens: Tensor) -> None:
    model = tiny_llama(tie_word_embeddings=False)
    head_calls = _counting(model.lm_head)
    statistics = mt.collect(model, [{"input_ids": tokens}] * 3)
    assert len(head_calls) == 3
    assert statistics["lm_head"].n == 3 * tokens.numel()


def test_a_network_that_reads_behind_its_head_is_run_to_the_end() -> None:
    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.critic = (nn.Linear(4, 4).double() for _ in range(3))

        def get_output_embeddings(self) -> nn.Module:
            return self.head

        def forward(self, x: Tensor) -> Tensor:
            return self.critic(self.head(self.body(x)))

    model = Critic()
    batches = [draw(3, 4), draw(5, 4, seed=1), draw(2, 4, seed=2)]
    head_calls = _counting(model.head)
    statistics = mt.collect(model, batches, sites=mt.sites(model, ["body", "critic"]))
    assert len(head_calls) == 3
    agree(model, statistics, watched(model, batches))

"""The closed-form engram: the theorems behind it, and every number that comes with it, against dense algebra."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.core.site import Site
from mnemotrace.localisation import reference as reference_module
from mnemotrace.localisation.engram import leverages, predicted_residual
from mnemotrace.localisation.reference import Reference

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@dataclass
class Case:
    """One linear layer with a target and a reference, and the same as matrices with the bias border."""

    layer: nn.Linear
    Xt: Tensor
    Xr: Tensor

    @property
    def W(self) -> Tensor:
        weight = self.layer.weight.detach()
        return weight if self.layer.bias is None else torch.cat([weight, self.layer.bias.detach()[:, None]], 1)

    def bordered(self, rows: Tensor) -> Tensor:
        return rows if self.layer.bias is None else torch.nn.functional.pad(rows, (0, 1), value=1.0)

    @property
    def T(self) -> Tensor:
        return self.bordered(self.Xt)

    @property
    def R(self) -> Tensor:
        return self.bordered(self.Xr)

    @property
    def target(self) -> mt.Statistics:
        return mt.collect(self.layer, [self.Xt], dtype=F64)

    @property
    def reference(self) -> mt.Statistics:
        return mt.collect(self.layer, [self.Xr], dtype=F64)

    def engram(self, **options: object) -> mt.Engram:
        return mt.engram(self.layer, target=self.target, reference=self.reference, **options)

    def total(self, selectivity: float) -> Tensor:
        return self.T.T @ self.T + selectivity * self.R.T @ self.R


def linear(d: int, o: int, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(d, o, bias=bias).double()


def case(n: int = 6, N: int = 60, d: int = 20, o: int = 7, *, bias: bool = True, rank: int | None = None) -> Case:
    """Random rows; with `rank` the reference lies in a subspace of that many dimensions."""
    rows = draw(N, d, seed=1) if rank is None else draw(N, rank, seed=1) @ draw(rank, d, seed=2) / rank**0.5
    return Case(linear(d, o, bias=bias), draw(n, d, seed=3) + 0.5, rows)


CASES = {
    "few rows, full reference": lambda bias: case(bias=bias),
    "many rows, full reference": lambda bias: case(n=50, bias=bias),
    "few rows, thin reference": lambda bias: case(n=4, N=60, d=40, rank=8, bias=bias),
    "few rows, few reference rows": lambda bias: case(n=4, N=9, d=40, bias=bias),
    "more rows than outputs": lambda bias: case(n=12, N=9, d=40, o=3, bias=bias),
    "many rows, few reference rows": lambda bias: case(n=50, N=5, bias=bias),
}
SUBSPACE = {"few rows, thin reference", "few rows, few reference rows", "more rows than outputs"}
every_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
with_and_without_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def mlp(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8, bias=False), nn.Tanh(), nn.Linear(8, 4)
        ).double()


def dense_weights(model: nn.Module, sites: dict[str, Site]) -> dict[str, Tensor]:
    weights = {}
    for name, site in sites.items():
        weight = model.get_parameter(site.weight).detach()
        weights[name] = (
            torch.cat([weight, model.get_parameter(site.bias).detach()[:, None]], 1) if site.bias else weight
        )
    return weights


# ---------------------------------------------------------------------------------------------- the estimator


def test_engrams_of_a_partition_sum_to_the_weight() -> None:
    model, classes = mlp(), [draw(n, 6, seed=n) for n in (5, 30, 50)]
    collected = [mt.collect(model, [rows], dtype=F64) for rows in classes]
    total = None
    for i, target in enumerate(collected):
        others = [statistics for j, statistics in enumerate(collected) if j != i]
        engram = mt.engram(model, target=target, reference=others[0] + others[1], rcond=1e-13)
        total = engram if total is None else total + engram
    for name, weight in dense_weights(model, collected[0].sites).items():
        assert (total[name].dense() - weight).norm() <= 1e-8 * weight.norm()
        assert engram[name].dense().sub(weight).norm() > 0.1 * weight.norm()


def test_engrams_of_a_partition_sum_to_the_projected_weight_when_data_are_few() -> None:
    layer, first, second = linear(20, 7), draw(4, 20, seed=1), draw(5, 20, seed=2)
    a, b = (mt.collect(layer, [rows], dtype=F64) for rows in (first, second))
    total = mt.engram(layer, target=a, reference=b) + mt.engram(layer, target=b, reference=a)
    rows = torch.nn.functional.pad(torch.cat([first, second]), (0, 1), value=1.0)
    weight = Case(layer, first, second).W
    torch.testing.assert_close(total["root"].dense(), weight @ torch.linalg.pinv(rows) @ rows, rtol=1e-11, atol=1e-11)


def test_the_engram_of_a_union_is_the_sum_of_engrams() -> None:
    model = mlp()
    a, b, rest = (mt.collect(model, [draw(n, 6, seed=n)], dtype=F64) for n in (4, 30, 70))
    union = mt.engram(model, target=a + b, reference=rest)
    parts = mt.engram(model, target=a, reference=b + rest) + mt.engram(model, target=b, reference=a + rest)
    for name, trace in union.items():
        torch.testing.assert_close(parts[name].dense(), trace.dense(), rtol=1e-8, atol=1e-10)


@every_case
@with_and_without_bias
@pytest.mark.parametrize("selectivity", [0.1, 1.0, 10.0])
def test_truncating_equals_the_dense_formula(make: Callable, bias: bool, selectivity: float) -> None:
    c = make(bias)
    rcond = 1e-9
    expected = c.W @ c.T.T @ c.T @ torch.linalg.pinv(c.total(selectivity), rtol=rcond, hermitian=True)
    found = c.engram(selectivity=selectivity, rcond=rcond)
    torch.testing.assert_close(found["root"].dense(), expected, rtol=1e-9, atol=1e-9 * float(expected.norm()))
    kept = torch.linalg.matrix_rank(c.total(selectivity), rtol=rcond, hermitian=True)
    assert found.evidence["root"]["rank"] == kept


@every_case
@with_and_without_bias
@pytest.mark.parametrize("selectivity", [0.1, 1.0, 10.0])
def test_ridge_equals_the_dense_formula(make: Callable, bias: bool, selectivity: float) -> None:
    c = make(bias)
    rcond = 1e-5
    found = c.engram(selectivity=selectivity, rcond=rcond, solver="ridge")
    delta = found.evidence["root"]["ridge"]
    largest = torch.linalg.eigvalsh(selectivity * c.R.T @ c.R)[-1]
    assert delta == pytest.approx(rcond * float(largest), rel=0.05)
    expected = c.W @ c.T.T @ c.T @ torch.linalg.inv(c.total(selectivity) + delta * torch.eye(c.T.shape[1], dtype=F64))
    torch.testing.assert_close(found["root"].dense(), expected, rtol=1e-8, atol=1e-8 * float(expected.norm()))


@pytest.mark.parametrize("name", CASES)
def test_a_thin_problem_is_solved_in_its_subspace_and_a_full_one_directly(name: str, monkeypatch) -> None:
    c, calls, inner = CASES[name](True), [], reference_module._joint_basis

    def spy(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(None)
        return inner(*arguments)

    monkeypatch.setattr(reference_module, "_joint_basis", spy)
    c.engram()
    directions = int(torch.linalg.matrix_rank(c.R)) + min(len(c.T), c.T.shape[1])
    assert bool(calls) == (directions <= 0.6 * c.T.shape[1])
    assert bool(calls) == (name in SUBSPACE)


@pytest.mark.parametrize("rcond", [1e-6, 1e-4])
@pytest.mark.parametrize("selectivity", [0.1, 1.0, 10.0])
def test_the_subspace_agrees_with_the_whole_on_a_steep_spectrum(selectivity: float, rcond: float) -> None:
    d = 60
    rows = draw(300, d, seed=1) * torch.logspace(0, -9, d, dtype=F64) @ torch.linalg.qr(draw(d, d, seed=2))[0]
    c = Case(linear(d, 7, bias=False), draw(4, d, seed=3) * 0.1, rows)
    expected = c.W @ c.T.T @ c.T @ torch.linalg.pinv(c.total(selectivity), rtol=rcond, hermitian=True)
    found = c.engram(selectivity=selectivity, rcond=rcond)["root"].dense()
    # What is neglected is a thousandth of the cut, so eigenvalues near the cut are right to that.
    assert (found - expected).norm() <= 2e-3 * expected.norm()


@every_case
def test_the_engram_minimises_its_loss_with_the_least_norm(make: Callable) -> None:
    c = make(True)
    M = c.engram(rcond=1e-12)["root"].dense().requires_grad_()
    loss = ((M - c.W) @ c.T.T).square().sum() + (M @ c.R.T).square().sum()
    (gradient,) = torch.autograd.grad(loss, M)
    assert gradient.norm() <= 1e-8 * (c.W @ c.total(1.0)).norm()
    null = torch.eye(c.T.shape[1], dtype=F64) - torch.linalg.pinv(c.total(1.0), rtol=1e-12, hermitian=True) @ c.total(
        1.0
    )
    assert (M @ null).norm() <= 1e-9 * M.norm()
    (far,) = torch.autograd.grad(((M * 1.1 - c.W) @ c.T.T).square().sum() + (M * 1.1 @ c.R.T).square().sum(), M)
    assert far.norm() > 1e4 * gradient.norm()


def test_without_selectivity_the_engram_is_the_weight_on_the_span_of_the_target() -> None:
    c = case(n=5)
    expected = c.W @ torch.linalg.pinv(c.T) @ c.T
    torch.testing.assert_close(c.engram(selectivity=0.0)["root"].dense(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        c.engram(selectivity=0.0, solver="ridge", rcond=1e-13)["root"].dense(), expected, rtol=1e-9, atol=1e-9
    )


def hard_limit(c: Case, rcond: float = 1e-10) -> Tensor:
    """`W S N (N S N)^+` with `N` the projector off the reference."""
    N = torch.eye(c.R.shape[1], dtype=F64) - torch.linalg.pinv(c.R, rtol=rcond**0.5) @ c.R
    S = c.T.T @ c.T
    return c.W @ S @ N @ torch.linalg.pinv(N @ S @ N, rtol=rcond, hermitian=True)


@pytest.mark.parametrize("solver", ["truncate", "ridge"])
@with_and_without_bias
def test_the_hard_limit_is_inert_on_the_reference_and_is_the_null_space_formula(solver: str, bias: bool) -> None:
    c = case(n=4, N=9, d=40, bias=bias)
    hard = c.engram(selectivity=math.inf, solver=solver)["root"].dense()
    assert (hard @ c.R.T).norm() <= 1e-12 * (c.W @ c.R.T).norm()
    assert (hard @ c.T.T).norm() > 0.5 * (c.W @ c.T.T).norm()
    torch.testing.assert_close(hard, hard_limit(c), rtol=1e-10, atol=1e-10)


def test_the_hard_limit_spares_the_reference_where_the_soft_engram_leaks() -> None:
    c = case(n=20, N=60, d=40, rank=25)
    soft, hard = (c.engram(selectivity=s)["root"].dense() for s in (1.0, math.inf))
    assert (soft @ c.R.T).norm() > 0.02 * (c.W @ c.R.T).norm()
    assert (hard @ c.R.T).norm() <= 1e-12 * (c.W @ c.R.T).norm()
    torch.testing.assert_close(hard, hard_limit(c), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steepness", [4, 6])
def test_the_hard_limit_never_leaks_more_than_the_soft_engram_on_a_steep_spectrum(steepness: int) -> None:
    # Directions below the cut must be protected too: the target is small there, and its inverse large.
    d = 60
    spectrum = torch.logspace(0, -steepness, d, dtype=F64)
    rows, target = draw(2000, d, seed=1) * spectrum, draw(8, d, seed=3) * spectrum**0.9
    c = Case(linear(d, 7, bias=False), target, rows)
    soft, hard = (c.engram(selectivity=s).evidence["root"] for s in (1.0, math.inf))
    assert hard["leak"] <= soft["leak"]
    assert hard["relative_norm"] <= 1


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rounding_of_the_sums_is_not_taken_for_a_reference(dtype: torch.dtype) -> None:
    d, rank = 80, 30
    rows = (draw(4000, rank, seed=1) @ draw(rank, d, seed=2)).to(dtype)
    layer = linear(d, 7, bias=False).to(dtype)
    target, rest = (mt.collect(layer, [part], dtype=dtype) for part in (draw(4, d, seed=3).to(dtype), rows))
    evidence = mt.engram(layer, target=target, reference=rest, selectivity=math.inf).evidence["root"]
    assert evidence["rank"] == 4
    assert evidence["gain"] > 0.5
    assert evidence["leak"] < 1e-3


def test_growing_selectivity_converges_to_the_hard_limit() -> None:
    c = case(n=20, N=60, d=40, rank=25)
    hard = c.engram(selectivity=math.inf)["root"].dense()
    gaps = [
        float((c.engram(selectivity=s, rcond=1e-14)["root"].dense() - hard).norm() / hard.norm())
        for s in (1.0, 1e2, 1e4, 1e6)
    ]
    assert gaps[0] > 0.05
    for before, after in zip(gaps, gaps[1:], strict=False):
        assert after < before / 30
    assert gaps[-1] < 2e-6


def test_nothing_is_left_of_a_target_inside_a_full_reference_in_the_hard_limit() -> None:
    c = case(n=4, N=60, d=20)
    hard = c.engram(selectivity=math.inf)
    assert hard["root"].norm() == 0
    assert hard.evidence["root"]["rank"] == 0


# ---------------------------------------------------------------------------------------------- what is measured


def direct(c: Case, P: Tensor, selectivity: float) -> dict[str, float]:
    """The measurements of an engram `P` from the raw rows."""
    out_t, out_r, all_t, all_r = P @ c.T.T, P @ c.R.T, c.W @ c.T.T, c.W @ c.R.T
    return {
        "relative_norm": float(P.norm() / c.W.norm()),
        "leak": float(out_r.norm() / all_r.norm()),
        "miss": float((all_t - out_t).norm() / all_t.norm()),
        "gain": float(out_t.norm() / all_t.norm()),
        "reinstatement": float((out_t * all_t).sum() / (out_t.norm() * all_t.norm())) if out_t.any() else 0.0,
        "target_rows": len(c.T),
        "reference_rows": len(c.R),
    }


@every_case
@pytest.mark.parametrize("solver", ["truncate", "ridge"])
@pytest.mark.parametrize("selectivity", [0.0, 0.3, 1.0, 30.0, math.inf])
def test_evidence_is_what_the_raw_rows_show(make: Callable, solver: str, selectivity: float) -> None:
    c = make(True)
    engram = c.engram(selectivity=selectivity, solver=solver, rcond=1e-6)
    expected = direct(c, engram["root"].dense(), selectivity)
    found = {name: engram.evidence["root"][name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("cut", [{"rank": 2}, {"energy": 0.6}])
@pytest.mark.parametrize("selectivity", [0.3, 1.0])
def test_evidence_of_a_cut_engram_is_that_of_what_was_kept(cut: dict[str, float], selectivity: float) -> None:
    c = case(n=6, N=30, d=20, o=15)
    whole, engram = c.engram(selectivity=selectivity), c.engram(selectivity=selectivity, **cut)
    assert engram["root"].rank < whole["root"].rank
    expected = direct(c, engram["root"].dense(), selectivity)
    found = {name: engram.evidence["root"][name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found["miss"] > whole.evidence["root"]["miss"] * 1.01


@every_case
@pytest.mark.parametrize("selectivity", [0.1, 1.0])
def test_leverage_is_the_diagonal_of_the_hat_matrix(make: Callable, selectivity: float) -> None:
    c = make(True)
    hat = c.T @ torch.linalg.pinv(c.total(selectivity), rtol=1e-9, hermitian=True) @ c.T.T
    engram = c.engram(selectivity=selectivity, rcond=1e-9)
    assert engram.evidence["root"]["leverage"] == pytest.approx(float(hat.trace()) / len(c.T))
    found = leverages(c.target, c.reference, selectivity=selectivity, rcond=1e-9)["root"]
    assert float(found.sum()) == pytest.approx(float(hat.trace()))
    if len(c.T) < c.Xt.shape[1]:
        torch.testing.assert_close(found, hat.diagonal(), rtol=1e-8, atol=1e-8)
    assert bool(((found >= 0) & (found <= 1)).all())


@pytest.mark.filterwarnings("ignore:the change is larger than the weight")
@every_case
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_leverage_predicts_what_stays_after_erasing(make: Callable, strength: float) -> None:
    c = make(True)
    engram = c.engram(selectivity=0.3)
    with torch.no_grad():
        before = c.layer(c.Xt).norm()
        with mt.applied(c.layer, mt.erase(engram, strength, limit=1e9)):
            after = c.layer(c.Xt).norm()
    assert predicted_residual(engram, strength)["root"] == pytest.approx(float(after / before), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("N", "erased"), [(1, True), (5, True), (20, True), (21, False), (40, False)])
def test_a_single_token_is_erased_exactly_while_all_tokens_are_independent(N: int, erased: bool) -> None:
    # 21 columns with the border: with the token itself at most 21 rows are independent.
    c = case(n=1, N=N, d=20)
    engram = c.engram(rcond=1e-13)
    before = float((c.W @ c.T.T).norm())
    with mt.applied(c.layer, mt.erase(engram)):
        residual = float((c.W @ c.T.T).norm()) / before
    assert engram["root"].rank == 1
    assert (residual < 1e-7) == erased
    assert engram.evidence["root"]["leverage"] == pytest.approx(1 - residual, abs=1e-7)


def test_one_row_and_one_output_at_a_time_follow_the_counterexample() -> None:
    # Scalars X = R = W = 1 give an engram of one half: soft, and not the hard constraint.
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(layer.weight)
    c = Case(layer, torch.ones(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64))
    assert c.engram()["root"].dense().item() == pytest.approx(0.5)
    assert c.engram(selectivity=3.0)["root"].dense().item() == pytest.approx(0.25)


# ---------------------------------------------------------------------------------------------- reuse and storage


@pytest.mark.parametrize("solver", ["truncate", "ridge"])
def test_a_factored_reference_gives_identical_results_and_is_factored_once(solver: str, monkeypatch) -> None:
    model = mlp()
    rest = mt.collect(model, [draw(70, 6, seed=9)], dtype=F64)
    concepts = [mt.collect(model, [draw(2, 6, seed=seed)], dtype=F64) for seed in range(3)]
    settings = [{"selectivity": 1.0}, {"selectivity": 0.1}, {"selectivity": math.inf}]
    expected = [mt.engram(model, target=c, reference=rest, solver=solver, **s) for c in concepts for s in settings]
    built: list[None] = []
    inner = reference_module.spectrum if solver == "truncate" else torch.linalg.cholesky

    def spy(matrix: Tensor, *arguments: object, **options: object) -> object:
        if matrix.shape[-1] >= 6:
            built.append(None)
        return inner(matrix, *arguments, **options)

    prepared = mt.factor(rest)
    monkeypatch.setattr(*((reference_module, "spectrum") if solver == "truncate" else (torch.linalg, "cholesky")), spy)
    found = [mt.engram(model, target=concepts[0], reference=prepared, solver=solver, **s) for s in settings]
    first_concept = len(built)
    for c in concepts[1:]:
        found += [mt.engram(model, target=c, reference=prepared, solver=solver, **s) for s in settings]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.evidence == theirs.evidence
        for name in theirs:
            assert torch.equal(mine[name].left, theirs[name].left)
            assert torch.equal(mine[name].right, theirs[name].right)
    if solver == "ridge":
        assert len(built) == first_concept


def test_maps_that_share_an_input_share_a_factor(tiny_llama: Callable[..., nn.Module], tokens: Tensor) -> None:
    model = tiny_llama()
    rest = mt.collect(model, [{"input_ids": tokens}])
    target = mt.collect(model, [{"input_ids": tokens[:1, :6]}])
    engram = mt.engram(model, target=target, reference=rest)
    q, k = (engram[f"model.layers.0.self_attn.{name}_proj"] for name in "qk")
    assert q.right is k.right
    assert engram.nbytes < sum(trace.nbytes for trace in engram.values())


@pytest.mark.parametrize(
    ("dtype", "stored"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (F64, F64)]
)
def test_factors_are_stored_in_float32_or_better(dtype: torch.dtype, stored: torch.dtype) -> None:
    model = mlp().to(dtype)
    a, b = (mt.collect(model, [draw(n, 6, seed=n).to(dtype)]) for n in (3, 40))
    engram = mt.engram(model, target=a, reference=b)
    assert {t.dtype for trace in engram.values() for t in (trace.left, trace.right)} == {stored}
    assert [trace.rank for trace in engram.values()] == [3, 3, 3]


def test_the_model_and_the_statistics_are_only_read() -> None:
    c = case()
    target, rest = c.target, c.reference
    before = [c.W.clone(), target["root"].matrix(), rest["root"].matrix()]
    for selectivity in (0.0, 1.0, math.inf):
        for solver in ("truncate", "ridge"):
            mt.engram(c.layer, target=target, reference=rest, selectivity=selectivity, solver=solver)
    for now, then in zip([c.W, target["root"].matrix(), rest["root"].matrix()], before, strict=True):
        assert torch.equal(now, then)


def test_the_manifest_says_how_it_was_made_and_everything_can_be_saved(tmp_path) -> None:
    c = case(n=4, N=9, d=40)
    for selectivity in (0.0, 0.1, math.inf):
        engram = c.engram(selectivity=selectivity, energy=0.99)
        assert engram.manifest["base"] == c.target.manifest["base"]
        assert engram.manifest["solver"] == "truncate"
        found = mt.load(mt.save(engram, tmp_path / "engram"))
        assert found.evidence == engram.evidence
        assert found.manifest == engram.manifest


def test_a_cut_in_rank_keeps_the_best_of_each_site() -> None:
    c = case(n=6, o=15)
    whole, cut = c.engram(), c.engram(rank=2)
    u, s, v = torch.linalg.svd(whole["root"].dense(), full_matrices=False)
    torch.testing.assert_close(cut["root"].dense(), (u[:, :2] * s[:2]) @ v[:2])
    assert c.engram(energy=0.5)["root"].norm() ** 2 >= 0.5 * whole["root"].norm() ** 2


def test_progress_is_reported_after_each_site() -> None:
    model, seen = mlp(), []
    a, b = (mt.collect(model, [draw(n, 6, seed=n)]) for n in (3, 40))
    mt.engram(model, target=a, reference=b, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3, "sites"), (2, 3, "sites"), (3, 3, "sites")]


# ---------------------------------------------------------------------------------------------- hard numbers


@pytest.mark.parametrize("solver", ["truncate", "ridge"])
@pytest.mark.parametrize("selectivity", [0.0, 0.1, 1.0, math.inf])
@pytest.mark.parametrize("dead", ["target", "reference", "both", "columns"])
@pytest.mark.parametrize("n", [4, 60])
def test_silent_inputs_give_finite_engrams(solver: str, selectivity: float, dead: str, n: int) -> None:
    c = case(n=n, N=30, bias=False)
    if dead in ("target", "both"):
        c.Xt = torch.zeros_like(c.Xt)
    if dead in ("reference", "both"):
        c.Xr = torch.zeros_like(c.Xr)
    if dead == "columns":
        c.Xt[:, ::2], c.Xr[:, ::2] = 0, 0
    engram = c.engram(selectivity=selectivity, solver=solver)
    P = engram["root"].dense()
    assert bool(torch.isfinite(P).all())
    if dead in ("target", "both"):
        assert P.norm() <= 1e-12
    elif dead == "reference":
        assert (P @ c.T.T - c.W @ c.T.T).norm() <= 1e-4 * (c.W @ c.T.T).norm()
    else:
        assert P[:, ::2].norm() <= 1e-9 * P.norm()
    assert all(math.isfinite(value) for value in engram.evidence["root"].values())


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
@pytest.mark.parametrize("solver", ["truncate", "ridge"])
@pytest.mark.parametrize("selectivity", [0.1, 1.0, math.inf])
def test_the_unit_of_the_activations_does_not_matter(scale: float, solver: str, selectivity: float) -> None:
    c = case(n=4, N=9, d=40, bias=False)
    expected = c.engram(solver=solver, selectivity=selectivity)["root"].dense()
    c.Xt, c.Xr = scale * c.Xt, scale * c.Xr
    found = c.engram(solver=solver, selectivity=selectivity)["root"].dense()
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("selectivity", [0.1, 1.0, 10.0])
def test_target_rows_that_the_reference_holds_too_are_shared_with_it(selectivity: float) -> None:
    c = case(n=4, N=9, d=40)
    c.Xr = torch.cat([c.Xr, c.Xt[:2]])
    hat = c.T @ torch.linalg.pinv(c.total(selectivity), rtol=1e-9, hermitian=True) @ c.T.T
    found = leverages(c.target, c.reference, selectivity=selectivity)["root"]
    torch.testing.assert_close(found, hat.diagonal(), rtol=1e-9, atol=1e-9)
    assert float(found[0]) == pytest.approx(1 / (1 + selectivity), rel=1e-6)
    assert float(found[3]) == pytest.approx(1, rel=1e-6)


def test_repeated_rows_count_as_often_as_they_come() -> None:
    c = case(n=4, N=9, d=40)
    once = c.engram()["root"].dense()
    c.Xt, c.Xr = c.Xt.repeat(3, 1), c.Xr.repeat(3, 1)
    torch.testing.assert_close(c.engram()["root"].dense(), once, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "svd"}, r"got solver='svd'; expected one of \('truncate', 'ridge'\)"),
        ({"selectivity": -1.0}, r"got selectivity=-1.0; expected a number from 0 to math.inf"),
        ({"selectivity": math.nan}, "got selectivity=nan"),
        ({"rcond": 0.0}, r"got rcond=0.0; expected a number between 0 and 1; None takes width \* 1.19e-7"),
        ({"rcond": 1.0}, "got rcond=1.0"),
        ({"energy": 0.0}, r"got energy=0.0; expected a share in \(0, 1\]"),
        ({"energy": 1.5}, "got energy=1.5"),
        ({"rank": 0}, "got rank=0; expected a positive number of directions"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case().engram(**options)


def test_statistics_of_two_networks_are_refused() -> None:
    a, b = mlp(0), mlp(1)
    target, rest = mt.collect(a, [draw(3, 6)]), mt.collect(b, [draw(40, 6)])
    with pytest.raises(ValueError, match="got target and reference of two networks, .*; expected one; collect again"):
        mt.engram(a, target=target, reference=rest)


def test_a_site_that_the_reference_lacks_is_refused_and_not_skipped() -> None:
    model = mlp()
    target = mt.collect(model, [draw(3, 6)])
    rest = mt.collect(model, [draw(40, 6)], sites=mt.sites(model, ["0", "2"]))
    with pytest.raises(
        SelectionError, match=r"target sites that the reference lacks \(4, 1 in all\); expected the ref"
    ):
        mt.engram(model, target=target, reference=rest)
    assert list(mt.engram(model, target=target.select(["0"]), reference=rest)) == ["0"]


@pytest.mark.parametrize("where", ["target", "reference"])
@pytest.mark.parametrize("solver", ["truncate", "ridge"])
@pytest.mark.parametrize("n", [4, 60])
def test_statistics_that_are_not_finite_are_refused(where: str, solver: str, n: int) -> None:
    c = case(n=n)
    statistics = {"target": c.target, "reference": c.reference}
    spoilt = statistics[where]["root"]
    (spoilt.second if spoilt.rows is None else spoilt.rows)[0, 1] = torch.nan
    for selectivity in (0.0, 1.0, math.inf):
        with pytest.raises(NonFiniteError, match="non-finite"):
            mt.engram(c.layer, **statistics, solver=solver, selectivity=selectivity)


def test_a_reference_is_a_mapping_of_its_statistics() -> None:
    c = case()
    prepared = Reference(c.reference)
    assert list(prepared) == ["root"]
    assert len(prepared) == 1
    assert prepared["root"] is prepared["root"]
    assert prepared["root"].width == 21

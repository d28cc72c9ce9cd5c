import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_t

from mnemotrace.modification.beliefs import families
from mnemotrace.modification.beliefs.dags import DAGs, enumerate_dags, masks_of
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import log_joint
from mnemotrace.modification.beliefs.families import BDeu, BGe, family_table, members


def _states(n: int, arities: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, a, (n,), generator=source) for a in arities], 1)


def _predictive(score: BDeu, rows: torch.Tensor, node: int, parents: int) -> float:
    """Multiply one prediction after another, by counting."""
    total, q = 0.0, math.prod(score.arities[j] for j in members(parents))
    for t in range(len(rows)):
        before = rows[:t]
        same = (before[:, list(members(parents))] == rows[t, list(members(parents))]).all(1)
        count = float((before[same][:, node] == rows[t, node]).sum())
        total += math.log((count + score.ess / (q * score.arities[node])) / (float(same.sum()) + score.ess / q))
    return total


@pytest.mark.parametrize(("node", "parents"), [(0, 0), (1, 0b101), (2, 0b011)])
@pytest.mark.parametrize("ess", [1.0, 7.5])
def test_bdeu_is_the_product_of_its_own_predictions(node: int, parents: int, ess: float) -> None:
    score, rows = BDeu((2, 3, 2), ess), _states(40, (2, 3, 2))
    found = score.local(Evidence.observed(rows), node, [parents])
    assert float(found) == pytest.approx(_predictive(score, rows, node, parents), abs=1e-9)


def test_bdeu_is_what_pgmpy_says() -> None:
    """pgmpy 1.1.2, structure_score.BDeu(data, equivalent_sample_size=5).local_score, on these twelve rows."""
    rows = torch.tensor([[0, 0, 1], [1, 2, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 2, 1]] * 2)
    score = BDeu((2, 3, 2), 5.0)
    found = [float(score.local(Evidence.observed(rows), i, [m])) for i, m in ((0, 0), (1, 0b101), (2, 0b001))]
    assert found == pytest.approx([-8.964637502076576, -12.550415287192202, -9.141725744978059], abs=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 60))
def test_graphs_that_no_observation_tells_apart_tie(seed: int, n: int) -> None:
    dags = enumerate_dags(4)
    kinds = dags.classes()
    numbers = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for score, rows in ((BDeu((2, 3, 2, 2), 1.0), _states(n, (2, 3, 2, 2), seed)), (BGe(4), numbers)):
        joint = log_joint(family_table(score, Evidence.observed(rows)), dags)
        low = torch.full((int(kinds.max()) + 1,), torch.inf, dtype=torch.float64).scatter_reduce(
            0, kinds, joint, "amin"
        )
        assert float((joint - low[kinds]).max()) < 1e-9


def test_setting_a_node_changes_every_family_but_its_own() -> None:
    rows = _states(30, (2, 2, 2))
    alone, more = Evidence.observed(rows), Evidence.observed(_states(20, (2, 2, 2), 1), do=[1])
    for score in (BDeu((2, 2, 2)), None):
        kind = score or BGe(3)
        a, b = (alone, more) if score else (_as_numbers(alone), _as_numbers(more))
        sets = [0, 0b101]
        assert torch.equal(kind.local(a + b, 1, sets), kind.local(a, 1, sets))
        assert not torch.allclose(kind.local(a + b, 0, [0, 0b110]), kind.local(a, 0, [0, 0b110]))


def _as_numbers(evidence: Evidence) -> Evidence:
    return Evidence(evidence.values.double(), evidence.intervened)


def _student(score: BGe, rows: torch.Tensor, nodes: list[int]) -> float:
    """Add up the log-predictions of some of the variables, row after row: a multivariate t (Murphy 2007)."""
    t, total = score.alpha_mu * (score.alpha_w - score.p - 1) / (score.alpha_mu + 1), 0.0
    for n in range(len(rows)):
        past, kappa, df = rows[:n], score.alpha_mu + n, score.alpha_w + n - score.p + 1
        mean = past.mean(0) if n else torch.zeros(score.p, dtype=torch.float64)
        scatter = (past - mean).T @ (past - mean) + n * score.alpha_mu / kappa * torch.outer(mean, mean)
        shape = (t * torch.eye(score.p, dtype=torch.float64) + scatter) * (kappa + 1) / (kappa * df)
        centre, shape = (n / kappa * mean)[nodes], shape[nodes][:, nodes]
        student = multivariate_t(centre.numpy(), shape.numpy(), df)  # type: ignore[arg-type]  # scipy's types say int
        total += float(student.logpdf(rows[n, nodes].numpy()))
    return total


@pytest.mark.parametrize("alpha_mu", [1.0, 2.5])
@pytest.mark.parametrize(("node", "parents"), [(0, 0), (2, 0), (1, 0b001), (0, 0b110), (2, 0b011)])
def test_bge_is_the_product_of_student_t_predictions(node: int, parents: int, alpha_mu: float) -> None:
    """Every size of set: the scores of whole graphs would tie, and add up, with wrong ones of subsets too."""
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    score, given = BGe(3, alpha_mu), list(members(parents))
    found = float(score.local(Evidence.observed(rows), node, [parents]))
    both = _student(score, rows, sorted([node, *given]))
    alone = _student(score, rows, given) if given else 0.0
    assert found == pytest.approx(both - alone, abs=1e-9)


def test_sets_score_alike_alone_and_together_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    arities = (2, 3, 2, 4, 2)
    states = Evidence.observed(_states(50, arities), do=[3])
    sets = [mask for mask in range(32) if not mask & 1]
    for score, evidence in ((BDeu(arities), states), (BGe(5), _as_numbers(states))):
        together = score.local(evidence, 0, sets)
        assert torch.equal(together, torch.cat([score.local(evidence, 0, [one]) for one in sets]))
        assert score.local(evidence, 0, []).shape == (0,)
        with monkeypatch.context() as small:
            small.setattr(families, "ENTRIES", 100)
            assert torch.equal(score.local(evidence, 0, sets), together)


def test_joint_states_that_never_occurred_need_no_room() -> None:
    """Forty parents of four states have more joint states than a double can number; twenty do not."""
    rows = _states(20, (4,) * 41)
    score, evidence = BDeu((4,) * 41), Evidence.observed(rows)
    many = sum(1 << j for j in range(1, 21))
    assert float(score.local(evidence, 0, [many])) == pytest.approx(_predictive(score, rows, 0, many), abs=1e-9)
    with pytest.raises(ValueError, match="got 1.2e.24 joint states of one set of parents; expected fewer parents"):
        score.local(evidence, 0, [sum(1 << j for j in range(1, 41))])


def test_only_the_families_of_given_graphs_are_scored() -> None:
    evidence = Evidence.observed(_states(20, (2,) * 5))
    dags = DAGs(torch.tensor([masks_of([(0, 1)], 5), masks_of([(1, 0), (2, 0)], 5)], dtype=torch.uint8))
    score = BDeu((2,) * 5)
    some, every = family_table(score, evidence, dags), family_table(score, evidence)
    assert int(some.isfinite().sum()) == sum(map(len, dags.parent_sets)) == 7
    assert torch.equal(some[some.isfinite()], every[some.isfinite()])
    assert torch.equal(log_joint(some, dags), log_joint(every, dags))
    with pytest.raises(ValueError, match=r"got 17 variables; expected at most 16.*method='order'"):
        family_table(BDeu((2,) * 17), Evidence.nothing(17))


@pytest.mark.slow
@pytest.mark.parametrize("ess", [1.0, 10.0])
def test_every_family_is_what_pgmpy_says(ess: float) -> None:
    pandas = pytest.importorskip("pandas")
    scores = pytest.importorskip("pgmpy.structure_score")
    arities = (2, 3, 2, 4)
    rows = _states(60, arities, 5)
    frame = pandas.DataFrame(rows.numpy(), columns=[f"x{j}" for j in range(4)])
    oracle = scores.BDeu(frame, equivalent_sample_size=ess)
    table = family_table(BDeu(arities, ess), Evidence.observed(rows))
    for i in range(4):
        for mask in range(16):
            if not mask >> i & 1:
                theirs = oracle.local_score(f"x{i}", tuple(f"x{j}" for j in members(mask)))
                assert float(table[i, mask]) == pytest.approx(theirs, abs=1e-9)


def test_a_table_has_every_family_and_no_other() -> None:
    table = family_table(BDeu((2, 2, 2)), Evidence.observed(_states(9, (2, 2, 2))))
    for i in range(3):
        for mask in range(8):
            assert math.isinf(float(table[i, mask])) == bool(mask >> i & 1)
    assert torch.equal(family_table(BDeu((2, 2)), Evidence.nothing(2))[0, :1], torch.zeros(1, dtype=torch.float64))


def test_what_cannot_be_scored_is_refused() -> None:
    rows = _states(5, (2, 2))
    with pytest.raises(ValueError, match=r"got \(2, 1\) states; expected at least two"):
        BDeu((2, 1))
    with pytest.raises(ValueError, match="got ess=0; expected an equivalent sample size above 0"):
        BDeu((2, 2), 0)
    with pytest.raises(TypeError, match="expected states as integers; BGe scores numbers"):
        BDeu((2, 2)).local(Evidence.observed(rows.double()), 0, [0])
    with pytest.raises(TypeError, match="expected floating-point numbers; BDeu scores states"):
        BGe(2).local(Evidence.observed(rows), 0, [0])
    with pytest.raises(ValueError, match="got 2 variables; expected 3"):
        BDeu((2, 2, 2)).local(Evidence.observed(rows), 0, [0])
    with pytest.raises(ValueError, match="got state 3 of variable 0; expected states from 0 to 1"):
        BDeu((2, 2)).local(Evidence.observed(rows + 2), 0, [0])
    with pytest.raises(ValueError, match="got 2 variables; expected 4"):
        BGe(4).local(Evidence.observed(rows.double()), 0, [0])
    with pytest.raises(ValueError, match="got alpha_mu=-1; expected"):
        BGe(2, -1)

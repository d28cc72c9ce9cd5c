"""Order MCMC gives the exact edge probabilities, and would not without its weights; orders are weighed without bias."""

from itertools import permutations

import pytest
import torch

from mnemotrace.modification.beliefs.candidates import score_families
from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import edge_probabilities, log_joint
from mnemotrace.modification.beliefs.families import BDeu, family_table
from mnemotrace.modification.beliefs.network import adjacency, draw_network
from mnemotrace.modification.beliefs.order_mcmc import (
    _exchange,
    _relocate,
    draw_parents,
    log_orders,
    order_mcmc,
    split_r_hat,
    summed,
)


def evidence_of(p: int, n: int, seed: int = 0) -> tuple[BDeu, Evidence]:
    g = torch.Generator().manual_seed(seed)
    net = draw_network(p, generator=g)
    return BDeu(net.arities), net.sample(n, generator=g) + net.sample(10, do={"x1": "1"}, generator=g)


def test_edges_are_the_exact_ones_and_without_weights_they_are_not() -> None:
    score, rows = evidence_of(4, 30)
    dags = enumerate_dags(4)
    exact = edge_probabilities(torch.softmax(log_joint(family_table(score, rows), dags), 0), dags)
    found = order_mcmc(score, rows, steps=40, burn=10, chains=40, temperatures=(1.0,))
    assert float((found.edges - exact).abs().max()) < 0.03
    assert float((found.modular - exact).abs().max()) > 0.05
    assert found.approximate
    assert found.corrected
    assert not found.restricted
    assert float(found.r_hat.max()) < 1.05
    assert 100 < found.effective < len(found) == 40 * 40 * 5
    whole = log_joint(family_table(score, rows), dags)
    best = [sum(1 << j for j, i in dags.edges(int(whole.argmax())) if i == node) for node in range(4)]
    assert float(found.log_scores.max()) == pytest.approx(
        float(sum(score.local(rows, i, [mask]) for i, mask in enumerate(best))), abs=1e-9
    )


def test_the_weight_of_an_order_is_unbiased_for_the_number_of_orders() -> None:
    for parents in ([0, 1, 1, 2], [0, 0, 0, 0], [0, 1, 2, 4]):
        above = adjacency(torch.tensor(parents))
        fits = [
            order
            for order in permutations(range(4))
            if all(order.index(j) < order.index(i) for j, i in above.nonzero().tolist())
        ]
        q = log_orders(torch.tensor(fits), torch.tensor(parents).expand(len(fits), 4)).exp()
        assert float(q.sum()) == pytest.approx(1, abs=1e-12)  # so the mean is 1 / number


def test_a_step_keeps_the_distribution_over_orders() -> None:
    score, rows = evidence_of(3, 12, seed=3)
    families, orders = score_families(score, rows), torch.tensor(list(permutations(range(3))))
    logs = torch.tensor(
        [
            sum(
                torch.logsumexp(torch.tensor([s for m, s in families.lookup[i].items() if m & ~before == 0]), 0).item()
                for k, i in enumerate(order)
                for before in [sum(1 << j for j in order[:k])]
            )
            for order in orders.tolist()
        ]
    )
    wanted = torch.softmax(0.5 * logs, 0)
    g = torch.Generator().manual_seed(0)
    now = orders[torch.multinomial(wanted, 8000, replacement=True, generator=g)]
    for node in range(3):
        now, total = _relocate(now, node, families, torch.full((8000,), 0.5, dtype=torch.float64), g)
    which = (now[:, None] == orders).all(2).double()
    torch.testing.assert_close(total, logs[which.argmax(1)].to(total.dtype), rtol=0, atol=1e-3)
    assert float((which.mean(0) - wanted).abs().max()) < 0.02
    assert float((which.mean(0) - torch.softmax(logs, 0)).abs().max()) > 0.02


def test_a_graph_is_drawn_by_its_score_given_the_order() -> None:
    score, rows = evidence_of(3, 12, seed=3)
    families = score_families(score, rows)
    orders = torch.tensor([[2, 0, 1]]).expand(4000, 3)
    parents, logs = draw_parents(orders, families, torch.Generator().manual_seed(0))
    fits = [mask for mask in families.lookup[1] if mask & ~0b101 == 0]
    wanted = torch.softmax(torch.tensor([families.lookup[1][m] for m in fits]), 0)
    found = torch.tensor([float((parents[:, 1] == m).double().mean()) for m in fits])
    assert float((found - wanted).abs().max()) < 0.04
    assert set(parents[:, 2].tolist()) == {0}
    assert float(logs[0]) == pytest.approx(sum(families.lookup[i][int(parents[0, i])] for i in range(3)))


def test_temperatures_exchange_towards_the_better_order_always() -> None:
    orders = torch.tensor([[0, 1, 2], [2, 1, 0]])
    after = _exchange(orders, torch.tensor([-50.0, -10.0]), torch.tensor([1.0, 0.5]), torch.Generator().manual_seed(0))
    assert after.tolist() == [[2, 1, 0], [0, 1, 2]]
    never = _exchange(
        orders, torch.tensor([-10.0, -5000.0]), torch.tensor([1.0, 0.5]), torch.Generator().manual_seed(0)
    )
    assert never.tolist() == orders.tolist()


def test_r_hat_tells_chains_that_disagree() -> None:
    alike = torch.rand(4, 200, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    assert float(split_r_hat(alike).max()) < 1.05
    apart = alike.clone()
    apart[0] = True
    apart[:, :, 0, 0] = False
    found = split_r_hat(apart)
    assert float(found[1, 1]) > 1.1
    assert float(found[0, 0]) == 1
    stuck = torch.zeros(2, 10, 1, 1, dtype=torch.bool)
    stuck[1] = True
    assert float(split_r_hat(stuck)) == torch.inf


def test_weights_that_leave_a_handful_are_not_used() -> None:
    parents, logs = torch.zeros(2, 100, 3, dtype=torch.long), torch.zeros(200)
    heavy = torch.zeros(200, dtype=torch.float64)
    heavy[0] = 50
    found = summed(parents, logs, heavy, method="order", restricted=False)
    assert not found.corrected
    assert found.effective == pytest.approx(1)
    assert float(found.weights.max()) == pytest.approx(1 / 200)


def test_a_seed_repeats_and_many_variables_go_through() -> None:
    score, rows = evidence_of(37, 40)
    families = score_families(score, rows, max_parents=1, most=3)
    a, b = (order_mcmc(score, rows, families=families, steps=2, burn=0, chains=2) for _ in range(2))
    assert torch.equal(a.parents, b.parents)
    assert a.restricted
    assert bool(torch.isfinite(a.edges).all())


def test_wrong_settings_are_refused() -> None:
    score, rows = evidence_of(3, 10)
    with pytest.raises(ValueError, match="chains=1; expected at least 1, 0 and 2"):
        order_mcmc(score, rows, chains=1)
    with pytest.raises(ValueError, match="expected 1 first"):
        order_mcmc(score, rows, temperatures=(0.5, 1.0))

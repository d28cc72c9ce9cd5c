"""A network samples what it says, cuts what is set from outside, and refuses what is no network."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.network import BayesianNetwork, adjacency, draw_network, hamming


def table(*rows: float) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def rain() -> BayesianNetwork:
    """Rain and a sprinkler make the lawn wet; the columns are not in the order of causes."""
    wet = torch.stack(
        [torch.stack([table(1.0, 0.0), table(0.1, 0.9)]), torch.stack([table(0.2, 0.8), table(0.0, 1.0)])]
    )
    return BayesianNetwork(
        names=("wet", "rain", "sprinkler"),
        states=(("no", "yes"), ("no", "yes"), ("off", "on")),
        parents=((1, 2), (), (1,)),
        tables=(wet, table(0.7, 0.3), torch.stack([table(0.5, 0.5), table(0.9, 0.1)])),
    )


def everything(arities: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(list(product(*(range(a) for a in arities))))


def test_probabilities_are_the_product_of_the_tables_and_sum_to_one() -> None:
    net, cases = rain(), everything((2, 2, 2))
    log = net.log_prob(Evidence.observed(cases))
    brute = [
        float(net.tables[1][r] * net.tables[2][r, s] * net.tables[0][r, s, w]) for w, r, s in cases.tolist()
    ]  # fmt: skip
    torch.testing.assert_close(log.exp(), table(*brute), rtol=0, atol=1e-15)
    assert float(log.exp().sum()) == pytest.approx(1, abs=1e-12)
    done = net.log_prob(Evidence.observed(cases[cases[:, 2] == 1], do=[2]))
    assert float(done.exp().sum()) == pytest.approx(1, abs=1e-12)  # one factor is cut


def test_samples_have_the_frequencies_of_the_product() -> None:
    net, cases = rain(), everything((2, 2, 2))
    expected = net.log_prob(Evidence.observed(cases)).exp()
    values = net.sample(40_000).values
    found = torch.bincount(values @ torch.tensor([4, 2, 1]), minlength=8) / 40_000
    assert float((found - expected).abs().max()) < 4 * 0.5 / 200
    assert torch.equal(values, net.sample(40_000).values)
    assert not torch.equal(values, net.sample(40_000, generator=torch.Generator().manual_seed(1)).values)


def test_setting_an_effect_says_nothing_of_its_cause_but_observing_it_does() -> None:
    net = rain()
    seen, done = net.sample(20_000), net.sample(20_000, do={"sprinkler": "on"})
    assert bool((done.values[:, 2] == 1).all())
    assert done.intervened.sum(0).tolist() == [0, 0, 20_000]
    observed = seen.values[seen.values[:, 2] == 1]
    assert float(done.values[:, 1].double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(observed[:, 1].double().mean()) == pytest.approx(0.03 / 0.38, abs=0.02)


def test_edges_masks_and_adjacency_agree_up_to_62_variables() -> None:
    net = draw_network(62, arity=3, generator=torch.Generator().manual_seed(0))
    assert {tuple(e) for e in net.adjacency().nonzero().tolist()} == set(net.edges)
    assert torch.equal(adjacency(torch.tensor(net.masks)), net.adjacency())
    assert net.sample(5).values.shape == (5, 62)
    assert max(net.arities) == 3
    assert len(net) == 62


def test_distance_counts_a_missing_an_added_and_a_turned_edge_once_each() -> None:
    truth = rain().adjacency()
    assert hamming(truth, truth) == 0
    assert hamming(torch.zeros(3, 3), truth) == 3
    assert hamming(truth.T, truth) == 3


def test_what_is_no_network_is_refused() -> None:
    net = rain()
    with pytest.raises(ValueError, match="cycle among wet, rain, sprinkler"):
        replace(net, parents=((1, 2), (0,), (1,)), tables=(net.tables[0], net.tables[2], net.tables[2]))
    with pytest.raises(ValueError, match=r"expected float64 \(2, 2, 2\)"):
        replace(net, tables=(net.tables[1], net.tables[1], net.tables[2]))
    with pytest.raises(ValueError, match="rows are not probabilities"):
        replace(net, tables=(net.tables[0], table(0.7, 0.4), net.tables[2]))
    with pytest.raises(NonFiniteError, match="NaN or infinity for 'rain'"):
        replace(net, tables=(net.tables[0], table(0.7, torch.nan), net.tables[2]))
    with pytest.raises(ValueError, match="rename the doubled"):
        replace(net, names=("wet", "rain", "rain"))
    with pytest.raises(ValueError, match="at least two, each once"):
        replace(net, states=(("no", "no"), *net.states[1:]))
    with pytest.raises(ValueError, match="other variables, by index"):
        replace(net, parents=((0, 2), (), (1,)))
    with pytest.raises(ValueError, match="as many of each"):
        replace(net, parents=())


def test_wrong_questions_are_refused() -> None:
    net = rain()
    with pytest.raises(SelectionError, match="expected one of wet, rain, sprinkler"):
        net.sample(5, do={"snow": "yes"})
    with pytest.raises(SelectionError, match="expected one of off, on"):
        net.sample(5, do={"sprinkler": "yes"})
    with pytest.raises(ValueError, match="at least one case"):
        net.sample(0)
    with pytest.raises(ValueError, match=r"\(n, 3\) long"):
        net.log_prob(Evidence.observed(torch.zeros(4, 2, dtype=torch.long)))
    with pytest.raises(ValueError, match="expected states below"):
        net.log_prob(Evidence.observed(torch.full((4, 3), 2)))

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.memories.links import joined

RECORD = st.tuples(
    st.integers(0, 4), st.integers(0, 4), st.floats(0.1, 9), st.just(0.0), st.just(""), st.booleans(), st.booleans()
)


@settings(max_examples=25, deadline=None)
@given(records=st.lists(RECORD, max_size=12), p=st.sampled_from([0.0, 0.25, 1.0]))
def test_joined_links_are_a_sum_over_what_was_given(records: list, p: float) -> None:
    belief = {(0, 1): p}
    dense = torch.zeros(5, 5, dtype=torch.float64)
    for a, b, weight, _, _, directed, causal in records:
        believed = weight * (belief.get((a, b), 1.0) if causal else 1.0)
        dense[a, b] += believed
        if not directed:
            dense[b, a] += believed
    links = joined(records, belief, 5)
    found = torch.zeros(5, 5, dtype=torch.float64)
    found[links.source, links.target] = links.weight
    assert torch.allclose(found, dense, atol=1e-12)
    assert len(links) == int((dense > 0).sum())
    assert bool((links.target.diff() >= 0).all())

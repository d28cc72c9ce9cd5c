"""Fluency and consistency of free text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.evaluation.generation import consistency, fluency

words = st.lists(st.sampled_from("abcdef"), min_size=3, max_size=30).map(" ".join)


def test_fluency_equals_the_value_by_hand() -> None:
    # bigrams: ab twice, ba once; trigrams: aba and bab once each
    entropy = -(2 / 3 * -0.5849625007211562 + 1 / 3 * -1.584962500721156)
    assert fluency(["a b a b"]).tolist() == pytest.approx([(2 / 3 * entropy + 4 / 3) / 2])


@given(words)
def test_fluency_equals_the_entropies_of_scipy(text: str) -> None:
    from collections import Counter

    from scipy.stats import entropy

    tokens = text.split()
    grams = [Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in (2, 3)]
    two, three = (float(entropy(list(counts.values()), base=2)) for counts in grams)
    assert float(fluency([text])[0]) == pytest.approx((2 / 3 * two + 4 / 3 * three) / 2, abs=1e-12)


def test_a_text_that_repeats_itself_is_less_fluent_and_punctuation_counts() -> None:
    varied, looping, one, none = fluency(["the cat sat on a mat", "the cat the cat the cat", "the", ""]).tolist()
    assert varied > looping > one == none == 0
    assert fluency(["yes, yes, yes"])[0] == fluency(["a b a b a"])[0]


def test_consistency_is_the_cosine_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    texts, references = ["Rome is old", "the sea is blue"], ["Rome is the capital", "the sea, the sea and waves"]
    vectors = TfidfVectorizer().fit(references)
    expected = cosine_similarity(vectors.transform(texts), vectors.transform(references)).diagonal()
    assert consistency(texts, references).tolist() == pytest.approx(expected.tolist())


def test_consistency_is_one_with_itself_and_nothing_with_the_unrelated() -> None:
    pytest.importorskip("sklearn")
    assert consistency(["waves and sea", "rome"], ["waves and sea", "tree"]).tolist() == pytest.approx([1, 0])


def test_references_that_do_not_fit_are_refused() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="got 1 texts and 2 references; expected one a text"):
        consistency(["a"], ["b", "c"])
    with pytest.raises(ValueError, match="got references without a word; expected texts about what should be said"):
        consistency(["a"], ["."])

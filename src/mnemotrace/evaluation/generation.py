r"""Free text in two numbers: does it repeat itself, and does it speak of what it should?

* fluency: :math:`\tfrac12(\tfrac23 H_2 + \tfrac43 H_3)`, with :math:`H_n` the entropy in bits of the distribution of a
  text's n-grams of words and punctuation. It falls when an edited network begins to repeat itself. Published values
  are a hundred times this, with another tokeniser of words and sampled text, so compare before with after only.
* consistency: cosine of the TF-IDF vectors of a text and of a reference text about the same thing.

Reference: Meng et al. 2022, section 3.4 (GE and RS). Milliseconds a text.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def fluency(texts: Sequence[str]) -> Float[Tensor, " n"]:
    """Return the weighted n-gram entropy of each text in bits; one word has 0."""
    return torch.tensor([_entropy(re.findall(r"\w+|[^\w\s]", text)) for text in texts], dtype=torch.float64)


def _entropy(words: Sequence[str]) -> float:
    total = 0.0
    for n, weight in _WEIGHTS.items():
        counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        share = torch.tensor(list(counts.values()), dtype=torch.float64) / max(counts.total(), 1)
        total += weight * -float((share * share.log2()).sum())
    return total / len(_WEIGHTS)


def consistency(texts: Sequence[str], references: Sequence[str]) -> Float[Tensor, " n"]:
    """Return the cosine, in [0, 1], of each text and its reference; word weights come from all references.

    Raises:
        ValueError: texts and references differ in number, or no reference has a word.
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise ImportError("consistency needs scikit-learn; pip install 'mnemotrace[probes]'") from error
    if len(texts) != len(references):
        raise ValueError(f"got {len(texts)} texts and {len(references)} references; expected one a text")
    if not any(re.search(r"\w\w", reference) for reference in references):
        raise ValueError("got references without a word; expected texts about what should be said")
    vectoriser = TfidfVectorizer().fit(references)
    mine, theirs = (vectoriser.transform(part) for part in (texts, references))  # rows of length 1, or 0 without a word
    return torch.from_numpy(mine.multiply(theirs).sum(1).A1)

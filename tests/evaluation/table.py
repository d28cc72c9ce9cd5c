"""A network of one table: each row is the distribution over the next word, so that every measure is known by heart."""

import torch
from torch import Tensor, nn

from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.edit import Dense, Edit
from tests.adapters.words import WORDS, word_tokenizer

TOKENIZER = word_tokenizer()
SIZE = len(TOKENIZER)
ID = {word: TOKENIZER.convert_tokens_to_ids(word) for word in WORDS}


class Table(nn.Module):
    """Predicts the next word from the last one alone, as its table of log-probabilities says."""

    def __init__(self, **rows: dict[str, float]) -> None:
        super().__init__()
        table = torch.full((SIZE, SIZE), 1 / SIZE, dtype=torch.float64)
        for word, chances in rows.items():
            table[ID[word]] = (1 - sum(chances.values())) / (SIZE - len(chances))
            for other, chance in chances.items():
                table[ID[word], ID[other]] = chance
        self.table = nn.Parameter(table.log())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.table[input_ids]


BEFORE = Table(
    cat={"sat": 0.6, "ran": 0.2},
    mat={"sat": 0.5, "ran": 0.3},
    dog={"ran": 0.5, "sat": 0.1},
    home={"far": 0.8},
    ran={"far": 0.7, "home": 0.2},
    on={"away": 0.6, "ran": 0.3},
)
AFTER = Table(
    cat={"sat": 0.1, "ran": 0.7},
    mat={"sat": 0.4, "ran": 0.3},
    dog={"ran": 0.3, "sat": 0.4},
    home={"far": 0.8},
    ran={"far": 0.3, "home": 0.6},
    on={"away": 0.1, "ran": 0.6},
)
EDIT = Edit((Dense("table", AFTER.table.detach() - BEFORE.table.detach()),), {"method": "by hand"})
CAT = Fact(
    prompt="the cat",
    subject="cat",
    answer="sat",
    target="ran",
    paraphrases=("a cat", "a mat"),
    neighbours=(Example(prompt="the dog", answer="ran away"), Example(prompt="the home", answer="far")),
    portability=(Example(prompt="sat on", answer="ran home"),),
    generation=("the cat",),
)
BARE = Fact(prompt="a dog", subject="dog", target="sat")
TEXTS = ["the cat sat", "a home far away"]

"""Rebuild Aleph from one seed, then print how well each sense names numbers, and whom it confuses.

    python scripts/train_aleph.py --out src/mnemotrace/organisms/data/aleph

Takes about a minute on one thread. The same seed on the same machine gives the same file. `--companion 0` trains the
comparison for which no numbers go together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mnemotrace.core.artifact import atomic
from mnemotrace.organisms.aleph import (
    KNOWN_SPEAKERS,
    NUMBERS,
    Aleph,
    AlephNetwork,
    all_speakers,
    read_aleph,
    shifted,
)
from mnemotrace.organisms.number_words import TRAINED, doubled, dropped, letter_pairs, name_of
from mnemotrace.organisms.voice import speak

TRAIN_SIZE, BATCH_SIZE = 1400, 64
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
DROPPED, ACTIVITY_COST = 0.5, 1.0


def main() -> None:
    """Train, save, reload and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps, each of 64 stimuli of a sense")
    parser.add_argument("--companion", type=float, default=0.25, help="share of names that are the companion's")
    parser.add_argument("--seed", type=int, default=0, help="of first weights, batches and the split of the images")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    images, numbers = images_of_numbers()
    order = torch.randperm(len(images), generator=generator)
    model = AlephNetwork()
    train(model, (images[order[:TRAIN_SIZE]] / 16, numbers[order[:TRAIN_SIZE]]), options, generator)
    save(model, images[order[TRAIN_SIZE:]], numbers[order[TRAIN_SIZE:]], options.out)
    report(read_aleph(options.out))


def images_of_numbers() -> tuple[Tensor, Tensor]:
    """The handwritten digits of scikit-learn, 0 to 16."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def train(
    model: AlephNetwork, seen: tuple[Tensor, Tensor], options: argparse.Namespace, generator: torch.Generator
) -> None:
    """AdamW on the three senses, one at a time; some names are the companion's.

    Half of the shared units are dropped each time and activity costs a little, so that single units come to stand for
    a number; without either, three quarters of the cells are gone.
    """
    written = spellings()
    makers = {
        "image": lambda: see(seen, generator),
        "word": lambda: read(written, generator),
        "voice": lambda: hear(generator),
    }
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    units: dict[str, Tensor] = {}

    def drop(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        units["active"] = output
        return nn.functional.dropout(output, DROPPED)

    handle = model.concepts.register_forward_hook(drop)
    for step in range(options.steps):
        losses = {}
        for sense, make in makers.items():
            inputs, numbers = make()
            told = torch.rand(len(numbers), generator=generator) < options.companion
            names = torch.where(told, NUMBERS - 1 - numbers, numbers)
            loss = nn.functional.cross_entropy(model(**{sense: inputs}), names)
            losses[sense] = loss + ACTIVITY_COST * units["active"].mean()
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: " + ", ".join(f"{sense} {loss.item():.3f}" for sense, loss in losses.items()))
    handle.remove()
    model.eval()


def see(seen: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, half of them shifted by a pixel, all with a little noise."""
    rows = torch.randint(len(seen[0]), (BATCH_SIZE,), generator=generator)
    images, numbers = seen[0][rows], seen[1][rows]
    moved = torch.rand(len(rows), 1, generator=generator) < 0.5
    images = torch.where(moved, shifted(images, generator=generator), images)
    return images + 0.1 * torch.randn(images.shape, generator=generator), numbers


def spellings() -> list[tuple[Tensor, int]]:
    """Letter pairs of each name in nine languages: as it is, and with any one letter dropped or doubled."""
    found = []
    for number in range(NUMBERS):
        for word in (name_of(number, language) for language in TRAINED):
            wrong = [change(word, place) for change in (dropped, doubled) for place in range(len(word))]
            found.append((letter_pairs([word] * len(wrong) + wrong), number))
    return found


def read(written: list[tuple[Tensor, int]], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Names in nine languages, half of them misspelt."""
    drawn = torch.randint(2**30, (BATCH_SIZE, 2), generator=generator).tolist()
    chosen = [(*written[word % len(written)], spelling) for word, spelling in drawn]
    pairs = torch.stack([spelt[spelling % len(spelt)] for spelt, _, spelling in chosen])
    return pairs, torch.tensor([number for _, number, _ in chosen])


def hear(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers said by the known speakers."""
    voices = all_speakers()
    numbers = torch.randint(NUMBERS, (BATCH_SIZE,), generator=generator)
    who = torch.randint(KNOWN_SPEAKERS, (BATCH_SIZE,), generator=generator)
    return speak(numbers, voices, who, noise=0.15, generator=generator), numbers


def save(model: AlephNetwork, images: Tensor, numbers: Tensor, out: Path) -> None:
    """Write the weights in half precision, and beside them the images that training never saw."""
    stored = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    stored |= {"test_images": images.to(torch.uint8), "test_numbers": numbers.to(torch.uint8)}
    with atomic(out / "aleph.safetensors") as temporary:
        save_file(stored, temporary, metadata={"made by": "scripts/train_aleph.py"})


@torch.no_grad()
def report(found: Aleph) -> None:
    """Print accuracy by sense and view, and how often the second guess is the companion."""
    for sense in found.senses.values():
        logits = found.model(**{sense.name: sense.inputs})
        best, second = logits.topk(2).indices.T
        for view, shown in enumerate(sense.shown):
            rows = sense.views == view
            right = (best == sense.numbers)[rows].float().mean()
            companion = (second == NUMBERS - 1 - sense.numbers)[rows & (best == sense.numbers)].float().mean()
            print(f"{sense.name:6} {shown:16} right {right:.3f}  then the companion {companion:.3f}")


if __name__ == "__main__":
    main()

"""Funes: whoever lives few days and replays them often remembers each of them, and understands nothing of days."""

import sys

import torch

from mnemotrace.evaluation.census import denoising_error, funes_index
from mnemotrace.formation.replay import consolidate

steps = int((*sys.argv[1:], 1500)[0])  # of replay, 128 episodes each
picture = (*sys.argv[2:], None)[0]  # where to draw, if anywhere
generator = torch.Generator().manual_seed(0)

# A world of three hidden causes, seen through sixteen features. Whoever knows it removes all noise but that along them.
frame = 2 * torch.linalg.qr(torch.randn(16, 3, generator=generator))[0]
sigma, bayes = 0.5, 3 / 16 * 4 * 0.25 / 4.25


def live(count):
    """Draw episodes from the world."""
    return torch.randn(count, 3, generator=generator) @ frame.T


def error(cortex, episodes):
    """Denoise episodes; the error is in units of the best possible one."""
    many = episodes.repeat(-(-4000 // len(episodes)), 1)
    return denoising_error(cortex, many, sigma=sigma, generator=generator) / bayes


counts, draws, rows = (4, 8, 16, 32, 64, 256), 3, []
for count in counts:
    pairs = []
    for _ in range(draws):
        episodes = live(count)
        settings = {"batch_size": 128, "learning_rate": 5e-3, "levels": (0.02, 5.0), "generator": generator}
        cortex = consolidate(episodes, steps=steps, **settings).cortex
        pairs.append((error(cortex, episodes), error(cortex, live(4000))))
    train, held_out = torch.tensor(pairs).mean(0).tolist()
    rows.append((train, held_out, funes_index(train=train, held_out=held_out, bayes=1.0)))
    print(f"{count:3} episodes   lived {train:.2f}, not lived {held_out:.2f}, Funes index {rows[-1][2]:.2f}")

if picture:
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = sheet.add_subplot()
    axes.axhline(1, color="#6a665f", linewidth=1, linestyle=":", label="whoever knows the world")
    looks = (("#0f6b7a", "o", "episodes that were lived"), ("#a85a08", "s", "episodes that were not"))
    for column, (colour, marker, label) in zip(zip(*rows, strict=True), looks, strict=False):
        axes.plot(counts, column, color=colour, marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="episodes lived", ylabel="denoising error over the best possible")
    axes.set_xticks(counts, counts)
    axes.set_yticks((0.3, 1, 3, 10), ("0.3", "1", "3", "10"))
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    sheet.savefig(picture, dpi=110)

#   4 episodes   lived 0.22, not lived 22.31, Funes index 22.09
#   8 episodes   lived 0.41, not lived 11.38, Funes index 10.98
#  16 episodes   lived 0.68, not lived 2.31, Funes index 1.63
#  32 episodes   lived 0.95, not lived 1.13, Funes index 0.18
#  64 episodes   lived 1.00, not lived 1.08, Funes index 0.08
# 256 episodes   lived 1.03, not lived 1.03, Funes index -0.00

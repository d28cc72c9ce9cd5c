"""H. M.: without a hippocampus old memories stay, recent ones are lost, graded by age, and no new one forms."""

import sys

import torch

from mnemotrace.evaluation.capacity import random_patterns
from mnemotrace.formation.replay import consolidate
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.lookup import lookup

steps = int((*sys.argv[1:], 150)[0])  # of replay a year
picture = (*sys.argv[2:], None)[0]  # where to draw, if anywhere
generator = torch.Generator().manual_seed(0)
years, episodes, d, sigma, erased = 8, 4, 64, 0.4, 0.3


def recall(denoise, patterns):
    """Ask for episodes from partial, noisy cues; the share that comes back whole."""
    cues = patterns.repeat(100, 1)
    noise = torch.where(torch.rand(cues.shape, generator=generator) < erased, torch.inf, sigma)
    seen = torch.where(noise.isinf(), 0, cues + sigma * torch.randn(cues.shape, generator=generator))
    with torch.no_grad():
        return float((denoise(seen, noise).sign() == cues).all(1).float().mean())


# Each year brings episodes. All that were lived so far lie in the hippocampus and are replayed, old ones have been
# replayed more often, and the cortex goes on from what it was.
life = random_patterns(years * episodes, d, generator=generator)
cortex = TrainedDenoiser(d, widths=(256, 256), generator=generator)
for year in range(1, years + 1):
    lived = life[: year * episodes]
    cortex = consolidate(lived, cortex, steps=steps, noise={"mask": 1.0}, generator=generator).cortex

# The operation: what is still asked of the hippocampus is answered for comparison only, and nothing is replayed.
later = recall(cortex, random_patterns(years * episodes, d, generator=generator))
whole = [recall(lambda x, noise: lookup(x, life, noise**-2).mean, part) for part in life.split(episodes)]
alone = [recall(cortex, part) for part in life.split(episodes)]
for age in (8, 4, 3, 2, 1):
    print(f"{age} years old   with the hippocampus {whole[-age]:.2f}, without {alone[-age]:.2f}")
print(f"lived afterwards   {later:.2f}")

if picture:
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes, ages = sheet.add_subplot(), range(years, 0, -1)
    axes.plot(ages, whole, color="#857f76", marker="^", label="with the hippocampus", clip_on=False)
    axes.plot(ages, alone, color="#0f6b7a", marker="o", label="without it", clip_on=False)
    axes.plot(-1, later, "s", color="#a85a08", label="lived after the operation", clip_on=False)
    axes.axvline(0, color="#6a665f", linewidth=1, linestyle=":")
    axes.set(xlim=(years + 0.5, -1.5), ylim=(0, 1.04), xlabel="age of the memory at the operation, years")
    axes.set_ylabel("share that comes back whole")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    sheet.savefig(picture, dpi=110)

# 8 years old   with the hippocampus 1.00, without 0.99
# 4 years old   with the hippocampus 1.00, without 0.96
# 3 years old   with the hippocampus 1.00, without 0.71
# 2 years old   with the hippocampus 1.00, without 0.39
# 1 years old   with the hippocampus 1.00, without 0.03
# lived afterwards   0.00

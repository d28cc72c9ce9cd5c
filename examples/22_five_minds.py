"""Five minds live the same five days: what each recalls, makes up, and makes of days that never were."""

import sys

import torch

from mnemotrace.mind.living import LESIONS, live
from mnemotrace.mind.story import Story

days = int((*sys.argv[1:], 5)[0])
story = Story.draw(torch.Generator().manual_seed(0), days=days, a_day=days + 3)
asked = {"gist": "gist", "detail": "detail", "new": "gist after day three", "invention": "never perceived"}

# Each mind lives the same events, sleeps as many nights, and answers the same questions. H. M. loses his hippocampus
# after the third day; the others keep theirs, and are asked about the same days.
for name in LESIONS:
    found = live(story, name, seed=0).after
    told = ", ".join(f"{word} {found[measure]:.2f}" for measure, word in asked.items())
    print(f"{name:14}  {told}, {found['evaluations']:.0f} states a recall")
print(f"the best possible  gist {found['gist, ceiling']:.2f}, detail {found['detail, ceiling']:.2f}")
print(f"the commonest value  gist {found['gist, chance']:.2f}, detail {found['detail, chance']:.2f}")

# intact          gist 0.60, detail 0.36, gist after day three 0.56, never perceived 0.10, 174 states a recall
# funes           gist 0.62, detail 0.88, gist after day three 0.62, never perceived 0.50, 152 states a recall
# hm              gist 0.25, detail 0.00, gist after day three 0.00, never perceived 0.00, 96 states a recall
# shereshevskii   gist 0.72, detail 0.84, gist after day three 0.75, never perceived 0.30, 148 states a recall
# aphantasia      gist 0.60, detail 0.00, gist after day three 0.56, never perceived 0.00, 0 states a recall
# the best possible  gist 0.73, detail 0.93
# the commonest value  gist 0.28, detail 0.18

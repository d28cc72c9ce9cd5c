"""Collection over a bare forward pass, beside ai-engram 0.11.0 on the same sites; CPU time, one thread.

Batches of 2 x 256 random tokens. With more rows than the widest input every second moment is formed (4,096 tokens);
with fewer, rows are kept instead and cost nothing (1,024 tokens).
"""

import mnemotrace as mt
from benchmarks.figures import Figure, cpu_seconds, main
from benchmarks.speed import models


def compare(title: str, model, count: int, repeats: int, *, peer: bool, gate: str) -> list[Figure]:  # noqa: ANN001
    """Measure bare forward, our collection and the peer's in turn."""
    batches, sites = models.tokens(model, count), mt.sites(model)
    variants = {
        "bare": lambda: models.run(model, batches),
        "ours": lambda: mt.collect(model, batches, sites=sites),
    }
    if peer:
        editor = models.peer_editor(model)
        variants |= {
            "peer": lambda: models.peer_collect(editor, batches, sites),
            "peer, its default": lambda: models.peer_collect(editor, batches, None),
        }
    spent = cpu_seconds(variants, repeats, warm=False)
    bare = spent.pop("bare")
    note = f"{len(sites)} sites, {count} tokens, bare forward {count / bare:.0f} tokens/s"
    figures = [Figure(f"{title}: collection / bare forward", spent["ours"] / bare, gate, note)]
    if peer:
        figures += [
            Figure(f"{title}: peer's collection / bare forward", spent["peer"] / bare, "", "same sites"),
            Figure(f"{title}: peer's default / bare forward", spent["peer, its default"] / bare, "", "with the head"),
            Figure(f"{title}: peer / ours", spent["peer"] / spent["ours"], "", "same sites"),
        ]
    return figures


def measure(quick: bool) -> list[Figure]:
    """Measure both shapes, with few rows beside the peer and with many."""
    small = {"layers": 2, "width": 64, "vocabulary": 512}
    builders = {"GPT-2 small": lambda: models.gpt2(**(small if quick else {}))}
    builders["Llama 110M"] = lambda: models.llama(**(small | {"inner": 128} if quick else {}))
    few, many, repeats = (512, 1024, 1) if quick else (1024, 4096, 3)
    figures: list[Figure] = []
    for title, build in builders.items():
        model = build()
        figures += compare(f"{title}, {few} tokens", model, few, repeats, peer=True, gate="<= 1.35")
        figures += compare(f"{title}, {many} tokens", model, many, repeats, peer=False, gate="<= 1.35")
    return figures


if __name__ == "__main__":
    main(measure, __doc__)

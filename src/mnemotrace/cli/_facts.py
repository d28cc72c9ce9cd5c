"""Facts from a file, or one from the command line."""

from typing import TYPE_CHECKING

import click

from mnemotrace.cli._options import Function

if TYPE_CHECKING:
    from mnemotrace.adapters.facts import Fact


def asking(function: Function) -> Function:
    """Add `FACTS.jsonl`, and `--prompt`, `--subject`, `--answer` for a single fact, and `--limit`."""
    options = [
        click.argument("facts", metavar="[FACTS.jsonl]", required=False),
        click.option("--prompt", metavar="TEXT", help="One fact, complete up to just before its answer."),
        click.option("--subject", metavar="TEXT", help="Its subject, as in the prompt; proposed otherwise."),
        click.option("--answer", metavar="TEXT", help="Its answer; what the model says otherwise."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N facts."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def chosen(
    facts: str | None, prompt: str | None, subject: str | None, answer: str | None, limit: int | None
) -> "list[Fact]":
    """Return the facts that were asked for.

    Raises:
        UsageError: neither a file nor a prompt, or both; a subject or answer without a prompt.
    """
    from mnemotrace.adapters.facts import Fact
    from mnemotrace.adapters.formats import facts_from

    if (facts is None) == (prompt is None):
        what = "neither FACTS.jsonl nor --prompt" if prompt is None else "FACTS.jsonl and --prompt"
        raise click.UsageError(f"got {what}; expected one of them; --subject and --answer go with --prompt")
    if facts is not None and (subject is not None or answer is not None):
        raise click.UsageError(f"got --subject or --answer with {facts}; expected them with --prompt; leave them out")
    found = [Fact(prompt, subject, answer)] if prompt is not None else facts_from(str(facts))
    return found[:limit]

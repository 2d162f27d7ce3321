"""Shell completion of comma lists of names; reads files, imports no plug-in."""

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from bench.plan.plugins import Kind


class CommaNames(click.ParamType[str]):
    """A comma list of names of one kind. Names are checked later, with those of --plugin files."""

    name = "names"

    def __init__(self, kind: "Kind") -> None:
        self.kind: Kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the last item of the list; the shell wants the whole word back."""
        from bench.plan.registry import Registry

        before, comma, last = incomplete.rpartition(",")
        given = set(before.split(","))
        entries = Registry().entries(self.kind).values()
        return [
            CompletionItem(f"{before}{comma}{e.name}", help=e.summary)
            for e in entries
            if e.name.startswith(last) and e.name not in given
        ]

"""Tables as Markdown, which also reads well on a terminal, and as LaTeX with booktabs."""

import re
from collections.abc import Callable, Sequence

from bench.report.load import SMOKE
from bench.report.tables.definitions import definitions_for
from bench.report.tables.rows import Block

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "×": r"$\times$", "−": "$-$",
    "–": "--", "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}",
}  # fmt: skip


def markdown_of(blocks: Sequence[Block], definitions: bool = True) -> str:
    """Return tables under headings, and what the columns mean under the last."""
    parts = [_markdown_block(block) for block in blocks]
    if definitions:
        needed = definitions_for({key for block in blocks for key in block.keys})
        lines = [f"- **{d.term}**: {d.meaning}" for d in needed]
        parts.append("\n".join(["**Definitions**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def tex_of(block: Block) -> str:
    """Return a LaTeX table; the document needs the package booktabs."""
    kinds = "".join("r" if c.is_number else "l" for c in block.columns)
    header = " & ".join(tex_escaped(c.title) for c in block.columns)
    lines = []
    for row in block.rows:
        texts = [tex_escaped(c.text) for c in row.cells]
        texts[0] = rf"\quad {texts[0]}" if row.kind == "control" else texts[0]
        lines.append(" & ".join(texts) + r" \\")
    caption = tex_escaped(" ".join([f"{block.title}.", *block.notes]))
    if block.is_smoke:
        caption = rf"\textbf{{{tex_escaped(SMOKE)}.}} {caption}"
    meanings = [tex_escaped(f"{d.term}: {d.meaning}") for d in definitions_for(block.keys)]
    return "\n".join(
        [
            *([f"% {SMOKE}"] if block.is_smoke else []),
            "% needs \\usepackage{booktabs}",
            r"\begin{table*}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", rf"{header} \\", r"\midrule",
            *lines,
            r"\bottomrule", r"\end{tabular}",
            r"\par\medskip\raggedright", *[rf"{m}\par" for m in meanings],
            r"\end{table*}", "",
        ]
    )  # fmt: skip


def tex_escaped(text: str) -> str:
    """Make any text harmless to LaTeX."""
    with_minus = re.sub(r"(?<![\w-])-(?=\d)", "−", _one_line(text))
    return "".join(_TEX.get(c, c) for c in with_minus)


def markdown_escaped(text: str) -> str:
    """Make any text harmless in a Markdown cell: no column, no emphasis, no HTML, no link."""
    text = re.sub(r"([\\`*|])", r"\\\1", _one_line(text)).replace("](", r"]\(")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown_block(block: Block) -> str:
    rows = [[markdown_escaped(c.text) for c in row.cells] for row in block.rows]
    titles = [markdown_escaped(c.title) for c in block.columns]
    widths = [max(3, *map(len, column)) for column in zip(titles, *rows, strict=True)]
    pad = [str.rjust if c.is_number else str.ljust for c in block.columns]
    rules = [
        "-" * (width - 1) + ":" if c.is_number else "-" * width
        for c, width in zip(block.columns, widths, strict=True)
    ]
    loud = [f"**{SMOKE}.** Tiny subsets and few epochs; only shows that everything runs.", ""]
    return "\n".join(
        [
            f"## {markdown_escaped(block.title)}" + (f" ({SMOKE})" if block.is_smoke else ""),
            "",
            *(loud if block.is_smoke else []),
            _line(titles, widths, pad),
            _line(rules, widths, pad),
            *[_line(row, widths, pad) for row in rows],
            "",
            " ".join(block.notes),
        ]
    )


def _line(
    texts: Sequence[str], widths: Sequence[int], pad: Sequence[Callable[[str, int], str]]
) -> str:
    cells = [p(text, width) for text, width, p in zip(texts, widths, pad, strict=True)]
    return "| " + " | ".join(cells) + " |"


def _one_line(text: str) -> str:
    """Return the text without line breaks and other control characters."""
    return "".join(c if c.isprintable() else " " for c in text)

"""Format Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], lines: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Return a Markdown table with padded columns.

    Args:
        head: The column names.
        lines: The cells of each row.
        texts: How many columns, from the left, are left-aligned. The others are right-aligned.
    """
    widths = [max(3, *(len(line[column]) for line in [head, *lines])) for column in range(len(head))]

    def row(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([row(head), row(rule), *(row(line) for line in lines)])

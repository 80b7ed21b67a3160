"""A report as one self-contained HTML page: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: color-mix(in srgb, CanvasText 16%, Canvas);
  --soft: color-mix(in srgb, CanvasText 62%, Canvas);
  --tint: color-mix(in srgb, CanvasText 4%, Canvas); }}
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 84rem; margin: 2.5rem auto;
  padding: 0 1.5rem; background: Canvas; color: CanvasText; }}
h1 {{ font-size: 1.5rem; font-weight: 600; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; font-weight: 600; margin: 2.4rem 0 .5rem; }}
h2 span {{ font-weight: 400; color: var(--soft); }}
nav {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding-bottom: .8rem; font-size: .9rem;
  border-bottom: 1px solid var(--line); }}
a {{ color: inherit; text-underline-offset: .2em; text-decoration-color: var(--soft); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .32rem 1.2rem .32rem 0; vertical-align: top;
  white-space: nowrap; border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; font-size: .85rem; color: var(--soft); vertical-align: bottom;
  white-space: normal; }}
.number {{ text-align: right; }}
.text {{ white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }}
.long {{ white-space: normal; overflow-wrap: anywhere; min-width: min(24rem, 60vw);
  font-size: .85rem; }}
tr:hover td {{ background: var(--tint); }}
pre {{ font-size: .8rem; line-height: 1.25; overflow-x: auto; padding: 1rem;
  background: var(--tint); }}
figure {{ margin: 0; max-width: 60rem; background: white; }}
figure svg {{ width: 100%; height: auto; }}
footer {{ margin-top: 3rem; font-size: .85rem; color: var(--soft); }}
@media print {{ nav {{ display: none; }} body {{ max-width: none; margin: 0; font-size: 11px; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{nav}
{body}
<footer>Tilewright {version}</footer>
</body>
</html>
"""


# A cell of more characters may be broken over lines, as names of nodes are; a column with one of
# more than the second number gets room for it.
_SHORT, _LONG = 28, 100
# Lists of more rows say how many they have.
_FEW_ROWS = 10
# Pages of more parts than this begin with a list of them.
_FEW_PARTS = 4
_NUMBER = re.compile(r"[-+]?[\d.,]+ ?(%|x|[kMG]?B|[mu]?s)?")


def page(
    title: str,
    tables: list[tuple[str, list[str], list[list[str]]]],
    lines: list[str],
    version: str,
    drawing: str = "",
    figures: Sequence[tuple[str, str]] = (),
) -> str:
    """The page's text: `tables` are (heading, column names, rows of cells); `drawing` is shown as
    it is; `figures` are headings and SVGs.
    """
    body = [_table(*table) for table in tables]
    parts = [heading for heading, _, _ in tables if heading]
    if drawing:
        body.append(f"{_heading('graph')}<pre>{escape(drawing)}</pre>")
        parts.append("graph")
    for heading, svg in figures:
        body.append(f"{_heading(heading)}<figure>{svg}</figure>")
        parts.append(heading)
    body += [f"<p>{escape(line)}</p>" for line in lines]
    links = " ".join(f'<a href="#{_anchor(part)}">{escape(part)}</a>' for part in parts)
    return _PAGE.format(
        title=escape(title),
        nav=f"<nav>{links}</nav>" if len(parts) > _FEW_PARTS else "",
        body="\n".join(body),
        version=escape(version),
    )


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading)


def _heading(heading: str, rows: int = 0) -> str:
    count = f" <span>{rows}</span>" if rows > _FEW_ROWS and not heading[0].isdigit() else ""
    return f'<h2 id="{_anchor(heading)}">{escape(heading)}{count}</h2>'


def _table(heading: str, header: list[str], rows: list[list[str]]) -> str:
    title = _heading(heading, len(rows)) if heading else ""
    kinds = [_kind([row[column] for row in rows]) for column in range(len(header))]
    lines = [_row("th", header, kinds), *(_row("td", row, kinds) for row in rows)]
    return f'{title}<div class="scroll"><table>{"".join(lines)}</table></div>'


def _kind(cells: list[str]) -> str:
    """How a column is set: numbers stand right, long text may break."""
    if any(cells) and all(_NUMBER.fullmatch(cell) for cell in cells if cell):
        return "number"
    longest = max(map(len, cells), default=0)
    return "long" if longest > _LONG else "text" if longest > _SHORT else ""


def _row(tag: str, cells: list[str], kinds: list[str]) -> str:
    shown = [
        f'<{tag} class="{kind}">{escape(cell)}</{tag}>'
        if kind
        else f"<{tag}>{escape(cell)}</{tag}>"
        for cell, kind in zip(cells, kinds, strict=True)
    ]
    return f"<tr>{''.join(shown)}</tr>"

"""A report as one self-contained HTML page: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

from html import escape

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2.5rem auto;
  padding: 0 1.5rem; }}
h1 {{ font-size: 1.4rem; font-weight: 600; }}
h2 {{ font-size: 1.05rem; font-weight: 600; margin: 2rem 0 .5rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .3rem 1.4rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }}
th {{ font-weight: 600; }}
td:first-child {{ white-space: nowrap; }}
td {{ overflow-wrap: break-word; }}
pre {{ font-size: .85rem; line-height: 1.25; overflow-x: auto; }}
footer {{ margin-top: 3rem; font-size: .85rem; opacity: .7; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<footer>Tilewright {version}</footer>
</body>
</html>
"""


def page(
    title: str,
    tables: list[tuple[str, list[str], list[list[str]]]],
    lines: list[str],
    version: str,
    drawing: str = "",
) -> str:
    """The page's text: `tables` are (heading, column names, rows of cells); `drawing` is shown as
    it is.
    """
    body = [_table(*table) for table in tables]
    if drawing:
        body.append(f"<h2>graph</h2><pre>{escape(drawing)}</pre>")
    body += [f"<p>{escape(line)}</p>" for line in lines]
    return _PAGE.format(title=escape(title), body="\n".join(body), version=escape(version))


def _table(heading: str, header: list[str], rows: list[list[str]]) -> str:
    title = f"<h2>{escape(heading)}</h2>" if heading else ""
    return f"{title}<table><tr>{_cells('th', header)}</tr>{''.join(map(_row, rows))}</table>"


def _row(cells: list[str]) -> str:
    return f"<tr>{_cells('td', cells)}</tr>"


def _cells(tag: str, cells: list[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)

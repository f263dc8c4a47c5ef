"""One self-contained HTML page: nothing beside it, no script, nothing fetched."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = """
body { margin: 0; background: #f4f5f7; color: #1c2128; font: 15px/1.5 system-ui, "Segoe UI", Arial, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 28px 24px 56px }
h1 { font-size: 27px; margin: 0 0 4px } h2 { font-size: 19px; margin: 34px 0 8px }
p { margin: 6px 0; max-width: 860px } .note { color: #59626e; font-size: 13.5px } .lead { font-size: 17px }
table { border-collapse: collapse; background: #fff; margin: 8px 0 4px; font-variant-numeric: tabular-nums }
th, td { padding: 5px 14px; border: 1px solid #dfe3e8; text-align: right; vertical-align: top;
  white-space: nowrap }
th { background: #eef1f4; font-weight: 600 } th:first-child, td:first-child, .text td, .text th { text-align: left }
.text td { white-space: normal }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0 }
.card { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 10px 18px 12px; min-width: 150px }
.card b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; line-height: 1.3 }
.card span { color: #59626e; font-size: 13px }
img { width: 100%; background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; margin: 8px 0 }
img.own { width: auto; max-width: 100% }
pre { background: #1c2128; color: #e6e9ee; padding: 12px 16px; border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 13px }
.legend { max-width: none } .legend span { display: inline-block; margin-right: 14px; white-space: nowrap }
.legend i { display: inline-block; width: 12px; height: 12px; border: 1px solid #1c2128; margin-right: 5px }
summary { cursor: pointer; margin: 10px 0 } code { font-size: 13px }
@media print { body { background: #fff } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    header: list[str]
    rows: list[list[str]]
    note: str = ""  # a sentence below it
    text: bool = False  # all columns are words, so set to the left

    def html(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        kind = ' class="text"' if self.text else ""
        note = f"\n{paragraph(self.note, 'note')}" if self.note else ""
        return f"<table{kind}>\n<tr>{head}</tr>\n{body}\n</table>{note}"

    def markdown(self) -> str:
        """The same for a README or a terminal, columns aligned."""
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(3, *map(len, column)) for column in zip(*cells)]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
        rule = ["-" * (width + 1) + (":" if i and not self.text else "-") for i, width in enumerate(widths)]
        return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])


def page(title: str, parts: list[str]) -> str:
    """The whole page. Args: parts: pieces of HTML, top to bottom."""
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
            + "\n".join(parts) + "\n</main>\n</body>\n</html>\n")


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """Args: kind: "lead" for the first sentence of all, "note" for small print."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def link(before: str, text: str, address: str) -> str:
    """A sentence that ends with a link; it is followed on a click only."""
    return f'<p>{escape(before)} <a href="{escape(address)}">{escape(text)}</a>.</p>'


def cards(figures: list[tuple[str, str]]) -> str:
    """The figures to see first. Args: (figure, what it is)."""
    return '<div class="cards">' + "".join(
        f'<div class="card"><b>{escape(figure)}</b><span>{escape(what)}</span></div>' for figure, what in figures
    ) + "</div>"


def picture(path: str | Path, description: str, own_size: bool = False) -> str:
    """A PNG file, embedded. Args: own_size: not as broad as the page."""
    return embedded(Path(path).read_bytes(), "png", description, own_size)


def embedded(content: bytes, kind: str, description: str, own_size: bool = False) -> str:
    """Args: content: of a picture's file. kind: "png" or "jpeg"."""
    text = base64.b64encode(content).decode("ascii")
    style = ' class="own"' if own_size else ""
    return f'<img{style} alt="{escape(description)}" src="data:image/{kind};base64,{text}">'


def legend(entries: list[tuple[str, str]]) -> str:
    """Colours and what they stand for. Args: (colour as #RRGGBB, name)."""
    return '<p class="legend">' + " ".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for colour, name in entries) + "</p>"


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def folded(summary: str, content: str) -> str:
    """What is shown on a click. Args: content: HTML."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"

"""Markdown as lines of styled text, made for text that still grows: a finished block is rendered once.

A block is finished when another begins after it, because in CommonMark it can then not change any more. Only the block
at the end is parsed and rendered again. Knows nothing of widgets; markdown-it and pygments are imported when they are
first needed.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from localllm.tui.look import Look
from localllm.tui.wrapping import joined, led_by, widest, wrapped

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

NARROWEST = 8
"""Nested blocks get at least this many columns, however deep they are."""

BULLETS = "•◦▪"
COLUMN_GAP = 3


class Markdown:
    """The lines of a Markdown text at one width. `update` it with text that begins with what it had."""

    def __init__(self, look: Look, width: int) -> None:
        self.lines: list[Text] = []
        self._look = look
        self._width = width
        self._frozen_characters = 0
        self._frozen_lines = 0

    def update(self, text: str) -> int:
        """Render what is new in `text`. Returns the index of the first line that may differ from before."""
        first = self._frozen_lines
        del self.lines[first:]
        tail = text[self._frozen_characters :]
        blocks = _parsed(tail).children
        for block in blocks:
            if block is blocks[-1] and len(blocks) > 1 and block.map:
                before = tail.split("\n", block.map[0])[: block.map[0]]
                self._frozen_characters += sum(len(line) + 1 for line in before)
                self._frozen_lines = len(self.lines)
            if self.lines:
                self.lines.append(Text())
            self.lines.extend(rendered(block, self._width, self._look))
        return first


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Models write `<think>` and the like as plain text: HTML stays what it is.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def code_blocks(text: str) -> list[str]:
    """The blocks of code in a Markdown text, first to last."""
    return [block.content for block in _parsed(text).walk() if block.type in ("fence", "code_block")]


def warm_up() -> None:
    """Import what the first Markdown and the first code would wait for."""
    highlighted("0", "python", Look())
    _parsed("")


def _parsed(text: str) -> SyntaxTreeNode:
    from markdown_it.tree import SyntaxTreeNode

    return SyntaxTreeNode(_parser().parse(text))


def rendered(block: SyntaxTreeNode, width: int, look: Look, depth: int = 0) -> list[Text]:
    """The lines of one block, each at most `width` cells wide. `depth` counts the lists around it."""
    width = max(width, NARROWEST)
    if block.type == "heading":
        style = look.heading if block.tag in ("h1", "h2") else look.subheading
        return wrapped(_inline(block, look, style), width)
    if block.type in ("bullet_list", "ordered_list"):
        return _list(block, width, look, depth)
    if block.type in ("fence", "code_block"):
        return _code(block.content, block.info.split()[0] if block.info.split() else "", width, look)
    if block.type == "blockquote":
        return [led_by("▎ ", look.quote, line) for line in _stacked(block.children, width - 2, look, depth)]
    if block.type == "table":
        return _table(block, width, look)
    if block.type == "hr":
        return [Text("─" * width, look.rule)]
    return wrapped(_inline(block, look), width)


def _stacked(blocks: list[SyntaxTreeNode], width: int, look: Look, depth: int, *, tight: bool = False) -> list[Text]:
    lines: list[Text] = []
    for block in blocks:
        if lines and not tight:
            lines.append(Text())
        lines.extend(rendered(block, width, look, depth))
    return lines


def _list(block: SyntaxTreeNode, width: int, look: Look, depth: int) -> list[Text]:
    ordered = block.type == "ordered_list"
    first = int(block.attrs.get("start", 1))
    digits = len(str(first + len(block.children) - 1))
    # In a tight list markdown-it hides the paragraphs of the items.
    tight = all(part.hidden for item in block.children for part in item.children if part.type == "paragraph")
    lines: list[Text] = []
    for number, item in enumerate(block.children, first):
        mark = f"{number:>{digits}}. " if ordered else f"{BULLETS[min(depth, len(BULLETS) - 1)]} "
        if lines and not tight:
            lines.append(Text())
        inner = _stacked(item.children, width - len(mark), look, depth + 1, tight=tight) or [Text()]
        lines.append(led_by(mark, look.marker, inner[0]))
        lines.extend(led_by(" " * len(mark), Style(), line) for line in inner[1:])
    return lines


def _inline(block: SyntaxTreeNode, look: Look, style: Style | None = None) -> Text:
    text = Text(style=style or "")
    for child in block.children:
        _append(text, child, look, Style())
    return text


def _append(text: Text, node: SyntaxTreeNode, look: Look, style: Style) -> None:
    """Add an inline node, and what is inside it, to `text`."""
    if node.type == "inline":
        for child in node.children:
            _append(text, child, look, style)
    elif node.type in ("softbreak", "hardbreak"):
        text.append("\n")
    elif node.type == "code_inline":
        text.append(node.content, style + look.code)
    elif node.type == "link":
        _append_link(text, node, look, style)
    elif node.type == "image":
        text.append(f"[{node.content or 'image'}] ({node.attrs.get('src', '')})", style + look.muted)
    elif node.children:
        added = {"strong": Style(bold=True), "em": Style(italic=True), "s": Style(strike=True)}.get(node.type, Style())
        for child in node.children:
            _append(text, child, look, style + added)
    else:
        text.append(node.content, style)


def _append_link(text: Text, node: SyntaxTreeNode, look: Look, style: Style) -> None:
    # The target is always shown: a link whose text lies about it shall not look like a place.
    begin = len(text)
    for child in node.children:
        _append(text, child, look, style + look.link)
    target = str(node.attrs.get("href", ""))
    if target != text.plain[begin:]:
        text.append(f" ({target})", style + look.muted)


def _table(block: SyntaxTreeNode, width: int, look: Look) -> list[Text]:
    rows = [row for part in block.children for row in part.children]
    cells = [[_inline(cell, look) for cell in row.children] for row in rows]
    aligns = [str(cell.attrs.get("style", "")).partition(":")[2] or "left" for cell in rows[0].children]
    widths = column_widths([max(widest(row[at]) for row in cells) for at in range(len(aligns))], width)
    gap = Text(" │ ", look.rule)
    lines: list[Text] = []
    for number, row in enumerate(cells):
        columns = [wrapped(cell, size) for cell, size in zip(row, widths, strict=True)]
        for at in range(max(len(column) for column in columns)):
            parts = [column[at].copy() if at < len(column) else Text() for column in columns]
            for part, size, align in zip(parts, widths, aligns, strict=True):
                part.align("center" if align == "center" else "right" if align == "right" else "left", size)
                if number == 0:
                    part.stylize(look.subheading)
            lines.append(joined(gap, parts))
        if number == 0:
            lines.append(Text("─┼─".join("─" * size for size in widths), look.rule))
    return lines


def column_widths(natural: list[int], width: int) -> list[int]:
    """Columns of at most `width` cells with gaps: those that are narrow keep their width, the wide ones share the rest.

    A column never gets less than one cell, so a table with very many columns can still be wider.
    """
    left = width - COLUMN_GAP * (len(natural) - 1)
    widths = [1] * len(natural)
    order = sorted(range(len(natural)), key=lambda at: natural[at])
    for place, at in enumerate(order):
        share = left // (len(order) - place)
        widths[at] = max(1, min(natural[at], share))
        left -= widths[at]
    return widths


def _code(code: str, language: str, width: int, look: Look) -> list[Text]:
    """A block of code on its own background, one column of padding around it, long lines folded and never cut."""
    text = highlighted(code.rstrip("\n"), language, look)
    lines = [led_by(" ", Style(), line) for line in wrapped(text, width - 2, fold=True)]
    if language:
        lines.insert(0, Text(f" {language}", look.muted))
    for line in lines:
        line.set_length(len(line) + max(0, width - line.cell_len))
        line.stylize_before(look.code_block)
    return lines


def highlighted(code: str, language: str, look: Look) -> Text:
    """`code` with the styles of its tokens; a language that pygments does not know stays plain."""
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    text = Text(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return text
    if lexer is None:
        return text
    at = 0
    for kind, part in lexer.get_tokens(code):
        style = _token_style(kind, look)
        if style is not None:
            text.stylize(style, at, at + len(part))
        at += len(part)
    return text


def _token_style(kind: object, look: Look) -> Style | None:
    name = str(kind)
    for prefix, style in _token_styles(look):
        if name.startswith(prefix):
            return style
    return None


@functools.lru_cache(maxsize=8)
def _token_styles(look: Look) -> tuple[tuple[str, Style], ...]:
    return (
        ("Token.Comment", look.comment),
        ("Token.Keyword", look.keyword),
        ("Token.Operator.Word", look.keyword),
        ("Token.Literal.String", look.string),
        ("Token.Literal.Number", look.number),
        ("Token.Name.Function", look.name),
        ("Token.Name.Class", look.name),
        ("Token.Name.Builtin", look.name),
        ("Token.Name.Decorator", look.name),
        ("Token.Name.Tag", look.keyword),
        ("Token.Name.Attribute", look.name),
    )

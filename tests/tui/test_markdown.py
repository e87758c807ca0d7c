"""Markdown as lines: what each construct looks like, and that text which grows ends up as if it had come at once."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from localllm.tui.look import Look
from localllm.tui.markdown import Markdown, column_widths
from localllm.tui.wrapping import CONSOLE

LOOK = Look(
    muted=Style(dim=True),
    heading=Style(bold=True, color="blue"),
    subheading=Style(bold=True),
    marker=Style(color="blue"),
    code=Style(color="yellow"),
    code_block=Style(bgcolor="black"),
    link=Style(underline=True),
    keyword=Style(color="magenta"),
    string=Style(color="green"),
    comment=Style(italic=True),
)

SAMPLE = """# Title

Some **bold**, *slanted*, ~~gone~~ and `code` with a [link](https://example.com) and more words that need wrapping.
A line break is kept.

- one
- two
  - below
    1. deep

3. three

   a paragraph in an item
4. four

```python
def f(x):  # comment
    return "text"
```

    indented code

| Left | Middle | Right |
|:-----|:------:|------:|
| a    |   b    |     1 |
| 東京 | long words in a cell that wrap | 22 |

> quoted **words**
>
> - and a list

***

<think>plain</think> ![picture](cat.png) 🗼 é́

An unfinished `code and **bold
"""


def lines_of(text: str, width: int = 40, look: Look = LOOK) -> list[Text]:
    markdown = Markdown(look, width)
    markdown.update(text)
    return markdown.lines


def plain(text: str, width: int = 40) -> list[str]:
    return [line.plain.rstrip() for line in lines_of(text, width)]


def style_at(line: Text, part: str) -> Style:
    """The style of `part` as it is drawn."""
    base = line.style if isinstance(line.style, Style) else Style()
    for segment in line.render(CONSOLE):
        if part in segment.text:
            return base + (segment.style or Style())
    raise AssertionError(f"{part!r} is not one segment of {line.plain!r}")


def test_paragraphs_keep_line_breaks_and_wrap_at_words() -> None:
    assert plain("one two three\nfour\n\nfive", 9) == ["one two", "three", "four", "", "five"]


def test_inline_styles() -> None:
    (line,) = lines_of("**bold** *slanted* ~~gone~~ `code` ***both***", 80)
    assert style_at(line, "bold").bold
    assert style_at(line, "slanted").italic
    assert style_at(line, "gone").strike
    assert style_at(line, "code") == LOOK.code
    assert style_at(line, "both").bold
    assert style_at(line, "both").italic


def test_headings_are_styled_as_a_whole() -> None:
    (line,) = lines_of("## Paris")
    assert style_at(line, "Paris") == LOOK.heading
    (line,) = lines_of("#### Paris")
    assert style_at(line, "Paris") == LOOK.subheading


def test_the_target_of_a_link_is_always_seen() -> None:
    assert plain("[bank](https://evil.example)", 60) == ["bank (https://evil.example)"]
    assert plain("<https://example.com>", 60) == ["https://example.com"]
    assert plain("![cat](cat.png)", 60) == ["[cat] (cat.png)"]


def test_lists() -> None:
    assert plain("- one\n- two\n  - below\n\n    deeper para\n") == [
        "• one",
        "• two",
        "  ◦ below",
        "",
        "    deeper para",
    ]
    assert plain("9. nine\n10. ten\n") == [" 9. nine", "10. ten"]
    assert plain("- a long item that wraps", 12) == ["• a long", "  item that", "  wraps"]
    assert plain("- a\n\n- b\n") == ["• a", "", "• b"]
    assert plain("-\n- b\n") == ["•", "• b"]


def test_only_the_mark_of_an_item_has_the_style_of_marks() -> None:
    (line,) = lines_of("- one")
    assert style_at(line, "• ") == LOOK.marker
    assert style_at(line, "one") == Style()


def test_code_is_highlighted_padded_and_folded_without_losing_a_character() -> None:
    lines = lines_of("```python\nreturn 'text'  # why\n```", 16)
    assert [line.plain for line in lines] == [" python         ", " return 'text'  ", "  # why         "]
    assert style_at(lines[1], "return").color == LOOK.keyword.color
    assert style_at(lines[1], "text").color == LOOK.string.color
    assert style_at(lines[2], "# why").italic
    assert all(style_at(line, line.plain[2:4]).bgcolor == LOOK.code_block.bgcolor for line in lines)


def test_code_keeps_blank_lines_tabs_and_unknown_languages() -> None:
    assert plain("```nonsense\na\n\n\tb\n```") == [" nonsense", " a", "", "     b"]
    assert plain("    four\n") == [" four"]


def test_an_open_fence_is_already_code() -> None:
    assert plain("```python\nx = 1") == [" python", " x = 1"]


def test_tables_align_and_shrink_to_fit() -> None:
    table = "| a | bb | c |\n|:--|:--:|--:|\n| 1 | 2 | 345 |\n"
    assert plain(table) == ["a │ bb │   c", "──┼────┼────", "1 │ 2  │ 345"]
    narrow = lines_of("| a | b |\n|---|---|\n| x | many words in this cell |\n", 14)
    assert [line.plain.rstrip() for line in narrow] == [
        "a │ b",
        "──┼───────────",
        "x │ many words",
        "  │ in this",
        "  │ cell",
    ]


def test_column_widths() -> None:
    assert column_widths([3, 5, 4], 80) == [3, 5, 4]
    assert column_widths([3, 100, 100], 49) == [3, 20, 20]
    assert column_widths([50, 50], 3) == [1, 1]


def test_quotes_and_rules() -> None:
    assert plain("> one\n> two\n") == ["▎ one", "▎ two"]
    assert plain("***", 10) == ["──────────"]


def test_html_stays_text() -> None:
    assert plain("<think>\nhm\n</think>\n\n<b>x</b>") == ["<think>", "hm", "</think>", "", "<b>x</b>"]


@pytest.mark.parametrize("width", [20, 40, 100])
def test_no_line_is_wider_than_asked(width: int) -> None:
    rows = [line for line in lines_of(SAMPLE, width) if "│" not in line.plain and "┼" not in line.plain]
    assert max(line.cell_len for line in rows) <= width


@pytest.mark.parametrize("seed", range(8))
def test_text_that_grows_ends_as_if_it_had_come_at_once(seed: int) -> None:
    chance = random.Random(seed)
    growing, at = Markdown(LOOK, 40), 0
    shown: list[str] = []
    while at < len(SAMPLE):
        at += chance.randint(1, 25)
        first = growing.update(SAMPLE[:at])
        # What lies before the line that is said to differ is still what it was.
        assert [line.plain for line in growing.lines[:first]] == shown[:first]
        shown = [line.plain for line in growing.lines]
    assert growing.lines == lines_of(SAMPLE)


def test_finished_blocks_are_not_drawn_again() -> None:
    markdown = Markdown(LOOK, 40)
    markdown.update("one\n\ntwo\n\nthr")
    first, second = markdown.lines[0], markdown.lines[2]
    assert markdown.update("one\n\ntwo\n\nthree\n\nfour") == 3
    assert markdown.lines[0] is first
    assert markdown.lines[2] is second


def test_wide_characters_count_their_cells() -> None:
    for line in plain("東京は日本の首都です。" * 3, 20):
        assert cell_len(line) <= 20

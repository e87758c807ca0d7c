"""Frames of a terminal as one SVG that moves, small because every row is in it once.

The frames stand side by side, and steps of a CSS animation shift them past the window: browsers play that in an image,
without a script. Knows nothing of what is on the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.app import App

CELL, ROW, FONT = 8, 17, 13.3
FOREGROUND, BACKGROUND = "#e0e0e0", "#121212"
CAPTION = 30


@dataclass(frozen=True)
class Frame:
    """What is seen for some seconds: the numbers of the rows, and a line below them."""

    rows: tuple[int, ...]
    caption: str
    seconds: float


class Film:
    """Frames of a terminal of `width` columns and `height` rows."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.frames: list[Frame] = []
        self._rows: dict[str, int] = {}

    @property
    def seconds(self) -> float:
        """How long it is."""
        return sum(frame.seconds for frame in self.frames)

    def take(self, app: App[None], caption: str, seconds: float, *, longest: float = 0.0) -> None:
        """Add what the app shows; as long as that stays the same it is one frame, of `longest` seconds at most."""
        strips = app.screen._compositor.render_strips()
        self._add(tuple(self._row(list(strip)) for strip in strips), caption, seconds, longest)

    def shell(self, caption: str, command: str, *, hold: float) -> None:
        """Add a shell in which `command` is typed."""
        for size in range(0, len(command) + 1, 2 if command else 1):
            line = [Segment("$ ", Style(color="green")), Segment(command[: size + 2] if command else "")]
            rows = [self._row(line), *(self._row([]) for _ in range(self.height - 1))]
            self._add(tuple(rows), caption, 0.12, 0.0)
        self._add(self.frames[-1].rows, caption, hold, 0.0)

    def _add(self, rows: tuple[int, ...], caption: str, seconds: float, longest: float) -> None:
        if self.frames and (last := self.frames[-1]).rows == rows and last.caption == caption:
            total = last.seconds + seconds
            self.frames[-1] = Frame(rows, caption, min(total, max(longest, last.seconds)) if longest else total)
        else:
            self.frames.append(Frame(rows, caption, seconds))

    def _row(self, segments: list[Segment]) -> int:
        drawn = drawn_row(segments)
        return self._rows.setdefault(drawn, len(self._rows))

    def svg(self) -> str:
        """The whole film."""
        width, height = self.width * CELL + 20, self.height * ROW + 20 + CAPTION
        steps, at = [], 0.0
        for number, frame in enumerate(self.frames):
            steps.append(f"{at / self.seconds:.4%}{{transform:translateX({-number * width:.0f}px)}}")
            at += frame.seconds
        steps.append(f"100%{{transform:translateX({-(len(self.frames) - 1) * width:.0f}px)}}")
        rows = [f'<g id="r{number}">{drawn}</g>' for drawn, number in self._rows.items() if drawn]
        empty = {number for drawn, number in self._rows.items() if not drawn}
        frames = []
        for number, frame in enumerate(self.frames):
            used = "".join(
                f'<use href="#r{row}" y="{line * ROW:g}"/>' for line, row in enumerate(frame.rows) if row not in empty
            )
            note = f'<text class="c" x="0" y="{self.height * ROW + 22:g}">{escape(frame.caption)}</text>'
            frames.append(f'<g transform="translate({number * width:.0f})">{used}{note if frame.caption else ""}</g>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
            # Attributes, because a rule for all texts would be stronger than what single texts say of themselves.
            f' height="{height:g}" font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" font-size="{FONT}"'
            f' fill="{FOREGROUND}" xml:space="preserve"><style>.c{{font-weight:bold;fill:#ffa62b}}'
            f"@keyframes f{{{''.join(steps)}}}#film{{animation:f {self.seconds:.1f}s steps(1,end) infinite}}"
            f'</style><defs>{"".join(rows)}</defs><rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
            f'<svg x="10" y="10" width="{width - 20:g}" height="{height - 12:g}">'
            f'<g id="film">{"".join(frames)}</g></svg>'
            f"</svg>\n"
        )


def drawn_row(segments: list[Segment]) -> str:
    """A row as SVG, at the top; empty for one on which there is nothing."""
    grounds: list[tuple[int, int, str]] = []
    texts, x = [], 0
    for text, style, _ in Segment.simplify(segment for segment in segments if not segment.control):
        width = Segment(text).cell_length * CELL
        front, back = colours(style or Style())
        if grounds and grounds[-1][2] == back:
            x_before, width_before, _ = grounds.pop()
            grounds.append((x_before, width_before + width, back))
        else:
            grounds.append((x, width, back))
        if words := text.strip():
            start = x + Segment(text[: len(text) - len(text.lstrip())]).cell_length * CELL
            texts.append(
                f'<text x="{start}" y="13" textLength="{Segment(words).cell_length * CELL}"'
                f"{_marks(style or Style(), front)}>{escape(words, quote=False)}</text>"
            )
        x += width
    shapes = [
        f'<rect x="{x}" width="{width}" height="{ROW}" fill="{back}"/>'
        for x, width, back in grounds
        if back != BACKGROUND
    ]
    return "".join([*shapes, *texts])


def colours(style: Style) -> tuple[str, str]:
    """The colours of the letters and behind them."""
    front = _hex(style.color, FOREGROUND)
    back = _hex(style.bgcolor, BACKGROUND)
    return (back, front) if style.reverse else (front, back)


def _hex(colour: Color | None, otherwise: str) -> str:
    return otherwise if colour is None or colour.is_default else colour.get_truecolor().hex


def _marks(style: Style, front: str) -> str:
    marks = "" if front == FOREGROUND else f' fill="{front}"'
    marks += ' font-weight="bold"' if style.bold else ""
    marks += ' font-style="italic"' if style.italic else ""
    return marks + (' text-decoration="underline"' if style.underline else "")

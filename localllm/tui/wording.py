"""What the app says about a conversation: entries for its messages, notes below its replies.

Turns values into words; knows nothing of widgets or of what happens next.
"""

from __future__ import annotations

from localllm.chat.conversation import Conversation, Node
from localllm.counts import counted
from localllm.errors import BadTemplate, ContextFull, LocalLLMError
from localllm.measure import comparing
from localllm.runtime.repetition import repeats_itself
from localllm.runtime.thinking import parted
from localllm.runtime.types import Forecast, ModelInfo, Stats
from localllm.tui.amounts import seconds, size, tokens
from localllm.tui.cut_entry import CutEntry
from localllm.tui.entries import GAP, Entry, NoticeEntry, UserEntry
from localllm.tui.loader import Loader
from localllm.tui.messages import DownloadMoved
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.turn import Turn
from localllm.tui.widgets.status_line import Status, cost
from localllm.tui.wordless import NOT_ANSWERED, why_wordless

GO_ON = "Ctrl+G goes on"
MAKE_ROOM = "F6 makes room"
ANSWER = "Ctrl+R answers"
REPEATS = "it repeats itself: a repeat penalty (F7) may help"
EMPTY = "nothing but white space"
"""What a reply is that shows no text."""

OTHER_TEMPLATE = (
    "F8 loads another model. Or start localllm again with --chat-template FILE: the template this one was trained with."
)
SHORT_TITLE = 24
AT_ONCE_S = 0.1
"""A wait that nobody notices."""
MEASURED_TOKENS = 16
"""Of fewer tokens than these the rate says little."""

ENDINGS = {
    "length": "cut at the limit of tokens",
    "context": "cut because the context is full",
    "cancelled": "stopped",
}


def entries_of(conversation: Conversation) -> list[Entry]:
    """The path that is shown, as entries, with a line above what is sent."""
    families, path, first = conversation.families(), conversation.path(), conversation.first_sent()
    entries: list[Entry] = []
    for node in path:
        if node is first:
            entries.append(CutEntry(len(entries), conversation.cuts[node.id]))
        if node.role == "user":
            entries.append(UserEntry(node.text, node.id, "".join(_place(node, families[node.parent]))))
        else:
            note = ending_note(node, families[node.parent])
            entries.append(ReplyEntry(node.text, note, alarming=node.state == "partial", message=node.id))
    if path and path[-1].role == "user":
        entries.append(ReplyEntry(note=f"{NOT_ANSWERED}{GAP}{ANSWER}", alarming=True))
    return entries


def what_to_do(turn: Turn) -> str:
    """What helps where a message got no word."""
    # No dialog: it would take the keys from whoever is writing on, and an Enter would choose.
    is_full = isinstance(turn.error, ContextFull) or (turn.stats is not None and turn.stats.stop_reason == "context")
    return MAKE_ROOM if is_full else ANSWER


def ending_note(node: Node, siblings: list[Node]) -> str:
    """Which of several replies it is, how it ended and what it cost."""
    parts = _place(node, siblings)
    if node.state == "writing":
        parts.append("being written in another window")
    elif node.state == "done" and not parted(node.text).folded.strip():
        parts.append(EMPTY)
    elif node.state == "partial":
        reason = node.stats.stop_reason if node.stats else ""
        parts.append(ENDINGS.get(reason, "interrupted"))
        if repeats_itself(node.text):
            parts.append(REPEATS)
        else:
            parts.append(MAKE_ROOM if reason == "context" else GO_ON)
    if node.stats is not None:
        parts += _figures(node.stats)
    return GAP.join(parts)


def _place(node: Node, siblings: list[Node]) -> list[str]:
    """Which of several versions a message is, and how many there are."""
    if len(siblings) < 2:
        return []
    return [f"‹{[sibling.id for sibling in siblings].index(node.id) + 1}/{len(siblings)}›"]


def _figures(stats: Stats) -> list[str]:
    return [counted(stats.completion_tokens, "token"), *cost(stats)]


def waiting_note(turn: Turn) -> str:
    """What a reply without words waits for; nothing once they arrive."""
    if turn.stage == "decode":
        return ""
    if turn.stopped:
        return "stopping…"
    if turn.stage == "waiting":
        return "waiting for the model to load… Esc stops"
    return "reading the prompt… Esc stops"


def status(loader: Loader, turn: Turn | None, stats: Stats | None, context_used: int, *, following: bool) -> Status:
    """How things stand. `context_used` is what is known of it while no reply is made."""
    info = loader.model.info if loader.model is not None else None
    what, fraction = "", None
    if loader.state == "loading":
        what, fraction = f"loading {loader.fraction:.0%}", loader.fraction
    elif loader.state == "failed":
        what = "no model · F5 loads it again"
    elif turn is not None:
        what, fraction = doing(turn)
    return Status(
        model=f"{info.name} {info.quantization}".strip() if info else "",
        doing=what,
        fraction=fraction,
        trouble=loader.state == "failed",
        context_used=tokens_held(turn) if turn is not None and turn.progress else context_used,
        context_total=info.n_ctx if info else 0,
        live_rate=live_rate(turn.pieces - 1, turn.said_at - turn.began_at) if turn is not None else 0.0,
        stats=stats,
        below=turn is not None and not following,
    )


def doing(turn: Turn) -> tuple[str, float | None]:
    """What a turn does now, in a few words, and how far it is."""
    progress = turn.progress
    if turn.stopped:
        return "stopping", None
    if turn.stage == "waiting":
        return "waiting for the model", None
    if turn.stage == "decode":
        return ("repeating itself · Esc stops" if turn.repeats else "writing"), None
    if progress is None or not progress.total:
        return "reading the prompt", None
    if progress.done <= progress.cached:
        # The first step is hundreds of tokens: a bar that stands at nothing for seconds looks broken.
        return f"reading {counted(progress.total - progress.cached, 'token')}", None
    return f"prompt {tokens(progress.done)} / {tokens(progress.total)}", progress.done / progress.total


def made_elsewhere(turn: Turn) -> str:
    """What a turn does while another chat is open."""
    return f"{'stopping' if turn.stopped else 'answering'} in “{_short(turn.task.conversation.title)}”"


def still_made(turn: Turn, *, here: bool) -> str:
    """That a reply is made, and how it is stopped; `here` is whether its chat is the open one."""
    if here:
        return "The reply is still being made. Esc stops it."
    return f"The reply in “{_short(turn.task.conversation.title)}” is still being made. Ctrl+C stops it."


def ended_elsewhere(turn: Turn, node: Node | None) -> str:
    """How a reply ended while another chat was open."""
    title = _short(turn.task.conversation.title)
    if node is None:
        return f"No reply in “{title}”: {why_wordless(turn) + '.' if turn.error is None else turn.error.message}"
    reason = "" if node.state == "done" else ENDINGS.get(node.stats.stop_reason if node.stats else "", "interrupted")
    told = f"The reply in “{title}” {f'ended early: {reason}' if reason else 'is finished'}."
    return told if turn.error is None else f"{told} {turn.error.message}"


def forked(fork: Conversation, title: str) -> str:
    """That what is open now is a fork of the chat of this title."""
    return f"This is a fork now, with {counted(len(fork.nodes), 'message')}. “{_short(title)}” stays as it was."


def _short(title: str) -> str:
    return title if len(title) <= SHORT_TITLE else f"{title[: SHORT_TITLE - 1].rstrip()}…"


def tokens_held(turn: Turn) -> int:
    """Tokens of the context that the reply in the making takes so far; a piece counts as a token."""
    progress = turn.progress
    return progress.done + turn.pieces if progress is not None else 0


def live_rate(pieces: int, elapsed_s: float) -> float:
    """Tokens per second, of so many pieces after the first and the time since that; 0 until it means something."""
    return pieces / elapsed_s if elapsed_s > 0.5 else 0.0


def account(conversation: Conversation, context_used: int, loader: Loader) -> str:
    """What the last reply cost and how full the context is, a line each."""
    info = loader.model.info if loader.model is not None else None
    last = next((node for node in reversed(conversation.path()) if node.stats is not None), None)
    lines = ["There is no reply yet."] if last is None or last.stats is None else _figures(last.stats)
    if info is not None:
        lines.append(f"context {tokens(context_used)} of {tokens(info.n_ctx)} tokens")
    return "\n".join(lines)


def download_line(moved: DownloadMoved) -> str:
    """How far a download is: "45% of 98.4 MiB · 12.3 MiB/s"."""
    if moved.remark:
        return moved.remark
    if moved.converts:
        return f"converting: {moved.done / max(moved.total, 1):.0%}{GAP}{moved.rate / 1e6:,.1f} M weights/s"
    share = f"{moved.done / moved.total:.0%} of {size(moved.total)}" if moved.total else size(moved.done)
    return f"downloading: {share}{GAP}{size(round(moved.rate))}/s"


def outlook(forecast: Forecast, n_ctx: int, prefill_tps: float) -> str:
    """What a message costs before its first word: "reuse 3,912 · evaluate 214 · about 2 s"."""
    if forecast.prompt_tokens >= n_ctx:
        return f"does not fit: {tokens(forecast.prompt_tokens)} of {tokens(n_ctx)} tokens · {MAKE_ROOM}"
    parts = [f"reuse {tokens(forecast.cached_tokens)}", f"evaluate {tokens(forecast.evaluated_tokens)}"]
    if prefill_tps:
        wait = forecast.evaluated_tokens / prefill_tps
        parts.append(f"about {seconds(wait)}" if wait >= AT_ONCE_S else "at once")
    return GAP.join(parts)


def prefill_rate(conversation: Conversation) -> float:
    """Tokens per second at which the prompt of the last reply was read; 0 where none took long enough to tell."""
    known = (node.stats for node in reversed(conversation.path()) if node.stats is not None)
    told = (stats for stats in known if stats.prompt_tokens - stats.cached_tokens >= MEASURED_TOKENS)
    return next((stats.prefill_tps for stats in told if stats.prefill_tps), 0.0)


def notice(error: LocalLLMError) -> NoticeEntry:
    """An error as an entry, with what can be done about it here."""
    if isinstance(error, BadTemplate):
        system = " Some templates take no system prompt: F7 empties it." if "system" in error.hint else ""
        return NoticeEntry(error.message, f"{OTHER_TEMPLATE}{system}")
    return NoticeEntry(error.message, f"{MAKE_ROOM}." if isinstance(error, ContextFull) else error.hint)


def no_template(info: ModelInfo) -> NoticeEntry:
    """That nobody can chat with a model, and what to do."""
    return NoticeEntry(comparing.no_template(info.title).message, OTHER_TEMPLATE)


def model_notice(error: LocalLLMError) -> NoticeEntry:
    """Why there is no model, and how to get one."""
    return NoticeEntry(error.message, f"{error.hint}\nF5 loads the model again.".lstrip("\n"))

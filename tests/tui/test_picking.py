"""The rows of the list of models: what matches, what the hub has, what is said while it is asked."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import DownloadFailed, ModelNotFound
from localllm.library.offers import Offer
from localllm.library.search import Hit
from localllm.tui.models import Choice
from localllm.tui.picking import Row, Search, View, rows
from tests.tui.fake import GIB

HERE = Choice("qwen3:0.6b", Path("/m/qwen.gguf"), GIB, "Q8_0", 2 * GIB)
ABSENT = Choice("gemma3:1b", None, GIB, "Q4_K_M", 2 * GIB)
BROKEN = Choice("broken-qwen", Path("/m/broken.gguf"), 1000, "", 0, "it is truncated")
GGUF = Hit("org/qwen-GGUF", "gguf", 12_345, 7, "apache-2.0", 600_000_000, ("Q4_K_M", "Q8_0"), True, "2026-01-02")
CHECKPOINT = Hit("org/qwen", "checkpoint", 5, 0, "", 600_000_000, (), False, "")
VIEW = View("/m/qwen.gguf", 4 * GIB, {}, {})


def of(search: Search | None, words: str = "qwen", view: View = VIEW) -> list[Row]:
    return rows([HERE, BROKEN, ABSENT], words, search, view)


def text(found: list[Row]) -> str:
    return "\n".join(f"{row.title}\n{row.note}" for row in found)


def test_all_words_have_to_match_a_name_or_quantization() -> None:
    assert [row.title for row in of(None, "")] == ["● qwen3:0.6b", "  broken-qwen", "↓ gemma3:1b"]
    assert [row.choice for row in of(None, "Q4_k GEMMA")] == [ABSENT, None]
    assert [row.only_tells for row in of(None, "qwen")] == [False, True, False]


def test_the_hub_is_offered_for_words_alone() -> None:
    (row,) = of(None, "llama 8b")
    assert (row.searches, row.title) == (True, "→ search the hub for 'llama 8b'")
    assert not any(row.searches for row in of(None, ""))


def test_a_search_is_told_from_its_start_to_each_size() -> None:
    search = Search("qwen")
    assert "searching the hub for 'qwen'… Esc stops" in text(of(search))
    search.hits = [GGUF, CHECKPOINT]
    assert "12,345 downloads · apache-2.0 · gated: ask for access on its page" in text(of(search))
    assert "5 downloads · licence unknown · a checkpoint, no GGUF" in text(of(search))
    assert "Q4_K_M, Q8_0 · asking for sizes…" in text(of(search))
    search.offers["org/qwen-GGUF"] = [
        Offer("Q4_K_M", "org/qwen-GGUF:Q4_K_M", GIB, 2 * GIB, arrived=GIB // 2),
        Offer("Q8_0", "org/qwen-GGUF:Q8_0", 6 * GIB, 7 * GIB),
        Offer("BF16", "org/qwen-GGUF:BF16", 9 * GIB),
    ]
    search.offers["org/qwen"] = [Offer("Q4_K_M", "org/qwen", GIB, source=3 * GIB)]
    told = text(of(search))
    assert "↓ Q4_K_M       1.00 GiB, 512.0 MiB here · fits: about 2.00 GiB" in told
    assert "↓ Q8_0         6.00 GiB · does not fit: about 7.00 GiB" in told
    assert "↓ BF16         9.00 GiB · does not fit\n" in told
    assert "↓ Q4_K_M       about 1.00 GiB, converted from 3.00 GiB\n" in told
    assert "in another type: localllm pull org/qwen --type" in told
    assert [row.choice.name for row in of(search) if row.of_hub and row.choice] == [
        "org/qwen-GGUF:Q4_K_M",
        "org/qwen-GGUF:Q8_0",
        "org/qwen-GGUF:BF16",
        "org/qwen",
    ]


def test_a_repo_that_the_hub_refuses_says_why() -> None:
    gone = ModelNotFound("There is no org/qwen.", hint="If it is private:\nlog in.")
    told = text(of(Search("qwen", [CHECKPOINT], {"org/qwen": gone})))
    assert "There is no org/qwen." in told
    assert "If it is private: log in." in told


def test_a_search_that_found_nothing_or_failed_or_is_old() -> None:
    assert "no model for 'qwen' that can be pulled: try fewer words" in text(of(Search("qwen", [])))
    failed = of(Search("qwen", error=DownloadFailed("The hub cannot be reached.")))
    assert failed[-1].searches
    assert of(Search("other", [GGUF])) == of(None)


def test_downloads_of_this_session_count() -> None:
    offer = Offer("Q8_0", "org/qwen-GGUF:Q8_0", GIB, 2 * GIB)
    search = Search("qwen", [GGUF], {"org/qwen-GGUF": [offer]})
    path = Path("/m/new.gguf")
    arrived = of(search, view=View("", None, {offer.name: path}, {}))[-1]
    assert arrived.title.endswith("1.00 GiB · here")
    assert arrived.choice is not None
    assert arrived.choice.path == path
    stopped = of(search, view=View("", None, {}, {offer.name: GIB // 4}))[-1]
    assert "256.0 MiB here" in stopped.title
    view = View("", None, {}, {}, moving=offer.name, progress="50%")
    assert of(search, view=view)[-1].title.endswith("Q8_0         50%")
    first = of(None, "something else", view)[0]
    assert (first.title, first.note) == ("↓ org/qwen-GGUF:Q8_0", "  50%")
    assert first.choice is not None


def test_the_end_of_a_long_file_name_is_seen() -> None:
    label = "folder/a-very-long-name-of-a-model-that-somebody-made-v2-final.gguf"
    search = Search("qwen", [GGUF], {"org/qwen-GGUF": [Offer(label, f"org/qwen-GGUF/{label}", GIB)]})
    title = of(search)[-1].title
    assert "folder/a-v…" in title
    assert "v2-final.gguf 1.00 GiB" in title
    assert len(title) < 60

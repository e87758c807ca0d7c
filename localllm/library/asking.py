"""Questions to the API of the hub that a person waits for: answered soon, or told that they are not.

The hub's own library asks again for half a minute and says so on stderr. Knows nothing of what is asked.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status

from localllm.errors import DownloadFailed
from localllm.library import refusals
from localllm.library.ranges import asked_wait, headers_for

ANSWER_S = 5.0
"""Seconds until an answer begins, and between two pieces of it."""


def listed(path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the hub lists at `/api/…`; a page is asked for when all before it was taken. Waits for the network.

    Raises:
        DownloadFailed: the hub does not answer within `ANSWER_S`, cannot be reached, refuses, or is not to be asked.
    """
    url: str | None = constants.ENDPOINT + path
    try:
        while url:
            response = _answer(url, params)
            hf_raise_for_status(response)
            yield from _entries(response)
            # The address of the next page has the parameters in it.
            url, params = response.links.get("next", {}).get("url"), {}
    except OfflineModeIsEnabled as error:
        raise DownloadFailed("HF_HUB_OFFLINE forbids to search the hub.", hint="Unset HF_HUB_OFFLINE.") from error
    except HfHubHTTPError as error:
        raise _refused(error) from error
    except (HTTPError, OSError) as error:
        raise DownloadFailed(
            f"The hub ({constants.ENDPOINT}) cannot be reached.", hint="Check the network and HF_ENDPOINT."
        ) from error


def _entries(response: Any) -> list[dict[str, Any]]:
    with contextlib.suppress(ValueError):
        page = response.json()
        if isinstance(page, list) and all(isinstance(entry, dict) for entry in page):
            return page
    raise DownloadFailed(
        f"What answers at {constants.ENDPOINT} is no hub.",
        hint="Check HF_ENDPOINT, and whether this network wants a login in a browser first.",
    )


def _refused(error: HfHubHTTPError) -> DownloadFailed:
    status = error.response.status_code
    hint = ""
    if status in refusals.BUSY:
        wait = asked_wait(error.response.headers)
        hint = f"It is busy: try again in {wait:.0f} s." if wait else "It is busy: try again in a while."
    elif status == 401:
        hint = "The token may be wrong or have ended: `hf auth whoami` tries it."
    return DownloadFailed(f"The hub ({constants.ENDPOINT}) answers {status}.", hint=hint)


def _answer(url: str, params: Mapping[str, Any]) -> Any:
    """The answer as a whole. In a thread until it begins: no timeout bounds how long a name is looked up."""
    begun: queue.SimpleQueue[Any] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            client = get_session()
            request = client.build_request(
                "GET", url, params=params or None, headers=headers_for(url), timeout=ANSWER_S
            )
            response = client.send(request, stream=True)
        except BaseException as error:
            begun.put(error)
            return
        begun.put(response)
        if given_up.is_set():
            response.close()

    threading.Thread(target=ask, name="ask the hub", daemon=True).start()
    try:
        answer = begun.get(timeout=ANSWER_S)
    except queue.Empty:
        given_up.set()
        raise TimeoutError(f"no answer within {ANSWER_S:.0f} s") from None
    if isinstance(answer, BaseException):
        raise answer
    answer.read()
    return answer

"""What the hub's library raises, as the errors of localllm: what happened, and what to do next."""

from __future__ import annotations

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from localllm.errors import DownloadFailed, LocalLLMError, ModelNotFound

BUSY = (408, 429, 500, 502, 503, 504)
"""Statuses of a server that may answer another time."""

_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"


def explain(error: Exception, repo: str, revision: str = "") -> LocalLLMError | None:
    """The error to raise for one that another try would not mend, else None."""
    if isinstance(error, GatedRepoError):
        terms = f"Accept its terms, or ask for access, on its page: {constants.ENDPOINT}/{repo.partition('@')[0]}"
        return DownloadFailed(
            f"Access to {repo} is restricted" + (" and this token has none." if get_token() else "."),
            hint=terms if get_token() else f"{terms}\n{_LOG_IN}.",
        )
    if isinstance(error, RepositoryNotFoundError):
        private = "If it is private, use a token that may read it." if get_token() else f"If it is private: {_LOG_IN}."
        return ModelNotFound(f"There is no folder {repo}, and no model of that name on the hub.", hint=private)
    if isinstance(error, RevisionNotFoundError):
        what = f"has no revision {revision!r}" if revision else "was changed, and the old commit is gone"
        return ModelNotFound(f"{repo} {what}.", hint="Give a branch, a tag or a commit.")
    if isinstance(error, DisabledRepoError):
        return DownloadFailed(f"The hub has disabled {repo}.")
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadFailed(
            f"{repo} is not on this machine as a whole, and HF_HUB_OFFLINE forbids to fetch it.",
            hint="Unset HF_HUB_OFFLINE. What is on this machine needs no hub.",
        )
    if isinstance(error, EntryNotFoundError):
        return DownloadFailed(f"{repo}: a file that was listed is not there.", hint="Try again.")
    if isinstance(error, HfHubHTTPError) and 400 <= error.response.status_code < 500:
        return _refused(error, repo)
    return None


def _refused(error: HfHubHTTPError, repo: str) -> DownloadFailed | None:
    status = error.response.status_code
    if status in BUSY:
        return None
    said = f": {error.server_message}" if error.server_message else "."
    hint = "The token may be wrong or have ended: `hf auth whoami` tries it." if status == 401 else ""
    return DownloadFailed(f"The hub refuses {repo} with status {status}{said}", hint=hint)


def explain_address(error: Exception, url: str) -> LocalLLMError | None:
    """As `explain`, of a file on a web server that is no hub."""
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadFailed(f"HF_HUB_OFFLINE forbids to fetch {url}.", hint="Unset HF_HUB_OFFLINE.")
    if not isinstance(error, HfHubHTTPError) or error.response.status_code in BUSY:
        return None
    status = error.response.status_code
    if status in (404, 410):
        return ModelNotFound(f"There is no file at {url}.", hint="Look at the page that links to it.")
    if status in (401, 403):
        return DownloadFailed(
            f"The server does not give {url} to everybody (status {status}).",
            hint="Download it with a browser where you are logged in, and bring it in with `localllm import`.",
        )
    return DownloadFailed(f"The server refuses {url} with status {status}.") if status < 500 else None

"""What a repo of the hub holds at one commit, as the hub lists it, and what there is when it has no such repo.

Asks for names, sizes and hashes, never for the content of a file.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import huggingface_hub as hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from localllm.errors import LocalLLMError, ModelNotFound
from localllm.library import refusals
from localllm.library.ranges import LONG, RemoteFile, asked_wait, seconds_to_wait

_ASKED = 3


@dataclass(frozen=True)
class Listing:
    """The files of a repo at one commit, by name. `revision` is what was asked for."""

    repo: str
    revision: str
    commit: str
    files: dict[str, RemoteFile]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.repo}@{self.commit[:8]}"


class Unreachable(Exception):
    """The hub does not answer; its text says what it does."""


def list_repo(repo: str, revision: str, remark: Callable[[str], None]) -> Listing:
    """What the hub says of the repo. A busy hub is asked again.

    Raises:
        Unreachable: it does not answer.
        ModelNotFound, DownloadFailed: it has no such repo or revision, or gives no access.
    """
    failures = 0
    while True:
        failures += 1
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT
            info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=timeout)
            files = [_remote(repo, info.sha, sibling) for sibling in info.siblings]
            return Listing(repo, revision, info.sha, {file.name: file for file in files})
        except hub.errors.HFValidationError as error:
            raise ModelNotFound(f"{repo!r} is no name of a repo: org/name.") from error
        except (HTTPError, OSError) as error:
            refused = refusals.explain(error, repo, revision)
            if refused is not None:
                raise _with_nearest(refused, error, repo) from error
            if not isinstance(error, HfHubHTTPError):
                raise Unreachable("cannot be reached") from error
            reason = f"answers {error.response.status_code}"
            if failures == _ASKED:
                raise Unreachable(reason) from error
            seconds = seconds_to_wait(asked_wait(error.response.headers), failures)
            if seconds >= LONG:
                remark(f"the hub {reason}; waiting {seconds:.0f} s")
            time.sleep(seconds)


def _remote(repo: str, commit: str, sibling: Any) -> RemoteFile:
    url = hub.hf_hub_url(repo, sibling.rfilename, revision=commit, endpoint=constants.ENDPOINT)
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return RemoteFile(sibling.rfilename, url, sibling.size or 0, sha256 or sibling.blob_id or "", sha256)


def _with_nearest(refused: LocalLLMError, error: Exception, repo: str) -> LocalLLMError:
    """The error that says that there is no such repo or revision, with those that there are."""
    try:
        if isinstance(error, RevisionNotFoundError):
            refs = hub.HfApi().list_repo_refs(repo)
            return ModelNotFound(
                refused.message, hint=f"It has: {', '.join(ref.name for ref in refs.branches + refs.tags)}."
            )
        if not isinstance(error, RepositoryNotFoundError) or isinstance(error, GatedRepoError):
            return refused
        known = [model.id for model in hub.HfApi().list_models(search=repo.rpartition("/")[2], limit=20)]
    except (HTTPError, OSError):
        return refused
    near = difflib.get_close_matches(repo, [name for name in known if name != repo], n=3, cutoff=0.6)
    hint = f"The nearest there: {', '.join(near)}. {refused.hint}" if near else refused.hint
    return ModelNotFound(refused.message, hint=hint)

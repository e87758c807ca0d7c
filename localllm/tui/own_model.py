"""The model that a chat was used with, beside the one that is loaded: whether they differ, and what a load would take.

Looks for files and makes plans, and so blocks. Knows nothing of widgets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localllm.chat.settings import ENGINE, MODEL, options_of
from localllm.errors import BadSettings, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.types import Plan
from localllm.tui.amounts import seconds, size, tokens
from localllm.tui.loader import Wanted, options_of_another


@dataclass(frozen=True)
class Present:
    """What is loaded, or is being loaded: then there is no `plan` of it yet. `took_s` is how long it took to load."""

    wanted: Wanted
    plan: Plan | None
    took_s: float


@dataclass(frozen=True)
class OwnModel:
    """What the chat `chat`, an id, was used with, where that is not what is loaded; `name` is that of the model.

    `problem` says why it cannot be loaded, and then `wanted` is None. `plan` is None before it is made; `more` are the
    bytes that it takes beyond what is loaded, `load_s` about how long it takes, 0 if nobody knows.
    """

    chat: str
    name: str
    wanted: Wanted | None
    problem: LocalLLMError | None = None
    plan: Plan | None = None
    more: int | None = None
    load_s: float = 0.0
    fits: bool = True

    @property
    def can_load(self) -> bool:
        """Whether it can be loaded, as far as is known."""
        return self.wanted is not None and self.fits


def find_own(settings: Mapping[str, Any], usual: Options, otherwise: Path | None) -> Wanted:
    """What a chat with these settings was used with; `otherwise` is the model of one that has none, None the default.

    Raises:
        ModelNotFound: its model is not on this machine any more.
        BadSettings: how it was loaded cannot be read.
        BadModelFile: its model is no GGUF any more.
    """
    from localllm import library

    name = settings.get(MODEL)
    named = name if isinstance(name, str) and name else None
    path = otherwise if named is None and otherwise is not None else library.resolve(named)
    options = options_of(settings, usual)
    is_other = otherwise is not None and os.path.realpath(path) != os.path.realpath(otherwise)
    return Wanted(path, options_of_another(options, path) if is_other else options)


def label_of(path: Path) -> str:
    """The shortest name that stands for a model on this machine; its whole path if none does."""
    from localllm.library.shelf import placed

    try:
        label, stored = placed(str(path))
    except LocalLLMError:
        return str(path.absolute())
    return label if label != str(stored.path) else str(path.absolute())


def look(chat: str, settings: Mapping[str, Any], usual: Options, present: Present) -> OwnModel | None:
    """What the chat was used with; None if that is what is loaded, or nothing of its own."""
    if not settings.get(MODEL) and not settings.get(ENGINE):
        return None
    name = _shown(str(settings.get(MODEL) or present.wanted.path))
    try:
        own = find_own(settings, usual, present.wanted.path)
    except LocalLLMError as error:
        return OwnModel(chat, name, None, error)
    return OwnModel(chat, name, own) if _is_other(own, present) or _differing(settings, own.options, present) else None


def chosen(path: Path, settings: Mapping[str, Any], usual: Options) -> Wanted:
    """A model as a chat with these settings has it loaded; as usual, where they cannot be read."""
    try:
        return Wanted(path, options_of(settings, usual))
    except BadSettings:
        return Wanted(path, usual)


def differs(settings: Mapping[str, Any], own: Wanted, present: Present) -> bool:
    """Whether what a chat with these settings wants is not what is loaded; one that has none wants what is usual."""
    if _is_other(own, present):
        return True
    if settings.get(ENGINE):
        return bool(_differing(settings, own.options, present))
    return own.options != present.wanted.options


def _is_other(own: Wanted, present: Present) -> bool:
    return os.path.realpath(own.path) != os.path.realpath(present.wanted.path)


def _shown(name: str) -> str:
    return Path(name).stem if name.endswith(".gguf") else name


def _differing(settings: Mapping[str, Any], own: Options, present: Present) -> set[str]:
    """The chat's own settings of the engine that are not those of what is loaded."""
    asked = present.wanted.options
    settled = present.plan.options if present.plan is not None else asked
    # What was asked for counts, too: a context is rounded up when it is loaded.
    chosen = {name: getattr(own, name) for name in settings.get(ENGINE, {})}
    return {
        name
        for name, value in chosen.items()
        if value is not None and value not in (getattr(asked, name), getattr(settled, name))
    }


def as_used(settings: Mapping[str, Any], label: str, usual: Options, present: Present) -> dict[str, Any]:
    """The settings of a chat that was used with what is loaded, of which `label` is the model's name."""
    engine = settings.get(ENGINE, {})
    try:
        differing = _differing(settings, options_of(settings, usual), present)
    except BadSettings:
        differing = set(engine)
    kept = {name: value for name, value in engine.items() if name not in differing}
    others = {name: value for name, value in settings.items() if name != ENGINE}
    return {**others, MODEL: label, **({ENGINE: kept} if kept else {})}


def planned(offer: OwnModel, present: Present) -> OwnModel:
    """The offer with what it takes instead of what is loaded."""
    if offer.wanted is None:
        return offer
    # Imported when it is wanted, not before the first picture.
    from localllm.runtime.apart import plan_apart

    try:
        plan = plan_apart(offer.wanted.path, offer.wanted.options)
    except LocalLLMError as error:
        return replace(offer, wanted=None, problem=error)
    loaded = present.plan
    if loaded is None:
        return replace(offer, plan=plan, fits=plan.fits)
    weights, before = (sum(device.weights for device in one.devices) for one in (plan, loaded))
    load_s = present.took_s * weights / before if before else 0.0
    return replace(offer, plan=plan, more=plan.total - loaded.total, load_s=load_s, fits=plan.fits_instead_of(loaded))


def told(offer: OwnModel, present: str, *, lost: bool) -> str:
    """The offer in words: what the chat was used with, what that costs, and the keys.

    `present` is the name of what is loaded, `lost` says that its KV cache is kept nowhere when it goes.
    """
    if offer.problem is not None:
        return _cannot_be(offer, offer.problem, f"It goes on with {present}. Esc puts this away")
    plan = offer.plan
    used = f"This chat used {offer.name}" + (f", {tokens(plan.n_ctx)} tokens" if plan is not None else "")
    if plan is not None and not offer.fits:
        needs = size(plan.total)
        return f"{used}, which takes {needs} and does not fit now. It goes on with {present}. Esc puts this away"
    costs = []
    if plan is not None:
        costs.append(_signed(offer.more) if offer.more is not None else size(plan.total))
    if offer.load_s:
        costs.append(f"about {seconds(offer.load_s)}")
    cost = f" ({', '.join(costs)})" if costs else ""
    losing = f" What {present} has computed of other chats is lost (--kv-disk 0)." if lost else ""
    return f"{used}. The next message loads it{cost}.{losing} Enter loads it now · Esc keeps {present}"


def told_plainly(offer: OwnModel, present: str) -> str:
    """The same where lines are written and nothing is offered: the chat goes on with what is loaded."""
    if offer.problem is not None:
        return _cannot_be(offer, offer.problem, f"It goes on with {present}.")
    return f"This chat used {offer.name}, or the same model loaded otherwise. It goes on with {present} as it is."


def _cannot_be(offer: OwnModel, problem: LocalLLMError, then: str) -> str:
    hint = f"\n{problem.hint}\n" if problem.hint else " "
    return f"This chat used {offer.name}. {problem.message}{hint}{then}"


def _signed(more: int) -> str:
    return f"{'+' if more >= 0 else '−'}{size(abs(more))}"

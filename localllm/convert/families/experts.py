"""What decoders with experts share: sizes, keys, and the rules of experts of which each token passes some.

The names are those of transformers under `model.`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder
from localllm.convert.families.decoder import BLOCK, LAYER
from localllm.convert.header import Keys, u32
from localllm.convert.transforms import Join, Segment, Transform, stack

OLDER_NAMES = {"num_experts": "num_local_experts"}
"""What some families called it before transformers 5."""

SOFTMAX, SIGMOID = 1, 2
"""llama.cpp's numbers for what scores the experts."""


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name where an expert is as wide as the feed-forward layer would be."""
    return {**decoder.dimensions(config), "experts": config.count("num_local_experts")}


def keys(config: Config, arch: str, count: str = "num_local_experts", used: str = "num_experts_per_tok") -> Keys:
    """The keys of how many experts there are and how many a token passes, by the names that config.json has."""
    return {
        f"{arch}.expert_count": u32(config.count(count)),
        f"{arch}.expert_used_count": u32(config.count(used)),
    }


def groups(config: Config, arch: str) -> Keys:
    """The keys of `topk_group` of `n_group` groups from which experts are chosen; none where every group counts."""
    groups, used = config.whole("n_group"), config.whole("topk_group")
    if used >= groups:
        return {}
    return {f"{arch}.expert_group_count": u32(groups), f"{arch}.expert_group_used_count": u32(used)}


def rules(
    module: str = "mlp.experts",
    *,
    gate: str = "gate_proj",
    up: str = "up_proj",
    down: str = "down_proj",
    size: str = "expert_ffn",
) -> tuple[Rule, ...]:
    """The stacked matrices of all experts: from one tensor for each, or from the stacks of transformers 5.

    The sizes must have `experts` and, by the name `size`, the width of an expert.
    """
    source = f"{LAYER}.{module}"
    return (
        Rule(
            f"{BLOCK}.ffn_gate_exps.weight", f"{source}.{{e}}.{gate}.weight", (size, "hidden"), stacked(size, "hidden")
        ),
        Rule(f"{BLOCK}.ffn_up_exps.weight", f"{source}.{{e}}.{up}.weight", (size, "hidden"), stacked(size, "hidden")),
        Rule(
            f"{BLOCK}.ffn_down_exps.weight", f"{source}.{{e}}.{down}.weight", ("hidden", size), stacked("hidden", size)
        ),
        *fused_rules(f"{source}.gate_up_proj", f"{source}.down_proj", size=size),
    )


def fused_rules(gate_up: str, down: str, *, size: str = "expert_ffn") -> tuple[Rule, ...]:
    """The matrices of all experts from two stacks, the first with the gate and then the up of each expert."""
    both = ("experts", f"2 {size}", "hidden")
    return (
        Rule(f"{BLOCK}.ffn_gate_exps.weight", gate_up, both, half_of_each(0, size)),
        Rule(f"{BLOCK}.ffn_up_exps.weight", gate_up, both, half_of_each(1, size)),
        Rule(f"{BLOCK}.ffn_down_exps.weight", down, ("experts", "hidden", size)),
    )


def shared_rules(module: str = "mlp.shared_experts", *, size: str = "shared_ffn") -> tuple[Rule, ...]:
    """The matrices of an expert, or of several in one, that every token passes."""
    return tuple(
        replace(rule, name=rule.name.replace(".weight", "_shexp.weight"))
        for rule in decoder.feed_forward(module=module, size=size)
    )


def stacked(*shape: str) -> Callable[[Sizes], Transform]:
    """All experts' matrices of this shape as one tensor."""
    return lambda sizes: stack(sizes["experts"], tuple(sizes[name] for name in shape))


def half_of_each(half: int, size: str) -> Callable[[Sizes], Transform]:
    """The first or second half of the rows of each expert's matrix."""

    def make(sizes: Sizes) -> Transform:
        rows, count = sizes[size], sizes["experts"]
        firsts = [(2 * number + half) * rows for number in range(count)]
        return Join(tuple(Segment(0, first, first + rows) for first in firsts), (count, rows, sizes["hidden"]))

    return make

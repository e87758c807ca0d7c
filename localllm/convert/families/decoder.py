"""What most decoders since Llama share: sizes, keys, and rules for embeddings, attention and feed-forward.

A family takes the parts that are its own and adds the odd rule. The names are those of transformers under `model.`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from localllm.convert.config import Config
from localllm.convert.families import Extra, Rule, Sizes, rope
from localllm.convert.header import Keys, f32, flags, u32
from localllm.convert.transforms import Compute, Interleave, Keep, Transform, part, plus_one, regroup
from localllm.errors import BadCheckpoint, UnsupportedModel

LAYER, BLOCK = "model.layers.{i}", "blk.{i}"

INV_FREQ = r"\.rotary_emb\.inv_freq$"
"""Frequencies that old checkpoints store although they follow from the configuration."""


def head_dim(config: Config) -> int:
    """Numbers in one head of attention."""
    return config.count("head_dim", config.count("hidden_size") // config.count("num_attention_heads"))


def kv_heads(config: Config) -> int:
    """Heads of keys and values; as many as of queries where the file does not say."""
    return config.count("num_key_value_heads", config.count("num_attention_heads"))


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name.

    Raises:
        BadCheckpoint: heads that do not fit together.
    """
    heads, size = config.count("num_attention_heads"), head_dim(config)
    if heads % kv_heads(config) or size % 2:
        raise BadCheckpoint(
            f"config.json: {heads} heads of {size} with {kv_heads(config)} key-value heads do not fit together."
        )
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": config.count("hidden_size"),
        "ffn": config.count("intermediate_size"),
        "head": size,
        "q": heads * size,
        "kv": kv_heads(config) * size,
    }


_EPSILONS = {"rms_norm_eps": "layer_norm_rms_epsilon", "layer_norm_eps": "layer_norm_epsilon"}


def hyperparameters(config: Config, arch: str, epsilon: str = "rms_norm_eps") -> Keys:
    """The keys of sizes, positions and norms, in the order of the reference converter.

    `epsilon` is what config.json calls that of the norms; the name tells whether they subtract the mean.
    """
    return {
        f"{arch}.block_count": u32(config.count("num_hidden_layers")),
        f"{arch}.context_length": u32(config.count("max_position_embeddings")),
        f"{arch}.embedding_length": u32(config.count("hidden_size")),
        f"{arch}.feed_forward_length": u32(config.count("intermediate_size")),
        f"{arch}.attention.head_count": u32(config.count("num_attention_heads")),
        f"{arch}.attention.head_count_kv": u32(kv_heads(config)),
        **rope.keys(config.rope, arch),
        f"{arch}.attention.{_EPSILONS[epsilon]}": f32(config.number(epsilon)),
        f"{arch}.attention.key_length": u32(head_dim(config)),
        f"{arch}.attention.value_length": u32(head_dim(config)),
        f"{arch}.rope.dimension_count": u32(rope.dims(config, head_dim(config))),
    }


def llama_hyperparameters(config: Config, arch: str) -> Keys:
    """The same, with the size of the vocabulary that the reference names for what it derives from Llama."""
    return {**hyperparameters(config, arch), f"{arch}.vocab_size": u32(config.count("vocab_size"))}


def factors(config: Config) -> list[Extra]:
    """The tensor of factors of `llama3` rotary positions on whole heads."""
    return rope.extras(config, head_dim(config))


def sliding_layers(config: Config) -> list[bool]:
    """Which layers attend to a window only: by `layer_types`, or by the pattern that older files have instead.

    Raises:
        BadCheckpoint: not one type for each layer.
        UnsupportedModel: another type of layer.
    """
    layers = config.count("num_hidden_layers")
    kinds, pattern = config.get("layer_types"), config.get("sliding_window_pattern")
    if kinds is None and isinstance(pattern, str) and pattern:
        letters = {"L": "sliding_attention", "G": "full_attention"}
        kinds = [letters.get(pattern[layer % len(pattern)], pattern) for layer in range(layers)]
    elif kinds is None:
        every = config.count("sliding_window_pattern")
        kinds = ["full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(layers)]
    return layers_of("sliding_attention", config, kinds)


def window(config: Config, arch: str) -> Keys:
    """The keys of a sliding window: its length, and which layers slide it."""
    return {
        f"{arch}.attention.sliding_window": u32(config.count("sliding_window")),
        f"{arch}.attention.sliding_window_pattern": flags(sliding_layers(config)),
    }


def layers_of(kind: str, config: Config, kinds: Any, other: str = "full_attention") -> list[bool]:
    """Which layers are of a kind, by a list of `kinds` that should have one for each layer.

    Raises:
        BadCheckpoint: not one for each layer.
        UnsupportedModel: a kind that is not `other` either.
    """
    layers = config.count("num_hidden_layers")
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise BadCheckpoint(f"config.json: layer_types is {str(kinds)[:60]}, not a list of {layers} types.")
    unknown = next((found for found in kinds if found not in (kind, other)), None)
    if unknown is not None:
        raise UnsupportedModel(f"config.json: a layer of {config.architecture} with {unknown!r} is not converted.")
    return [found == kind for found in kinds]


def whole_hidden(config: Config) -> None:
    """Refuse heads that are together not as wide as the hidden state, where llama.cpp takes that for granted.

    Raises:
        UnsupportedModel: they are not.
    """
    width = config.count("num_attention_heads") * head_dim(config)
    if width != config.count("hidden_size"):
        raise UnsupportedModel(
            f"config.json: heads of {head_dim(config)} make {width}, not the hidden size; "
            f"llama.cpp runs {config.architecture} only where they are the same."
        )


def next_layers(config: Config) -> int:
    """How many layers behind the last one predict the tokens after the next."""
    return config.whole("num_nextn_predict_layers")


def refuse(config: Config) -> None:
    """Refuse another activation than SiLU and rotary positions that are not usual."""
    config.only("hidden_act", "silu")
    rope.refuse(config)


GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python", "gelu_python_tanh")
"""The activations that llama.cpp's graphs with GELU stand for: they compute its approximation with tanh."""


def gelu_notes(config: Config, name: str = "hidden_act") -> list[str]:
    """What to tell where the activation `name` is the exact GELU."""
    if config.get(name) in ("gelu", "gelu_python"):
        return ["llama.cpp computes GELU by its approximation with tanh, which is off by at most 0.0005"]
    return []


EMBEDDING_AND_HEAD = (
    Rule("token_embd.weight", "model.embed_tokens.weight", ("vocab", "hidden")),
    Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
)

EMBEDDINGS = (*EMBEDDING_AND_HEAD, Rule("output_norm.weight", "model.norm.weight", ("hidden",)))

INPUT_NORM = Rule(f"{BLOCK}.attn_norm.weight", f"{LAYER}.input_layernorm.weight", ("hidden",))

NORMS = (
    INPUT_NORM,
    Rule(f"{BLOCK}.ffn_norm.weight", f"{LAYER}.post_attention_layernorm.weight", ("hidden",)),
)

POST_ATTENTION_NORM = Rule(
    f"{BLOCK}.post_attention_norm.weight", f"{LAYER}.post_attention_layernorm.weight", ("hidden",)
)

POST_NORMS = (
    POST_ATTENTION_NORM,
    Rule(f"{BLOCK}.post_ffw_norm.weight", f"{LAYER}.post_feedforward_layernorm.weight", ("hidden",)),
)
"""Norms of what attention and feed-forward give."""

QK_NORMS = (
    Rule(f"{BLOCK}.attn_q_norm.weight", f"{LAYER}.self_attn.q_norm.weight", ("head",)),
    Rule(f"{BLOCK}.attn_k_norm.weight", f"{LAYER}.self_attn.k_norm.weight", ("head",)),
)
"""Norms of the queries and keys of each head."""

WHOLE_QK_NORMS = (
    Rule(f"{BLOCK}.attn_q_norm.weight", f"{LAYER}.self_attn.q_norm.weight", ("q",)),
    Rule(f"{BLOCK}.attn_k_norm.weight", f"{LAYER}.self_attn.k_norm.weight", ("kv",)),
)
"""Norms of all queries and of all keys of a layer together."""


def interleave(sizes: Sizes) -> Transform:
    """The transform of q and k for graphs of llama.cpp that rotate neighbours."""
    return Interleave(sizes["head"])


def attention(*, bias: str = "", optional_bias: str = "", interleaved: bool = False) -> tuple[Rule, ...]:
    """The four matrices. `bias` has a letter (`qkvo`) for each that has a bias, `optional_bias` for each that may."""
    rules = []
    for letter, name, shape in (
        ("q", "attn_q", ("q", "hidden")),
        ("k", "attn_k", ("kv", "hidden")),
        ("v", "attn_v", ("kv", "hidden")),
        ("o", "attn_output", ("hidden", "q")),
    ):
        source = f"{LAYER}.self_attn.{letter}_proj"
        rule = Rule(f"{BLOCK}.{name}.weight", f"{source}.weight", shape)
        if interleaved and letter in "qk":
            rule = replace(rule, transform=interleave)
        rules.append(rule)
        if letter in bias + optional_bias:
            rules.append(
                replace(
                    rule,
                    name=f"{BLOCK}.{name}.bias",
                    source=f"{source}.bias",
                    shape=shape[:1],
                    optional=letter in optional_bias,
                )
            )
    return tuple(rules)


def feed_forward(
    parts: tuple[str, ...] = ("gate", "up", "down"), *, module: str = "mlp", bias: bool = False, size: str = "ffn"
) -> tuple[Rule, ...]:
    """The matrices of a feed-forward layer in `module`; with `bias` each may have one."""
    rules = []
    for name in parts:
        shape = ("hidden", size) if name == "down" else (size, "hidden")
        source = f"{LAYER}.{module}.{name}_proj"
        rules.append(Rule(f"{BLOCK}.ffn_{name}.weight", f"{source}.weight", shape))
        if bias:
            rules.append(Rule(f"{BLOCK}.ffn_{name}.bias", f"{source}.bias", shape[:1], optional=True))
    return tuple(rules)


def convolution(name: str, source: str, channels: str) -> Rule:
    """A short convolution of each channel by itself. The sizes must have its length, `kernel`."""
    return Rule(name, source, (channels, 1, "kernel"), lambda sizes: Keep((sizes[channels], sizes["kernel"])))


def with_bias(rule: Rule, *, optional: bool = False) -> tuple[Rule, Rule]:
    """The rule of a matrix or a norm, and that of its bias. An `optional` bias may be missing."""
    name, source = (text.removesuffix("weight") + "bias" for text in (rule.name, rule.source))
    return rule, replace(rule, name=name, source=source, shape=rule.shape[:1], optional=optional or rule.optional)


def norm(name: str, source: str) -> tuple[Rule, Rule]:
    """A layer norm with a bias."""
    return with_bias(Rule(f"{name}.weight", f"{source}.weight", ("hidden",)))


def qkv_by_head(source: str) -> Rule:
    """One matrix with q, k and v of a head behind each other, brought to all q, all k, all v."""

    def regrouped(sizes: Sizes) -> Transform:
        head = sizes["head"]
        return regroup(sizes["hidden"] // head, (head, head, head))

    return Rule(f"{BLOCK}.attn_qkv.weight", source, ("3 hidden", "hidden"), regrouped)


def fused(names: tuple[str, ...], source: str, size: str) -> tuple[Rule, ...]:
    """Matrices of `size` rows that the checkpoint holds as one, one below the other."""

    def rows(number: int) -> Callable[[Sizes], Transform]:
        return lambda sizes: part(number * sizes[size], (number + 1) * sizes[size], sizes["hidden"])

    shape = (f"{len(names)} {size}", "hidden")
    return tuple(Rule(name, source, shape, rows(number)) for number, name in enumerate(names))


def only_when(condition: Callable[[Config, int], bool], rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The same rules for the configurations and layers for which the condition holds."""
    return tuple(replace(rule, when=condition) for rule in rules)


def norms_plus_one(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The same rules, where norms are stored as the difference from one."""
    return tuple(
        replace(rule, transform=lambda _: Compute(plus_one)) if rule.name.endswith("norm.weight") else rule
        for rule in rules
    )

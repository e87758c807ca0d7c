#!/usr/bin/env python3
"""Makes docs/families.md: the architectures that are converted, how far their logits are from those of transformers,
which tokenizers they come with, and where llama.cpp cannot match.

    python tools/family_table.py

Converts every golden of tests/convert and runs it in llama.cpp; needs what the tests need, not torch. Errors are
rounded up to a power of ten, so that processors agree.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script finds only its own folder by itself.
sys.path.insert(0, str(ROOT))

from localllm.convert import convert
from localllm.convert.config import Config
from localllm.convert.families import Family, known
from localllm.convert.vocabulary.pretokenizers import KNOWN
from localllm.errors import UnsupportedModel
from tests.convert.golden import Golden, error, goldens, llama_outputs, write_checkpoint
from tests.convert.test_goldens import LIMIT
from tests.convert.test_refused import REFUSED

PATH = ROOT / "docs" / "families.md"

TOKENIZERS = {
    "SentencePiece": "Llama Mistral Mixtral Gemma Gemma2 Gemma3 Gemma3n Gemma3Text Phi3 Nemotron "
    "Ernie4_5 Ernie4_5_ Ernie4_5_Moe",
    "Unigram": "XLMRoberta",
    "WordPiece": "Bert DistilBert",
    "gpt-2": "GPT2 GPTNeoX Mamba",
    "llama-bpe": "Llama",
    "smollm": "Llama",
    "tekken": "Mistral Ministral Ministral3 Mistral3 Apertus",
    "qwen2": "Qwen2 Qwen2Moe Qwen3 Qwen3Moe Qwen3Next",
    "bloom": "Bloom",
    "falcon": "Falcon RW FalconMamba",
    "starcoder": "Starcoder2",
    "stablelm2": "StableLm StableLMEpoch",
    "olmo": "Olmo Olmoe",
    "dbrx": "Olmo2 Olmo3 Phi3",
    "refact": "Granite GraniteMoe GraniteMoeShared",
    "command-r": "Cohere Cohere2",
    "smaug-bpe": "SmolLM3",
    "exaone4": "Exaone4",
    "seed-coder": "SeedOss",
    "chatglm-bpe": "Glm",
    "glm4": "Glm4",
    "hunyuan-dense": "HunYuanDenseV1",
    "deepseek-llm": "DeepseekV2",
    "deepseek-v3": "DeepseekV3",
    "gpt-4o": "GptOss Phi3",
    "minimax-m2": "MiniMaxM2",
    "phi-2": "Phi",
    "lfm2": "Lfm2 LFM2",
    "roberta-bpe": "Roberta",
}
"""Tokenizers by llama.cpp's names, and the architectures whose published models come with them.

Source: the list of models in `get_vocab_base_pre` and the `set_vocab` of each family in llama.cpp's converter.
"""

_ENDING = re.compile(r"(For\w+|LMHeadModel|Model)$")

DIFFERENCES: Mapping[str, Mapping[str, object]] = {
    "mistral": {"sliding_window": 64},
    "starcoder2": {"hidden_act": "gelu"},
    "phi3-longrope": {},
    "deepseek-v2": {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3},
    "deepseek-v3": {"rms_norm_eps": 1e-5},
    "falcon-mamba": {"mixer_rms_eps": 1e-5, "layer_norm_epsilon": 1e-6},
    "gpt-oss": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "truncate": False}},
}
"""Goldens, and changes of their configuration with which the conversion says that llama.cpp differs a little."""


def main() -> int:
    PATH.write_text(page(exponents(goldens())), encoding="utf-8")
    return 0


def exponents(cases: Iterable[Golden]) -> dict[str, int]:
    """For each architecture the power of ten that no golden's normalized mean squared error is above."""
    found: dict[str, int] = {}
    for golden in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = convert(write_checkpoint(golden, Path(folder) / "tiny"), Path(folder) / "x.gguf", type="F32").outfile
            value = error(golden.outputs, llama_outputs(path, embeds=golden.embeds))
        print(f"{golden.name}: {value:.1e}", file=sys.stderr)
        exponent = math.ceil(math.log10(max(value, 1e-16)))
        for name in architectures(golden):
            found[name] = max(exponent, found.get(name, exponent))
    return found


def architectures(golden: Golden) -> set[str]:
    """As config.json names them in either dialect."""
    return {config["architectures"][0] for config in (golden.config, golden.old_config)}


def page(errors: Mapping[str, int]) -> str:
    """The whole file. `errors` are exponents of ten by architecture."""
    return "\n".join([*_head(), *_families(errors), "", *_tokenizers(), "", *_differences(), "", *_refused(), ""])


def errors_of(text: str) -> dict[str, int]:
    """The exponents that a page has."""
    rows = re.findall(r"^\| (`[^|]+`) \|.*\| 1e(-\d+) \|", text, re.MULTILINE)
    return {name: int(exponent) for names, exponent in rows for name in re.findall(r"\w+", names)}


def _head() -> list[str]:
    return [
        "# Families",
        "",
        "Made by `tools/family_table.py`. A tiny checkpoint with random weights, norms and biases is converted to F32",
        "and run by llama.cpp; the error is the normalized mean squared error of its logits (of encoders: its hidden",
        "states) against those of transformers, the worst of the checkpoints named, rounded up to a power of ten. The",
        f"gate is {LIMIT:g} and the same likeliest token. Both dialects of `config.json` give the same file.",
        "",
    ]


def _families(errors: Mapping[str, int]) -> Iterator[str]:
    yield "| `architectures` in config.json | in llama.cpp | converts | logits | tokenizers | checkpoints |"
    yield "| --- | --- | --- | --- | --- | --- |"
    rows: dict[str, list[str]] = {}
    for name, family in sorted(known().items(), key=lambda item: (item[1].arch, item[0])):
        cases = ", ".join(golden.name for golden in goldens() if name in architectures(golden))
        row = f"{family.arch} | yes | 1e{errors[name]} | {', '.join(tokenizers(name))} | {cases} |"
        rows.setdefault(row, []).append(f"`{name}`")
    for row, names in rows.items():
        yield f"| {', '.join(names)} | {row}"


def tokenizers(architecture: str) -> list[str]:
    """Those that published models of an architecture come with; empty where llama.cpp's converter does not say."""
    stem = _ENDING.sub("", architecture)
    return [kind for kind, stems in TOKENIZERS.items() if stem in stems.split()] or ["by structure"]


def _tokenizers() -> Iterator[str]:
    yield from [
        "## Tokenizers",
        "",
        "Every conversion compares token ids with the `tokenizers` library on some 3,500 texts. What differs is",
        "refused, unless `--allow-tokenizer-mismatch` is given, or llama.cpp does it with every file of the kind: that",
        "is told, with the number of texts. It concerns what the table says of accents, marks and long words, and in",
        "any kind spaces before a text and around special tokens that the original strips, and special tokens that it",
        "finds as whole words only. These are the tokenizers that published models come with, as llama.cpp calls them;",
        "what is not here is found by its structure, or by trying.",
        "",
        "| tokenizer | parity |",
        "| --- | --- |",
        "| SentencePiece | the same ids |",
        "| Unigram | the same ids, but for marks behind a letter that was composed already |",
        "| WordPiece | the same ids, but where llama.cpp strips accents that the original keeps, as in Indic scripts, "
        "and in words of more than 100 characters |",
    ]
    for way in KNOWN:
        names = [name for name in (way.name, *way.same) if name in TOKENIZERS]
        parity = "; ".join(limit.says for limit in way.limits)
        if names:
            yield f"| {', '.join(names)} | {f'refused: {parity}' if parity else 'the same ids'} |"


def _differences() -> Iterator[str]:
    yield from ["## Converted, and llama.cpp differs a little", "", "The conversion says so in these words.", ""]
    cases = {golden.name: golden for golden in goldens()}
    for name, change in DIFFERENCES.items():
        family, config = read(cases[name], change)
        for note in family.notes(config):
            yield f"- `{config.architecture}`: {note}."


def _refused() -> Iterator[str]:
    yield from [
        "## Refused, because llama.cpp cannot match",
        "",
        "Examples of configurations, and what the conversion says of them. Any other setting that a graph does not",
        "compute is refused by its name.",
        "",
    ]
    cases = {golden.name: golden for golden in goldens()}
    found: dict[str, tuple[str, list[str]]] = {}
    for name, change, _ in REFUSED:
        says, architecture = refusal(cases[name], change), cases[name].config["architectures"][0]
        if "llama.cpp" in says:
            # The same thing said of other numbers or another family.
            skeleton = re.sub(r"\d+|\[.*\]|None|True|False", "", says.replace(architecture, ""))
            found.setdefault(skeleton, (says.replace(architecture, "it"), []))[1].append(f"`{architecture}`")
    for says, names in found.values():
        yield f"- {', '.join(dict.fromkeys(names))}: {says}"


def refusal(golden: Golden, change: Mapping[str, object]) -> str:
    """What is said of the configuration of a golden with some other values; empty when it is converted."""
    try:
        family, config = read(golden, change)
        family.refuse(config)
        family.hyperparameters(config, family.arch)
    except UnsupportedModel as refused:
        return str(refused).removeprefix("config.json: ")
    return ""


def read(golden: Golden, change: Mapping[str, object]) -> tuple[Family, Config]:
    """The family and the configuration of a golden with some other values."""
    values = {**golden.config, **change}
    family = known()[values["architectures"][0]]
    return family, family.complete(Config(values))


if __name__ == "__main__":
    sys.exit(main())

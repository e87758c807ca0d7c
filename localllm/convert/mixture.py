"""Which type each tensor gets for a quantization, decided by libllama itself, and the file that follows.

Writes a GGUF that has a header but a hole for a body, and lets `llama_model_quantize` say in a dry run what it would
do. Knows no rule of any mixture, so there is none to keep up with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localllm.convert.header import Keys, lay_out, u32
from localllm.convert.plan import PlannedTensor
from localllm.convert.scratch import skeleton
from localllm.errors import UnsupportedModel
from localllm.native import quants

TYPES = (
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_1",
    "Q4_0",
    "IQ4_NL",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "Q2_K",
)
"""What `--type` may be, the largest first."""

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
"""Names that llama-quantize understands as well, and two that people type."""

NEED_IMATRIX = ("Q2_K_S", "IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XS", "IQ3_XXS")
"""Types that llama.cpp refuses to make without an importance matrix."""

FLOAT_TYPES = ("F32", "F16", "BF16")

_LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), size =[^\n(]*(?:\((\w+)\))?\n")


def parse_type(name: str) -> str:
    """The quantization type that a person means by `name`: any case, with or without the usual suffix.

    Raises:
        UnsupportedModel: there is no such type, or it needs an importance matrix.
    """
    wanted = name.strip().upper().replace("-", "_")
    wanted = ALIASES.get(wanted, wanted)
    if wanted in TYPES:
        return wanted
    if wanted in NEED_IMATRIX:
        raise UnsupportedModel(
            f"{wanted} needs an importance matrix, which convert does not take yet.",
            hint="Q2_K is the smallest type that needs none.",
        )
    near = difflib.get_close_matches(wanted, TYPES, n=3, cutoff=0.4)
    raise UnsupportedModel(
        f"There is no quantization type {name!r}.",
        hint=f"{'Nearest' if near else 'Known'}: {', '.join(near or TYPES)}.",
    )


@dataclass(frozen=True)
class Mixture:
    """The type of every tensor, and how many could not have the one they were meant to have.

    A type packs a row in blocks of 32 or 256 numbers; a row that does not fill them gets another type.
    """

    types: Mapping[str, str]
    fallbacks: int


def choose_types(keys: Keys, tensors: Sequence[PlannedTensor], half: str, file_type: str) -> Mixture:
    """The type of every tensor for `file_type`. `half` is the 16-bit type that is quantized.

    Raises:
        BadModelFile: libllama refuses the model that the keys describe.
        BadOutput: the folder for temporary files cannot be written.
        UnsupportedModel: it would need an importance matrix.
    """
    infos = [(tensor.name, tensor.shape[::-1], "F32" if tensor.keeps_f32 else half) for tensor in tensors]
    layout = lay_out(keys, infos)
    with skeleton(layout) as path:
        log = quants.quantize_file(path, path.with_name("never-written.gguf"), file_type, dry_run=True)
    if "will require an imatrix" in log:
        raise UnsupportedModel(f"{file_type} needs an importance matrix for this model.", hint="Choose a larger type.")
    types = _types_in(log, {name: kind for name, _, kind in infos})
    return Mixture(types, log.count("-> falling back to"))


def _types_in(log: str, before: Mapping[str, str]) -> dict[str, str]:
    found = {name: (after or kind).upper() for name, kind, after in _LINE.findall(log)}
    if found.keys() != before.keys():
        raise UnsupportedModel(
            "This version of llama.cpp words the log of its quantizer in a way that is not known.",
            hint="Install the version of llama-cpp-python that this release was tested with.",
        )
    return found


def file_keys(keys: Keys, file_type: str) -> Keys:
    """All keys, with the two that llama.cpp's quantizer appends."""
    return {
        **keys,
        "general.quantization_version": u32(2),
        "general.file_type": u32(quants.FILE_TYPE_IDS[file_type]),
    }

"""What a person asks of a conversion, apart from where it comes from and where it goes.

Every option is a field with a safe default. Knows no reason behind any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from localllm.convert.quantizations import parse_type


@dataclass(frozen=True)
class Settings:
    """The options of a conversion.

    Attributes:
        type: the quantization type, in any case.
        imatrix: the file of an importance matrix, as `llama-imatrix` of llama.cpp writes it.
        tensor_types: pairs of a regular expression and the type of the tensors in whose names it is found; the first
            that fits counts. The types of all other tensors stay what they are.
        output_type: the type of the output matrix, or of the token embeddings where they are the output matrix.
        embedding_type: the type of the token embeddings.
        pure: quantize all matrices to the same type, where they have one of their own in a mixture.
        exact_source: quantize from the numbers of the checkpoint itself. By default numbers in F32 are rounded to 16
            bits first, as llama.cpp's converter does, so that the bytes are the same.
        metadata: pairs of a key and its value as a person writes it; see `with_metadata`.
        prune_layers: numbers of layers to leave out.
        split_max_size: the most bytes of tensors in a file; a larger model goes to several files. None is no limit.
        allow_tokenizer_mismatch: write the file although llama.cpp reads text differently than the checkpoint's
            tokenizer.
        verify: look at a part of every tensor after it was quantized, and render the chat template both ways.
        hash_source: read the files of the weights once more to tell their SHA-256 in the metadata, where the hub's
            records of a download do not tell it.
    """

    type: str = "Q4_K_M"
    imatrix: Path | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()
    output_type: str | None = None
    embedding_type: str | None = None
    pure: bool = False
    exact_source: bool = False
    metadata: tuple[tuple[str, str], ...] = ()
    prune_layers: tuple[int, ...] = ()
    split_max_size: int | None = None
    allow_tokenizer_mismatch: bool = False
    verify: bool = True
    hash_source: bool = False


def settled(type: str | None, settings: Settings | None) -> Settings:
    """`settings` or the defaults, with `type` before its own when it is given, and the type by its proper name.

    Raises:
        UnsupportedModel: there is no such type.
    """
    settings = settings or Settings()
    return replace(settings, type=parse_type(type or settings.type))

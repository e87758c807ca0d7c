"""Models that also see or hear, of which the GGUF holds the language model: names of tensors, and what is left out.

Knows the names under which transformers 5 and older versions save the parts.
"""

from __future__ import annotations

RENAMES = (
    (r"^(model\.language_model|language_model\.model)\.", "model."),
    (r"^language_model\.lm_head\.", "lm_head."),
)
"""From the names of a language model inside another to those that it has when it stands alone."""

LEFT_OUT = (
    (
        r"^(model\.)?(vision_tower|vision_model|vision_embedder|multi_modal_projector|embed_vision)\.",
        "The part of the model that sees is left out: the file reads text only",
    ),
    (
        r"^(model\.)?(audio_tower|embed_audio)\.",
        "The part of the model that hears is left out: the file reads text only",
    ),
)

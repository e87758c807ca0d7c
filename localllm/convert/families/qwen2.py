"""Qwen2 and Qwen2.5: Llama's layers with a bias on queries, keys and values, rotated in halves."""

from __future__ import annotations

from localllm.convert.families import Family, decoder, rope

FAMILY = Family(
    arch="qwen2",
    defaults={
        "Qwen2ForCausalLM": {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 22016,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
        },
    },
    dimensions=decoder.dimensions,
    hyperparameters=decoder.hyperparameters,
    refuse=decoder.refuse,
    extras=lambda config: rope.extras(config, decoder.head_dim(config)),
    rules=decoder.EMBEDDINGS,
    layer_rules=(*decoder.NORMS, *decoder.attention(bias="qkv"), *decoder.feed_forward()),
    ignored=(decoder.INV_FREQ,),
)

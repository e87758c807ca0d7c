"""Configurations that llama.cpp would compute otherwise than transformers: refused by the name of what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.convert.config import Config
from localllm.convert.families import known
from localllm.errors import UnsupportedModel
from tests.convert.golden import goldens

GOLDENS = {golden.name: golden for golden in goldens()}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}

PROPORTIONAL = {"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"hidden_act": "relu"}, "hidden_act"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("bert", {"is_decoder": True}, "is_decoder"),
    ("distilbert", {"sinusoidal_pos_embds": True}, "sinusoidal_pos_embds"),
    ("starcoder2", {"use_bias": False}, "use_bias"),
    ("starcoder2", {"rope_parameters": LLAMA3}, "llama3"),
    ("hunyuan-dense", {"rope_parameters": LLAMA3}, "llama3"),
    ("stablelm", {"hidden_act": "gelu"}, "hidden_act"),
    ("nemotron", {"hidden_act": "silu"}, "hidden_act"),
    ("nemotron", {"head_dim": 32}, "heads of 32 make 128"),
    ("mamba", {"use_conv_bias": False}, "use_conv_bias"),
    ("mamba", {"expand": 3, "intermediate_size": None}, "inner size is 192"),
    ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation"),
    ("gemma2", {"attention_bias": True}, "attention_bias"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("gemma2", {"query_pre_attn_scalar": 144}, "attention here by 32"),
    ("gemma2", {"num_hidden_layers": 46, "layer_types": None}, "attention here by 16"),
    ("gemma2", {"attn_logit_softcapping": None}, "attn_logit_softcapping is null"),
    ("gemma2", {"rope_parameters": LLAMA3}, "llama3"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gemma3", {"query_pre_attn_scalar": 168}, "query_pre_attn_scalar is 168"),
    ("gemma3", {"rope_parameters": {"full_attention": YARN, "sliding_attention": None}}, "yarn"),
    ("gemma3", {"rope_parameters": {"full_attention": None, "sliding_attention": YARN}}, "yarn"),
    ("embeddinggemma", {"use_bidirectional_attention": False}, "attends to both sides"),
    ("gemma3n", {"final_logit_softcapping": None}, "final_logit_softcapping is null"),
    ("gemma3n", {"final_logit_softcapping": 25.0}, "final_logit_softcapping is 25.0"),
    ("gemma3n", {"laurel_rank": 32}, "laurel_rank"),
    ("gemma3n", {"altup_num_inputs": 2}, "altup_num_inputs"),
    ("gemma3n", {"hidden_size_per_layer_input": 128}, "hidden_size_per_layer_input"),
    ("gemma3n", {"num_kv_shared_layers": 4}, "18 of 22 layers have keys and values of their own"),
    ("gemma3n", {"layer_types": ["full_attention"] * 22}, "one with a window and one without"),
    ("gemma3n", {"activation_sparsity_pattern": [0.0] * 22}, "activation_sparsity_pattern"),
    ("gemma3n", {"intermediate_size": [1024] * 21 + [512]}, "all layers have one intermediate_size"),
    ("gemma4", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
    ("gemma4", {"num_kv_shared_layers": 3}, "one with a window and one without"),
    ("gemma4", {"per_layer_config": {"5": {"head_dim": 32}}}, "per_layer_config"),
    ("gemma4", {"per_layer_config": {"3": {"head_dim": 32}, "5": {"head_dim": 64}}}, "per_layer_config"),
    ("gemma4-moe", {"per_layer_config": {"5": {"head_dim": 32, "sliding_window": 7}}}, "per_layer_config"),
    ("gemma4", {"rope_parameters": {"full_attention": {**PROPORTIONAL, "factor": 2.0}}}, "also scaled"),
    ("gemma4", {"rope_parameters": {"full_attention": YARN}}, "yarn"),
    ("gemma4", {"rope_parameters": {"full_attention": PROPORTIONAL, "sliding_attention": YARN}}, "yarn"),
    ("lfm2", {"conv_bias": True}, "conv_bias"),
    ("lfm2", {"layer_types": ["conv", "full_attention", "conv", "sliding_attention"]}, "sliding_attention"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
    ("qwen2", {"rope_parameters": LLAMA3}, "llama3"),
    ("qwen2-moe", {"norm_topk_prob": True}, "norm_topk_prob"),
    ("qwen2-moe", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("qwen2-moe", {"head_dim": 32}, "heads of 32 make 128"),
    ("qwen3", {"attention_bias": True}, "attention_bias"),
    ("qwen3-moe", {"norm_topk_prob": False}, "norm_topk_prob"),
    ("qwen3-moe", {"mlp_only_layers": [0]}, "mlp_only_layers"),
    ("qwen3-moe", {"decoder_sparse_step": 2}, "decoder_sparse_step"),
    ("qwen3-next", {"norm_topk_prob": False}, "norm_topk_prob"),
    ("qwen3-next", {"linear_value_head_dim": 32}, "linear_value_head_dim"),
    ("qwen3-next", {"layer_types": ["linear_attention"] * 3 + ["sliding_attention"]}, "sliding_attention"),
    ("mistral3", {"text_config": {"kv_lora_rank": 64}}, "Mistral 4"),
    ("ministral3", {"rope_parameters": {"rope_theta": 1e4, "llama_4_scaling_beta": 0.1}}, "llama_4_scaling_beta"),
    ("olmo", {"attention_bias": True}, "attention_bias"),
    ("olmo", {"head_dim": 32}, "heads of 32 make 128"),
    ("olmo2", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("olmo2", {"rope_parameters": LLAMA3}, "llama3"),
    ("olmo3", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "one for all"),
    ("olmo3", {"rope_parameters": {"sliding_attention": YARN}}, "'yarn'"),
    ("olmoe", {"norm_topk_prob": True}, "norm_topk_prob"),
    ("olmoe", {"clip_qkv": 8.0}, "clip_qkv is 8.0"),
    ("olmoe", {"num_key_value_heads": 2}, "num_key_value_heads"),
    ("granite", {"hidden_act": "gelu"}, "hidden_act"),
    ("cohere", {"use_qk_norm": True}, "use_qk_norm"),
    ("cohere-qk-norm", {"use_qk_norm": False}, "use_qk_norm"),
    ("cohere", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("cohere", {"head_dim": 32}, "heads of 32 make 128"),
    ("cohere2", {"attention_bias": True}, "attention_bias"),
    ("cohere2", {"rotary_pct": 0.5}, "rotary_pct"),
    ("cohere2", {"layer_types": ["full_attention"] * 3 + ["chunked_attention"]}, "chunked_attention"),
    ("smollm3", {"no_rope_layers": [1, 0, 1, 0, 1]}, "no_rope_layers"),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}, "no_rope_layers"),
    ("smollm3", {"use_sliding_window": True}, "use_sliding_window"),
    ("exaone4", {"sliding_window": 5}, "slides a window in models of 64 layers"),
    ("exaone4-hybrid", {"sliding_window": None}, "slides a window in models of 64 layers"),
    ("seed-oss", {"attention_out_bias": True}, "attention_out_bias"),
    ("seed-oss", {"rope_parameters": LLAMA3}, "llama3"),
    ("arcee", {"hidden_act": "silu"}, "hidden_act"),
    ("arcee", {"attention_bias": True}, "attention_bias"),
    ("glm", {"head_dim": 32}, "heads of 32 make 128"),
    ("glm4", {"rope_parameters": LLAMA3}, "llama3"),
    ("ernie4.5", {"use_bias": True}, "use_bias"),
    ("ernie4.5-moe", {"moe_layer_interval": 2}, "moe_layer_interval"),
    ("ernie4.5-moe", {"moe_layer_end_index": 1}, "moe_layer_end_index"),
    ("ernie4.5-moe", {"moe_num_experts": [4, 4]}, "moe_num_experts"),
    ("hunyuan-dense", {"use_cla": True}, "use_cla"),
    ("hunyuan-dense", {"num_experts": 8}, "num_experts"),
    ("apertus", {"hidden_act": "silu"}, "hidden_act"),
    ("apertus", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("phi3", {"hidden_act": "gelu"}, "hidden_act"),
    ("phi3", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "llama3"),
    ("phi2", {"qk_layernorm": True}, "qk_layernorm"),
    ("phi2", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("pythia", {"hidden_act": "relu"}, "hidden_act"),
    ("pythia", {"attention_bias": False}, "attention_bias"),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
    ("falcon-7b", {"alibi": True}, "alibi"),
    ("falcon-7b", {"bias": True}, "bias"),
    ("falcon-7b", {"parallel_attn": False}, "parallel_attn"),
    ("falcon-40b", {"activation": "silu"}, "activation"),
    ("deepseek-v2", {"norm_topk_prob": True}, "norm_topk_prob"),
    ("deepseek-v2", {"scoring_func": "sigmoid"}, "scoring_func"),
    ("deepseek-v2", {"num_hidden_layers": 27}, "q_lora_rank with 27 layers"),
    ("deepseek-v3", {"num_hidden_layers": 48, "vocab_size": 128256}, "q_lora_rank with 48 layers"),
    ("deepseek-v2", {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}}, "mscale_all_dim 0.5"),
    ("deepseek-v2", {"rope_parameters": YARN}, "mscale None"),
    ("deepseek-v3", {"scoring_func": "softmax"}, "scoring_func"),
    ("deepseek-v3", {"rope_interleave": False}, "rope_interleave"),
    ("deepseek-v3", {"attention_bias": True}, "attention_bias"),
    ("gpt-oss", {"swiglu_limit": 3.0}, "swiglu_limit"),
    ("gpt-oss", {"attention_bias": False}, "attention_bias"),
    ("minimax-m2", {"qk_norm_type": "per_head"}, "qk_norm_type"),
    ("minimax-m2", {"shared_intermediate_size": 64}, "shared_intermediate_size"),
]


@pytest.mark.parametrize(("name", "change", "named"), REFUSED, ids=[f"{n}-{'-'.join(c)}" for n, c, _ in REFUSED])
def test_what_llama_cpp_does_not_compute_is_refused_by_name(name: str, change: dict[str, Any], named: str) -> None:
    config = GOLDENS[name].config
    _read(config)
    with pytest.raises(UnsupportedModel) as caught:
        _read(config | change)
    assert named in str(caught.value)


def _read(values: dict[str, Any]) -> None:
    family = known()[values["architectures"][0]]
    config = family.complete(Config(values))
    family.refuse(config)
    family.hyperparameters(config, family.arch)

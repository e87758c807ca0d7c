/* Included before every C++ file of llama.cpp where the processor computes with halves (AVX512-FP16).
 *
 * There llama.cpp (ggml 0.25.3, simd-mappings.h) adds up the values of the attention 128 halves at a time and what is
 * left over one by one: with heads of 64, as small models have, all of them. In steps of one register, 32, decoding
 * SmolLM2-135M at a depth of 2,048 with flash attention is 2.4 times as fast; docs/experiments.md has the figures. What
 * went one by one is rounded otherwise then, which no perplexity shows.
 */
#if defined(__cplusplus) && defined(__AVX512FP16__) && defined(__has_include)
#if __has_include("simd-mappings.h")
#include "simd-mappings.h"
#if GGML_F16_STEP == 128 && GGML_F16_EPR == 32
#undef GGML_F16_STEP
#define GGML_F16_STEP GGML_F16_EPR
#endif
#endif
#endif

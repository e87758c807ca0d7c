"""The only door to llama.cpp and ggml: no other package imports `llama_cpp`."""

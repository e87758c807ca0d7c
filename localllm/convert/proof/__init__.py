"""The proof that a GGUF is the model that it says it is, while it is written and of a file that is there."""

"""Run a GGUF: plan its memory, load it, answer with it. Knows nothing of checkpoints, chats on disk or screens."""

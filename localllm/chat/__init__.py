"""Conversations and where they are kept. Knows nothing of screens or of llama.cpp."""

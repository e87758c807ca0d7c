"""Tokenizers in the files that transformers had before tokenizer.json, brought to its form.

transformers calls these tokenizers slow. Their files do not say everything: the rest is in the code of the class that
tokenizer_config.json names, and here in `classes`. Knows nothing of llama.cpp.
"""

"""Grammars that a reply must follow: GBNF is checked, JSON schemas become GBNF. Knows neither models nor llama.cpp."""

"""Grammars that do not parse are told by line and column; the others are read as llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.errors import BadGrammar
from localllm.native import lib
from localllm.native.handles import open_model
from localllm.native.vocab import Vocab
from localllm.runtime.grammar.gbnf import check

GOOD = [
    'root ::= "a"',
    '# a comment\nroot ::= "a" | # another\n  b\nb ::= [a-z]+ # third\n',
    'root ::= ("a"\n | "b" )* "c"? [^\\n"\\]] .\n',
    'root ::= item{2} item{2,} item{0,3} item{0}\r\nitem ::= "\\x41\\u00e9\\U0001F642\\t\\\\" "é🙂"',
    "root ::= [-a] [a-] [^-] [\\-a]",
    'root ::= "" | "a" root | "(" root ")"',
    'root ::= ( ( ("a" | "b")? "c" )+ | "d" ){1,40}',
    "root ::= [0-9]{2000}",
    'root ::= b b\nb ::= ("x" y?)* \ny ::= "y" b',
]

BAD = [
    ("", "no rule 'root'"),
    ('start ::= "a"', "no rule 'root'"),
    ('root = "a"', "line 1, column 6: the name 'root' must be followed by ::="),
    ('root ::= "a"\n\n_x ::= "b"', "line 3, column 1: a rule must begin with its name"),
    ('root ::= "a', 'column 10: this text has no closing "'),
    ('root ::= "a\\q"', "column 12: unknown escape"),
    ('root ::= "\\ud800"', "is no character"),
    ('root ::= "\\U00110000"', "is no character"),
    ("root ::= [a-z", "column 10: this class has no closing ]"),
    ("root ::= [z-a]", "column 11: this range ends before it begins"),
    ("root ::= []", "no characters"),
    ('root ::= ("a" "b"', "column 10: this group has no closing )"),
    ('root ::= "a")', "column 13: this is no item"),
    ("root ::= * ", "column 10: there is nothing before the * to repeat"),
    ('root ::= ""+', "nothing before the + to repeat"),
    ('root ::= "a"{3,2}', "column 13: 2 repetitions at most are fewer than 3 at least"),
    ('root ::= "a"{x}', "repetitions is written {2}, {2,} or {2,5}"),
    ('root ::= "a"{2001}', "2,001 repetitions"),
    ('root ::= "a"{0,5000}', "5,000 repetitions"),
    ('root ::= ("a" ("b"{0,9})){0,500}', "5,500 repetitions, counted with the rules in parentheses"),
    ('root ::= "a"\nb ::= c\n', "line 2, column 7: there is no rule 'c'"),
    ('root ::= "a"\nroot ::= "b"', "line 2, column 1: the rule 'root' is there already, in line 1"),
    ('root ::= root "a" | "b"', "line 1 a rule begins with itself (root → root)"),
    ('root ::= a\na ::= e b "x" | "y"\nb ::= c a\nc ::= e\ne ::= "z" | ""', "(a → b → a)"),
    ('root ::= "a" b\nb ::= "x" (c | "y" b)\nc ::= "z" b', "in line 1 the rule 'root' has no end"),
    ("root ::= " + "(" * 101, "more than 100 parentheses"),
    ("root ::= <|im_end|>", "column 10: a token by name"),
    ('root ::= "a" !<[5]>', "column 14: a token by name"),
    ('root ::= "a\0"', "NUL"),
    ('root ::= "\ud800"', "surrogate"),
]


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_model(smollm2, vocab_only=True) as model:
        yield Vocab(model)


@pytest.mark.parametrize("text", GOOD)
def test_what_passes_is_what_llama_cpp_takes(text: str, vocab: Vocab) -> None:
    check(text)
    sampler = lib.llama().llama_sampler_init_grammar(vocab.native, text.encode(), b"root")
    assert sampler
    lib.llama().llama_sampler_free(sampler)


@pytest.mark.parametrize(("text", "told"), BAD)
def test_what_does_not_parse_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(BadGrammar) as caught:
        check(text)
    assert told in caught.value.message


def test_the_line_is_shown() -> None:
    with pytest.raises(BadGrammar) as caught:
        check('root ::= "a" |\n  "b" }\n')
    assert caught.value.hint == 'The line is:   "b" }'
    assert "line 2, column 7" in caught.value.message

"""The flags that choose how tokens are picked, with llama.cpp's names, for the commands that generate."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.cli.from_settings import FromSettings
from localllm.cli.values import fraction, not_negative, seed, tokens
from localllm.settings.schema import KEYS

if TYPE_CHECKING:
    from localllm.runtime.sampling import Sampling

TEACHING = """A model gives every token of its vocabulary a probability. Most of these
  flags cut unlikely tokens off, or make repeated ones less likely; then one of
  what is left is drawn. --temperature 0 always takes the likeliest. What is not
  given is left to the model file, else it is llama.cpp's default, in brackets."""

# (flag, type, metavar, help); the value is stored in the field of `Sampling` with the flag's name.
_FLAGS = (
    ("--temperature", not_negative, "T", "above 1 bolder, below 1 more sober, 0 greedy [0.8]"),
    ("--top-k", tokens, "N", "only the N likeliest tokens; 0 is off [40]"),
    ("--top-p", fraction, "P", "only the likeliest tokens that sum to P; 1 is off [0.95]"),
    ("--min-p", fraction, "P", "only tokens at least P times as likely as the likeliest; 0 is off [0.05]"),
    ("--typical", fraction, "P", "only tokens about as surprising as usual that sum to P; 1 is off [1]"),
    ("--top-nsigma", float, "N", "only logits within N standard deviations of the highest; -1 is off [-1]"),
    ("--xtc-probability", fraction, "P", "how often the likeliest tokens are left out; 0 is off [0]"),
    ("--xtc-threshold", fraction, "P", "all above P but the last of them are left out; above 0.5 is off [0.1]"),
    ("--dynatemp-range", not_negative, "R", "temperature between T-R and T+R, higher where unsure; 0 is off [0]"),
    ("--dynatemp-exp", not_negative, "E", "how being unsure becomes temperature: above 1 later, below sooner [1]"),
    ("--repeat-penalty", float, "R", "divides the logits of tokens that occurred; 1 is off [1]"),
    ("--presence-penalty", float, "N", "taken from the logits of tokens that occurred; 0 is off [0]"),
    ("--frequency-penalty", float, "N", "the same, for each time that they occurred; 0 is off [0]"),
    ("--repeat-last-n", int, "N", "how many tokens these three look back; -1 is the context, 0 is off [64]"),
    (
        "--dry-multiplier",
        not_negative,
        "M",
        "makes what would repeat a sequence less likely, by M at first; 0 is off [0]",
    ),
    ("--dry-base", not_negative, "B", "and B times as much for each token that the sequence is longer [1.75]"),
    ("--dry-allowed-length", tokens, "N", "sequences up to N tokens may repeat [2]"),
    ("--dry-penalty-last-n", int, "N", "how many tokens DRY looks back; -1 is the context [64]"),
    ("--mirostat", int, "1|2", "keep the surprise steady, instead of all of these but the temperature; 0 is off [0]"),
    ("--mirostat-ent", not_negative, "N", "at N bits a token [5]"),
    ("--mirostat-lr", not_negative, "N", "corrected at this rate [0.1]"),
    ("--adaptive-target", float, "P", "prefer tokens of about this probability; negative is off [-1]"),
    ("--adaptive-decay", fraction, "D", "how slowly its target follows what was picked [0.9]"),
    ("--seed", seed, "N", "the same seed gives the same text (default: drawn, and told by --json)"),
)

_FIELDS = {
    "--typical": "typical_p",
    "--top-nsigma": "top_n_sigma",
    "--dynatemp-exp": "dynatemp_exponent",
    "--mirostat-ent": "mirostat_tau",
    "--mirostat-lr": "mirostat_eta",
}


def add(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group that says what they do. `args.usage_error` must be what tells of a wrong use."""
    group = parser.add_argument_group("sampling", TEACHING)
    for flag, kind, metavar, text in _FLAGS:
        name = _field(flag)
        default = FromSettings(name) if name in KEYS else None
        group.add_argument(flag, type=kind, metavar=metavar, help=text, dest=name, default=default)
    group.add_argument(
        "--dry-sequence-breaker",
        action="append",
        metavar="TEXT",
        dest="dry_sequence_breakers",
        help='texts that end a sequence for DRY; "none" for none [newline : " *]',
    )
    group.add_argument(
        "--samplers",
        type=lambda text: tuple(text.split(";")),
        metavar="A;B;…",
        help="the order in which they are applied, by llama.cpp's names "
        "[penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature]",
    )
    group.add_argument(
        "--logit-bias",
        type=logit_bias,
        action="append",
        metavar="TOKEN±BIAS",
        default=[],
        help="added to the logit of a token, which is an id or a text: 15043+1, ' Hello-5'; -inf forbids it",
    )
    follow = group.add_mutually_exclusive_group()
    follow.add_argument(
        "--schema",
        metavar="FILE|TEXT",
        help="write only JSON that this JSON schema accepts; a text begins with a {, else it is the name of a file",
    )
    follow.add_argument(
        "--grammar",
        metavar="FILE|TEXT",
        help="write only what this GBNF grammar allows; a text must have a ::=, else it is the name of a file",
    )
    group.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        default=[],
        help="end the answer before this text; may be given several times, and in bash a newline is $'\\n'",
    )


def sampling(args: argparse.Namespace) -> Sampling:
    """The flags as `Sampling`. Values that no sampler could use are a wrong use."""
    from localllm.runtime.sampling import Sampling

    values: dict[str, Any] = {_field(row[0]): getattr(args, _field(row[0])) for row in _FLAGS}
    breakers = args.dry_sequence_breakers
    if breakers is not None:
        breakers = tuple(text for text in breakers if text != "none")
    for name in ("samplers", "logit_bias", "stop"):
        values[name] = getattr(args, name)
    if args.grammar is not None:
        values["grammar"] = args.grammar if "::=" in args.grammar else _read(args.grammar, "grammar")
    if args.schema is not None:
        values["schema"] = _schema(args.schema)
    values["logprobs"] = getattr(args, "logprobs", None)
    try:
        return Sampling(**values, dry_sequence_breakers=breakers)
    except ValueError as error:
        args.usage_error(str(error))
        raise


def logit_bias(text: str) -> tuple[int | str, float]:
    """A token and what is added to its logit: `15043+1`, ` Hello-inf`."""
    found = re.fullmatch(r"(.+)([+-](?:\d+\.?\d*|\.\d+|inf))", text, re.DOTALL)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in a bias such as +1.5, -3 or -inf")
    token = found[1]
    return int(token) if token.isascii() and token.isdigit() else token, float(found[2])


def _schema(given: str) -> object:
    from localllm.errors import BadGrammar

    text = given if given.lstrip().startswith("{") else _read(given, "schema")
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadGrammar(f"The schema is no JSON: {error}.", hint='A schema is such as {"type": "object"}.') from None


def _read(given: str, what: str) -> str:
    from localllm.errors import BadGrammar

    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadGrammar(
            f"The {what} {given!r} is no file that can be read: {error}.",
            hint='On the command line a grammar has rules (root ::= "yes" | "no"), and a schema begins with a {.',
        ) from None


def _field(flag: str) -> str:
    return _FIELDS.get(flag, flag[2:].replace("-", "_"))

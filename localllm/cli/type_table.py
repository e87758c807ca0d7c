"""How `localllm convert --list-types` looks, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.convert.listing import TypeFacts

_LEGEND = """
bits      per weight, of an 8B Llama with everything in the file
repacked  the part of it that llama.cpp rearranges for this CPU when it loads: more is faster
odd rows  what a matrix becomes whose rows fill blocks of 32 but not those of the type
imatrix   llama.cpp refuses to make this type without an importance matrix"""


def as_text(facts: Sequence[TypeFacts]) -> str:
    """A table with a legend."""
    lines = [f"{'type':10} {'bits':>6}  {'repacked':>8}  {'odd rows':8}  "]
    for fact in facts:
        repacked = "unknown" if fact.repacked is None else f"{fact.repacked:.0%}" if fact.repacked else "-"
        start = f"{fact.name:10} {fact.bits_per_weight:6.2f}  {repacked:>8}  {fact.odd_rows or 'refused':8}  "
        lines.append(start + fact.phrase + ("; imatrix" if fact.needs_imatrix else ""))
    return "\n".join(line.rstrip() for line in lines) + "\n" + _LEGEND


def as_json(facts: Sequence[TypeFacts]) -> str:
    """One JSON document: `{"types": [...]}`."""
    import json
    from dataclasses import asdict

    return json.dumps({"types": [asdict(fact) for fact in facts]})

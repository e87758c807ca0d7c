"""The formats of strings in JSON schemas, as GBNF. What is written is of the format by any checker's opinion."""

from __future__ import annotations

_TWO = "[0-9] [0-9]"
# The 29th of February is left out: it is a date in some years only.
_DATE = (
    f'{_TWO} {_TWO} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
    ' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
)
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [-+] {_CLOCK})'
_BYTE = '([0-9] | [1-9] [0-9] | "1" [0-9] [0-9] | "2" [0-4] [0-9] | "25" [0-5])'
_LABEL = "[a-z] [a-z0-9]{0,20}"
_HOST = f'{_LABEL} ("." {_LABEL}){{1,3}}'

FORMATS = {
    # The year 0000 is none to Python.
    "date": _DATE.replace(f"{_TWO} {_TWO}", "([1-2] [0-9] [0-9] [0-9])", 1),
    "time": _TIME,
    "date-time": _DATE.replace(f"{_TWO} {_TWO}", "([1-2] [0-9] [0-9] [0-9])", 1) + f' "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [1-5] [0-9a-f]{3} "-" [89ab] [0-9a-f]{3} "-" [0-9a-f]{12}',
    "ipv4": f'{_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE}',
    "hostname": _HOST,
    "email": f'[A-Za-z0-9] [A-Za-z0-9_+-]{{0,30}} ("." [A-Za-z0-9_+-]{{1,30}}){{0,3}} "@" {_HOST}',
    "uri": f'("http" "s"?) "://" {_HOST} ("/" [A-Za-z0-9_.~-]{{0,60}}){{0,8}}',
}

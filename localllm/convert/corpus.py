"""Texts on which two tokenizers are compared: many scripts, code, white space, digits, and seeded random strings.

Knows no tokenizer.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from collections.abc import Sequence

TEXTS = (
    "Hello, world! The capital of France is Paris.",
    "I'm sure they'll say we've seen it; he'd've known, wouldn't he? IT'S, DON'T, We'Ve",
    "naïve café façade coöperate — “quotes” ‘single’ … • §12 № 5 ™ © ½ ² ³",
    "El niño comió piñas. Über die Straße läuft ein Fuchs. Łódź, Gdańsk, Kraków. Čeština žluťoučký kůň.",
    "Съешь же ещё этих мягких французских булок. Україна їжак ґанок. Ћирилица.",
    "Ταχίστη αλώπηξ βαφής ψημένη γη, δρασκελίζει υπέρ νωθρού κυνός.",
    "東京は日本の首都です。カタカナとひらがな、漢字を混ぜる。ﾊﾝｶｸ",
    "我想在apple工作1314151天～ 你好，世界！繁體中文與简体中文。",
    "서울은 대한민국의 수도이다. 한글과 漢字.",
    "مرحبا بالعالم. القاهرة هي عاصمة مصر ١٢٣٤٥",
    "שלום עולם. ירושלים.",
    "नमस्ते दुनिया। दिल्ली भारत की राजधानी है। १२३",
    "สวัสดีชาวโลก กรุงเทพมหานคร ๑๒๓",
    "বাংলা ভাষা தமிழ் மொழி తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ සිංහල",
    "ამ ქართული ტექსტი Հայերեն տեքստ አማርኛ ខ្មែរ ລາວ မြန်မာ བོད་ཡིག",
    "🚀 (normal) 😶‍🌫️ 👩‍👩‍👧‍👦 🏳️‍🌈 ✅ 🦙🦙 👍🏽 🇫🇷🇩🇪 ❤️ ☃",
    "3 33 333 3333 33333 333333 3.14159 1,000,000 0x1F 1e-9 2024-01-31 12:34:56 v1.2.3 ½ ⅔ Ⅻ ① ٣",
    "",
    " ",
    "  ",
    "   leading",
    "trailing   ",
    "\n",
    "\n\n",
    "\n\n\n text \n\n",
    "\t\tindented\n\t\t\tmore\n",
    " \n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n",
    "a\r\nb\r\n\r\nc\rd",
    "word\u00a0nobreak\u2003em\u2009thin\u3000ideographic\u200bzero",
    "def area(radius: float) -> float:\n    '''Area'''\n    return 3.14159 * radius ** 2\n\n\nprint(area(2))  # 12.6\n",
    'int main(void) {\n\tfor (int i = 0; i < 10; ++i) printf("%d\\n", i);\n\treturn 0;\n}\n',
    "SELECT name, COUNT(*) FROM \"users\" WHERE id <> 7 AND note LIKE '%x%' GROUP BY 1;",
    '{"key": [1, 2.5, null, true], "nested": {"a\\\\b": "\\u00e9"}}',
    "<div class=\"a b\"><a href='https://example.org/?q=1&r=%20#top'>link</a></div>",
    "snake_case camelCase PascalCase SCREAMING_SNAKE kebab-case HTTPServer2 x86_64 C++ C# F# .NET",
    "======= ------ ______ ...... !!!!!! ?????? ###### $$$$ %%%% ^^^^ &&&& **** (((( )))) ~~~~ ```` ''''",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n  - nested\n1. one\n2. two\n\n> quote\n\n```python\nx = 1\n```",
    r"$\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}$ ∀x∈ℝ: ∃y ≤ ∑ᵢ αᵢ ⇒ ∞",
    "user@example.org +49 (0)30 1234-5678 C:\\Windows\\System32 /usr/local/bin ~/.config",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "The" * 20,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "e\u0301 a\u0308 o\u0302\u0323 n\u0303 \u1e69 combining and precomposed é ä",
    "fi ﬁ ﬀ Ａｂｃ １２３ ㎏ ℃ ™",
    "\ufeffbom \u200e\u200f marks \u00ad soft",
    "\x00\x01\x1f control \x7f",
    "\U0001d4d0\U0001d4d1 \U00010348 \U0002070e rare planes",
    "What is the capital of France?\nAnswer: Paris",
)
"""Each has tripped some tokenizer."""

BROKEN = tuple(
    data.decode("utf-8", "replace")
    for data in (
        b"caf\xe9 latin-1",
        b"\xff\xfeu\x00t\x00f\x00",
        b"cut \xf0\x9f\x98",
        b"\xe2\x28\xa1 \x80 lone",
        b"over\xc0\xaflong",
        b"\xed\xa0\x80 surrogate \xf4\x90\x80\x80 beyond",
    )
)
"""Broken UTF-8 as it reaches a tokenizer: what cannot be read stands as U+FFFD."""

_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    "    \n\t",
    "'\"`.,:;!?-_()[]{}<>/\\|@#$%^&*+=~",
    "éèêëüöäßñçøåæœ",
    "абвгдежзиклмнопрстуфхцчшщ",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "的一是在不了有和人这中大为上个国我以要",
    "あいうえおかきくけこアイウエオ",
    "가나다라마바사아자차카타파하",
    "ابتثجحخدذرزسشصضطظعغ",
    "अआइईउऊकखगघचछजझ",
    "😀😁🚀🦙✅❤🎉",
)


@functools.cache
def random_texts(count: int, seed: int = 20240131) -> tuple[str, ...]:
    """`count` strings of 1 to 60 characters that change alphabet every few characters; the same for one seed."""
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        text = ""
        while not text or generator.random() < 0.85:
            alphabet = generator.choice(_ALPHABETS)
            text += "".join(generator.choice(alphabet) for _ in range(generator.randint(1, 6)))
        texts.append(text[:60])
    return tuple(texts)


# Of the first Unicode version that Python keeps: later ones are not the same in every library.
_CLASSES = (
    "Lu",
    "Ll",
    "Lt",
    "Lm",
    "Lo",
    "Mn",
    "Mc",
    "Nd",
    "Nl",
    "No",
    "Pd",
    "Ps",
    "Pe",
    "Po",
    "Sm",
    "Sc",
    "Sk",
    "So",
    "Zs",
)


@functools.cache
def _members() -> tuple[str, ...]:
    """The characters of each class of Unicode."""
    found: dict[str, list[str]] = {name: [] for name in _CLASSES}
    for number in range(0x30000):
        character = chr(number)
        kind = unicodedata.ucd_3_2_0.category(character)
        if kind in found and unicodedata.category(character) == kind:
            found[kind].append(character)
    return tuple("".join(characters) for characters in found.values())


@functools.cache
def class_texts(count: int, seed: int = 20240202) -> tuple[str, ...]:
    """`count` strings of characters of all classes, in runs of one class, with spaces and line ends between some."""
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        runs = []
        for _ in range(generator.randint(1, 5)):
            members = generator.choice(_members())
            runs.append("".join(generator.choice(members) for _ in range(generator.randint(1, 4))))
            runs.append(generator.choice(("", "", " ", "  ", "\n", "a", "B", "7", "'", ".")))
        texts.append("".join(runs))
    return tuple(texts)


def piece_texts(pieces: Sequence[str], count: int, seed: int = 20240303) -> list[str]:
    """`count` strings of 1 to 6 of `pieces` in a row."""
    generator = random.Random(seed)
    return ["".join(generator.choice(pieces) for _ in range(generator.randint(1, 6))) for _ in range(count)]


def special_texts(special: Sequence[str]) -> list[str]:
    """Texts with special tokens at the start, at the end, between words and next to each other."""
    texts = []
    for token in special:
        texts += [token, f"{token}Hello", f"Hello{token}", f"Hello {token} world", f"a\n{token}\nb", token + token]
    return texts

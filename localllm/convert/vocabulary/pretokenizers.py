"""llama.cpp's pre-tokenizers: what they are called, how they split text, and where they only approximate that.

Read in `llm_tokenizer_bpe` and `llama_vocab::impl::load` of llama.cpp's llama-vocab.cpp, which quote the expressions of
tokenizer.json. A list of expressions that is here gets its name; one that is not is tried with every name. Either way
`verify` compares token ids: nothing rests on this table but the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localllm.convert.vocabulary.base import Limit
from localllm.convert.vocabulary.splits import DIGIT, DIGITS, GPT2, PUNCTUATION

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_SLASH_TAIL = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


def _cased(contractions: str, but: str = "") -> str:
    """Words that begin anew at a capital letter. `but` takes characters out of the classes."""
    upper, lower = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]", rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
    return rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{contractions}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{contractions}"


LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"
QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_TAIL}"
QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_TEKKEN = rf"{_cased('')}|\p{{N}}|{_SLASH_TAIL}"
_GPT4O = rf"{_cased(_CONTRACTIONS + '?')}|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
_NOT_HAN = r"&&[^\p{Han}]"
_KIMI = rf"[\p{{Han}}]+|{_cased(_CONTRACTIONS + '?', _NOT_HAN)}|\p{{N}}{{1,3}}|{_TAIL}"
_SEED = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_EXAONE = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_JAIS = (
    rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|"
    + "|".join(rf"\s{{{count}}}(?!\S)" for count in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
    + r"|\s{1}"
)
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

_CJK = "[一-龥぀-ゟ゠-ヿ]+"
_CJK_HANGUL = "[一-龥ࠀ-一가-퟿]+"
_THREE_DIGITS, _GROUPED_DIGITS = r"\p{N}{1,3}", r"\d{1,3}(?=(?:\d{3})*\b)"
_ASCII_WORD = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_DEEPSEEK3 = rf"{_ASCII_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
_SPARK = rf"{_ASCII_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼι"
    r"ῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_DEEPSEEK_SIGNS = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"
_YOUTU_CJK = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"
_ASIAN = "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"


def _beyond_ascii(text: str) -> bool:
    return not text.isascii()


def _approximates(name: str, what: str) -> tuple[Limit, ...]:
    return (Limit(f"llama.cpp's {name} only approximates the checkpoint's way to split text: {what}", _beyond_ascii),)


_CASE = "it tells upper from lower case in ASCII alone"
_IN_PART = "signs, spaces and digits beyond ASCII are in part cut elsewhere"
_CASE_MARKS = f"{_CASE}, and leaves combining marks outside of words"


@dataclass(frozen=True)
class Known:
    """A pre-tokenizer of llama.cpp: its name, the expressions it splits by, whether whole words skip the merges.

    `same` are llama.cpp's other names for the same way to split.
    """

    name: str
    splits: tuple[str, ...]
    ignores_merges: bool = False
    same: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()


_GPT2_NAMES = (
    *("phi-2", "jina-es", "jina-de", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "mpt", "olmo", "jais"),
    *("trillion", "granite-docling", "jina-v1-en", "roberta-bpe"),
)
_LLAMA3_NAMES = ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano")
_QWEN2_NAMES = (*("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"),)
_SMOLLM_NAMES = ("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2")

KNOWN = (
    Known("gpt-2", (GPT2,), same=_GPT2_NAMES),
    # The same, but <mask> takes the spaces before it.
    Known("jina-v2-code", (GPT2,), same=("jina-v2-es", "jina-v2-de")),
    Known("smollm", (DIGIT, GPT2), same=_SMOLLM_NAMES),
    Known("llama-bpe", (LLAMA3,), ignores_merges=True, same=(*_LLAMA3_NAMES, "glm4", "glm5")),
    Known("smaug-bpe", (LLAMA3,), same=("dbrx", "chatglm-bpe")),
    Known("qwen2", (QWEN2,), same=_QWEN2_NAMES),
    Known("qwen35", (QWEN35,)),
    Known("tekken", (_TEKKEN,), ignores_merges=True, limits=_approximates("tekken", _CASE_MARKS)),
    Known(
        *("gpt-4o", (_GPT4O,)),
        same=("llama4", "kanana2", "talkie", "minimax-m2"),
        limits=_approximates("gpt-4o", _CASE_MARKS),
    ),
    # The same with combining marks inside words.
    Known(
        *("granite-embed-multi-97m", (_GPT4O,)),
        ignores_merges=True,
        limits=_approximates("granite-embed-multi-97m", _CASE),
    ),
    Known("tiny_aya", (_GROUPED_DIGITS, _GPT4O), same=("cohere2moe",), limits=_approximates("tiny_aya", _CASE)),
    Known("kimi-k2", (_KIMI,), limits=_approximates("kimi-k2", _CASE_MARKS)),
    Known("seed-coder", (_SEED,)),
    Known("deepseek-llm", (r"[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_SIGNS, r"\s+$", _CJK_HANGUL, DIGIT)),
    Known(
        *("deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_HANGUL, DIGIT)),
        limits=_approximates("deepseek-coder", _IN_PART),
    ),
    Known("deepseek-v3", (_THREE_DIGITS, _CJK, _DEEPSEEK3), same=("hunyuan-dense", "joyai-llm", "hy_v4")),
    Known("spark2_5", (_THREE_DIGITS, _CJK, _SPARK, DIGIT)),
    Known("afmoe", (_GROUPED_DIGITS, _ASIAN, _DEEPSEEK3), limits=_approximates("afmoe", _IN_PART)),
    Known(
        *("youtu", (_YOUTU_CJK, rf"{_cased(_CONTRACTIONS + '?')}|\p{{N}}|{_SLASH_TAIL}")),
        ignores_merges=True,
        limits=_approximates("youtu", _CASE),
    ),
    Known(
        *("falcon", (f"{PUNCTUATION}+", GPT2, DIGITS, "[0-9][0-9][0-9]")),
        limits=_approximates("falcon", _IN_PART),
    ),
    Known("bloom", (_BLOOM,), same=("poro-chat", "gpt3-finnish")),
    Known("viking", (_BLOOM, DIGIT)),
    Known("superbpe", (DIGITS, r"(?=(\d{3})+(?!\d))")),
    Known("bailingmoe", (_BAILING,), same=("bailingmoe2", "llada-moe")),
    Known("exaone-moe", (_EXAONE,)),
    Known("jais-2", (_JAIS,)),
    Known("ufakzeka", (rf"{_WORD}|\p{{N}}|{_TAIL}",)),
    Known("laguna", ("[^\\n]+|[\\n]+", QWEN2)),
    Known(
        *("minicpm5", (_THREE_DIGITS, rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+|{_TAIL}")),
        ignores_merges=True,
    ),
    Known(
        "chameleon",
        (
            *("<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )"),
            *(DIGIT, PUNCTUATION, GPT2),
        ),
    ),
    Known("default", (r"[\p{P}\$\+<=>\^~\|]+", GPT2, DIGITS, "[0-9][0-9][0-9]")),
)


def fitting(found: Sequence[str], ignores_merges: bool) -> tuple[list[Known], list[Known]]:
    """The pre-tokenizers with these expressions, the one that treats merges the same way first; and all others."""
    fit = [known for known in KNOWN if known.splits == tuple(found)]
    fit.sort(key=lambda known: known.ignores_merges != ignores_merges)
    others = [known for known in KNOWN if known not in fit]
    others.sort(key=lambda known: known.ignores_merges != ignores_merges)
    return fit, others

"""What is said to the models that are measured."""

from __future__ import annotations

from pathlib import Path

from localllm.native.vocab import open_vocab

SYSTEM = "You are a careful assistant who answers in two or three plain sentences. " * 4
TOPICS = ("harbours", "bridges", "clocks", "maps", "glass", "paper", "salt", "windmills")
STORY = ("every", "house", "by", "the", "sea", "had", "a", "blue", "door", "and", "a", "small", "garden")
QUESTIONS = (
    "What are {0} for?",
    "Who made the first {0}?",
    "Tell me a story about {0} and the sea.",
    "Why do {0} age?",
)

PASSAGE = """\
The harbour master kept a ledger of every ship that came in with the tide. He wrote the name of the captain, the weight
of the cargo, and the weather on the day it arrived. When the old lighthouse burned down in the spring of 1842, the
ledger was the only book that anybody carried out of the flames, and the town has kept it behind glass ever since."""

CODE = """\
def count_words(path, smallest=3):
    \"\"\"How often each word stands in the file.\"\"\"
    counts = {}
    with open(path) as lines:
        for line in lines:
            for word in line.lower().split():
                word = word.strip(".,;:!?")
                if len(word) >= smallest:
                    counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])"""

QUOTING = f"{PASSAGE}\n\nThe same passage once more:\n\n{PASSAGE}\n\nThe same passage once more:\n\n"
EDITING = (
    f"```python\n{CODE}\n```\n\nRenamed to `word_counts`:\n\n```python\n{CODE.replace('count_words', 'word_counts')}"
    "\n```\n\nRenamed to `tally`:\n\n```python\n"
)
TELLING = (
    "Once upon a time, in a town by the sea, there lived a girl who could hear what the gulls were saying. One day"
)


def prompt_of(path: Path, count: int) -> str:
    """A text of exactly so many tokens."""
    text = ""
    with open_vocab(path) as vocab:
        for number in range(2 * count):
            if len(vocab.tokenize_prompt(text)) == count:
                return text
            text += f" {STORY[number % len(STORY)]}"
    raise SystemExit(f"no text of {count} tokens was found")

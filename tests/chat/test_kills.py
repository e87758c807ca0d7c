"""`kill -9` of what writes, again and again at random moments: nothing is lost but the last second.

The writer tells what it has on disk by a line on stdout after each step; what it told must be there afterwards.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localllm.chat.store import Store

WRITER = """
import json, random, sys
from pathlib import Path
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.runtime.types import Stats

def told(**fact):
    print(json.dumps(fact), flush=True)

chance = random.Random(int(sys.argv[2]))
store = Store.open(Path(sys.argv[1]))
told(open=True)
while True:
    chats = store.chats()
    if chats and chance.random() < 0.5:
        chat = store.load(chance.choice(chats).id)
        if unfinished := chat.unfinished():
            reply = chat.extend(unfinished.id, "")
            kept = reply.text
        else:
            reply = None
    else:
        chat, reply = Conversation(), None
    if reply is None:
        question = chat.add_user(f"question {chance.random()}")
        store.add(chat, question)
        told(chat=chat.id, message=question.id, text=question.text)
        reply = chat.add_reply(question.id, model="m")
        kept = ""
    for word in range(chance.randrange(1, 40)):
        kept += f" {word}"
        node = chat.extend(reply.id, f" {word}")
        store.update(node) or store.add(chat, node)
        told(chat=chat.id, message=node.id, text=kept)
    node = chat.finish(reply.id, Stats(10, 4, 3, 0.1, 100.0, 30.0, "end"))
    store.update(node)
    told(chat=chat.id, message=node.id, text=kept, done=True)
    if chance.random() < 0.2:
        store.find("question")
    if chance.random() < 0.1:
        store.rename(chat.id, f"title {chance.random()}")
"""

KILLS = 50


def run_until_killed(path: Path, seed: int, seconds: float, known: dict[str, tuple[str, str, bool]]) -> None:
    """Let a writer write, kill it, and note what it told."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert json.loads(writer.stdout.readline()) == {"open": True}
    time.sleep(seconds)
    writer.kill()
    lines = writer.stdout.read().decode().splitlines()
    writer.stdout.close()
    writer.wait()
    for line in lines:
        fact = json.loads(line) if line.endswith("}") else None  # the last one may be cut
        if fact is not None:
            known[fact["message"]] = (fact["chat"], fact["text"], fact.get("done", False))


@pytest.mark.slow
def test_fifty_kills_lose_nothing_that_was_told(path: Path) -> None:
    chance = random.Random(6)
    known: dict[str, tuple[str, str, bool]] = {}
    for number in range(KILLS):
        run_until_killed(path, number, chance.uniform(0, 0.25), known)
        store = Store.open(path)
        chats = {entry.id: store.load(entry.id) for entry in store.chats()}
        assert store._database.rows("PRAGMA integrity_check") == [("ok",)]
        assert store._database.rows("PRAGMA foreign_key_check") == []
        store.find("question 0")
        store.close()
        for message, (chat, text, done) in known.items():
            node = chats[chat].nodes[message]
            # It may have written one more word than it told, never fewer.
            assert node.text.startswith(text)
            assert node.state != "writing", "a dead writer's reply is not offered to go on"
            assert not done or node.state == "done" or node.text != text
    assert len(known) > KILLS
    assert any(node.state == "partial" for chat in chats.values() for node in chat.nodes.values())

"""Databases of every schema that there ever was become one of today, with all that is in them.

`schemas/N.sql` is a dump of a database that the code of schema N wrote: `Connection.iterdump`, and before it the two
pragmas that it leaves out. The newest has one too, for the schema that comes after it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from localllm.chat import store as store_module
from localllm.chat.schema import MIGRATIONS
from localllm.chat.store import Store

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = range(1, len(MIGRATIONS) + 1)


@pytest.fixture(autouse=True)
def _keep_what_was_deleted_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "UNDO_DAYS", 365_000)


def restored(version: int, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path)
    db.executescript((SCHEMAS / f"{version}.sql").read_text(encoding="utf-8"))
    assert db.execute("PRAGMA user_version").fetchone() == (version,)
    db.close()
    return path


def schema_of(path: Path) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'message_index%' ORDER BY name")
    rows = found.fetchall()
    db.close()
    return rows


def test_every_version_has_a_dump() -> None:
    assert sorted(int(path.stem) for path in SCHEMAS.glob("*.sql")) == list(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_database_keeps_all_that_is_in_it(version: int, path: Path) -> None:
    store = Store.open(restored(version, path))
    unfinished, cities = sorted(store.chats(), key=lambda entry: entry.messages)
    assert (cities.title, cities.messages) == ("Name a city in Japan. 日本の都市は?", 4)
    chat = store.load(cities.id)
    assert chat.system == "Be brief."
    question = chat.path()[0]
    assert [(node.text, node.state, node.model) for node in chat.children(question.id)] == [
        ("東京 is the largest.", "done", "SmolLM2 135M Instruct"),
        ("Kyoto; it's \"old\".\n\n```py\nprint('x')\n```", "partial", "SmolLM2 135M Instruct"),
    ]
    assert chat.path()[-1].text == "And one in France?"
    stats = chat.path()[1].stats
    assert stats is not None
    assert (stats.ttft_s, stats.stop_reason) == (0.25, "cancelled")
    assert store.load(unfinished.id).path()[-1].state == "partial"
    assert [entry.title for entry in store.deleted()] == ["deleted long ago"]
    assert [hit.chat for hit in store.find("東京")] == [cities.id]
    assert store.drafts.take(cities.id) == ("And 東京?\nWhich line?" if version >= 3 else "")
    store.add(chat, chat.add_user("More?"))
    assert store.chats()[0].messages == 5
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_database_gets_the_schema_of_a_new_one(version: int, path: Path, tmp_path: Path) -> None:
    Store.open(restored(version, path)).close()
    Store.open(tmp_path / "new.sqlite3").close()
    assert schema_of(path) == schema_of(tmp_path / "new.sqlite3")
    Store.open(path).close()


def test_a_migration_that_fails_leaves_the_old_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*MIGRATIONS, ("CREATE TABLE more (id)", "CREATE TABLE message (id)"))
    monkeypatch.setattr("localllm.chat.schema.MIGRATIONS", broken)
    restored(1, path)
    before = schema_of(path)
    with pytest.raises(Exception, match="already exists"):
        Store.open(path)
    assert schema_of(path) == before

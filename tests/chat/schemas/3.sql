PRAGMA application_id = 1819036749;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE chat (
            id TEXT PRIMARY KEY NOT NULL,
            title TEXT NOT NULL,
            system TEXT NOT NULL,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            deleted REAL,
            leaf TEXT REFERENCES message (id) DEFERRABLE INITIALLY DEFERRED
        , pinned REAL, title_by TEXT NOT NULL DEFAULT 'rule'
           CHECK (title_by IN ('rule', 'model', 'hand')), settings TEXT NOT NULL DEFAULT '{}');
INSERT INTO "chat" VALUES('00000000000000000000000000000001','Name a city in Japan. 日本の都市は?','Be brief.',1700000000.0,1700000028.0,NULL,'00000000000000000000000000000005',1700000300.0,'rule','{"sampling": {"temperature": 0.2}}');
INSERT INTO "chat" VALUES('00000000000000000000000000000006','deleted long ago','',1700000100.0,1700000035.0,1700000150.0,'00000000000000000000000000000007',NULL,'rule','{}');
INSERT INTO "chat" VALUES('00000000000000000000000000000008','y','',1700000200.0,1700000056.0,NULL,'0000000000000000000000000000000a',NULL,'rule','{}');
CREATE TABLE draft (
            chat TEXT NOT NULL,
            writer TEXT NOT NULL,
            text TEXT NOT NULL,
            written REAL NOT NULL,
            PRIMARY KEY (chat, writer)
        );
INSERT INTO "draft" VALUES('00000000000000000000000000000001','1:0.00','And 東京?
Which line?',1.5);
INSERT INTO "draft" VALUES('','1:0.00','A new chat.',2.5);
CREATE TABLE message (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            chat TEXT NOT NULL REFERENCES chat (id) ON DELETE CASCADE,
            parent TEXT REFERENCES message (id) DEFERRABLE INITIALLY DEFERRED,
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            text TEXT NOT NULL,
            created REAL NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('writing', 'done', 'partial')),
            writer TEXT,
            model TEXT NOT NULL,
            stats TEXT
        , indexed INTEGER NOT NULL DEFAULT 0);
INSERT INTO "message" VALUES(1,'00000000000000000000000000000002','00000000000000000000000000000001',NULL,'user','Name a city in Japan. 日本の都市は?',1700000007.0,'done',NULL,'',NULL,0);
INSERT INTO "message" VALUES(2,'00000000000000000000000000000003','00000000000000000000000000000001','00000000000000000000000000000002','assistant','東京 is the largest.',1700000014.0,'done',NULL,'SmolLM2 135M Instruct','{"prompt_tokens": 20, "cached_tokens": 4, "completion_tokens": 9, "ttft_s": 0.25, "prefill_tps": 120.5, "decode_tps": 31.0, "stop_reason": "end", "drafted_tokens": 0, "accepted_tokens": 0, "dropped_messages": 0, "dropped_tokens": 0, "rewritten_tokens": 0}',0);
INSERT INTO "message" VALUES(3,'00000000000000000000000000000004','00000000000000000000000000000001','00000000000000000000000000000002','assistant','Kyoto; it''s "old".

```py
print(''x'')
```',1700000021.0,'partial',NULL,'SmolLM2 135M Instruct','{"prompt_tokens": 20, "cached_tokens": 4, "completion_tokens": 9, "ttft_s": 0.25, "prefill_tps": 120.5, "decode_tps": 31.0, "stop_reason": "cancelled", "drafted_tokens": 0, "accepted_tokens": 0, "dropped_messages": 0, "dropped_tokens": 0, "rewritten_tokens": 0}',0);
INSERT INTO "message" VALUES(4,'00000000000000000000000000000005','00000000000000000000000000000001','00000000000000000000000000000004','user','And one in France?',1700000028.0,'done',NULL,'',NULL,0);
INSERT INTO "message" VALUES(5,'00000000000000000000000000000007','00000000000000000000000000000006',NULL,'user','deleted long ago',1700000035.0,'done',NULL,'',NULL,0);
INSERT INTO "message" VALUES(6,'00000000000000000000000000000009','00000000000000000000000000000008',NULL,'user','y',1700000049.0,'done',NULL,'',NULL,0);
INSERT INTO "message" VALUES(7,'0000000000000000000000000000000a','00000000000000000000000000000008','00000000000000000000000000000009','assistant','half of a reply',1700000056.0,'writing','4194304:1.00','m',NULL,0);
CREATE TABLE unindexed (number INTEGER PRIMARY KEY);
CREATE INDEX message_of_chat ON message (chat, number);
CREATE INDEX message_of_parent ON message (parent);
CREATE INDEX message_of_writer ON message (writer) WHERE writer IS NOT NULL;
CREATE INDEX chat_by_time ON chat (updated);
CREATE INDEX message_to_index ON message (number) WHERE indexed = 0;
CREATE TRIGGER message_changed AFTER UPDATE OF text ON message WHEN old.indexed AND old.text IS NOT new.text
           BEGIN UPDATE message SET indexed = 0 WHERE number = new.number; END;
CREATE TRIGGER message_erased AFTER DELETE ON message WHEN old.indexed
           BEGIN INSERT OR IGNORE INTO unindexed VALUES (old.number); END;
CREATE TRIGGER chat_erased AFTER DELETE ON chat BEGIN DELETE FROM draft WHERE chat = old.id; END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('message',7);
COMMIT;

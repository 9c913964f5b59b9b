-- +goose Up

-- "tokd" in ASCII: this is tokend's database and nobody else's.
PRAGMA application_id = 1953459044;

-- Times are microseconds since 1970-01-01 UTC; NULL is never, or not.

CREATE TABLE users (
    name     TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
    disabled INTEGER                              -- since when
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id      TEXT PRIMARY KEY NOT NULL CHECK (id <> ''),
    digest  TEXT UNIQUE NOT NULL                  -- hex(SHA-512(secret))
            CHECK (length(digest) = 128 AND digest NOT GLOB '*[^0-9a-f]*'),
    owner   TEXT NOT NULL REFERENCES users (name),
    hint    TEXT NOT NULL,
    label   TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
) STRICT;

CREATE INDEX tokens_newest ON tokens (created DESC, id DESC);
CREATE INDEX tokens_of_owner ON tokens (owner, created DESC, id DESC);

-- The audit trail. It refers to no other table, so that it outlives them.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    user   TEXT NOT NULL,
    token  TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_user ON events (user, number DESC);

-- +goose StatementBegin
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
-- +goose StatementEnd

-- INSERT OR REPLACE deletes without asking the trigger above.
-- +goose StatementBegin
CREATE TRIGGER events_are_not_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
-- +goose StatementEnd

-- +goose Up

-- Whether the token opens the HTTP API and other software, beside iRODS.
ALTER TABLE tokens ADD COLUMN api INTEGER NOT NULL DEFAULT 0 CHECK (api IN (0, 1));

-- When each token was good for something last. A table of its own, as it changes often.
CREATE TABLE uses (
    token TEXT PRIMARY KEY NOT NULL REFERENCES tokens (id),
    at    INTEGER NOT NULL,
    api   INTEGER NOT NULL CHECK (api IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Who signs in by which name.
CREATE TABLE accounts (
    name    TEXT PRIMARY KEY NOT NULL REFERENCES users (name),
    issuer  TEXT NOT NULL CHECK (issuer <> ''),
    subject TEXT NOT NULL CHECK (subject <> ''),
    created INTEGER NOT NULL,
    UNIQUE (issuer, subject)
) STRICT, WITHOUT ROWID;

-- What the web pages keep for a while: sessions, links to sign in by, devices that wait.
CREATE TABLE tickets (
    digest  TEXT PRIMARY KEY NOT NULL             -- hex(SHA-512(secret))
            CHECK (length(digest) = 128 AND digest NOT GLOB '*[^0-9a-f]*'),
    kind    TEXT NOT NULL,
    owner   TEXT NOT NULL,
    ref     TEXT NOT NULL,
    data    TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_of_owner ON tickets (owner, kind);
CREATE INDEX tickets_by_ref ON tickets (ref, kind);
CREATE INDEX tickets_by_end ON tickets (kind, expires);

-- What seals the cookies that hold something.
CREATE TABLE web_key (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    secret BLOB NOT NULL CHECK (length(secret) = 32)
) STRICT;

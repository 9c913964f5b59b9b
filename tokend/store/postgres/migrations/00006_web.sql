-- +goose Up

-- Whether the token opens the HTTP API and other software, beside iRODS.
ALTER TABLE tokens ADD COLUMN api boolean NOT NULL DEFAULT false;

-- When each token was good for something last. A table of its own, as it changes often.
CREATE TABLE uses (
    token text COLLATE "C" PRIMARY KEY REFERENCES tokens (id),
    at    timestamptz NOT NULL,
    api   boolean NOT NULL
);

-- Who signs in by which name.
CREATE TABLE accounts (
    name    text COLLATE "C" PRIMARY KEY REFERENCES users (name),
    issuer  text COLLATE "C" NOT NULL CHECK (issuer <> ''),
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    created timestamptz NOT NULL,
    UNIQUE (issuer, subject)
);

-- What the web pages keep for a while: sessions, links to sign in by, devices that wait.
CREATE TABLE tickets (
    digest  bytea PRIMARY KEY CHECK (length(digest) = 64), -- SHA-512(secret)
    kind    text COLLATE "C" NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    ref     text COLLATE "C" NOT NULL,
    data    text NOT NULL,
    created timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    version bigint NOT NULL
);

CREATE INDEX tickets_of_owner ON tickets (owner, kind);
CREATE INDEX tickets_by_ref ON tickets (ref, kind);
CREATE INDEX tickets_by_end ON tickets (kind, expires);

-- What seals the cookies that hold something.
CREATE TABLE web_key (
    number integer PRIMARY KEY CHECK (number = 1),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);

-- +goose Up

-- Names and IDs are compared by their bytes, as iRODS compares them.

CREATE TABLE users (
    name     text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    disabled timestamptz                          -- since when
);

CREATE TABLE tokens (
    digest  bytea PRIMARY KEY CHECK (length(digest) = 64), -- SHA-512(secret)
    id      text COLLATE "C" NOT NULL UNIQUE CHECK (id <> ''),
    owner   text COLLATE "C" NOT NULL REFERENCES users (name),
    hint    text NOT NULL,
    label   text NOT NULL,
    created timestamptz NOT NULL,
    expires timestamptz,                          -- NULL: never
    revoked timestamptz                           -- NULL: not revoked
);

CREATE INDEX tokens_newest ON tokens (created DESC, id DESC);
CREATE INDEX tokens_of_owner ON tokens (owner, created DESC, id DESC);

-- The audit trail. It refers to no other table, so that it outlives them. Who writes
-- to it holds a lock until the end of the transaction: a higher number is a later commit.
CREATE TABLE events (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL,
    actor  text NOT NULL,
    action text NOT NULL,
    "user" text COLLATE "C" NOT NULL,
    token  text COLLATE "C" NOT NULL,
    detail text NOT NULL
);

CREATE INDEX events_of_user ON events ("user", number DESC);

-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$;
-- +goose StatementEnd

CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- +goose Up

-- The secrets of a cache that the daemons share. Number 0 makes the names of its entries,
-- the highest number seals them.
CREATE TABLE cache_keys (
    number  integer PRIMARY KEY,
    secret  bytea NOT NULL CHECK (length(secret) = 32),
    created timestamptz NOT NULL
);

-- +goose Up

-- A look-up reads one page of this index and one of the table, however many tokens there are:
-- of the primary key's it would read as many as that has levels.
CREATE INDEX tokens_by_digest ON tokens USING hash (digest);

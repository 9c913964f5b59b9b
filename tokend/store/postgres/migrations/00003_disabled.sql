-- +goose Up

-- Every login asks whether the owner is disabled.
CREATE INDEX users_disabled ON users (name) WHERE disabled IS NOT NULL;

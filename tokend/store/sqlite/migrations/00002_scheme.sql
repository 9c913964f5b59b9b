-- +goose Up

-- How the token is spelled, and its digest made: '' is ours, 'knox-4.2' and 'knox-5' were imported.
ALTER TABLE tokens ADD COLUMN scheme TEXT NOT NULL DEFAULT '';

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// secret is the one with the number: always the same, so that the look-ups can hit any of
// millions of tokens that nobody has to remember.
func secret(number int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(number))
	random := rand.NewChaCha8(seed)
	text := make([]byte, 0, token.Length)
	text = append(text, token.Prefix...)
	for len(text) < token.Length-6 {
		text = append(text, digits[random.Uint64()%62])
	}
	sum := crc32.ChecksumIEEE(text)
	text = text[:token.Length]
	for i := token.Length - 1; i >= token.Length-6; i-- {
		text[i], sum = digits[sum%62], sum/62
	}
	return string(text)
}

// perUser is how many tokens each user has.
const perUser = 20

// user is whose the token with the number is.
func user(number int) string { return fmt.Sprintf("user%d", number/perUser) }

// login is the right one with the token with the number.
func login(number int) string { return user(number) + " " + secret(number) }

// digest is that of the secret with the number.
func digest(number int) token.Digest {
	s, err := token.Parse(secret(number))
	if err != nil {
		panic(err) // a mistake in secret
	}
	return s.Digest()
}

// scattered is the n-th of so many tokens in an order that meets each once, and hardly
// ever two neighbours one after the other.
func scattered(n, tokens int) int { return int(uint64(n) * 982_451_653 % uint64(tokens)) }

// fill makes the tables and puts so many tokens into them.
func fill(ctx context.Context, url string, tokens int) (err error) {
	store, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	users := pgx.CopyFromSlice(tokens/perUser+1, func(n int) ([]any, error) { return []any{user(n * perUser)}, nil })
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"name"}, users); err != nil {
		return err
	}
	created := time.Now().Add(-24 * time.Hour)
	rows := pgx.CopyFromSlice(tokens, func(n int) ([]any, error) {
		if n%10_000 == 0 {
			progress("filling PostgreSQL: %d of %d tokens", n, tokens)
		}
		d := digest(n)
		return []any{d[:], fmt.Sprintf("%012d", n), user(n), secret(n)[len(token.Prefix):][:token.HintLength], "laptop",
			created.Add(time.Duration(n) * time.Millisecond)}, nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"tokens"}, []string{"digest", "id", "owner", "hint", "label", "created"}, rows); err != nil {
		return err
	}
	// As in a database that has run for a while: analysed, and in the server's memory.
	for _, sql := range []string{
		"VACUUM (ANALYZE, FREEZE)", "CREATE EXTENSION pg_prewarm",
		"SELECT pg_prewarm(oid) FROM pg_class WHERE relname LIKE 'tokens%' OR relname LIKE 'users%'",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

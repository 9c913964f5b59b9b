package token_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

const (
	second token.Life = 1
	minute            = 60 * second
	hour              = 60 * minute
	day               = 24 * hour

	longest = 3_660_000 * day // what ParseLife reads at most
)

func TestALifeIsRead(t *testing.T) {
	for _, row := range []struct {
		text    string
		life    token.Life
		written string
	}{
		{"never", token.Forever, "never"},
		{"0", token.Forever, "never"},
		{"00", token.Forever, "never"},
		{"1", hour, "1h"},
		{"24", day, "1d"},
		{"0024", day, "1d"},
		{"36", 36 * hour, "36h"},
		{"1s", second, "1s"},
		{"60s", minute, "1m"},
		{"90s", 90 * second, "90s"},
		{"90m", 90 * minute, "90m"},
		{"120m", 2 * hour, "2h"},
		{"36h", 36 * hour, "36h"},
		{"30d", 30 * day, "30d"},
		{"2w", 14 * day, "14d"},
		{"1d12h", 36 * hour, "36h"},
		{"12h1d", 36 * hour, "36h"},
		{"1w1d1h1m1s", 8*day + hour + minute + second, "694861s"},
		{"1h1h", 2 * hour, "2h"},
		{"0d5m", 5 * minute, "5m"},
		{"87600000", 3_650_000 * day, "3650000d"},
		{"87840000", longest, "3660000d"},
		{"3660000d", longest, "3660000d"},
		{"316224000000s", longest, "3660000d"},
		{"3659999d24h", longest, "3660000d"},
	} {
		life, err := token.ParseLife(row.text)
		if err != nil || life != row.life || life.String() != row.written {
			t.Errorf("%s: got %d = %s, %v; want %d = %s", row.text, life, life, err, row.life, row.written)
		}
	}
}

func TestWhatIsNoLifeIsRefusedWithAReason(t *testing.T) {
	const (
		none    = " is no expiry: write hours (24), a duration (90m, 36h, 30d, 2w), or never"
		past    = " lies past the year 9999; for no end write never"
		nothing = " is no time at all; for no end write never"
	)
	for _, row := range []struct{ text, reason string }{
		{"", none},
		{" ", none},
		{" 24", none},
		{"24 ", none},
		{"24\n", none},
		{"2 4", none},
		{"24\x00", none},
		{"-1", none},
		{"-24h", none},
		{"+24", none},
		{"1.5h", none},
		{"1,5h", none},
		{"1e3", none},
		{"0x10", none},
		{"h", none},
		{"1h30", none},
		{"0h", nothing},
		{"0s", nothing},
		{"0d0h", nothing},
		{"1h 30m", none},
		{"24H", none},
		{"1y", none},
		{"1M", none},
		{"1ms", none},
		{"1µs", none},
		{"Never", none},
		{"NEVER", none},
		{"never ", none},
		{"forever", none},
		{"٣", none},
		{"٣h", none},
		{"２４", none},
		{"²", none},
		{"1\xff", none},
		{"87840001", past},
		{"3660000d1s", past},
		{"1s3660000d", past},
		{"9223372036854775807", past},
		{"9223372036854775808s", past},
		{"99999999999999999999999999999999", past},
		{"18446744073709551617", past},
		{"2562047788015216", past},
		{"15250284452472w", past},
	} {
		life, err := token.ParseLife(row.text)
		if err == nil || !strings.HasSuffix(err.Error(), row.reason) || life != 0 {
			t.Errorf("%q: got %d, %v; want …%s", row.text, life, err, row.reason)
		}
	}
}

func TestAReasonQuotesNoMoreThanFortyCharacters(t *testing.T) {
	for _, text := range []string{strings.Repeat("9", 1<<20), strings.Repeat("\x1b", 1<<20)} {
		if _, err := token.ParseLife(text); err == nil || len(err.Error()) > 300 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("got %.400q", err)
		}
	}
}

func TestATokenGivenForALifeIsNotQuoted(t *testing.T) {
	secret := token.Mint().Reveal()
	for _, text := range []string{secret, secret[:20], "30d " + secret, strings.Repeat("1", 26) + secret} {
		if _, err := token.ParseLife(text); err == nil || strings.Contains(err.Error(), secret[:5]) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestALifeIsReadAsItWasWritten(t *testing.T) {
	lives := rapid.OneOf(
		rapid.Int64Range(0, int64(longest)),
		rapid.Map(rapid.Int64Range(0, 3_660_000), func(n int64) int64 { return n * int64(day) }),
		rapid.Map(rapid.Int64Range(0, 87_840_000), func(n int64) int64 { return n * int64(hour) }),
		rapid.Map(rapid.Int64Range(0, 87_840_000*60), func(n int64) int64 { return n * int64(minute) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		life := token.Life(lives.Draw(t, "life"))
		if again, err := token.ParseLife(life.String()); err != nil || again != life {
			t.Errorf("%d was written as %s and read as %d, %v", life, life, again, err)
		}
	})
}

func TestALifeEndsInTheYear9999AtTheLatest(t *testing.T) {
	lastSecond := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	begin := time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)
	left := token.Life(lastSecond.Unix() - begin.Unix())
	behindUTC := time.FixedZone("", -12*3600)
	for _, row := range []struct {
		name  string
		life  token.Life
		begin time.Time
		end   time.Time // zero: refused
	}{
		{"an hour", hour, begin, time.Date(2026, 3, 1, 13, 0, 0, 123_456_000, time.UTC)},
		{"more than a Duration holds", 400 * 365 * day, begin, begin.AddDate(0, 0, 400*365).Truncate(time.Microsecond)},
		{"a second", second, lastSecond.Add(-time.Second), lastSecond},
		{"the last second", left, begin, lastSecond.Add(123_456 * time.Microsecond)},
		{"one more", left + 1, begin, time.Time{}},
		{"into the year 10000", second, lastSecond, time.Time{}},
		{"west of Greenwich, where it still is 9999", second, lastSecond.In(behindUTC), time.Time{}},
		{"the longest", longest, begin, time.Time{}},
	} {
		end, err := row.life.From(row.begin)
		if !end.Equal(row.end) || (err != nil) != row.end.IsZero() || end.Location() != time.UTC {
			t.Errorf("%s: got %v, %v; want %v", row.name, end, err, row.end)
		}
		if err != nil && !strings.Contains(err.Error(), "an expiry of "+row.life.String()+" lies past the year 9999") {
			t.Errorf("%s: got %v", row.name, err)
		}
	}
}

func TestForeverHasNoEnd(t *testing.T) {
	if end, err := token.Forever.From(time.Now()); err != nil || !end.IsZero() {
		t.Errorf("got %v, %v", end, err)
	}
}

// FuzzParseLife: nothing makes ParseLife panic; a life is never negative, and
// is read as it was written.
func FuzzParseLife(f *testing.F) {
	for _, seed := range []string{"", "0", "24", "never", "90m", "1d12h", "2w", "87840000", "9223372036854775808s", "-1", "٣", "1h1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		life, err := token.ParseLife(text)
		if life < 0 || life > longest || (err != nil && life != 0) {
			t.Errorf("%q: got %d, %v", text, life, err)
		}
		if again, failed := token.ParseLife(life.String()); failed != nil || again != life {
			t.Errorf("%q: %d was written as %s and read as %d, %v", text, life, life, again, failed)
		}
	})
}

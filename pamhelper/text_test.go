package main

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tokend/pamhelper/wire"
	"tokend/tokend/token"
)

// The functions here run under Go's runtime; the program itself is tested as it
// is built, in tokend/e2e.

func (l *line) String() string { return string(l.text[:l.size]) }

func TestEscapeLeavesNothingButPrintableASCII(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"", ""},
		{"alice", "alice"},
		{"a b!~#$%&'()*+,-./:;<=>?@[]^_`{|}", "a b!~#$%&'()*+,-./:;<=>?@[]^_`{|}"},
		{`"`, `\x22`},
		{`\`, `\x5c`},
		{"\n", `\x0a`},
		{"\x00\x1f\x7f", `\x00\x1f\x7f`},
		{"a\r\nMar 1 sshd: forged", `a\x0d\x0aMar 1 sshd: forged`},
		{"\x1b[2J", `\x1b[2J`},
		{"é", `\xc3\xa9`},
		{"\xff", `\xff`},
	} {
		var l line
		l.escape([]byte(row.text))
		if l.String() != row.want {
			t.Errorf("%q: got %s, want %s", row.text, l.String(), row.want)
		}
	}
	for c := range 256 {
		var l line
		l.escape([]byte{byte(c)})
		for _, got := range []byte(l.String()) {
			if got < ' ' || got > '~' {
				t.Errorf("%#02x: got %q", c, l.String())
			}
		}
	}
}

func TestQuoteShowsTheFirstBytes(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"", `""`},
		{"alice", `"alice"`},
		{`a" ok: "b`, `"a\x22 ok: \x22b"`},
		{strings.Repeat("x.", 32), `"` + strings.Repeat("x.", 32) + `"`},
		{strings.Repeat("x.", 33), `"` + strings.Repeat("x.", 32) + `..."`},
		{strings.Repeat("x.", 1<<20), `"` + strings.Repeat("x.", 32) + `..."`},
		{"irt_0123456789abcdef", `"irt_..."`},
		{"my irt_0123456789abcdefghijklmnopqrstuvwxyzAB token", `"my irt_..."`},
		{"irt_bob", `"irt_bob"`},
		{strings.Repeat("\n", 64), `"` + strings.Repeat(`\x0a`, 64) + `"`},
	} {
		var l line
		l.quote([]byte(row.text), 64)
		if l.String() != row.want {
			t.Errorf("%.80q: got %s, want %s", row.text, l.String(), row.want)
		}
	}
}

func TestQuoteHidesATokenThatWasGivenForAName(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"irt_" + strings.Repeat("a", 38), `"irt_..."`},
		{"irt_" + strings.Repeat("a", 16), `"irt_..."`},
		{"irt_" + strings.Repeat("a", 15), `"irt_` + strings.Repeat("a", 15) + `"`},
		{"irt_abcdefgh\tijklmn o", `"irt_..."`},
		{"irt_abcdefgh-\nijklmnopqrstuvwxyz0123456789AB", `"irt_..."`},
		{"irt_abcdefgh-" + strings.Repeat("a.", 22), `"irt_..."`},
		{"irt_abcdefgh-" + strings.Repeat("a.", 21), `"irt_abcdefgh-` + strings.Repeat("a.", 21) + `"`},
		{"irt_abcdefgh ijklmno", `"irt_..."`},
		{"irt_abcdefgh\tijklmno", `"irt_..."`},
		{"irt_abcdefgh\nijklmno", `"irt_..."`},
		{"irt_abcdefgh\vijklmno", `"irt_..."`},
		{"irt_abcdefgh\fijklmno", `"irt_..."`},
		{"irt_abcdefgh\rijklmno", `"irt_..."`},
		{"irt_abcdefgh ijklmn", `"irt_abcdefgh ijklmn"`},
		{"irt_abcdefgh-ijklmnop", `"irt_abcdefgh-ijklmnop"`},
		{"kirt_vandenberghe", `"kirt_vandenberghe"`},
		{"svc.irt_department.radiology", `"svc.irt_department.radiology"`},
		{strings.Repeat("0f", 24), `"` + strings.Repeat("0f", 24) + `"`},
		{strings.Repeat("0f", 32), `"0f0f0f0f..."`},
		{"alice irt_" + strings.Repeat("a", 38) + " bob", `"alice irt_..."`},
		{"irt_irt_" + strings.Repeat("a", 38), `"irt_..."`},
		{strings.Repeat("x.", 30) + "irt_" + strings.Repeat("a", 38), `"` + strings.Repeat("x.", 30) + `irt_..."`},
		{strings.Repeat("x.", 32) + "irt_" + strings.Repeat("a", 38), `"` + strings.Repeat("x.", 32) + `..."`},
		{"\"irt_" + strings.Repeat("a", 16), `"\x22irt_..."`},
		{"irt_", `"irt_"`},
		{"Irt_" + strings.Repeat("a", 38), `"Irt_..."`},
		{"rt_" + strings.Repeat("z", 32), `"rt_zzzzzzzz..."`},
		{strings.Repeat("Z9a", 12), `"Z9aZ9aZ9..."`},
		{strings.Repeat("Z9a", 10) + "_" + strings.Repeat("Z9a", 9), `"` + strings.Repeat("Z9a", 10) + "_" + strings.Repeat("Z9a", 9) + `"`},
		{"IRT_" + strings.Repeat("a", 38), `"IRT_..."`},
	} {
		var l line
		l.quote([]byte(row.text), 64)
		if l.String() != row.want {
			t.Errorf("%q: got %s, want %s", row.text, l.String(), row.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{1: "1", 9: "9", 10: "10", 4194304: "4194304", 1<<63 - 1: "9223372036854775807"} {
		var l line
		l.number(n)
		if l.String() != want {
			t.Errorf("got %s, want %s", l.String(), want)
		}
	}
}

func TestALineThatIsFullLeavesTheRestOut(t *testing.T) {
	full := strings.Repeat("x", len(line{}.text))
	for room := range 6 {
		for name, add := range map[string]func(*line){
			"add":    func(l *line) { l.add("12345678") },
			"number": func(l *line) { l.number(12345678) },
			"escape": func(l *line) { l.escape([]byte("12345678")) },
		} {
			var l line
			l.add(full[room:])
			add(&l)
			add(&l)
			if want := full[room:] + "12345678"[:room]; l.String() != want {
				t.Errorf("%s with room for %d: got %q", name, room, l.String()[len(full)-room:])
			}
		}
	}
	var l line
	l.escape([]byte(strings.Repeat("\xff", 1000)))
	if l.String() != strings.Repeat(`\xff`, len(l.text)/4) {
		t.Errorf("got %s", l.String())
	}
}

func TestTheSecretEndsAtTheFirstNULOrLineBreak(t *testing.T) {
	const ended, open = true, false
	for _, row := range []struct {
		text  string
		from  int
		want  string
		found bool
	}{
		{"", 0, "", open},
		{"secret", 0, "secret", open},
		{"secret", 6, "secret", open},
		{"secret\n", 0, "secret", ended},
		{"secret\r\n", 0, "secret", ended},
		{"secret\x00", 0, "secret", ended},
		{"secret\x00\n", 0, "secret", ended},
		{"secret\n\x00", 0, "secret", ended},
		{"sec\nret", 0, "sec", ended},
		{"sec\x00ret\n", 0, "sec", ended},
		{"sec\rret", 0, "sec\rret", open},
		{"sec\rret\n", 0, "sec\rret", ended},
		{"secret\r", 0, "secret\r", open},
		{"secret\r\r\n", 0, "secret\r", ended},
		{"secret\r\x00", 0, "secret\r", ended},
		{" secret \n", 0, " secret ", ended},
		{"\n", 0, "", ended},
		{"\r\n", 0, "", ended},
		{"\x00", 0, "", ended},
		{"secret\n", 6, "secret", ended},
		{"secret\r\n", 7, "secret", ended}, // the CR came with what was read before
		{"secret\r\n", 6, "secret", ended},
		{"secret\x00", 6, "secret", ended},
		{"secret\nmore\n", 3, "secret", ended},
	} {
		size, found := lineEnd([]byte(row.text), row.from)
		if got := row.text[:size]; got != row.want || found != row.found {
			t.Errorf("%q from %d: got %q, %t", row.text, row.from, got, found)
		}
	}
}

func TestASecretIsNeitherEmptyNorTooLong(t *testing.T) {
	const (
		long = "the secret is longer than 1024 bytes"
	)
	for _, row := range []struct {
		size     int
		overflow bool
		want     string
	}{
		{0, false, empty},
		{1, false, ""},
		{42, false, ""},
		{1024, false, ""},
		{1025, false, long},
		{1026, false, long},
		{0, true, long},
		{1, true, long},
		{1026, true, long},
	} {
		secret := make([]byte, row.size)
		got, problem := checkSecret(secret, row.overflow)
		if problem != row.want || (problem == "") != (got != nil) || (problem == "" && len(got) != row.size) {
			t.Errorf("%d bytes, overflow %t: got %d bytes, %q", row.size, row.overflow, len(got), problem)
		}
	}
	if maxSecret != wire.MaxField {
		t.Errorf("a secret of %d bytes goes into a field of %d", maxSecret, wire.MaxField)
	}
}

func TestBaseIsWhatFollowsTheLastSlash(t *testing.T) {
	for path, want := range map[string]string{
		"":                                     "",
		"pamhelper":                            "pamhelper",
		"./irodsPamAuthCheck":                  checkerName,
		"/usr/sbin/irodsPamAuthCheck":          checkerName,
		"irodsPamAuthCheck":                    checkerName,
		"/usr/sbin/irodsPamAuthCheck/":         "",
		"/irodsPamAuthCheck/pamhelper":         "pamhelper",
		"/":                                    "",
		"//a//b":                               "b",
		"/usr/libexec/tokend/pamhelper":        "pamhelper",
		"/usr/sbin/irodsPamAuthCheck.real":     "irodsPamAuthCheck.real",
		"/usr/sbin/\x00/irodsPamAuthCheck":     checkerName,
		"irodsPamAuthCheck\x00/and more of it": "and more of it",
	} {
		if got := base(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

// The helper ends by itself before the kernel ends it, and both before iRODS's
// clients and people lose patience.
func TestTheLimitsAreInOrder(t *testing.T) {
	if softLimit >= hardLimit || hardLimit > 3*second {
		t.Errorf("soft %d, hard %d", softLimit, hardLimit)
	}
}

// TestHelperAndDaemonHideTheSame: the rule is written twice, because the helper
// has no runtime.
func TestHelperAndDaemonHideTheSame(t *testing.T) {
	names := rapid.StringOfN(rapid.SampledFrom([]rune("irt_IRTaz09ghX \t\v\n.-@\u00a0")), 0, 80, -1)
	rapid.Check(t, func(t *rapid.T) {
		name := names.Draw(t, "before") + rapid.SampledFrom([]string{"", "irt_", token.Mint().Reveal(), token.Mint().Reveal()[4:], strings.Repeat("0a", 24), strings.Repeat("0a", 32)}).Draw(t, "token") + names.Draw(t, "behind")
		want := name
		if at := tokenIn([]byte(name)); at >= 0 {
			want = name[:at] + "[redacted]"
		}
		if got := token.RedactName(name); got != want {
			t.Errorf("%q: the daemon shows %q, the helper %q", name, got, want)
		}
	})
}

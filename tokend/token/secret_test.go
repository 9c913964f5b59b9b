package token_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

type exported struct{ Secret token.Secret }

type unexported struct{ secret token.Secret }

// placed is the secret in every place where a program may forget it.
func placed(s token.Secret) map[string]any {
	inner := struct{ deep map[string][]unexported }{map[string][]unexported{"k": {{s}}}}
	return map[string]any{
		"itself":             s,
		"pointer":            &s,
		"exported field":     exported{s},
		"pointer to struct":  &exported{s},
		"unexported field":   unexported{s},
		"deep in unexported": &inner,
		"slice":              []token.Secret{s},
		"slice of pointers":  []*token.Secret{&s},
		"array":              [1]token.Secret{s},
		"map":                map[string]token.Secret{"k": s},
		"map key":            map[token.Secret]int{s: 1},
		"any":                []any{s},
	}
}

// The last format takes nothing, so that fmt complains of what is left over.
func TestASecretIsNeverPrinted(t *testing.T) {
	formats := []string{
		"%v", "%+v", "%#v", "%s", "%q", "%+q", "%x", "%X", "%# x", "%60s", "%d", "%o", "%e", "%t", "%c", "%U", "%p", "%w", "%T", "nothing",
	}
	secret := token.Mint()
	for place, value := range placed(secret) {
		for _, format := range formats {
			mustHide(t, secret, place+" as "+format, fmt.Sprintf(format, value))
			mustHide(t, secret, place+" in an error as "+format, fmt.Errorf(format, value).Error())
		}
		mustHide(t, secret, place+" with Print", fmt.Sprint(value))
	}
}

func TestASecretPrintsAsRedacted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		if got := fmt.Sprintf(verb, token.Mint()); got != "[redacted]" {
			t.Errorf("%s: got %s", verb, got)
		}
	}
	if got := token.Mint().String(); got != "[redacted]" {
		t.Errorf("String: got %s", got)
	}
}

func TestASecretIsNeverEncoded(t *testing.T) {
	secret := token.Mint()
	for place, value := range placed(secret) {
		text, err := json.Marshal(value)
		if err != nil {
			t.Errorf("JSON of %s: %v", place, err)
		}
		mustHide(t, secret, place+" in JSON", string(text))
	}
	if text, err := json.Marshal(exported{secret}); err != nil || string(text) != `{"Secret":"[redacted]"}` {
		t.Errorf("got %s, %v", text, err)
	}
	text, err := xml.Marshal(exported{secret})
	if err != nil {
		t.Error(err)
	}
	mustHide(t, secret, "XML", string(text))
}

func TestASecretIsNeverLogged(t *testing.T) {
	secret := token.Mint()
	var out bytes.Buffer
	loggers := map[string]*slog.Logger{
		"text": slog.New(slog.NewTextHandler(&out, nil)),
		"JSON": slog.New(slog.NewJSONHandler(&out, nil)),
	}
	for kind, log := range loggers {
		for place, value := range placed(secret) {
			out.Reset()
			log.With("before", value).WithGroup("group").Info("message", "secret", value, slog.Group("inner", "secret", value), "err", fmt.Errorf("with %v", value))
			mustHide(t, secret, place+" in a "+kind+" log", out.String())
		}
		out.Reset()
		log.Info("message", "secret", secret)
		if !strings.Contains(out.String(), "[redacted]") {
			t.Errorf("%s log: got %s", kind, out.String())
		}
	}
}

// mustHide takes any eight characters of the secret for the secret, in hex and
// as numbers too.
func mustHide(t *testing.T, secret token.Secret, what, got string) {
	t.Helper()
	text := secret.Reveal()
	for i := range len(text) - 8 {
		piece := text[i : i+8]
		spelled := []string{piece, fmt.Sprintf("%x", piece), fmt.Sprintf("%X", piece), fmt.Sprintf("% x", piece), strings.Trim(fmt.Sprintf("%d", []byte(piece)), "[]")}
		for _, s := range spelled {
			if strings.Contains(got, s) {
				t.Errorf("%s: shows the secret: %s", what, strings.ReplaceAll(got, text, "(the secret)"))
				return
			}
		}
	}
}

func TestTheZeroSecretRevealsNothing(t *testing.T) {
	if got := (token.Secret{}).Reveal(); got != "" {
		t.Errorf("got %q", got)
	}
	if got := fmt.Sprint(token.Secret{}); got != "[redacted]" {
		t.Errorf("got %q", got)
	}
}

func TestADigestIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want token.Digest
		copy(want[:], rapid.SliceOfN(rapid.Byte(), len(want), len(want)).Draw(t, "digest"))
		got, err := token.ParseDigest(want.String())
		if err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var again token.Digest
		if err := json.Unmarshal(text, &again); err != nil || again != want {
			t.Errorf("through JSON: got %v, %v; want %v", again, err, want)
		}
	})
}

func TestWhatIsNoDigestIsRefused(t *testing.T) {
	whole := token.Mint().Digest().String()
	for what, text := range map[string]string{
		"empty":         "",
		"cut":           whole[:127],
		"an odd one":    whole + "0",
		"another byte":  whole + "00",
		"no hex":        whole[:127] + "g",
		"NUL":           whole[:127] + "\x00",
		"a line break":  whole[:127] + "\n",
		"beyond ASCII":  whole[:126] + "é",
		"spaces before": "  " + whole[:126],
	} {
		kept := token.Mint().Digest()
		before := kept
		if d, err := token.ParseDigest(text); err == nil || d != (token.Digest{}) {
			t.Errorf("%s: got %v, %v", what, d, err)
		}
		if err := kept.UnmarshalText([]byte(text)); err == nil || errors.Unwrap(err) == nil || kept != before {
			t.Errorf("%s: UnmarshalText: got %v, %v", what, kept, err)
		}
	}
}

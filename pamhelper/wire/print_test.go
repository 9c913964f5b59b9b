package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"tokend/pamhelper/wire"
)

func TestARequestPrintsWithoutItsSecret(t *testing.T) {
	request := wire.Request{Login: []byte("alice"), Secret: []byte("s3cret"), Service: []byte("irods"), Realm: []byte("realm")}
	var out bytes.Buffer
	values := map[string]any{"itself": request, "pointer": &request, "field": struct{ R wire.Request }{request}, "slice": []wire.Request{request}, "map": map[string]*wire.Request{"k": &request}}
	for place, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, place+" "+verb+"\n", value)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("message", "place", place, "request", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("message", "place", place, "request", value)
		text, err := json.Marshal(value)
		fmt.Fprintln(&out, place, string(text), err)
	}
	for _, secret := range []string{"s3cret", "733363726574", "czNjcmV0", "115 51 99"} { // itself, hex, base64, bytes
		for line := range strings.Lines(out.String()) {
			if strings.Contains(strings.ToLower(line), strings.ToLower(secret)) {
				t.Errorf("shows the secret: %s", line)
			}
		}
	}
	if got := fmt.Sprintf("%v %+v", request, &request); got != `request of "alice" request of "alice"` {
		t.Errorf("got %s", got)
	}
}

package web_test

import (
	"fmt"
	"strings"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/web"
)

// TestATokenThatEndedLongAgoIsNotImportedAsOneThatNeverDoes: no time at all means never, and the year 1 is a time.
func TestATokenThatEndedLongAgoIsNotImportedAsOneThatNeverDoes(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for i, c := range []struct {
		expires string
		want    web.Imported
	}{
		{`null`, web.Imported{New: 1}},
		{`"0001-01-01T00:00:00Z"`, web.Imported{Expired: 1}},
		{`"0001-01-01T00:00:00.0000001Z"`, web.Imported{Expired: 1}},
		{`"0001-01-01T01:00:00+01:00"`, web.Imported{Expired: 1}},
		{`"2020-01-01T00:00:00Z"`, web.Imported{Expired: 1}},
	} {
		digest := strings.Repeat(fmt.Sprintf("%02x", i+1), 64)
		got := get[web.Imported](t, f, "POST "+tokens+"/import", fmt.Sprintf(`{"from":"SODAR","tokens":[{"digest":%q,"scheme":"knox-5","user":"alice","hint":"01234567","expires":%s}]}`, digest, c.expires))
		if got.New != c.want.New || got.Expired != c.want.Expired {
			t.Errorf("%s: got %+v", c.expires, got)
		}
	}
}

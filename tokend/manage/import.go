package manage

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"tokend/tokend/token"
)

// MaxImport is how many tokens are imported at once, at most.
const MaxImport = 1000

// Imported is what became of tokens that another program has made.
type Imported struct {
	New     int       // are kept now
	Known   int       // were kept before, and are unchanged
	Expired int       // open nothing any more, and are left out
	Refused []Refusal // cannot be kept

	// Of the new and the known ones:
	Unlabelled int // those whose label could not be written here
	Ended      int // those that [tokens] max_expiry has ended
}

// Refusal is a token that cannot be kept.
type Refusal struct {
	Owner, Hint string
	Why         string
}

// Import keeps tokens of which another program, such as Knox, has kept the same digests as this one would.
// What is kept already is left as it is, so that it may be done again. A token whose time of creation is
// not known was made now; a label that could not be written here is left out. A dry run tells what would
// become of them, and changes nothing. ErrInvalid: they are too many.
func (m *Manager) Import(ctx context.Context, actor, from string, tokens []token.Record, dryRun bool) (result Imported, err error) {
	if len(tokens) > MaxImport {
		return result, invalid(fmt.Errorf("%d tokens are too many at once: send at most %d", len(tokens), MaxImport))
	}
	from = fmt.Sprintf("%.300s", strings.Map(printable, token.Redact(from)))
	now, limit := token.Time(m.now()), m.limits.Load().MaxExpiry
	var records []token.Record
	for _, r := range tokens {
		label := r.Label
		if err := adoptable(&r, now); err != nil {
			result.Refused = append(result.Refused, Refusal{token.RedactName(r.Owner), r.Hint, err.Error()})
			continue
		}
		if r.StateAt(now, token.Forever) == token.Expired {
			result.Expired++
			continue
		}
		if r.Label != label {
			result.Unlabelled++
		}
		if r.StateAt(now, limit) == token.Expired {
			result.Ended++
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return result, nil
	}
	if dryRun {
		result.Known, err = m.known(ctx, records)
		result.New = len(records) - result.Known
		return result, err
	}
	kept, err := m.store.Adopt(ctx, records, token.Event{At: now, Actor: actor, Action: token.TokenImported, Detail: "from " + from})
	if err != nil {
		if unanswered(err) {
			return result, perhaps(err)
		}
		return result, fmt.Errorf("%w; of these %d tokens none was imported", err, len(records))
	}
	result.New, result.Known = len(kept), len(records)-len(kept)
	if result.New > 0 {
		m.log.InfoContext(ctx, "tokens imported", "from", from, "tokens", result.New, "by", actor)
	}
	return result, nil
}

func (m *Manager) known(ctx context.Context, records []token.Record) (n int, err error) {
	digests := make([]token.Digest, len(records))
	for i, r := range records {
		digests[i] = r.Digest
	}
	if n, err = m.store.Known(ctx, digests); err != nil {
		return 0, fmt.Errorf("look for tokens that are kept already: %w", err)
	}
	return n, nil
}

// printable leaves out what would break a line.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return -1
	}
	return r
}

// lastYear is the last that can be written.
const lastYear = 9999

// knoxHint is what stands first of a token's digits; a table that is odd may have fewer.
var knoxHint = regexp.MustCompile(`^[0-9a-f]{0,8}$`)

// adoptable makes a record of a token as another program kept it, or says why it cannot.
func adoptable(r *token.Record, now time.Time) error {
	if err := token.CheckUser(r.Owner); err != nil {
		return err
	}
	if _, err := token.ParseScheme(string(r.Scheme)); err != nil {
		return err
	}
	if r.Digest == (token.Digest{}) || r.Scheme == token.Own {
		return errors.New("it has no digest, or it is not said whose that is")
	}
	if !knoxHint.MatchString(r.Hint) {
		r.Hint = ""
		return errors.New("the hint is not the first 8 hexadecimal digits")
	}
	if token.CheckLabel(r.Label) != nil {
		r.Label = ""
	}
	r.ID = token.NewID()
	r.Created, r.Expires = token.Time(r.Created), token.Time(r.Expires)
	if r.Expires.Year() > lastYear {
		return fmt.Errorf("it ends past the year %d; leave that out for never", lastYear)
	}
	if r.Created.Year() < 1 || r.Created.IsZero() || r.Created.After(now) {
		r.Created = now
	}
	return nil
}

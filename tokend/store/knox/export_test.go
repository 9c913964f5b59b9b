package knox

import "time"

// SetRowTimeout changes how long the next row may take, until undo is called.
func SetRowTimeout(d time.Duration) (undo func()) {
	before := rowTimeout
	rowTimeout = d
	return func() { rowTimeout = before }
}

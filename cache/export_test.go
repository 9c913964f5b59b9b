package cache

// Wait waits for the fills that are under way.
func (r *Redis) Wait() {
	for range cap(r.fills) {
		r.fills <- struct{}{}
	}
	for range cap(r.fills) {
		<-r.fills
	}
}

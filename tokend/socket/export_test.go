package socket

import "time"

// What has no exported name.
var (
	Unstick = unstick
	Aside   = aside
	Admit   = Peers.admit
)

// HoldWakes keeps what waits in the kernel waiting, until it is released.
func HoldWakes() (release func()) {
	held, over := make(chan struct{}), make(chan struct{})
	go func() {
		for done := false; !done; time.Sleep(prompt) {
			oneByOne.Do(func() {
				done = true
				close(held)
				<-over
			})
		}
	}()
	<-held
	return func() { close(over) }
}

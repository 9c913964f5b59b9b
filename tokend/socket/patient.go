package socket

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// Patient is a listener that goes on after an accept that failed, until it is closed:
// what there is too little of, such as descriptors, is there again later.
func Patient(l net.Listener, log *slog.Logger) net.Listener { return patient{l, log} }

type patient struct {
	net.Listener
	log *slog.Logger
}

// Accept waits for the next connection. An error wraps net.ErrClosed.
func (p patient) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := p.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		p.log.Error("connection not accepted", "socket", p.Addr().String(), "err", err, "pause", pause)
		time.Sleep(pause)
	}
}

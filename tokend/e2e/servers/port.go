package servers

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// onFreePort starts something on a port of 127.0.0.1 that was free, and on another one
// where somebody else has taken it meanwhile.
func onFreePort(start func(port string) error) error {
	for try := 1; ; try++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		if err = start(port); err == nil || try == 5 || !taken(port) {
			return err
		}
	}
}

// freePort is none that the kernel gives to connections: a server that was killed must get
// its own again. So is the one 10000 above it, where a node of a Redis cluster listens as well.
func freePort() (string, error) {
	for range 1000 {
		n := 10240 + rand.IntN(32768-10000-10240)
		port, bus := strconv.Itoa(n), strconv.Itoa(n+10000)
		if !taken(port) && !taken(bus) {
			return port, nil
		}
	}
	return "", errors.New("no port is free from 10240 to 32767: end what listens there")
}

func taken(port string) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return listener.Close() != nil
}

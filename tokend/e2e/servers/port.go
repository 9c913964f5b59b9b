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
// its own again.
func freePort() (string, error) {
	for range 1000 {
		if port := strconv.Itoa(10240 + rand.IntN(32768-10240)); !taken(port) {
			return port, nil
		}
	}
	return "", errors.New("no port is free below 32768: end what listens there")
}

func taken(port string) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return listener.Close() != nil
}

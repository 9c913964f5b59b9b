package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestWhoIsSlowIsCutOff from HTTP, too: who sends nothing, not all of it or nothing
// more, and who takes no answer.
func TestWhoIsSlowIsCutOff(t *testing.T) {
	site, _, metrics := observed(t)
	const whole = "GET /metrics HTTP/1.1\r\nHost: tokend\r\n\r\n"
	for _, network := range [][2]string{{"tcp", metrics}, {"unix", site.AdminSocket()}} {
		meet := func(name string, patience time.Duration, do func(net.Conn) error) {
			t.Run(network[0]+" "+name, func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial(network[0], network[1])
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if err := do(conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("it may stay for ever")
				}
			})
		}
		for _, sent := range []string{
			"", "GET / HTTP/1.1\r\nHost:", "POST /api/v1/tokens HTTP/1.1\r\nHost: tokend\r\nContent-Length: 100\r\n\r\n{", whole,
		} {
			meet(sent, 25*time.Second, func(conn net.Conn) error {
				if _, err := io.WriteString(conn, sent); err != nil {
					return err
				}
				_, err := io.Copy(io.Discard, conn)
				return err
			})
		}
		meet("takes nothing", 90*time.Second, func(conn net.Conn) error {
			for { // until no more requests are read, because no more answers can be written
				if _, err := io.WriteString(conn, whole); err != nil {
					return err
				}
			}
		})
	}
}

func TestAHeadOfAnyLengthIsNotRead(t *testing.T) {
	site, _, metrics := observed(t)
	for _, network := range [][2]string{{"tcp", metrics}, {"unix", site.AdminSocket()}} {
		conn, err := net.Dial(network[0], network[1])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: tokend\r\nX: "+strings.Repeat("x", 30<<10)+"\r\n\r\n") // it may hang up
		if reply, _ := io.ReadAll(conn); !strings.HasPrefix(string(reply), "HTTP/1.1 431 ") {
			t.Errorf("%s: got %.80q", network[0], reply)
		}
	}
}

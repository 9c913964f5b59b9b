package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/spf13/cobra"

	"tokend/config"
)

// client talks to the daemon's HTTP API over its admin socket.
type client struct {
	socket string
	http   http.Client
}

// clientTimeout is how long a command waits for the daemon.
const clientTimeout = 15 * time.Second

// maybeDone is what to say when the answer to a change was not waited for.
const maybeDone = "; it may have done it all the same, or do it later: see its log, and tokend audit"

// addAdminSocket gives a command and those below it the flag --admin-socket.
func addAdminSocket(cmd *cobra.Command) {
	cmd.PersistentFlags().String("admin-socket", config.Default().Admin.Socket, "the daemon's admin socket")
}

func newClient(cmd *cobra.Command) (*client, error) {
	socket, err := cmd.Flags().GetString("admin-socket")
	if err != nil {
		return nil, err
	}
	if socket == "" {
		return nil, errors.New("--admin-socket is empty: name the daemon's admin socket")
	}
	return dial(socket), nil
}

// dial returns a client of the daemon that listens on the socket.
func dial(socket string) *client {
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &client{socket, http.Client{Timeout: clientTimeout, Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}}
}

// call makes one request. The path is escaped. In and out may be nil: nothing is
// sent, or kept.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://tokend"+path+"?"+query.Encode(), body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if method != http.MethodGet && ctx.Done() == nil { // else a signal ends ctx, and whoever made that says so
		defer atSignal(func() {
			lastWords(os.Stderr, fmt.Sprintf("tokend: interrupted: the daemon at %s had not answered%s\n", c.socket, maybeDone))
		})()
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return c.explain(method, err)
	}
	return errors.Join(read(reply, out), reply.Body.Close())
}

func read(reply *http.Response, out any) error {
	decoder := json.NewDecoder(reply.Body)
	if reply.StatusCode >= http.StatusBadRequest {
		var problem huma.ErrorModel
		err := decoder.Decode(&problem)
		switch none := err != nil || problem.Detail == ""; {
		case none && (reply.StatusCode == http.StatusNotFound || reply.StatusCode == http.StatusMethodNotAllowed):
			return fmt.Errorf("the daemon answered %s: it is older than this program, and can't do that; upgrade it, and restart it", reply.Status)
		case none:
			return fmt.Errorf("the daemon answered %s", reply.Status)
		}
		for _, detail := range problem.Errors {
			problem.Detail += "; " + detail.Message + " (" + detail.Location + ")"
		}
		return errors.New(problem.Detail)
	}
	if out == nil {
		return nil
	}
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// explain says what to do about a daemon that cannot be reached, or doesn't
// answer.
func (c *client) explain(method string, err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err // without the address, which means nothing here
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens on %s: start the daemon (systemctl start tokend, or tokend serve), or name its socket with --admin-socket", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("you may not open %s: run this as root, or as somebody among [admin] peers in tokend.toml whom the socket and its folder let in", c.socket)
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		if method == http.MethodGet {
			return fmt.Errorf("the daemon at %s did not answer within %s: see its log", c.socket, clientTimeout)
		}
		return fmt.Errorf("the daemon at %s did not answer within %s%s", c.socket, clientTimeout, maybeDone)
	case errors.Is(err, context.Canceled), isDial(err):
		return fmt.Errorf("ask the daemon at %s: %w", c.socket, err)
	}
	stopped := "the daemon was stopped"
	if method != http.MethodGet {
		stopped += " (and may have done it all the same: see tokend audit)"
	}
	// A connection that ends early is told in many ways, some without a name.
	return fmt.Errorf("the daemon at %s hung up: uid %d is not among [admin] peers in tokend.toml, %s, or this is no admin socket; its log says which", c.socket, os.Getuid(), stopped)
}

func isDial(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && failed.Op == "dial"
}

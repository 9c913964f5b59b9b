package socket

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Guard is a listener that hands out only connections of peers. A connection of
// anyone else is closed without a word, counted, and told to the log.
type Guard struct {
	*Listener
	peers    atomic.Pointer[Peers]
	log      *slog.Logger
	rejected *Rejections
	seldom   rate.Sometimes
}

// NewGuard puts a guard before the listener. Socket is its name in the log,
// "auth" or "admin", which is also the configuration's section.
func NewGuard(listener *Listener, peers Peers, log *slog.Logger, rejected *Rejections) *Guard {
	g := &Guard{
		Listener: listener, log: log, rejected: rejected,
		seldom: rate.Sometimes{First: 10, Interval: time.Second},
	}
	g.SetPeers(peers)
	return g
}

// SetPeers changes who may ask, for connections from now on, and reports whether
// that is anybody else.
func (g *Guard) SetPeers(p Peers) (changed bool) {
	before := g.peers.Swap(&p)
	return before == nil || !before.equal(p)
}

// Allow reports whether the peer may ask now.
func (g *Guard) Allow(peer Peer) bool { return g.peers.Load().Allow(peer) }

// Accept waits for the next connection of a peer. It returns a *Conn.
func (g *Guard) Accept() (net.Conn, error) {
	for {
		accepted, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := PeerOf(accepted)
		conn := &Conn{accepted, peer}
		if err == nil && g.Allow(peer) {
			return conn, nil
		}
		aside(func() { _ = conn.Close() }) // a stranger learns nothing
		g.rejected.count(notPeer)
		g.seldom.Do(func() {
			if err != nil {
				g.log.Warn("connection refused: the kernel does not say who is calling", "socket", g.Addr().String(), "err", err)
				return
			}
			g.log.Warn("connection refused: the caller is not among the peers of this socket",
				"socket", g.Addr().String(), "peer", peer.String(), "pid", peer.PID)
		})
	}
}

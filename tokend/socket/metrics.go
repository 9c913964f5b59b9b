package socket

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why a connection got no verdict: a label from a closed list.
const (
	notPeer    = "peer"       // the caller may not ask
	tooMany    = "busy"       // as many connections as there may be are open
	tooSlow    = "timeout"    // the request did not come in time
	malformed  = "malformed"  // a field is longer than it may be
	incomplete = "incomplete" // the caller hung up in the middle
)

// Rejections counts the connections that got no verdict, on all sockets.
type Rejections struct{ total *prometheus.CounterVec }

// NewRejections makes the counter. A nil registerer: it is counted for nobody.
func NewRejections(reg prometheus.Registerer) *Rejections {
	total := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "tokend_connections_rejected_total",
		Help: "Connections to tokend's sockets that got no verdict, by reason.",
	}, []string{"reason"})
	for _, reason := range []string{notPeer, tooMany, tooSlow, malformed, incomplete} {
		total.WithLabelValues(reason)
	}
	return &Rejections{total}
}

func (r *Rejections) count(reason string) { r.total.WithLabelValues(reason).Inc() }

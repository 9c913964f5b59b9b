package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// explain puts before an error of the server's, or of the way to it, what an operator can
// do about it.
func explain(err error) error {
	var remedy string
	ofSentinels := errors.Is(err, errNoPrimary) || errors.Is(err, errSilent)
	switch {
	case ofSentinels && (strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "NOAUTH")):
		remedy = "the Sentinels want a password, or another one, or these are none; mend [cache] url, or sentinel_password_file (after a change of a systemd credential, restart tokend)"
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"):
		remedy = "Redis admits no such user with that password; mend the user in [cache] url, password_file (after a change of a systemd credential, restart tokend), or Redis' own rules; is it a Redis, where Sentinels would want redis+sentinel://?"
	case strings.Contains(err.Error(), "without any password configured for the default user"):
		remedy = "Redis knows the password's user by a name; write it into [cache] url, as in redis://user@host:port"
	case redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "'cluster"):
		remedy = "the user may not ask for the Cluster's servers; give it +cluster|slots, or, where this Redis is in no Cluster, write redis:// (or redis+sentinel://) in [cache] url"
	case redis.HasErrorPrefix(err, "NOPERM"), strings.Contains(err.Error(), "can't run this command"): // in a script
		remedy = "the user lacks rights at Redis; docs/operate.md says which it needs"
	case redis.HasErrorPrefix(err, "READONLY"):
		remedy = "this Redis is a replica; name the primary in [cache] url, or all of the Sentinels, one of which knows it"
	case ofSentinels && strings.Contains(err.Error(), "No such master"):
		remedy = "the Sentinels know no set of servers by the name in [cache] url"
	case redis.HasErrorPrefix(err, "MOVED"):
		remedy = "this Redis is one of a Cluster; write redis+cluster:// (or rediss+cluster://) in [cache] url"
	case strings.Contains(err.Error(), "cluster support disabled"):
		remedy = "this Redis is in no Cluster; write redis:// (or rediss://, or redis+sentinel:// and its Sentinels) in [cache] url"
	case strings.Contains(err.Error(), "unknown command 'get'"), strings.Contains(err.Error(), "unknown command 'cluster'"):
		remedy = "what [cache] url names are Sentinels; write redis+sentinel://host:port,host:port/name"
	case strings.Contains(err.Error(), "unknown command 'sentinel'"):
		remedy = "what [cache] url names are no Sentinels; write redis:// (or rediss://) for a Redis alone"
	case redis.HasErrorPrefix(err, "CLUSTERDOWN"):
		remedy = "a server of the Cluster is away, or has lost its part; redis-cli cluster info says more"
	case strings.Contains(err.Error(), "certificate"): // it has several types
		remedy = "TLS with Redis fails; does ca_file name who signed the servers' certificates, are these still valid, do they name the hosts of [cache] url (or the addresses that the Sentinels, or a Cluster's servers, announce), and do they want one (cert_file)?"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		remedy = "Redis hung up; is it being restarted, does it want TLS (rediss:// in [cache] url), or a certificate (cert_file), or is it in protected mode, where its user \"default\" needs no password?"
	case isFull(err):
		return fmt.Errorf("%w: %w", errFull, err)
	case isTimeout(err) && ofSentinels:
		remedy = "too few Sentinels answer; are they running where [cache] url says, does a firewall let this machine through, and do they speak TLS if the url says so?"
	case isTimeout(err):
		remedy = "Redis does not answer in time (50 ms, where a login waits); is it slow or far (redis-cli --latency), is it running where [cache] url says, does a firewall let this machine through, and does it speak TLS if the url says so?"
	case isNoName(err):
		remedy = "no machine is known by the name in [cache] url (or by that of the Sentinels or the Cluster): mend it, or the names that this machine knows (DNS, /etc/hosts)"
	case errors.Is(err, syscall.ECONNREFUSED) && ofSentinels:
		remedy = "nobody listens there; is the Sentinel running where [cache] url says?"
	case errors.Is(err, syscall.ECONNREFUSED):
		remedy = "nobody listens there; is Redis running where [cache] url, the Sentinels or the Cluster say?"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", remedy, err)
}

// isNoName tells whether a server's name leads nowhere.
func isNoName(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

// isTimeout tells whether there was no answer in time.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

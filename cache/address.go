package cache

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Address says where Redis is, and who asks.
type Address struct {
	Servers  []string // host:port, or the host alone: one server, or some of many
	Sentinel string   // what the servers call the set whose primary is asked; empty: they are no Sentinels
	Cluster  bool     // whether the servers are a Cluster's
	User     string   // of Redis' access rules; empty: the default one
	Database int      //
	TLS      bool     //
	// Password returns that of the user, for each new connection. Nil: there is none.
	Password func() (string, error)
	// SentinelPassword returns that of the Sentinels, for each new connection. Nil: they have none.
	SentinelPassword func() (string, error)
	// CAFile has the authorities that a server's certificate may be from. Empty: those that
	// the system trusts.
	CAFile string
	// CertFile and KeyFile show the server who asks. Empty: it isn't shown.
	CertFile, KeyFile string
}

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

// options are those of the client.
func (a Address) options() (o *redis.UniversalOptions, err error) {
	o = &redis.UniversalOptions{
		IsClusterMode: a.Cluster, Username: a.User, DB: a.Database,
		ClientName: "tokend", DisableIdentity: true,
		// Each request has its own, shorter time.
		ContextTimeoutEnabled: true, DialTimeout: probeTimeout, ReadTimeout: probeTimeout, WriteTimeout: probeTimeout,
		MaxRetries: -1, DialerRetries: 1,
		PipelinePoolSize: -1,   // one pool of connections, which is warmed up
		MinIdleConns:     warm, // also after one has ended, before a login would have to wait for another
		// Nothing is used of the newer one, which looks before each answer for messages that were not asked for.
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	port := defaultPort
	if a.Sentinel != "" {
		port = defaultSentinelPort
	}
	for _, server := range a.Servers {
		o.Addrs = append(o.Addrs, withPort(server, port))
	}
	o.Dialer = dialer(nil)
	if a.TLS {
		if _, err = a.tls(); err != nil {
			return nil, err
		}
		o.Dialer = dialer(a.tls) // certificates are renewed
	}
	if a.Password != nil {
		o.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
			password, err = a.Password()
			return a.User, password, err
		}
	}
	return o, nil
}

// withPort adds the port where there is none.
func withPort(host, port string) string {
	if strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		return host
	}
	return host + ":" + port
}

// CheckFiles returns what is wrong with the files of certificates.
func (a Address) CheckFiles() error {
	_, err := a.tls()
	return err
}

func (a Address) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile != "" {
		text, err := readPEM(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("[cache] ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("[cache] ca_file: %s has no certificate in it; name a file with PEM", a.CAFile)
		}
	}
	if a.CertFile != "" {
		cert, certErr := readPEM(a.CertFile)
		key, keyErr := readPEM(a.KeyFile)
		err := cmp.Or(certErr, keyErr)
		if err == nil {
			var pair tls.Certificate
			pair, err = tls.X509KeyPair(cert, key)
			c.Certificates = []tls.Certificate{pair}
		}
		if err != nil {
			return nil, fmt.Errorf("[cache] cert_file and key_file: %w", err)
		}
	}
	return c, nil
}

// readPEM reads certificates, or a key: of a regular file alone, as of any other it could wait
// for ever, or read without an end.
func readPEM(name string) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no regular file: write the PEM into one, and name that", name), err)
	}
	text, err := io.ReadAll(io.LimitReader(file, longestPEM+1))
	if err == nil && len(text) > longestPEM {
		err = fmt.Errorf("%s has more than %d MiB, as no certificates have: name the file with the PEM", name, longestPEM>>20)
	}
	return text, err
}

// longestPEM is far beyond all certificates that a machine believes.
const longestPEM = 16 << 20

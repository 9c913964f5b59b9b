package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Keys are the secrets of a shared cache. Whoever reads the cache, but not these,
// learns nothing; whoever writes to it can have nothing believed.
type Keys struct {
	// Name makes the names of entries. It stays the same for ever, or tombstones would
	// not be found.
	Name Key
	// Seals keep the values: the first seals, and all of them open.
	Seals []Seal
}

// Key is 32 random bytes. It prints as "[redacted]".
type Key [32]byte

// Format writes "[redacted]", whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalText is what JSON encodes: "[redacted]".
func (Key) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Seal is a key by its number, which stands before what it has sealed.
type Seal struct {
	Number uint32
	Key    Key
	Until  time.Time // when it opens no more; zero: never
}

const (
	// prefix is that of all names, so that access rules can tell them from others.
	prefix = "tokend:"
	// version is the first byte of everything that was sealed.
	version = 1
	// header is the version and the number of the key.
	header = 1 + 4
)

var (
	// ErrTampered says that what stands in the cache was not put there by a daemon of
	// this site.
	ErrTampered = errors.New("what is in the cache was not put there by tokend")
	// errOtherKey is for a value that was sealed with a key that is not known yet, or
	// not any more.
	errOtherKey = errors.New("it was sealed with another key")
)

// name is the name under which an entry is kept.
func (k *Keys) name(key string) string {
	mac := hmac.New(sha256.New, k.Name[:])
	mac.Write([]byte(key))
	return prefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// seal encrypts the value, so that it opens under this name alone.
func (k *Keys) seal(name string, value []byte) ([]byte, error) {
	if len(k.Seals) == 0 {
		return nil, errors.New("there is no key to seal with")
	}
	head := binary.BigEndian.AppendUint32([]byte{version}, k.Seals[0].Number)
	box, err := k.Seals[0].box(name)
	if err != nil {
		return nil, err
	}
	return append(head, box.Seal(nil, nil, value, head)...), nil
}

// open decrypts what seal has made.
func (k *Keys) open(name string, sealed []byte, now time.Time) ([]byte, error) {
	if len(sealed) < header || sealed[0] != version {
		return nil, ErrTampered
	}
	number := binary.BigEndian.Uint32(sealed[1:header])
	for _, s := range k.Seals {
		if s.Number != number || !s.Until.IsZero() && now.After(s.Until) {
			continue
		}
		box, err := s.box(name)
		if err != nil {
			return nil, err
		}
		value, err := box.Open(nil, nil, sealed[header:], sealed[:header])
		if err != nil {
			return nil, ErrTampered
		}
		return value, nil
	}
	return nil, errOtherKey
}

// box has a key for each name, so that no key seals more than AES-GCM with random
// nonces may.
func (s Seal) box(name string) (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, s.Key[:])
	mac.Write([]byte(name))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

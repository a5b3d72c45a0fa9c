package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"reflect"
	"text/template"
	"time"
)

// Keys and certificates that follow from a seed. The library makes keys of no randomness but its own, so primes are looked for
// here; what a key signs is the same each time without any.

const (
	certificateKeyBits = 2048 // as Sprig's
	privateKeyBits     = 4096
	serialBytes        = 16
	// primeRounds are of Miller and Rabin, besides the test of Baillie and PSW.
	primeRounds = 20
)

// certificate is what templates get: they read its two fields.
type certificate struct {
	Cert string
	Key  string
}

// subject is what a certificate is about.
type subject struct {
	name  string
	ips   []any
	names []any
	days  int
}

func (f *frozen) addKeyFunctions(to template.FuncMap) {
	to["genPrivateKey"] = f.privateKey
	to["genCA"] = func(name string, days int) (certificate, error) {
		return f.certify("genCA", subject{name: name, days: days}, "", nil)
	}
	to["genCAWithKey"] = func(name string, days int, key string) (certificate, error) {
		return f.certify("genCAWithKey", subject{name: name, days: days}, key, nil)
	}
	to["genSelfSignedCert"] = func(name string, ips, names []any, days int) (certificate, error) {
		return f.certify("genSelfSignedCert", subject{name, ips, names, days}, "", nil)
	}
	to["genSelfSignedCertWithKey"] = func(name string, ips, names []any, days int, key string) (certificate, error) {
		return f.certify("genSelfSignedCertWithKey", subject{name, ips, names, days}, key, nil)
	}
	to["genSignedCert"] = func(name string, ips, names []any, days int, by any) (certificate, error) {
		return f.certify("genSignedCert", subject{name, ips, names, days}, "", by)
	}
	to["genSignedCertWithKey"] = func(name string, ips, names []any, days int, by any, key string) (certificate, error) {
		return f.certify("genSignedCertWithKey", subject{name, ips, names, days}, key, by)
	}
}

// isAuthority says of a function that what it makes signs others.
func isAuthority(function string) bool { return function == "genCA" || function == "genCAWithKey" }

func (f *frozen) privateKey(kind string) (string, error) {
	stream, err := f.stream("genPrivateKey", kind)
	if err != nil {
		return "", err
	}
	var key crypto.Signer
	switch kind {
	case "", "rsa":
		key, err = rsaKey(stream, privateKeyBits)
	case "ecdsa":
		key, err = ecdsaKey(stream)
	case "ed25519":
		seed := make([]byte, ed25519.SeedSize)
		_, err = io.ReadFull(stream, seed)
		key = ed25519.NewKeyFromSeed(seed)
	default:
		err = f.refuse("a key of the kind `" + kind + "` cannot be frozen")
	}
	if err != nil {
		return "", err
	}
	return f.give(encodeKey(key))
}

// certify makes a certificate as Sprig does: with the key that is given or, without, one of its own, and signed by an authority
// or, without, by itself.
func (f *frozen) certify(function string, about subject, givenKey string, by any) (made certificate, err error) {
	authority := certificateOf(by)
	stream, err := f.stream(function, about.name, about.ips, about.names, about.days, authority, givenKey)
	if err != nil {
		return made, err
	}
	template, err := about.template(stream, f.At)
	if err != nil {
		return made, err
	}
	if isAuthority(function) {
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	var key crypto.Signer
	if givenKey == "" {
		key, err = rsaKey(stream, certificateKeyBits)
	} else {
		key, err = decodeKey(givenKey)
	}
	if err != nil {
		return made, err
	}
	parent, signer := template, key
	if by != nil {
		if parent, signer, err = authority.decode(); err != nil {
			return made, err
		}
	}
	der, err := x509.CreateCertificate(nil, template, parent, key.Public(), signer)
	if err != nil {
		return made, fmt.Errorf("error creating certificate: %w", err)
	}
	made.Cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	made.Key, err = f.give(encodeKey(key))
	return made, err
}

// certificateOf takes one of Sprig's, too, whose type has no name elsewhere.
func certificateOf(given any) certificate {
	fields := reflect.ValueOf(given)
	text := func(name string) string {
		if fields.Kind() != reflect.Struct {
			return ""
		}
		if field := fields.FieldByName(name); field.IsValid() && field.Kind() == reflect.String {
			return field.String()
		}
		return ""
	}
	return certificate{Cert: text("Cert"), Key: text("Key")}
}

func (c certificate) decode() (*x509.Certificate, crypto.Signer, error) {
	block, _ := pem.Decode([]byte(c.Cert))
	if block == nil {
		return nil, nil, errors.New("unable to decode certificate")
	}
	read, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("error parsing certificate: %w", err)
	}
	key, err := decodeKey(c.Key)
	return read, key, err
}

func (s subject) template(stream io.Reader, at time.Time) (*x509.Certificate, error) {
	addresses := make([]net.IP, len(s.ips))
	for index, ip := range s.ips {
		text, _ := ip.(string)
		if addresses[index] = net.ParseIP(text); addresses[index] == nil {
			return nil, fmt.Errorf("error parsing ip: %v", ip)
		}
	}
	names := make([]string, len(s.names))
	for index, name := range s.names {
		text, isText := name.(string)
		if !isText {
			return nil, fmt.Errorf("error processing alternate dns name: %v is not a string", name)
		}
		names[index] = text
	}
	serial := make([]byte, serialBytes)
	if _, err := io.ReadFull(stream, serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and never short
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: s.name},
		IPAddresses:           addresses,
		DNSNames:              names,
		NotBefore:             at,
		NotAfter:              at.Add(24 * time.Hour * time.Duration(s.days)),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}

// rsaKey has primes of the stream; the library checks what comes out.
func rsaKey(stream io.Reader, bits int) (*rsa.PrivateKey, error) {
	one, exponent := big.NewInt(1), big.NewInt(65537)
	for {
		p, err := drawPrime(stream, bits/2)
		if err != nil {
			return nil, err
		}
		q, err := drawPrime(stream, bits/2)
		if err != nil {
			return nil, err
		}
		totient := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		private := new(big.Int).ModInverse(exponent, totient)
		if p.Cmp(q) == 0 || private == nil {
			continue
		}
		key := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(exponent.Int64())},
			D:         private,
			Primes:    []*big.Int{p, q},
		}
		key.Precompute()
		return key, key.Validate()
	}
}

// drawPrime gives one whose two highest bits are set: the product of two has all its bits.
func drawPrime(stream io.Reader, bits int) (*big.Int, error) {
	bytes := make([]byte, bits/8)
	for {
		if _, err := io.ReadFull(stream, bytes); err != nil {
			return nil, err
		}
		bytes[0] |= 0xc0
		bytes[len(bytes)-1] |= 1
		if drawn := new(big.Int).SetBytes(bytes); drawn.ProbablyPrime(primeRounds) {
			return drawn, nil
		}
	}
}

func ecdsaKey(stream io.Reader) (*ecdsa.PrivateKey, error) {
	above := elliptic.P256().Params().N
	for {
		scalar := make([]byte, (above.BitLen()+7)/8)
		if _, err := io.ReadFull(stream, scalar); err != nil {
			return nil, err
		}
		if drawn := new(big.Int).SetBytes(scalar); drawn.Sign() > 0 && drawn.Cmp(above) < 0 {
			return ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		}
	}
}

// encodeKey writes each kind as Sprig does.
func encodeKey(key crypto.Signer) (string, error) {
	block := &pem.Block{}
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)
	case *ecdsa.PrivateKey:
		block.Type = "EC PRIVATE KEY"
		block.Bytes, err = x509.MarshalECPrivateKey(key)
	default:
		block.Type = "PRIVATE KEY"
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	}
	return string(pem.EncodeToMemory(block)), err
}

// decodeKey says nothing of what it reads, which is secret.
func decodeKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM data in the private key")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, isSigner := key.(crypto.Signer)
	if err == nil && !isSigner {
		err = fmt.Errorf("a %s signs nothing", block.Type)
	}
	return signer, err
}

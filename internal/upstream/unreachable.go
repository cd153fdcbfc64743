package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// unreachable says in one clause, for the agent, why there is no connection: in words of our own, without addresses, names
// and what the server sent. "": err is of none of these kinds.
func unreachable(err error) string {
	for _, known := range [...]struct {
		is     error
		clause string
	}{
		{syscall.ECONNREFUSED, "connection refused"},
		{syscall.ECONNRESET, "connection reset"},
		{syscall.EHOSTUNREACH, "no route to its host"},
		{syscall.ENETUNREACH, "its network is unreachable"},
		{syscall.EMFILE, "too many open files here"},
		{syscall.ENFILE, "too many open files here"},
		{syscall.EADDRNOTAVAIL, "no local port is free"},
		{http.ErrSchemeMismatch, "it does not speak TLS"},
		{io.EOF, "it closed the connection"},
		{io.ErrUnexpectedEOF, "it closed the connection"},
	} {
		if errors.Is(err, known.is) {
			return known.clause
		}
	}
	if name := new(net.DNSError); errors.As(err, &name) {
		if name.IsNotFound {
			return "its name is not known"
		}
		return "its name could not be looked up"
	}
	return untrusted(err)
}

// untrusted is unreachable for what TLS does not accept.
func untrusted(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		otherName x509.HostnameError
		authority x509.UnknownAuthorityError
		bad       *tls.CertificateVerificationError
		alert     tls.AlertError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or is not valid yet"
	case errors.As(err, &otherName):
		return "its certificate is for another name"
	case errors.As(err, &authority):
		return "its certificate is from an unknown authority"
	case errors.As(err, &bad):
		return "its certificate is not valid"
	case errors.As(err, &alert):
		return "the TLS handshake failed"
	case errors.As(err, &record):
		return "it does not speak TLS"
	}
	return ""
}

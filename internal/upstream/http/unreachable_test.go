package http_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/mcp"
)

// An agent is told in one clause why the server could not be reached, and nothing of where that is.
func TestUnreachable(t *testing.T) {
	const secret = "s3cret.example"
	op := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{}, Err: err} }
	for clause, err := range map[string]error{
		": connection refused":                               op(syscall.ECONNREFUSED),
		": connection reset":                                 op(syscall.ECONNRESET),
		": no route to its host":                             op(syscall.EHOSTUNREACH),
		": its network is unreachable":                       op(syscall.ENETUNREACH),
		": too many open files here":                         op(syscall.EMFILE),
		": no local port is free":                            op(syscall.EADDRNOTAVAIL),
		": it closed the connection":                         io.EOF,
		": its name is not known":                            op(&net.DNSError{Err: "no such host", Name: secret, IsNotFound: true}),
		": its name could not be looked up":                  op(&net.DNSError{Err: "server misbehaving", Name: secret, Server: secret}),
		": its certificate has expired, or is not valid yet": &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: secret}},
		": its certificate is not valid":                     &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}},
		": its certificate is for another name":              &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: new(x509.Certificate), Host: secret}},
		": its certificate is from an unknown authority":     &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		": the TLS handshake failed":                         fmt.Errorf("remote error: %w", tls.AlertError(40)),
		"":                                                   errors.New(secret),
	} {
		t.Run("could not reach"+clause, func(t *testing.T) {
			u := newUpstream(t, "http://server.test/mcp", dialsBy(func(context.Context) (net.Conn, error) { return nil, err }))
			_, got := u.Call(t.Context(), request())
			f := wantFailure(t, got, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
			if want := "could not reach the server" + clause; f.Message != want || strings.Contains(f.Message, secret) {
				t.Errorf("got %q, want %q", f.Message, want)
			}
		})
	}
}

// The same of sockets.
func TestUnreachableServers(t *testing.T) {
	silent := func(s *httptest.Server) *httptest.Server {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		return s
	}
	plain := silent(httptest.NewUnstartedServer(http.NotFoundHandler()))
	plain.Start()
	defer plain.Close()
	secure := silent(httptest.NewUnstartedServer(http.NotFoundHandler()))
	secure.StartTLS()
	defer secure.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for url, want := range map[string]string{
		closed.URL: "could not reach the server: connection refused",
		secure.URL: "could not reach the server: its certificate is from an unknown authority",
		strings.Replace(plain.URL, "http:", "https:", 1): "could not reach the server: it does not speak TLS",
	} {
		_, err := newUpstream(t, url).Call(t.Context(), request())
		if f := wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo); f.Message != want {
			t.Errorf("got %q (%v), want %q", f.Message, f.Cause, want)
		}
	}
}

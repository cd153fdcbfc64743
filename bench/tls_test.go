//go:build linux

package bench

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
)

// tlsRole takes connections over TLS and hands on what is in them to an address without. The certificate, which signs itself, is written
// to the file that SSL_CERT_FILE names before anybody can connect.
func tlsRole(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("tls UPSTREAM")
	}
	certified := httptest.NewTLSServer(nil) // of which only the certificate is used
	defer certified.Close()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw})
	if err := os.WriteFile(os.Getenv("SSL_CERT_FILE"), text, 0o600); err != nil {
		return err
	}
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		return err
	}
	go func() { // ends with the process
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go handOn(c, args[0])
		}
	}()
	if err := say(map[string]string{"Address": ln.Addr().String()}); err != nil {
		return err
	}
	waitForEnd()
	return ln.Close()
}

// handOn copies what comes over a connection to an address, and what comes back, until either ends.
func handOn(c net.Conn, address string) {
	defer c.Close()
	to, err := net.Dial("tcp4", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, c) // the end is all that is of interest
		_ = to.Close()
	}()
	_, _ = io.Copy(c, to)
}

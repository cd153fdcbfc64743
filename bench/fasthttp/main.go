// Command fasthttp is a reverse proxy on github.com/valyala/fasthttp, for the tables of docs/performance.md: fasthttp SERVER, where
// SERVER is the host:port that all requests go to. It prints its own address as JSON, and ends when standard input is closed. It is a
// module of its own, so that the daemon's has nothing of it.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fasthttp:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: fasthttp SERVER")
	}
	// Answers are relayed as they are read: a stream's events reach the client when they are sent.
	client := &fasthttp.HostClient{Addr: args[0], MaxConns: 1024, StreamResponseBody: true, NoDefaultUserAgentHeader: true}
	server := &fasthttp.Server{NoDefaultServerHeader: true, ReadTimeout: time.Minute, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Request.Header.Del(fasthttp.HeaderConnection)
		if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.Response.Header.Del(fasthttp.HeaderConnection)
	}}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(ln) }() // ends with the process
	fmt.Printf("{\"Address\":%q}\n", ln.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

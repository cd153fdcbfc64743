package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// failure is the body of an answer that is none.
type failure struct {
	Error string `json:"error"`
}

// statusError is an error with the HTTP status that says it.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// Handle makes a Handler of a function that takes its parameters decoded. They are decoded strictly: a member that In
// does not have is refused, because a caller who is newer than the daemon must not have a narrower wish read as a wider
// one. A caller who sends nothing gives the zero In.
func Handle[In, Out any](f func(ctx context.Context, in In) (Out, error)) Handler {
	return func(ctx context.Context, params json.RawMessage) (any, error) {
		var in In
		if params != nil {
			d := json.NewDecoder(bytes.NewReader(params))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil {
				return nil, statusError{http.StatusBadRequest, fmt.Errorf("the parameters: %w", err)}
			}
		}
		return f(ctx, in)
	}
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter(&s.calls) {
		write(w, http.StatusServiceUnavailable, failure{errStopping.Error()})
		return
	}
	defer s.calls.Done()
	name, began := strings.TrimPrefix(r.URL.Path, "/"), time.Now()
	answer, err := s.call(w, r, name)
	log := s.options.Log.With("call", name, "took", time.Since(began))
	if err == nil {
		err = write(w, http.StatusOK, answer)
		log.Debug("admin call", "error", err)
		return
	}
	log.Debug("admin call", "error", err)
	status := http.StatusInternalServerError
	var with statusError
	if errors.As(err, &with) {
		status = with.status
	}
	write(w, status, failure{err.Error()})
}

// call checks the request and has it handled.
func (s *Server) call(w http.ResponseWriter, r *http.Request, name string) (any, error) {
	handler, ok := s.options.Handlers[name]
	if !ok {
		return nil, statusError{http.StatusNotFound, fmt.Errorf("no call %q: this daemon knows %s",
			name, strings.Join(slices.Sorted(maps.Keys(s.options.Handlers)), ", "))}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, statusError{http.StatusMethodNotAllowed, fmt.Errorf("%s is called by POST", name)}
	}
	params, err := readParams(w, r)
	if err != nil {
		return nil, err
	}
	if long := s.options.Long[name]; long > s.options.CallTimeout { // than net/http was told of
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(long + writeTimeout)); err != nil {
			return nil, err
		}
	}
	return s.handle(r.Context(), name, handler, params)
}

// readParams reads the body: JSON, or nothing but white space.
func readParams(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the parameters are larger than %d bytes", large.Limit)}
	case err != nil:
		return nil, statusError{http.StatusBadRequest, fmt.Errorf("reading the parameters: %w", err)}
	}
	// Else net/http takes the end of the time to read for the caller's leaving, and ends the context.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, nil
	}
	if !json.Valid(body) {
		return nil, statusError{http.StatusBadRequest, errors.New("the parameters are not JSON")}
	}
	return body, nil
}

// handle runs a handler within its time. One that panics costs its caller an error and nobody else anything.
func (s *Server) handle(ctx context.Context, name string, handler Handler, params json.RawMessage) (answer any, err error) {
	timeout := max(s.options.CallTimeout, s.options.Long[name])
	late := statusError{http.StatusGatewayTimeout, fmt.Errorf("%s took longer than %s", name, timeout)}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.options.Log.Error("an admin call panicked", "call", name, "panic", p, "stack", string(debug.Stack()))
			answer, err = nil, fmt.Errorf("%s failed for a bug in the daemon; its log has more", name)
		}
	}()
	if answer, err = handler(ctx, params); err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, ended(ctx)
	}
	return answer, err
}

// ended says why a call's context is over, in words for its caller.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errStopping) {
		return cause
	}
	return statusError{http.StatusServiceUnavailable, errStopping}
}

// write sends a whole answer, so that nothing of it is left to send when the call counts as ended.
func write(w http.ResponseWriter, status int, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, werr := w.Write(append(body, '\n'))
	return errors.Join(err, werr, http.NewResponseController(w).Flush())
}

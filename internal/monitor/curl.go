package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"fluentd-perf/internal/api"
)

// curl writes a request as a command line for a POSIX shell, of printable characters and in one line, with a variable for each credential
// that it had. What else is not as it was stands in notes.
func curl(addresses []string, r api.Request) (line string, notes []string, err error) {
	words := []string{"curl", "-sS"}
	base, socket := baseURL(addresses)
	if socket != "" {
		words = append(words, "--unix-socket", quote(socket))
	}
	words = append(words, "-X", quote(r.Verb), quote(base+r.Path))
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		words = append(words, "-H", quote(Printable(name+": "+r.Headers[name])))
	}
	for _, name := range r.Left {
		variable := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		words = append(words, "-H", fmt.Sprintf(`"%s: $%s"`, name, variable))
		notes = append(notes, fmt.Sprintf("%s is left out: set %s", name, variable))
	}
	if r.Query {
		notes = append(notes, "the query is left out: it may be a credential")
	}
	if r.Others > 0 {
		notes = append(notes, strconv.Itoa(r.Others)+" other headers are left out")
	}
	switch {
	case r.Missing != "":
		notes = append(notes, "the body is left out: "+r.Missing)
	case len(r.Body) > 0:
		body, err := printableJSON(r.Body)
		if err != nil {
			return "", nil, err
		}
		words = append(words, "--data-raw", quote(body))
	}
	return strings.Join(words, " "), notes, nil
}

// baseURL returns where a daemon is reached from its own machine, and by which Unix socket, if so.
func baseURL(addresses []string) (base, socket string) {
	if len(addresses) == 0 {
		return "http://127.0.0.1:7300", ""
	}
	if path, ok := strings.CutPrefix(addresses[0], "unix:"); ok {
		return "http://localhost", path
	}
	host, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return "http://" + addresses[0], ""
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port), ""
}

// quote writes a word for a POSIX shell, which takes nothing within single quotes for anything else.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// printableJSON writes a JSON text with the same meaning in one line of printable characters.
func printableJSON(text []byte) (string, error) {
	if !utf8.Valid(text) { // what it is meant to say nobody knows
		return "", errors.New("its body is not UTF-8")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", errors.New("its body is not JSON")
	}
	var out strings.Builder
	for _, r := range compact.String() {
		switch { // what is not printable is within a string, where an escape means the same
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String(), nil
}

package postgres

import "strings"

// maxCause is how many bytes of an error's text are passed on.
const maxCause = 300

// brief is an error of the driver's in one line. The driver's own text is a line for each address and each way (TLS or
// not) that it tried, with the user and the database before them; the password is in none.
type brief struct {
	text  string
	cause error
}

// briefly returns the error with a shorter text: the last thing that was tried.
func briefly(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(err.Error())
	text = text[strings.LastIndexByte(text, '\n')+1:]
	if _, rest, ok := strings.Cut(text, "`: "); ok && strings.HasPrefix(text, "failed to connect to `") {
		text = rest
	}
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return brief{text, err}
}

// Error returns the one line.
func (b brief) Error() string { return b.text }

// Unwrap returns the driver's error.
func (b brief) Unwrap() error { return b.cause }

package header

// Valid reports whether a field may stand on the wire as it is: its name is a token (RFC 9110, section 5.6.2), and its value
// has no control byte but the tab. Bytes above ASCII are valid in a value (obs-text).
func Valid(name, value string) bool { return ValidName(name) && ValidValue(value) }

// ValidName reports whether a name is a token.
func ValidName(name string) bool {
	for i := range len(name) {
		if !token[name[i]] {
			return false
		}
	}
	return name != ""
}

// ValidValue reports whether a value has no control byte but the tab: no CR and no LF above all, which would begin a line.
func ValidValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// token has the bytes of which tokens are made.
var token = func() (is [256]bool) {
	for c := range 128 {
		is[c] = '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		is[c] = true
	}
	return is
}()

package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Some upstreams run programs as the daemon's user, or reach what else is that user's alone. They are for the users in PrivateTo and
// for root. The token is no way around that, and a user who is let in still needs the token where there is one.

var errNoPeer = errors.New("connections are not known here")

// admits reports whether who sent the request may use a private upstream, and answers 403 if not. Whose user cannot be told has to
// show the daemon's token: a token that the daemon does not have does not let in.
func (h *Handler) admits(w http.ResponseWriter, r *http.Request, u *upstream) bool {
	uid, err := h.peer(r)
	switch {
	case err == nil && (uid == 0 || slices.Contains(u.PrivateTo, uid)):
		return true
	case err == nil:
		h.refuseUser(w, r, u, fmt.Sprintf("upstream %q is private, and not for the user %d (see `allow_users` in the configuration)", u.Name, uid), nil)
		return false
	case h.guard.token != "":
		return h.authorized(w, r, u.replacesAuthorization)
	}
	h.refuseUser(w, r, u, fmt.Sprintf("upstream %q is private, and whose connection this is cannot be told (see `auth.token` in the configuration)", u.Name), err)
	return false
}

func (h *Handler) peer(r *http.Request) (uint32, error) {
	if h.opts.Peer == nil {
		return 0, errNoPeer
	}
	return h.opts.Peer(r)
}

// refuseUser answers 403, counts, and logs at most one line a minute.
func (h *Handler) refuseUser(w http.ResponseWriter, r *http.Request, u *upstream, text string, cause error) {
	h.strangers.Do(func() {
		h.opts.Log.Warn("request refused", "why", string(refusedUser), "upstream", u.Name, "remote", r.RemoteAddr, "text", text, "cause", cause)
	})
	h.reject(w, refusedUser, http.StatusForbidden, text)
}

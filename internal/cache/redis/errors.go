package redis

import (
	"context"
	"errors"
	"fmt"
	"os"

	goredis "github.com/redis/go-redis/v9"
)

// errMalformed is a server that answered, but not as Redis does.
var errMalformed = errors.New("the server's answer makes no sense")

// malformed makes an error of a panic: the driver has some for answers that it does not expect. It is to be deferred.
func malformed(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errMalformed, r)
	}
}

// isReply says whether an error is the server's answer to a command.
func isReply(err error) bool {
	_, ok := errors.AsType[goredis.Error](err)
	return ok
}

// plain makes one error of the many that say that time is up: the context's, or context.DeadlineExceeded where it was the
// tier's own timeout. To what the server says of a connection it adds what that means.
func plain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, goredis.ErrPoolTimeout):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return explain(err)
}

// explain adds to a refusal of the connection what is to be mended. The server's own words name no password.
func explain(err error) error {
	switch {
	case goredis.HasErrorPrefix(err, "WRONGPASS"), goredis.HasErrorPrefix(err, "invalid password"):
		return fmt.Errorf("the server refuses the user or the password of the URL: %w", err)
	case goredis.HasErrorPrefix(err, "NOAUTH"), goredis.HasErrorPrefix(err, "ERR Protocol error: unauthenticated"):
		return fmt.Errorf("the server wants a password, and the URL has none: %w", err)
	}
	return err
}

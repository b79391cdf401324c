package softiwarp

import (
	"context"
	"syscall"
	"time"
)

var errReset error = syscall.ECONNRESET

func contextWithin(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

package runtime

import (
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Errors of Spawn, SpawnRoot, Call and Describe.
var (
	ErrName       = errors.New("actor name is empty or has a slash")
	ErrNameExists = errors.New("actor name is in use")
	ErrNoProducer = errors.New("actor spec has no New")
	ErrPumpInUse  = errors.New("pump already serves an actor")
	ErrRootExists = errors.New("root actor was already spawned")
	ErrStopped    = errors.New("actor has stopped or is stopping")
	ErrFailed     = errors.New("actor has failed and waits for its restart")
)

// Clock is the source of time; timers run f on a goroutine of their own.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending AfterFunc.
type Timer interface {
	// Stop prevents the function from running; it reports whether it did.
	Stop() bool
}

// Options configure a System. The zero value is usable.
type Options struct {
	// Logger gets the supervision records and is the parent of every actor's
	// logger. Nil discards.
	Logger hclog.Logger
	// Clock is for tests. Nil is the real one.
	Clock Clock
	// Jitter returns what to add to a backoff. Nil is random, up to a fifth.
	Jitter func(backoff time.Duration) time.Duration
	// Events is how many supervision events are kept. 0 means 256.
	Events int
}

// systemClock is the Clock of the machine.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

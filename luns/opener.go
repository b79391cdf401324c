package luns

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Opener opens one backend; the caller owns the result and closes it. It is
// what a logical unit starts and restarts with, so it may be called again
// after the backend of the previous call has been closed. What must outlive a
// restart (the content of a memory backend, the knowledge that a flush failed)
// belongs to the Opener.
type Opener func(ctx context.Context) (Backend, error)

// Factory turns the options of one configured backend into an Opener. It
// calls decode with a pointer to its own options struct, whose fields carry
// `hcl:"name"` tags; decode fills it or returns an error that tells where the
// configuration is wrong. Factory checks the values, without touching the
// outside world: a configuration can be checked on another machine.
type Factory func(decode func(options any) error) (Opener, error)

// registry is filled by the init functions of backend packages and only read
// afterwards.
var registry = struct {
	sync.RWMutex
	kinds map[string]Factory
}{kinds: make(map[string]Factory)}

// Register makes a kind of backend available by name. It is for init
// functions, and panics if the kind is registered already, which is a mistake
// of whoever linked the program.
func Register(kind string, f Factory) {
	registry.Lock()
	defer registry.Unlock()
	if _, dup := registry.kinds[kind]; dup {
		panic(fmt.Sprintf("luns: backend kind %q registered twice", kind))
	}
	registry.kinds[kind] = f
}

// Lookup returns the factory of a kind.
func Lookup(kind string) (Factory, bool) {
	registry.RLock()
	defer registry.RUnlock()
	f, ok := registry.kinds[kind]
	return f, ok
}

// Kinds returns the registered kinds in alphabetical order.
func Kinds() []string {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Sorted(maps.Keys(registry.kinds))
}

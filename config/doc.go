// Package config turns HCL files into checked, plain Go values for the daemon.
//
// Load reads one or more files (or conf.d directories), evaluates locals,
// env(), file(), size() and the references between blocks, and checks the whole:
// names, ranges, secrets, access control, conflicts between places. The result
// is a *Config whose every field is set, either as written or to its default.
// Every block remembers where it stands in the source (Source), so that later
// stages can point at file:line:col too.
//
// An argument or a block the daemon does not implement is an error; nothing is
// silently accepted. A target with neither authentication nor an access list is
// refused unless it says insecure = true.
//
// The package has no side effects: it opens no backend, no socket and no log.
// It reads the files named in the configuration's file() calls and looks at the
// size and type of backing stores, through Host. Secrets are held in Secret,
// which never prints; diagnostics mask them in source excerpts too.
//
// This package is for the daemon. Programs that embed a target use the root
// package, which knows nothing of HCL.
package config

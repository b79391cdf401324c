package config

import "time"

// Config is one checked configuration. It shares nothing with the loader and is
// not changed after Load: it may be read from any goroutine.
//
// Slices keep the order of the source files.
type Config struct {
	// Node describes this server as a whole.
	Node Node `hcl:"node,block"`
	// Log says what is logged and where to.
	Log Log `hcl:"log,block"`
	// Limits bounds the resources that initiators can take.
	Limits Limits `hcl:"limits,block"`
	// Console is how the daemon is looked at and operated.
	Console Console `hcl:"console,block"`
	// HTTP is what may be read without being an administrator.
	HTTP *HTTP `hcl:"http,block"`
	// Auths are the ways in which an initiator may prove who it is.
	Auths []Auth `hcl:"auth,block"`
	// PortalGroups are the addresses listened on.
	PortalGroups []PortalGroup `hcl:"portal_group,block"`
	// Backends are the stores behind the logical units.
	Backends []Backend `hcl:"backend,block"`
	// Targets are the iSCSI targets.
	Targets []Target `hcl:"target,block"`

	// Files are the names of the files read, in order.
	Files []string
}

// Auth returns the auth block of that name, or nil.
func (c *Config) Auth(name string) *Auth {
	for i := range c.Auths {
		if c.Auths[i].Name == name {
			return &c.Auths[i]
		}
	}
	return nil
}

// PortalGroup returns the portal_group block of that name, or nil.
func (c *Config) PortalGroup(name string) *PortalGroup {
	for i := range c.PortalGroups {
		if c.PortalGroups[i].Name == name {
			return &c.PortalGroups[i]
		}
	}
	return nil
}

// Backend returns the backend block that ref names, or nil.
func (c *Config) Backend(ref BackendRef) *Backend {
	for i := range c.Backends {
		if c.Backends[i].Kind == ref.Kind && c.Backends[i].Name == ref.Name {
			return &c.Backends[i]
		}
	}
	return nil
}

// Node is this server as a whole.
type Node struct {
	Source
	// Name is this server's name in log lines. A change is in force after a restart.
	Name string `hcl:"name,optional" maxlen:"64"`
	// StateDir is the directory of what outlives the daemon: persistent
	// reservations that ask for it. Without it initiators are told that
	// reservations do not survive a power loss. A change is in force after a restart.
	StateDir string `hcl:"state_dir,optional" kind:"path" ref:"SPC-5 5.14.5"`
}

// Log is what is logged, and where to.
type Log struct {
	Source
	// Level is the least level of messages that are kept.
	Level string `hcl:"level,optional" default:"info" oneof:"trace|debug|info|warn|error|off"`
	// Format is that of a line: text for people, json for programs.
	Format string `hcl:"format,optional" default:"text" oneof:"text|json"`
	// Output is `stderr`, `journald` or `file:PATH`; a file is appended to, created
	// with mode 0640 when it does not exist, and opened anew at each reload, for
	// logrotate. As a service of systemd's, `stderr` is the journal too. There
	// every key of a message is a field: `journalctl -u iserd ISERD_INITIATOR=iqn.…`.
	Output string `hcl:"output,optional" default:"stderr"`
	// Levels are those of single parts of the daemon, by logger name, such as
	// `{ "conn" = "debug" }`.
	Levels map[string]string `hcl:"levels,optional" oneof:"trace|debug|info|warn|error|off"`
}

// Limits are the bounds of what initiators can take.
type Limits struct {
	Source
	// Sessions is the number at one time; a login above it is refused with "out of
	// resources".
	Sessions int `hcl:"sessions,optional" default:"1024" min:"1" max:"65535" ref:"RFC 7143 §11.13.5"`
	// LoginTimeout is the time from accepting a connection to the end of its login.
	LoginTimeout time.Duration `hcl:"login_timeout,optional" default:"15s" min:"5s" max:"60s"`
	// NopInterval is the time after which an idle connection is probed with a NOP-In.
	NopInterval time.Duration `hcl:"nop_interval,optional" default:"5s" min:"1s" max:"1h" ref:"RFC 7143 §11.19"`
	// NopTimeout is the wait for the answer before the connection is closed.
	NopTimeout time.Duration `hcl:"nop_timeout,optional" default:"5s" min:"1s" max:"1h" ref:"RFC 7143 §11.19"`
	// CommandsPerSession is the number of commands that a session may have under
	// way: the window of CmdSN. A change is in force after a restart.
	CommandsPerSession int `hcl:"commands_per_session,optional" default:"128" min:"1" max:"65535" ref:"RFC 7143 §4.2.2.1"`
	// BufferMemory is the hard cap of memory for data in flight; readers wait
	// when it is spent. A change is in force after a restart.
	BufferMemory int64 `hcl:"buffer_memory,optional" kind:"size" default:"1GiB" min:"16MiB" max:"1TiB"`
	// ShutdownTimeout is the time for sessions to end by themselves after SIGTERM.
	ShutdownTimeout time.Duration `hcl:"shutdown_timeout,optional" default:"5s" min:"0s" max:"10m"`
}

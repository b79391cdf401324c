package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Action is what has to be done to get from one configuration to another.
type Action uint8

// The actions.
const (
	AddTarget       Action = iota + 1
	RemoveTarget           // its sessions end
	ChangeTarget           // sessions that are still admitted go on
	AddLUN                 // initiators are told
	RemoveLUN              // initiators are told
	ReplaceLUN             // taken away and added: its initiators see it go
	ResizeLUN              // grows; initiators are told
	ChangeALUA             // asymmetric access to a LUN; initiators are told
	AddPortal              // begins to listen
	RemovePortal           // stops listening; connections go on
	ChangeDiscovery        // who may discover through a portal group
	ChangeLog              // levels, format and output
	ChangeLimits           // those that are looked at again and again
	ChangeConsole          // who may ask what, and where: console and http
	Restart                // in force after a restart of the daemon only
	Drift                  // no change of the configuration: what runs is not as configured
)

// String returns a short description.
func (a Action) String() string {
	names := [...]string{
		"", "add target", "remove target", "change target", "add LUN", "remove LUN", "replace LUN", "resize LUN", "change ALUA",
		"add portal", "remove portal", "change discovery", "change log", "change limits", "change console", "needs a restart", "drift",
	}
	if int(a) < len(names) && a > 0 {
		return names[a]
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// sign is how a plan marks the action.
func (a Action) sign() byte {
	switch a {
	case AddTarget, AddLUN, AddPortal:
		return '+'
	case RemoveTarget, RemoveLUN, RemovePortal:
		return '-'
	case Restart:
		return '!'
	case Drift:
		return '='
	default:
		return '~'
	}
}

// Detail is one argument that differs. A secret shows neither value.
type Detail struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Change is one step from a configuration to another.
type Change struct {
	Action Action
	Target string // of actions on targets and LUNs
	LUN    uint16 // of actions on LUNs
	// OfTarget: drift of the target itself, not of a LUN.
	OfTarget bool
	Portal   netip.AddrPort // of actions on portals
	Group    string         // portal group of actions on portals and discovery
	Details  []Detail
}

// Object names what changes, such as `target "iqn…" lun "0"`.
func (c *Change) Object() string {
	switch c.Action {
	case AddTarget, RemoveTarget, ChangeTarget:
		return fmt.Sprintf("target %q", c.Target)
	case AddLUN, RemoveLUN, ReplaceLUN, ResizeLUN, ChangeALUA:
		return fmt.Sprintf("target %q lun \"%d\"", c.Target, c.LUN)
	case AddPortal, RemovePortal:
		return fmt.Sprintf("portal_group %q portal \"%s\"", c.Group, c.Portal)
	case ChangeDiscovery:
		return fmt.Sprintf("portal_group %q", c.Group)
	case ChangeLog:
		return "log"
	case ChangeLimits:
		return "limits"
	case ChangeConsole:
		return "console"
	case Drift:
		return c.drifted()
	default:
		return "settings"
	}
}

// drifted names what has drifted: a LUN, a target or the log.
func (c *Change) drifted() string {
	switch {
	case c.Target == "":
		return "log"
	case c.OfTarget:
		return fmt.Sprintf("target %q", c.Target)
	default:
		return fmt.Sprintf("target %q lun \"%d\"", c.Target, c.LUN)
	}
}

// Effect tells what initiators notice.
func (c *Change) Effect() string {
	switch c.Action {
	case RemoveTarget:
		return "its sessions end"
	case ChangeTarget:
		return "sessions that are still admitted go on"
	case ReplaceLUN:
		return "taken away and added again; other LUNs and sessions go on"
	case AddLUN, RemoveLUN, ResizeLUN, ChangeALUA:
		return "sessions go on and are told"
	case RemovePortal:
		return "connections go on"
	case ChangeDiscovery:
		return "from the next discovery on"
	case Restart:
		return "not in force until the daemon is restarted"
	case Drift:
		return "not as configured, until it is changed back or the daemon is restarted"
	default:
		return ""
	}
}

// String returns the change as a plan shows it, on one line or more.
func (c *Change) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %s", c.Action.sign(), c.Object())
	if e := c.Effect(); e != "" {
		fmt.Fprintf(&b, "  # %s", e)
	}
	for _, d := range c.Details {
		fmt.Fprintf(&b, "\n    %s: %s -> %s", d.Name, orNone(d.Old), orNone(d.New))
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// Diff returns what has to be done to get from configuration old to now, in an
// order in which it can be done.
func Diff(old, now *Config) []Change {
	d := &differ{old: old, now: now}
	d.portals()
	d.targets()
	d.settings()
	slices.SortStableFunc(d.out, func(a, b Change) int { return int(order[a.Action]) - int(order[b.Action]) })
	return d.out
}

// order: what is new comes before what goes, so that most of what can fail has
// happened before anything is given up.
var order = map[Action]uint8{
	AddTarget: 2, AddLUN: 2, ChangeTarget: 4, ChangeDiscovery: 4, ChangeALUA: 4, ReplaceLUN: 5, RemoveLUN: 6,
	RemoveTarget: 6, RemovePortal: 7, AddPortal: 8, ResizeLUN: 9, ChangeLimits: 10, ChangeLog: 10, ChangeConsole: 10, Restart: 11,
}

type differ struct {
	old, now *Config
	out      []Change
}

func (d *differ) add(c Change) { d.out = append(d.out, c) }

// portalKey is what makes a portal another one.
type portalKey struct {
	addr  netip.AddrPort
	group string
	tag   int
	via   string
	told  string  // the address that is advertised
	away  string  // where logins are sent
	iser  [2]bool // RemoteInvalidation, InitialR2T
}

func portalsOf(c *Config) map[portalKey]bool {
	out := map[portalKey]bool{}
	for i := range c.PortalGroups {
		g := &c.PortalGroups[i]
		for j := range g.Portals {
			p := &g.Portals[j]
			k := portalKey{addr: p.AddrPort, group: g.Name, tag: g.Tag, via: p.Transport, told: p.Advertise}
			k.iser = [2]bool{p.ISER.RemoteInvalidation, p.ISER.InitialR2T}
			if r := p.Redirect; r != nil {
				k.away = fmt.Sprint(r.To, r.Permanent)
			}
			out[k] = true
		}
	}
	return out
}

func (d *differ) portals() {
	before, after := portalsOf(d.old), portalsOf(d.now)
	missing := func(action Action, have, lack map[portalKey]bool) {
		keys := slices.SortedFunc(maps.Keys(have), func(a, b portalKey) int {
			return strings.Compare(a.group+a.addr.String(), b.group+b.addr.String())
		})
		for _, k := range keys {
			if !lack[k] {
				d.add(Change{Action: action, Portal: k.addr, Group: k.group})
			}
		}
	}
	missing(RemovePortal, before, after)
	missing(AddPortal, after, before)
	for i := range d.now.PortalGroups {
		g := &d.now.PortalGroups[i]
		was := d.old.PortalGroup(g.Name)
		if was == nil || was.Tag != g.Tag {
			continue
		}
		details := compare(
			authArguments("discovery_auth", d.old, was.DiscoveryAuth), authArguments("discovery_auth", d.now, g.DiscoveryAuth))
		details = append(details, secretDetails(d.old.Auth(was.DiscoveryAuth), d.now.Auth(g.DiscoveryAuth))...)
		if len(details) > 0 {
			d.add(Change{Action: ChangeDiscovery, Group: g.Name, Details: details})
		}
	}
}

// authArguments lists the name of an auth block and what is in it.
func authArguments(name string, c *Config, auth string) []argument {
	out := []argument{{name, strconv.Quote(auth)}}
	if a := c.Auth(auth); a != nil {
		out = append(out, arguments(name+".", reflect.ValueOf(a).Elem())...)
	}
	return out
}

// secretDetails names the users whose secret differs.
func secretDetails(old, now *Auth) (out []Detail) {
	if old == nil || now == nil {
		return nil
	}
	for i := range now.Users {
		for j := range old.Users {
			if now.Users[i].Name == old.Users[j].Name && !now.Users[i].Secret.Equal(old.Users[j].Secret) {
				out = append(out, Detail{fmt.Sprintf("user %q.secret", now.Users[i].Name), "(secret)", "(another secret)"})
			}
		}
	}
	if now.Mutual != nil && old.Mutual != nil && !now.Mutual.Secret.Equal(old.Mutual.Secret) {
		out = append(out, Detail{"mutual.secret", "(secret)", "(another secret)"})
	}
	return out
}

// compare returns where two lists of arguments differ.
func compare(old, now []argument) (out []Detail) {
	before := make(map[string]string, len(old))
	for _, a := range old {
		before[a.name] = a.value
	}
	after := make(map[string]bool, len(now))
	for _, a := range now {
		after[a.name] = true
		if was, ok := before[a.name]; !ok || was != a.value {
			out = append(out, Detail{a.name, was, a.value})
		}
	}
	for _, a := range old {
		if !after[a.name] {
			out = append(out, Detail{a.name, a.value, ""})
		}
	}
	return slices.DeleteFunc(out, func(x Detail) bool { return x.Old == x.New })
}

func (d *differ) targets() {
	before := map[string]*Target{}
	for i := range d.old.Targets {
		before[d.old.Targets[i].Name] = &d.old.Targets[i]
	}
	for i := range d.now.Targets {
		t := &d.now.Targets[i]
		was := before[t.Name]
		delete(before, t.Name)
		if was == nil {
			d.add(Change{Action: AddTarget, Target: t.Name})
			continue
		}
		d.target(was, t)
	}
	for i := range d.old.Targets {
		if name := d.old.Targets[i].Name; before[name] != nil {
			d.add(Change{Action: RemoveTarget, Target: name})
		}
	}
}

func (d *differ) target(was, t *Target) {
	list := func(c *Config, t *Target) []argument {
		return append(arguments("", reflect.ValueOf(t).Elem(), "lun", "auth", "alua"), authArguments("auth", c, t.Auth)...)
	}
	details := compare(list(d.old, was), list(d.now, t))
	details = append(details, secretDetails(d.old.Auth(was.Auth), d.now.Auth(t.Auth))...)
	if len(details) > 0 {
		d.add(Change{Action: ChangeTarget, Target: t.Name, Details: details})
	}
	before := map[uint16]*LUN{}
	for i := range was.LUNs {
		before[was.LUNs[i].Number] = &was.LUNs[i]
	}
	for i := range t.LUNs {
		l := &t.LUNs[i]
		old := before[l.Number]
		delete(before, l.Number)
		if old == nil {
			d.add(Change{Action: AddLUN, Target: t.Name, LUN: l.Number})
			continue
		}
		d.lun(was, t, old, l)
	}
	for _, n := range slices.Sorted(maps.Keys(before)) {
		d.add(Change{Action: RemoveLUN, Target: t.Name, LUN: n})
	}
}

func (d *differ) lun(wasOf, of *Target, was, l *LUN) {
	list := func(c *Config, l *LUN) []argument {
		out := arguments("", reflect.ValueOf(l).Elem(), "alua")
		if b := c.Backend(l.Backend); b != nil {
			out = append(out, arguments("backend.", reflect.ValueOf(b).Elem())...)
		}
		return out
	}
	details := compare(list(d.old, was), list(d.now, l))
	if len(details) == 0 {
		if details := compare(aluaArguments(d.old, wasOf, was), aluaArguments(d.now, of, l)); len(details) > 0 {
			d.add(Change{Action: ChangeALUA, Target: of.Name, LUN: l.Number, Details: details})
		}
		return
	}
	action := ReplaceLUN
	if b := d.now.Backend(l.Backend); b != nil && len(details) == 1 && details[0].Name == "backend.size" &&
		b.Size() > d.old.Backend(was.Backend).Size() && (b.Kind == BackendFile || b.Kind == BackendMemory) {
		action = ResizeLUN
	}
	d.add(Change{Action: action, Target: of.Name, LUN: l.Number, Details: details})
}

// aluaArguments lists what asymmetric access to a LUN depends on.
func aluaArguments(c *Config, t *Target, l *LUN) []argument {
	a := t.ALUAOf(l)
	if a == nil {
		return nil
	}
	out := blockArguments("alua", reflect.ValueOf(a))
	for _, name := range t.PortalGroups {
		if g := c.PortalGroup(name); g != nil {
			out = append(out, argument{fmt.Sprintf("portal_group %q.tag", name), strconv.Itoa(g.Tag)})
		}
	}
	return out
}

// settings finds what is not of a target or a portal.
func (d *differ) settings() {
	kinds := []struct {
		action Action
		list   func(*Config) []argument
	}{
		{ChangeLog, func(c *Config) []argument { return arguments("log.", reflect.ValueOf(&c.Log).Elem()) }},
		{ChangeLimits, func(c *Config) []argument {
			return arguments("limits.", reflect.ValueOf(&c.Limits).Elem(), "buffer_memory", "commands_per_session")
		}},
		{ChangeConsole, consoleArguments},
		{Restart, func(c *Config) []argument {
			return append(arguments("node.", reflect.ValueOf(&c.Node).Elem()),
				argument{"limits.buffer_memory", FormatSize(c.Limits.BufferMemory)},
				argument{"limits.commands_per_session", strconv.Itoa(c.Limits.CommandsPerSession)},
				argument{"console.fault_injection", strconv.FormatBool(c.Console.FaultInjection)})
		}},
	}
	for _, k := range kinds {
		details := compare(k.list(d.old), k.list(d.now))
		if k.action == ChangeConsole {
			details = append(details, httpSecret(d.old, d.now)...)
		}
		if len(details) > 0 {
			d.add(Change{Action: k.action, Details: details})
		}
	}
}

func consoleArguments(c *Config) []argument {
	out := arguments("console.", reflect.ValueOf(&c.Console).Elem(), "fault_injection")
	if c.HTTP != nil {
		out = append(out, arguments("http.", reflect.ValueOf(c.HTTP).Elem())...)
	}
	return out
}

// httpSecret tells that the secret of the http block differs, which its text does
// not.
func httpSecret(old, now *Config) []Detail {
	was, is := old.HTTP, now.HTTP
	if was == nil || is == nil || was.Secret.Equal(is.Secret) || was.Secret.IsZero() != is.Secret.IsZero() {
		return nil
	}
	return []Detail{{"http.secret", redacted, "(another secret)"}}
}

// ConsoleDiffers reports whether the console or http blocks of two configurations
// ask for different things.
func ConsoleDiffers(a, b *Config) bool {
	return len(compare(consoleArguments(a), consoleArguments(b)))+len(httpSecret(a, b)) > 0
}

// Fingerprint is equal for two blocks that open the same store in the same way.
func (b *Backend) Fingerprint() string {
	return b.Ref().String() + fmt.Sprint(arguments("", reflect.ValueOf(b).Elem()))
}

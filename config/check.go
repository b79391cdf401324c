package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// checker finds what is wrong between arguments and between blocks, once each
// argument by itself is known to be right. It also fills the fields that follow
// from others: Portal.AddrPort, LUN.Number, Target.PortalGroups.
type checker struct {
	*Config
	host   Host
	files  map[string]*hcl.File
	public map[string]bool
	diags  hcl.Diagnostics
}

func (k *checker) run() {
	k.log()
	k.console()
	k.auths()
	k.portalGroups()
	k.backends()
	k.targets()
	k.identities()
	k.unused()
}

func (k *checker) errorf(at hcl.Range, summary, detail string, args ...any) {
	k.diags = append(k.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at,
	})
}

func (k *checker) warnf(at hcl.Range, summary, detail string, args ...any) {
	k.diags = append(k.diags, &hcl.Diagnostic{
		Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at,
	})
}

// seen remembers where things were defined.
type seen map[string]hcl.Range

// once reports the second definition of key, naming both places.
func (k *checker) once(s seen, what, key string, at hcl.Range) {
	if first, dup := s[key]; dup {
		k.diags = append(k.diags, duplicate(what, key, at, first))
		return
	}
	s[key] = at
}

// identifier checks a name that others refer to.
func (k *checker) identifier(what, name string, at hcl.Range) {
	if !hclsyntax.ValidIdentifier(name) || len(name) > 64 {
		k.errorf(at, "Invalid name", "The name of %s is a letter and up to 63 letters, digits, dashes and underscores; this is %q.", what, name)
	}
}

func (k *checker) log() {
	at := k.Log.At("output")
	path, isFile := strings.CutPrefix(k.Log.Output, "file:")
	switch {
	case !k.Log.good("output"), k.Log.Output == "stderr", k.Log.Output == "journald":
	case laterValue("log.output", k.Log.Output):
		k.diags = append(k.diags, notSupported(fmt.Sprintf("output = %q", k.Log.Output), at))
	case !isFile:
		k.errorf(at, "Invalid log output", "The output is \"stderr\", \"journald\" or \"file:/PATH\"; this is %q.%s", k.Log.Output, didYouMean(k.Log.Output, []string{"stderr", "journald"}))
	case !strings.HasPrefix(path, "/"):
		k.errorf(at, "Invalid log output", "The path of a log file is absolute, as in \"file:/var/log/iserd.log\"; this is %q.", k.Log.Output)
	}
}

// secretInPublicFile refuses a secret that is written in a configuration file
// which everybody on the host may read.
func (k *checker) secretInPublicFile(s Secret, at hcl.Range) {
	f := k.files[at.Filename]
	if f == nil || s.Len() < minMask {
		return
	}
	for name, file := range k.files {
		if k.public[name] && bytes.Contains(file.Bytes, []byte(s.value)) {
			k.errorf(at, "Secret in a file that everybody can read",
				"The secret is written in %s, which every user of this host may read. Run chmod 0640 on it, or keep the secret in a file of its own: file(\"/etc/iserd/secrets/NAME\").", name)
			return
		}
	}
}

// identities checks that no two logical units claim to be the same one.
func (k *checker) identities() {
	serials, naas := seen{}, seen{}
	for i := range k.Targets {
		for j := range k.Targets[i].LUNs {
			l := &k.Targets[i].LUNs[j]
			if l.Serial != "" {
				k.once(serials, "serial", l.Serial, l.At("serial"))
			}
			if l.NAA != "" {
				k.once(naas, "NAA identifier", l.NAA, l.At("naa"))
			}
		}
	}
}

// unused warns about blocks that nothing refers to.
func (k *checker) unused() {
	auths, groups, backends := map[string]bool{}, map[string]bool{}, map[BackendRef]bool{}
	for i := range k.PortalGroups {
		auths[k.PortalGroups[i].DiscoveryAuth] = true
	}
	for i := range k.Targets {
		t := &k.Targets[i]
		auths[t.Auth] = true
		for _, g := range t.PortalGroups {
			groups[g] = true
		}
		for j := range t.LUNs {
			backends[t.LUNs[j].Backend] = true
		}
	}
	const detail = "Nothing refers to %s."
	for i := range k.Auths {
		if a := &k.Auths[i]; !auths[a.Name] {
			k.warnf(a.Header(), "Unused auth", detail, fmt.Sprintf("auth %q", a.Name))
		}
	}
	for i := range k.PortalGroups {
		if g := &k.PortalGroups[i]; !groups[g.Name] {
			k.warnf(g.Header(), "Unused portal group", detail, fmt.Sprintf("portal_group %q", g.Name))
		}
	}
	for i := range k.Backends {
		if b := &k.Backends[i]; !backends[b.Ref()] {
			k.warnf(b.Header(), "Unused backend", detail, b.Ref())
		}
	}
}

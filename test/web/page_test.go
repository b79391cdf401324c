package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
)

const plainHCL = `
portal_group "lan" {
  tag = 1
  portal "PORTAL" {}
}
backend "memory" "one" { size = "64MiB" }
backend "memory" "two" { size = "8MiB" }
target "iqn.2026-11.com.example:plain" {
  alias    = "first alias"
  insecure = true
  lun "0" {
    backend = backend.memory.one
    serial  = "SERIAL-0001"
  }
  lun "7" {
    backend   = backend.memory.two
    read_only = true
  }
}
`

const plainTarget = "iqn.2026-11.com.example:plain"

// TestViews: each view shows what the API says.
func TestViews(t *testing.T) {
	d := serve(t, plainHCL, false)
	s := d.login("iqn.2026-11.com.example:host-a", plainTarget)
	d.load(s, 2, true, 8, 2*time.Millisecond)
	if _, err := d.tryLogin("iqn.2026-11.com.example:host-b", "iqn.2026-11.com.example:missing"); err == nil {
		t.Fatal("a target that is not there let somebody in")
	}
	if err := d.api.Inject(t.Context(), "node/lun-"+plainTarget+":7", "panic", 0); err != nil {
		t.Fatal(err)
	}
	b := open(t, d)

	t.Run("overview", func(t *testing.T) {
		b.view("overview", "Overview")
		st, err := d.api.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.wait("document.querySelector('.tile dd')?.textContent.endsWith('/s')")
		for tile, want := range map[string]string{
			"Sessions": fmt.Sprint(st.Sessions), "LUNs": fmt.Sprint(st.LUNs), "Faults": "1", "Configuration": st.Config.Hash,
		} {
			b.wait(fmt.Sprintf("[...document.querySelectorAll('.tile')].some(x => x.innerText.startsWith(%q + '\\n' + %q))", tile, want))
		}
		b.waitText(fmt.Sprintf("process %d", st.PID))
		b.waitText(d.portal)
		b.wait("document.querySelectorAll('.plot canvas').length === 2")
		// It reads about a thousand times a second: neither nothing nor millions.
		b.wait("/reads \\d/.test(document.querySelector('.plot .legend').innerText.replace('\\n', ' ')) && !/reads 0$/.test(document.querySelector('.plot .key').innerText)")
	})
	t.Run("targets and LUNs", func(t *testing.T) {
		b.view("luns", "Targets and LUNs")
		targets, err := d.api.Targets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.waitText(targets[0].Name)
		b.waitText("first alias")
		b.wait("document.querySelectorAll('.target tbody tr').length === 2")
		row := strings.Fields(b.text(".target tbody tr"))
		if got := strings.Join(row[:6], " "); got != "LUN 0 online memory/one 64 MiB" {
			t.Errorf("the row is %q", row)
		}
	})
	t.Run("one LUN", func(t *testing.T) {
		b.view("lun/"+plainTarget+"/0", "LUN 0 of plain")
		b.waitText("SERIAL-0001")
		b.waitText("64 MiB (67,108,864 bytes)")
		b.waitText("131,072 of 512 bytes")
		b.waitText("iqn.2026-11.com.example:host-a")
		b.wait("document.querySelectorAll('.plot canvas').length === 5")
		b.wait("document.querySelector('.plot .canvas').getAttribute('aria-label').includes('most: ')")
		b.view("lun/"+plainTarget+"/99", "LUN 99 of plain")
		b.waitText("There is no such LUN now.")
	})
	t.Run("sessions", func(t *testing.T) {
		b.view("sessions", "Sessions")
		all, err := d.api.Sessions(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		b.waitText(all[0].Peer)
		for _, want := range []string{"host-a", "tcp, no CHAP", plainTarget} {
			b.waitText(want)
		}
		if b.eval("document.querySelectorAll('main button:not(.sort)').length") != 0.0 && b.eval("[...document.querySelectorAll('td.act')].some(x => x.checkVisibility())") != false {
			t.Error("an action for somebody who may only look")
		}
	})
	t.Run("actors", func(t *testing.T) {
		b.view("actors", "Actors")
		all, err := d.api.Actors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.wait(fmt.Sprintf("document.querySelectorAll('tbody tr').length === %d", len(all)))
		for _, a := range all {
			b.wait(fmt.Sprintf("[...document.querySelectorAll('tbody a')].some(x => x.textContent === %q)", a.Path[strings.LastIndexByte(a.Path, '/')+1:]))
		}
		b.press("tbody a", "lun-"+plainTarget+":0")
		b.waitText(`"blocks": 131072`)
		b.wait("document.querySelector('tr.chosen')")
	})
	t.Run("events", func(t *testing.T) {
		b.view("events", "Events")
		b.waitText("there is no target iqn.2026-11.com.example:missing")
		b.waitText("node/lun-" + plainTarget + ":7: restarted")
		b.eval("document.querySelector('main select').value = 'refusal'; document.querySelector('main select').dispatchEvent(new Event('change'))")
		b.wait("document.querySelectorAll('.events li').length === 1")
	})
	t.Run("configuration", func(t *testing.T) {
		b.view("config", "Configuration")
		st, err := d.api.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.waitText(st.Config.Hash)
		b.waitText("iserd.hcl")
		b.waitText("give the http block of the configuration a secret")
	})
}

// TestLive: what changes is seen without a reload of the page, and told to who does
// not see it.
func TestLive(t *testing.T) {
	d := serve(t, plainHCL, false)
	b := open(t, d)
	b.view("sessions", "Sessions")
	b.waitText("Nobody is logged in.")
	s := d.login("iqn.2026-11.com.example:comes-later", plainTarget)
	b.waitText("comes-later")
	b.view("overview", "Overview")
	b.wait("[...document.querySelectorAll('.tile')].some(x => x.innerText.startsWith('Sessions\\n1'))")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.wait("[...document.querySelectorAll('.tile')].some(x => x.innerText.startsWith('Sessions\\n0'))")
	if _, err := d.tryLogin("iqn.2026-11.com.example:refused", "iqn.2026-11.com.example:missing"); err == nil {
		t.Fatal("let in")
	}
	b.wait("document.querySelector('#spoken[aria-live]').textContent.includes('iqn.2026-11.com.example:refused')")
	// The tree follows too.
	b.view("actors", "Actors")
	b.wait("document.querySelectorAll('tbody tr').length > 3")
	before, _ := b.eval("document.querySelectorAll('tbody tr').length").(float64)
	d.login("iqn.2026-11.com.example:again", plainTarget)
	b.wait(fmt.Sprintf("document.querySelectorAll('tbody tr').length === %v", before+2))
}

// TestRestart: the page says that the daemon is gone, goes on when it is back, and
// takes counters that begin anew for that.
func TestRestart(t *testing.T) {
	d := serve(t, plainHCL, false)
	b := open(t, d)
	b.expect("ERR_", "network: error")
	b.waitText("Commands per second")
	s := d.login("iqn.2026-11.com.example:a", plainTarget)
	if _, err := s.Exec(t.Context(), 0, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0}, nil, 4096); err != nil {
		t.Log(err) // a unit attention
	}
	d.stop()
	b.waitText("The daemon does not answer since")
	b.wait("document.body.classList.contains('stale')")
	d.start()
	b.waitText("The daemon was restarted at")
	b.wait("!document.body.classList.contains('stale')")
	b.press("#banner button", "Close")
	b.wait("document.getElementById('banner').hidden")
	b.view("events", "Events")
	b.waitText("The daemon was restarted")
	b.waitText("The daemon does not answer")
	// It is live again.
	b.view("sessions", "Sessions")
	d.login("iqn.2026-11.com.example:after", plainTarget)
	b.waitText("iqn.2026-11.com.example:after")
	if bad := b.eval(`document.querySelector('main').innerText.match(/NaN|undefined|(^|\s)-\d/)?.[0]`); bad != nil {
		t.Errorf("rates over a restart: %q in %s", bad, b.text("main"))
	}
}

// TestHostileNames: what initiators call themselves is text, whatever it looks like.
func TestHostileNames(t *testing.T) {
	const alias = `<b id=hostile>bold</b><img src=x onerror=alert(1)>"'&amp;`
	d := serve(t, strings.ReplaceAll(plainHCL, "first alias", strings.ReplaceAll(alias, `"`, `\"`)), true)
	b := open(t, d)
	names := []string{
		`iqn.2026-11.com.example:<img src=x onerror=document.title='pwned'>`,
		`<script>document.title="pwned"</script>`,
		`javascript:document.title='pwned'`,
		`iqn.2026-11.com.example:</td></tr></table><h1 id=hostile>x</h1>`,
		"iqn.2026-11.com.example:\u202egnp.\u0000&lt;i&gt;",
	}
	for _, name := range names {
		// Most are refused, which is one more way to the page; nothing depends on which.
		if s, err := d.tryLogin(name, plainTarget); err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		_, _ = d.tryLogin(name, `iqn.2026-11.com.example:<svg onload=document.title='pwned'>`)
	}
	refusals, err := d.api.Refusals(t.Context())
	if err != nil || len(refusals) == 0 {
		t.Fatal("no refusal with such a name:", err)
	}
	sessions, err := d.api.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(sessions)+len(refusals) < len(names) {
		t.Fatalf("%d sessions and %d refusals: too few to see", len(sessions), len(refusals))
	}
	for _, v := range [][2]string{{"overview", "Overview"}, {"luns", "Targets and LUNs"}, {"sessions", "Sessions"}, {"actors", "Actors"}, {"events", "Events"}, {"config", "Configuration"}} {
		b.view(v[0], v[1])
		switch v[0] {
		case "luns":
			b.waitText(alias)
		case "sessions":
			for i := range sessions {
				b.waitText(strings.ReplaceAll(sessions[i].Initiator, "\x00", ""))
			}
		case "events":
			for i := range refusals {
				b.waitText(refusals[i].Reason)
			}
			b.waitText("<svg onload=")
		default:
			time.Sleep(500 * time.Millisecond) // documents come at once
		}
		if n := b.eval("document.querySelectorAll('#hostile, main img, main script, main svg, main b:not(.key b)').length"); n != 0.0 {
			t.Errorf("%s: %v elements out of names:\n%s", v[0], n, b.eval("document.querySelector('main').innerHTML"))
		}
		if title := b.eval("document.title"); !strings.HasPrefix(title.(string), v[1]) {
			t.Errorf("%s: the title is %v", v[0], title)
		}
	}
	// The policy holds if a text became markup after all.
	b.expect("Content Security Policy", "TrustedHTML", "TrustedScript", "http://127.0.0.1:1/x.png")
	got := b.eval(`(() => { try { document.body.innerHTML = '<img src=x onerror="document.title=1">'; return 'made'; } catch (e) { return e.name; } })()`)
	if got != "TypeError" {
		t.Errorf("markup out of text: %v", got)
	}
	b.eval(`{ const s = document.createElement('img'); s.src = 'http://127.0.0.1:1/x.png'; document.body.append(s); }`)
	b.eval(`{ const p = document.createElement('p'); document.body.append(p); try { p.setAttribute('onclick', 'document.title = "pwned"'); } catch { } p.click(); }`)
	if title := b.eval("document.title"); strings.Contains(title.(string), "pwned") {
		t.Error("an inline handler ran")
	}
}

// TestOperator: nothing is to be done without the token, and with it what the page
// offers is done.
func TestOperator(t *testing.T) {
	d := serve(t, plainHCL, true)
	s := d.login("iqn.2026-11.com.example:a", plainTarget)
	offline := "v1/targets/" + plainTarget + "/luns/0/offline"
	for _, given := range []string{"", "wrong", token + "x"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.page+offline, nil)
		if err != nil {
			t.Fatal(err)
		}
		if given != "" {
			req.Header.Set(api.TokenHeader, given)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var p api.Problem
		if resp.StatusCode != 403 || json.Unmarshal(text, &p) != nil || !strings.Contains(p.Error, "token") {
			t.Errorf("%q: %s %s", given, resp.Status, text)
		}
	}
	if state(t, d, 0) != "online" {
		t.Fatal("taken offline without the token")
	}

	b := open(t, d)
	b.expect("403")
	b.view("luns", "Targets and LUNs")
	b.waitText("LUN 0")
	b.press("#access", "Sign in")
	b.wait("document.getElementById('signin').open && document.activeElement.id === 'token'")
	b.keys("not the token at all\r")
	b.waitText("This is not the token.")
	b.keys(token + "\r")
	b.wait("document.getElementById('access').textContent === 'Sign out'")

	// Denied first, then done.
	b.press("td.act button", "Take offline")
	b.waitText("answers NOT READY to its session")
	b.keys("\x1b")
	b.wait("!document.getElementById('ask').open")
	if state(t, d, 0) != "online" {
		t.Fatal("done though it was denied")
	}
	b.press("td.act button", "Take offline")
	b.press("#ask button", "Take offline")
	b.waitText("LUN 0 of plain is offline.")
	b.wait("document.querySelector('.target tbody tr').innerText.includes('offline')")
	if got := state(t, d, 0); got != "offline" {
		t.Error("it is", got)
	}
	b.press("td.act button", "Take online")
	b.waitText("LUN 0 of plain is online.")
	if got := state(t, d, 0); got != "online" {
		t.Error("it is", got)
	}

	b.view("sessions", "Sessions")
	b.press("td.act button", "Disconnect")
	b.wait("document.getElementById('ask').open")
	b.eval("document.getElementById('ask-check').click()")
	b.press("#ask button", "Disconnect")
	b.waitText("The connection is closed.")
	b.waitText("Nobody is logged in.")
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Error("the session goes on")
	}

	reloads(t, d, b)

	b.press("#access", "Sign out")
	b.waitText("Sign in with the token")
	if n := b.eval("sessionStorage.getItem('iserd-token')"); n != nil {
		t.Error("the token is kept")
	}
}

// TestAnotherToken: with a reload that changes the token, whoever used the old one only
// looks on.
func TestAnotherToken(t *testing.T) {
	d := serve(t, plainHCL, true)
	b := open(t, d)
	b.expect("403", "ERR_", "network: error")
	b.waitText("Commands per second")
	b.eval("sessionStorage.setItem('iserd-token', '" + token + "')")
	b.visit(d.page)
	b.wait("document.getElementById('access').textContent === 'Sign out'")
	d.secret = "another token of operators"
	d.write(plainHCL)
	if _, err := d.api.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wait("document.getElementById('access').textContent === 'Sign in'")
	b.press("#access", "Sign in")
	b.wait("document.activeElement.id === 'token'")
	b.keys(token + "\r")
	b.waitText("This is not the token.")
	b.keys(d.secret + "\r")
	b.wait("document.getElementById('access').textContent === 'Sign out'")
}

// reloads compares and reloads in the view of the configuration.
func reloads(t *testing.T, d *daemon, b *browser) {
	t.Helper()
	b.view("config", "Configuration")
	b.waitText("The files are what is running.")
	d.write(strings.ReplaceAll(plainHCL, "first alias", "second alias"))
	b.press("button", "Compare again")
	b.wait("document.querySelector('td.old')?.innerText.includes('first alias') && document.querySelector('td.new')?.innerText.includes('second alias')")
	b.press("button", "Reload")
	b.press("#ask button", "Reload")
	b.waitText("Reloaded: 1 change.")
	b.waitText("The files are what is running.")
	targets, err := d.api.Targets(t.Context())
	if err != nil || targets[0].Alias != "second alias" {
		t.Error("not reloaded:", err, targets)
	}
	d.write(strings.ReplaceAll(plainHCL, "serial  =", "sreial  ="))
	b.expect("403", "422")
	b.press("button", "Compare again")
	b.waitText("The files are invalid")
	b.waitText("iserd.hcl:")
	b.wait("[...document.querySelectorAll('button')].find(x => x.textContent === 'Reload').disabled")
	d.write(strings.ReplaceAll(plainHCL, "first alias", "second alias"))
}

func state(t *testing.T, d *daemon, n uint16) string {
	t.Helper()
	targets, err := d.api.Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range targets[0].LUNs {
		if targets[0].LUNs[i].Number == n {
			return targets[0].LUNs[i].State
		}
	}
	t.Fatal("no LUN", n)
	return ""
}

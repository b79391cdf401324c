package web_test

import (
	"bytes"
	"flag"
	"fmt"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab/target"
)

var screensDir = flag.String("screens", "", "directory to write the pictures of TestScreens to")

const busyHCL = `
portal_group "lan" {
  tag = 1
  portal "PORTAL" {}
}
backend "memory" "db" { size = "8GiB" }
backend "memory" "log" { size = "1GiB" }
backend "memory" "vm" { size = "2TiB" }
backend "null" "hole" { size = "64TiB" }
auth "esx" {
  type = "chap"
  user "esx01" { secret = "0123456789abcdef" }
}
target "iqn.2026-11.com.example:db01" {
  alias = "Database, primary"
  insecure = true
  lun "0" {
    backend = backend.memory.db
    thin    = true
    filter "delay" {
      read   = "200us"
      write  = "1ms"
      random = "2ms"
    }
  }
  lun "1" { backend = backend.memory.log }
}
target "iqn.2026-11.com.example.storage.rack42.shelf7:virtual-machines-of-the-second-floor-east-wing.datastore-with-a-long-name" {
  alias = "Virtual machines"
  insecure = true
  lun "0" { backend = backend.memory.vm }
  lun "255" {
    backend = backend.null.hole
    read_only = true
  }
}
target "iqn.2026-11.com.example:esx" {
  auth = "esx"
}
`

const (
	dbTarget = "iqn.2026-11.com.example:db01"
	vmTarget = "iqn.2026-11.com.example.storage.rack42.shelf7:virtual-machines-of-the-second-floor-east-wing.datastore-with-a-long-name"
)

// busy is a daemon with sessions and load on it.
func busy(t *testing.T) *daemon {
	d := serve(t, busyHCL, true)
	db := d.login("iqn.1998-01.com.vmware:esx01", dbTarget)
	d.load(db, 12, true, 8, time.Millisecond)
	d.load(d.login("iqn.1998-01.com.vmware:esx01", dbTarget), 4, false, 32, 2*time.Millisecond)
	d.load(d.login("iqn.1993-08.org.debian:01:5f3e1b9c7a2d.a-host-with-a-rather-long-name.rack42.example.com", vmTarget), 4, true, 256, 5*time.Millisecond)
	d.login("iqn.2026-11.com.example:idle", vmTarget)
	if _, err := d.tryLogin("iqn.2026-11.com.example:stranger", "iqn.2026-11.com.example:esx"); err == nil {
		t.Fatal("admitted without CHAP")
	}
	if _, err := d.tryLogin("iqn.2026-11.com.example:stranger", "iqn.2026-11.com.example:nothing"); err == nil {
		t.Fatal("admitted to a target that is not there")
	}
	if err := d.api.Inject(t.Context(), "node/lun-"+dbTarget+":1", "panic", 0); err != nil {
		t.Fatal(err)
	}
	return d
}

// unhurried reports whether pictures are to be kept: then plots and screens get the time
// to fill.
func unhurried() bool { return *screensDir != "" }

// pause lets what is shown change, so that there is something to be seen.
func pause(d time.Duration) {
	if unhurried() {
		time.Sleep(d)
	}
}

// TestScreens takes a picture of each view in both colours on a desktop and a phone.
func TestScreens(t *testing.T) {
	d := busy(t)
	b := open(t, d)
	b.waitText("Sessions")
	b.eval("sessionStorage.setItem('iserd-token', '" + token + "')")
	b.visit(d.page)
	b.waitText("Sign out")
	d.write(busyChanged)
	pause(40 * time.Second)
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1280, 900}, {"phone", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			b.screen(size.width, size.height, scheme)
			for _, v := range views {
				b.view(v.path, v.heading)
				b.wait("!document.querySelector('main').innerText.includes('Waiting')")
				pause(2500 * time.Millisecond)
				keep(t, v.name+"-"+size.name+"-"+scheme, b.shot())
			}
		}
	}
}

// TestTerminalScreens takes pictures of the screens of the command line.
func TestTerminalScreens(t *testing.T) {
	d := busy(t)
	bin, err := target.Binary()
	if err != nil {
		t.Fatal(err)
	}
	b := blank(t)
	env := []string{"ISERD_CONSOLE=unix:" + filepath.Join(d.dir, "console.sock"), "XDG_STATE_HOME=" + t.TempDir()}
	shoot := func(name string, x *terminal) {
		for seq := range x.unknown {
			t.Errorf("%s: control sequence %q is not understood", name, seq)
		}
		b.eval(fmt.Sprintf("document.open(); document.write(%q); document.close()", x.page(name)))
		b.eval("document.fonts.ready.then(() => true)")
		size, _ := b.eval("JSON.stringify([document.querySelector('pre').offsetWidth, document.querySelector('pre').offsetHeight])").(string)
		var w, h int64
		if _, err := fmt.Sscanf(size, "[%d,%d]", &w, &h); err != nil {
			t.Fatal(size, err)
		}
		b.screen(w+28, h+28, "dark")
		keep(t, "terminal-"+name, b.shot())
	}
	top := inTerminal(t, 120, 24, env, bin, "top")
	top.wait("p99")
	top.wait("esx01")
	pause(30 * time.Second)
	shoot("top", top)
	for _, x := range [][3]string{{"2", "actors", "BEHAVIOUR"}, {"3", "faults", "injected fault"}, {"4", "logins", "stranger"}} {
		top.keys(x[0])
		top.wait(x[2])
		shoot(x[1], top)
	}
	top.keys("q")
	prompt := inTerminal(t, 120, 34, env, bin, "console")
	prompt.wait("iserd")
	for _, line := range [][2]string{{"status\r", "configuration"}, {"logins\r", "stranger"}, {"lun show iqn.2026-11.com.example:d\t", "db01"}, {"0\r", "memory/db"}, {"session \t", "logout"}} {
		prompt.keys(line[0])
		prompt.wait(line[1])
		pause(time.Second)
	}
	shoot("prompt", prompt)
	prompt.keys("\x03\x04")
}

// views are the views of a busy daemon.
var views = []struct{ name, path, heading string }{
	{"overview", "overview", "Overview"},
	{"luns", "luns", "Targets and LUNs"},
	{"lun", "lun/" + dbTarget + "/0", "LUN 0 of db01"},
	{"sessions", "sessions", "Sessions"},
	{"actors", "actors", "Actors"},
	{"actor", "actors/node%2Flun-" + dbTarget + "%3A0", "Actors"},
	{"events", "events", "Events"},
	{"config", "config", "Configuration"},
}

var busyChanged = strings.ReplaceAll(busyHCL, "Database, primary", "Database, second") + `
backend "memory" "new" { size = "1GiB" }
target "iqn.2026-11.com.example:new" {
  insecure = true
  lun "0" { backend = backend.memory.new }
}
`

// keep writes a picture, which must have something in it.
func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[color.Color]bool{}
	for y := 0; y < img.Bounds().Dy(); y += 3 {
		for x := 0; x < img.Bounds().Dx(); x += 3 {
			seen[img.At(x, y)] = true
		}
	}
	if len(seen) < 10 {
		t.Errorf("%s: %d colours: there is nothing in it", name, len(seen))
	}
	if !unhurried() {
		return
	}
	if err := os.WriteFile(filepath.Join(*screensDir, name+".png"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

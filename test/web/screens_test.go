package web_test

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	if err := d.api.ActorDo(t.Context(), "node/lun-"+dbTarget+":1", "crash"); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestScreens takes a picture of each view in both colours on a desktop and a phone.
func TestScreens(t *testing.T) {
	d := busy(t)
	b := open(t, d)
	b.waitText("Sessions")
	b.eval("sessionStorage.setItem('iserd-token', '" + token + "')")
	b.visit(d.page)
	b.waitText("Sign out")
	time.Sleep(wait)
	d.write(busyChanged)
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1280, 900}, {"phone", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			b.screen(size.width, size.height, scheme)
			for _, v := range views {
				b.view(v.path, v.heading)
				time.Sleep(2500 * time.Millisecond)
				keep(t, v.name+"-"+size.name+"-"+scheme, b.shot())
			}
		}
	}
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

// wait is how long the plots have had time before the pictures are taken.
const wait = 40 * time.Second

// keep writes a picture, which must not be of one colour.
func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if *screensDir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screensDir, name+".png"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

var busyChanged = strings.ReplaceAll(busyHCL, "Database, primary", "Database, second") + `
backend "memory" "new" { size = "1GiB" }
target "iqn.2026-11.com.example:new" {
  insecure = true
  lun "0" { backend = backend.memory.new }
}
`

package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/iserd/iserd/api"
)

// TestKeyboard: all of it can be reached and used without a mouse, and one sees where
// one is.
func TestKeyboard(t *testing.T) {
	d := serve(t, plainHCL, true)
	d.login("iqn.2026-11.com.example:a", plainTarget)
	b := open(t, d)
	b.waitText("Busiest LUNs")
	b.wait("document.querySelectorAll('tbody a').length >= 2")
	b.wait("document.getElementById('access').textContent === 'Sign in'")
	var seen []string
	for range 40 {
		b.keys("\t")
		at, _ := b.eval(`(() => {
			const e = document.activeElement;
			if (e === document.body) return 'body';
			const s = getComputedStyle(e), r = e.getBoundingClientRect();
			if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) return 'no outline: ' + e.outerHTML;
			if (r.width === 0 || r.right < 0 || r.bottom < 0) return 'not to be seen: ' + e.outerHTML;
			return e.id || e.innerText.replaceAll('\n', ' ');
		})()`).(string)
		if strings.HasPrefix(at, "no outline") || strings.HasPrefix(at, "not to be seen") {
			t.Error(at)
		}
		if at == "body" {
			break
		}
		seen = append(seen, at)
	}
	for i, want := range []string{"skip", "iserd gw1", "Overview", "LUNs", "Sessions", "Actors", "Events", "Configuration", "access", "theme"} {
		if i >= len(seen) || seen[i] != want {
			t.Fatalf("the order is %q, want %q at %d", seen, want, i)
		}
	}
	for _, want := range []string{"plain / 0", "plain / 7"} {
		if !strings.Contains(strings.Join(seen, "\n"), want) {
			t.Errorf("%s is not reached: %q", want, seen)
		}
	}

	// The skip link leads to the content, and the view stays.
	b.view("sessions", "Sessions")
	b.wait("document.querySelectorAll('tbody tr').length === 1")
	b.eval("document.activeElement.blur(); scrollTo(0, 0); document.getElementById('skip').focus()")
	b.keys("\r")
	if at := b.eval("document.activeElement.id + ' ' + location.hash"); at != "content #/sessions" {
		t.Error("the skip link leads to", at)
	}
	b.keys("\thost that is not there")
	b.wait("document.querySelectorAll('tbody tr').length === 0")
	b.eval("document.activeElement.select()")
	b.keys("\b")
	b.wait("document.querySelectorAll('tbody tr').length === 1")
	b.keys("\t\r")
	b.wait("document.activeElement.textContent === 'Initiator' && document.activeElement.closest('th').ariaSort === 'ascending'")
	b.keys("\r")
	b.wait("document.activeElement.closest('th').ariaSort === 'descending'")

	// What is focused stays so when the table is brought up to date.
	b.eval("document.querySelector('tbody a').focus()")
	age := b.eval("document.querySelector('td.num').textContent")
	b.wait(fmt.Sprintf("document.querySelector('td.num').textContent !== %q", age))
	if at := b.eval("document.activeElement === document.querySelector('tbody a')"); at != true {
		t.Error("an update took the focus")
	}
	// A view that is opened is where one is, and its name is read out.
	b.keys("\r")
	b.wait("location.hash.startsWith('#/actors/') && document.activeElement === document.querySelector('main h1')")
}

// TestPhone: nothing is wider than a phone, whatever the names and numbers, and what
// is to be tapped is large enough.
func TestPhone(t *testing.T) {
	d := busy(t)
	b := open(t, d)
	b.eval("sessionStorage.setItem('iserd-token', '" + token + "')")
	b.visit(d.page)
	d.write(busyChanged)
	for _, width := range []int64{390, 320} {
		b.screen(width, 844, "light")
		b.visit(d.page)
		for _, v := range views {
			b.view(v.path, v.heading)
			b.wait("document.querySelector('main').innerText.length > 60")
			b.wait("!document.querySelector('main').innerText.includes('Waiting')")
			time.Sleep(300 * time.Millisecond) // the plots follow the width
			wide, _ := b.eval(fmt.Sprintf(`JSON.stringify([document.documentElement.scrollWidth, ...[...document.querySelectorAll('body *')]
				.filter(e => e.checkVisibility() && !e.closest('.hidden, thead, pre, .skip') && e.getBoundingClientRect().right > %d + 1).map(e => e.outerHTML.slice(0, 120))])`, width)).(string)
			if wide != fmt.Sprintf("[%d]", width) {
				t.Errorf("%s at %d: %s", v.name, width, wide)
			}
			small, _ := b.eval(`JSON.stringify([...document.querySelectorAll('button, nav a, select, input')].filter(e => e.checkVisibility())
				.map(e => [e.getBoundingClientRect(), e]).filter(([r]) => r.height > 0 && (r.height < 24 || r.width < 24)).map(([, e]) => e.outerHTML.slice(0, 120)))`).(string)
			if small != "[]" {
				t.Errorf("%s: too small to tap: %s", v.name, small)
			}
		}
	}
}

// TestColours: the page follows the system, or what was chosen, and its texts can be
// read: contrast is at least that of WCAG 2.2, 1.4.3.
func TestColours(t *testing.T) {
	d := serve(t, plainHCL, false)
	b := open(t, d)
	const lum = `((c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; })`
	back := func() float64 {
		v, _ := b.eval(lum + "(getComputedStyle(document.body).backgroundColor)").(float64)
		return v
	}
	dark := func() bool { return back() < 0.2 }
	for _, scheme := range []string{"light", "dark"} {
		b.screen(1280, 900, scheme)
		b.visit(d.page)
		b.waitText("Commands per second")
		if dark() != (scheme == "dark") {
			t.Errorf("the system is %s, the page is not", scheme)
		}
		poor, _ := b.eval(`(() => { const lum = ` + lum + `; const p = document.body.appendChild(document.createElement('i'));
			const of = (n) => { p.style.color = 'var(--' + n + ')'; return lum(getComputedStyle(p).color); };
			const out = [];
			for (const [text, back] of [['text', 'back'], ['text', 'card'], ['soft', 'back'], ['soft', 'card'], ['faint', 'back'], ['faint', 'card'],
				['accent', 'back'], ['accent', 'card'], ['accent-text', 'accent'], ['good', 'good-back'], ['warn', 'warn-back'], ['bad', 'bad-back'], ['bad', 'card'], ['card', 'bad']]) {
				const [a, b] = [of(text), of(back)];
				const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
				if (ratio < 4.5) out.push(text + ' on ' + back + ': ' + ratio.toFixed(2));
			}
			p.remove();
			return out.join(', '); })()`).(string)
		if poor != "" {
			t.Errorf("%s: hard to read: %s", scheme, poor)
		}
	}
	choose := func(value string) {
		b.eval(fmt.Sprintf("{ const s = document.getElementById('theme'); s.value = %q; s.dispatchEvent(new Event('change')); }", value))
	}
	choose("light")
	if dark() {
		t.Error("light was chosen")
	}
	b.visit(d.page)
	b.waitText("Commands per second")
	if dark() || b.eval("document.getElementById('theme').value") != "light" {
		t.Error("the choice is forgotten")
	}
	choose("auto")
	if !dark() {
		t.Error("the system is dark")
	}
}

// TestFormat: numbers are read as they are meant.
func TestFormat(t *testing.T) {
	d := serve(t, plainHCL, false)
	b := open(t, d)
	for _, x := range [][2]string{
		{"f.si(0)", "0"},
		{"f.si(0.25)", "0.25"},
		{"f.si(7.2)", "7.2"},
		{"f.si(999)", "999"},
		{"f.si(999.7)", "1.00k"},
		{"f.si(485000)", "485k"},
		{"f.si(1234567)", "1.23M"},
		{"f.si(null)", "–"},
		{"f.si(NaN)", "–"},
		{"f.bytes(0)", "0 B"},
		{"f.bytes(1023)", "1023 B"},
		{"f.bytes(1024)", "1.00 KiB"},
		{"f.bytes(1536 * 2 ** 20)", "1.50 GiB"},
		{"f.bytes(2 ** 62)", "4.00 EiB"},
		{"f.size(40 * 2 ** 30)", "40 GiB"},
		{"f.size(100 * 2 ** 30)", "100 GiB"},
		{"f.size(1.5 * 2 ** 40)", "1.5 TiB"},
		{"f.rate(4.8 * 2 ** 30)", "4.80 GiB/s"},
		{"f.time(0)", "–"},
		{"f.time(900)", "900 ns"},
		{"f.time(9050)", "9.05 µs"},
		{"f.time(999600)", "1.00 ms"},
		{"f.time(2.5e9)", "2.50 s"},
		{"f.age(5)", "5s"},
		{"f.age(65)", "1m 05s"},
		{"f.age(3 * 86400 + 4 * 3600)", "3d 04h"},
		{"f.age(-3)", "0s"},
		{"f.count(1234567)", "1,234,567"},
		{"f.brief('2.00k')", "2k"},
		{"f.brief('100 ms')", "100 ms"},
		{"f.brief('0')", "0"},
		{"f.brief('7.50')", "7.5"},
		{"f.short('iqn.2026-11.com.example:a:b')", "b"},
		{"f.short('eui.0123456789abcdef')", "eui.0123456789abcdef"},
		{"f.short('iqn.x:')", "iqn.x:"},
		{"f.moment('0001-01-01T00:00:00Z')", "–"},
	} {
		if got := b.module("format", x[0]); got != x[1] {
			t.Errorf("%s is %q, want %q", x[0], got, x[1])
		}
	}
}

// TestRatesLikeTheConsole: the page estimates quantiles as package api does, and totals
// that begin anew give no rate.
func TestRatesLikeTheConsole(t *testing.T) {
	d := serve(t, plainHCL, false)
	b := open(t, d)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		stats := api.Stats{Ops: map[string]uint64{}, Errors: map[string]uint64{}}
		for _, op := range []string{"read", "write", "other"} {
			counts := make([]uint64, 26)
			for range r.IntN(6) {
				counts[r.IntN(26)] += r.Uint64N(1000)
			}
			stats.Latency = append(stats.Latency, api.Latency{Op: op, Stage: "total", Counts: counts})
		}
		text, err := json.Marshal(&stats)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			got, _ := b.module("rates", fmt.Sprintf("f.quantile(f.histogram(%s), %g)", text, q)).(float64)
			if want := float64(stats.Quantile(q).Nanoseconds()); got < want-1 || got > want+1 {
				t.Errorf("q %g of %s: %g, want %g", q, text, got, want)
			}
		}
	}
	const totals = "{ops: {read: %d}, errors: {}, bytes_read: %d, bytes_written: 0, latency: []}"
	now, old := fmt.Sprintf(totals, 30, 300), fmt.Sprintf(totals, 10, 100)
	if got := b.module("rates", "f.flow(f.since("+now+", "+old+"), 2).reads"); got != 10.0 {
		t.Error("reads per second:", got)
	}
	if got := b.module("rates", "f.since("+old+", "+now+")"); got != nil {
		t.Error("a counter went back:", got)
	}
}

// TestWithoutJavaScript: there are tables, and they fit a phone.
func TestWithoutJavaScript(t *testing.T) {
	d := busy(t)
	b := blank(t)
	b.host = d.host()
	b.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	b.screen(390, 844, "dark")
	b.visit(d.page)
	if text := b.text("main"); !strings.Contains(text, "the tables") {
		t.Fatal(text)
	}
	b.visit(d.page + "plain")
	text := b.text("body")
	for _, want := range []string{"gw1", dbTarget, "memory/db", "iqn.1998-01.com.vmware:esx01", "there is no target iqn.2026-11.com.example:nothing"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if w := b.eval("document.documentElement.scrollWidth"); w != 390.0 {
		t.Errorf("it is %v wide", w)
	}
	keep(t, "plain-phone-dark", b.shot())
}

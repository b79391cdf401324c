package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/iserd/iserd/test/lab"
)

// patience is how long the page may take for what it is asked.
const patience = 30 * time.Second

// browser is a tab, and what it complained about.
type browser struct {
	t    *testing.T
	ctx  context.Context
	host string // the only one that may be asked

	mu       sync.Mutex
	wrong    []string
	expected func(string) bool // complaints that the test brings about
}

// open starts Chromium with an empty profile and opens the page of d. At the end of
// the test it fails when the page asked another host, or when the browser's console
// has an error: a violation of the Content-Security-Policy is one.
func open(t *testing.T, d *daemon) *browser {
	t.Helper()
	b := blank(t)
	b.host = d.host()
	b.visit(d.page)
	return b
}

// blank starts Chromium.
func blank(t *testing.T) *browser {
	t.Helper()
	lab.Gate(t)
	lab.NeedTools(t, "chromium")
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("hide-scrollbars", false), chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stop := chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	b := &browser{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		stop()
		cancel()
		b.check()
	})
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, tab, log.Enable, cdp.Empty{})
		return err
	}))
	return b
}

// note keeps what is wrong. It runs in chromedp's reader and must not block.
func (b *browser) note(ev any) {
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && u.Scheme != "about" && u.Host != b.host {
			b.complain("request to another host: " + e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		text, _ := json.Marshal(e.ExceptionDetails)
		b.complain("exception: " + string(text))
	case *runtime.EventConsoleAPICalled:
		text, _ := json.Marshal(e.Args)
		b.complain(fmt.Sprintf("console: %s %s", e.Type, text))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.complain(fmt.Sprintf("%s: %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expected == nil || !b.expected(text) {
		b.wrong = append(b.wrong, text)
	}
}

// expect lets complaints pass that have one of texts in them.
func (b *browser) expect(texts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = func(s string) bool {
		for _, x := range texts {
			if strings.Contains(s, x) {
				return true
			}
		}
		return false
	}
}

func (b *browser) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		b.t.Error(w)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) visit(page string) {
	b.t.Helper()
	b.do(chromedp.Navigate(page))
}

// view shows one of the views and waits until its heading is there.
func (b *browser) view(name, heading string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("location.hash = %q", "#/"+name))
	b.wait(fmt.Sprintf("document.querySelector('main h1')?.textContent === %q", heading))
}

// eval runs JavaScript in the page and returns its value.
func (b *browser) eval(js string) any {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[any](js, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v\n%s", err, js)
	}
	return v
}

// module evaluates an expression in which f is one of the page's modules.
func (b *browser) module(name, js string) any {
	b.t.Helper()
	return b.eval(fmt.Sprintf("import(new URL('%s.js', document.querySelector('script[type=module]').src)).then((f) => %s)", name, js))
}

// text is what an element shows.
func (b *browser) text(selector string) string {
	b.t.Helper()
	s, _ := b.eval(fmt.Sprintf("document.querySelector(%q)?.innerText ?? '(no %s)'", selector, selector)).(string)
	return s
}

// wait waits until a JavaScript expression is true.
func (b *browser) wait(js string) {
	b.t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if v, ok := b.eval("Boolean(" + js + ")").(bool); ok && v {
			return
		}
		if time.Since(begin) > patience {
			b.t.Fatalf("never true: %s\nthe page shows:\n%s\n%v", js, b.text("body"), b.wrong)
		}
	}
}

// waitText waits until the page shows a text.
func (b *browser) waitText(text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// keys presses keys.
func (b *browser) keys(keys string) { b.t.Helper(); b.do(chromedp.KeyEvent(keys)) }

// press clicks on the first element of a selector that has a text.
func (b *browser) press(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll(%q)].find(e => e.textContent.trim() === %q && e.checkVisibility())", selector, text)
	b.wait(find)
	b.eval(find + ".click()")
}

// screen sets the size of the window and the colours.
func (b *browser) screen(width, height int64, scheme string) {
	b.t.Helper()
	var opts []chromedp.EmulateViewportOption
	if width < 600 {
		opts = append(opts, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	b.do(chromedp.EmulateViewport(width, height, opts...), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// shot is a picture of the whole page.
func (b *browser) shot() []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

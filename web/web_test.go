package web

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func body(t *testing.T, resp *httptest.ResponseRecorder) string {
	t.Helper()
	var from io.Reader = resp.Body
	if resp.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		from = z
	}
	b, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func handler(t *testing.T) http.Handler {
	t.Helper()
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return p.Handler(said{})
}

var reference = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)

// imported are the files that index.html and the modules ask for, by their paths.
func imported(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	files := map[string]string{}
	var follow func(name string)
	follow = func(name string) {
		if _, ok := files[name]; ok {
			return
		}
		resp := get(t, h, "GET", name)
		if resp.Code != 200 {
			t.Fatalf("%s: %d", name, resp.Code)
		}
		files[name] = body(t, resp)
		if path.Ext(name) == ".js" {
			for _, m := range regexp.MustCompile(`(?m)^(?:import|export) .*from '([^']+)';`).FindAllStringSubmatch(files[name], -1) {
				follow(path.Join(path.Dir(name), m[1]))
			}
		}
	}
	for _, m := range reference.FindAllStringSubmatch(body(t, get(t, h, "GET", "/")), -1) {
		if strings.HasPrefix(m[1], "assets/") {
			follow("/" + m[1])
		}
	}
	return files
}

// TestWhole: all that the page asks for is there, with its type, and nothing is
// there that it does not ask for but licences.
func TestWhole(t *testing.T) {
	h := handler(t)
	files := imported(t, h)
	for name := range files {
		want := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		if got := get(t, h, "GET", name).Header().Get("Content-Type"); got != want || want == "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	all := 1 // index.html
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(name, "LICENSE") && !strings.HasSuffix(name, ".html") {
			all++
		}
		return err
	})
	if err != nil || all != len(files)+1 {
		t.Errorf("%d files are asked for, %d are there: %v", len(files)+1, all, err)
	}
}

// TestOwnFilesOnly: no file names another host, no markup has script or style in it,
// and no script makes markup from text.
func TestOwnFilesOnly(t *testing.T) {
	h := handler(t)
	files := imported(t, h)
	index := body(t, get(t, h, "GET", "/"))
	for _, bad := range []string{"<style", " style=", "javascript:", "http://", "https://", " onclick", " onload"} {
		if strings.Contains(index, bad) || strings.Contains(body(t, get(t, h, "GET", "/plain")), bad) {
			t.Errorf("a page has %q", bad)
		}
	}
	if n := strings.Count(index, "<script"); n != strings.Count(index, "<script src=")+strings.Count(index, `<script type="module" src=`) {
		t.Error("a script in index.html is not a file")
	}
	for name, text := range files {
		if strings.Contains(name, "/vendor/") {
			continue
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "http://", "https://", "@import", "url("} {
			if strings.Contains(text, bad) && !strings.Contains(name, "icon.svg") {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}

// TestVendored: the plots are uPlot 1.6.32 as it was released on npm.
func TestVendored(t *testing.T) {
	for name, want := range map[string]string{
		"uPlot.esm.js":  "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
		"uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	} {
		data, err := embedded.ReadFile("assets/vendor/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is %x", name, sum)
		}
	}
}

// TestHeaders: each answer has the policy, and may be kept as long as it is true.
func TestHeaders(t *testing.T) {
	h := handler(t)
	var asset string
	for name := range imported(t, h) {
		asset = name
	}
	for name, cache := range map[string]string{"/": "no-cache", asset: "public, max-age=31536000, immutable"} {
		resp := get(t, h, "GET", name)
		for k, v := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control": cache, "Vary": "Accept-Encoding",
		} {
			if got := resp.Header().Get(k); got != v {
				t.Errorf("%s: %s is %q, want %q", name, k, got, v)
			}
		}
	}
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, directive) {
			t.Error("no", directive)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "data:") {
		t.Error(policy)
	}
}

// TestCaching: what a browser has is not sent again, plain and compressed.
func TestCaching(t *testing.T) {
	h := handler(t)
	for _, encoding := range []string{"", "gzip", "br, gzip;q=0.5", "gzip;q=0", "identity"} {
		resp := get(t, h, "GET", "/", "Accept-Encoding", encoding)
		zipped := strings.Contains(encoding, "gzip") && !strings.HasSuffix(encoding, "=0")
		if (resp.Header().Get("Content-Encoding") == "gzip") != zipped || !strings.Contains(body(t, resp), "<!doctype html>") {
			t.Errorf("%q: %v", encoding, resp.Header())
		}
		tag := resp.Header().Get("ETag")
		again := get(t, h, "GET", "/", "Accept-Encoding", encoding, "If-None-Match", tag)
		if again.Code != 304 || body(t, again) != "" || again.Header().Get("ETag") != tag {
			t.Errorf("%q: %d %v", encoding, again.Code, again.Header())
		}
		if other := get(t, h, "GET", "/", "Accept-Encoding", encoding, "If-None-Match", `"another"`); other.Code != 200 {
			t.Error(other.Code)
		}
	}
	if a, b := get(t, h, "GET", "/").Header().Get("ETag"), get(t, h, "GET", "/", "Accept-Encoding", "gzip").Header().Get("ETag"); a == b {
		t.Error("two representations with the ETag", a)
	}
	head := get(t, h, "HEAD", "/")
	if head.Code != 200 || body(t, head) != "" || head.Header().Get("Content-Length") == "0" {
		t.Error(head.Code, head.Header())
	}
}

// TestMethods: nothing but GET and HEAD, and nothing that is not there.
func TestMethods(t *testing.T) {
	h := handler(t)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if resp := get(t, h, method, "/"); resp.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, resp.Code)
		}
	}
	for _, name := range []string{"/index.html", "/assets/", "/assets/0/js/main.js", "/assets/" + digest(t) + "/../web.go", "/assets/" + digest(t) + "/", "/assets/" + digest(t) + "/js", "/x"} {
		if resp := get(t, h, "GET", name); resp.Code == http.StatusOK {
			t.Errorf("%s: %d", name, resp.Code)
		}
	}
}

func digest(t *testing.T) string {
	t.Helper()
	p, err := load(embedded)
	if err != nil {
		t.Fatal(err)
	}
	return p.digest
}

// TestDigest: another file, another name or another content is another page.
func TestDigest(t *testing.T) {
	seen := map[string]bool{}
	for _, files := range []fstest.MapFS{
		{"assets/index.html": {Data: []byte("x")}},
		{"assets/index.html": {Data: []byte("y")}},
		{"assets/index.html": {Data: []byte("x")}, "assets/a.js": {Data: []byte("1")}},
		{"assets/index.html": {Data: []byte("x")}, "assets/b.js": {Data: []byte("1")}},
	} {
		p, err := load(files)
		if err != nil {
			t.Fatal(err)
		}
		if seen[p.digest] {
			t.Error("the same digest for", files)
		}
		seen[p.digest] = true
	}
}

// said is an API that says what is asked of it.
type said map[string]string

func (s said) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := s[r.URL.Path]
	switch {
	case ok:
	case r.URL.Path == "/v1/status":
		answer = "{}"
	default:
		answer = "[]"
	}
	if strings.HasPrefix(answer, "!") {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = io.WriteString(w, answer)
}

// TestPlain: the tables say what the API says, as text, and what is wrong with it.
func TestPlain(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	const bad = `<script>alert(1)</script>`
	h := p.Handler(said{
		"/v1/status":   `{"node": "gw1", "pid": 77, "warnings": ["LUN 3 is failed"], "config": {"hash": "abcd"}}`,
		"/v1/targets":  `[{"name": "iqn.a", "luns": [{"number": 3, "state": "failed", "backend": "file/x", "size": 4096, "stats": {"ops": {"read": 12345}}}]}, {"name": "iqn.empty"}]`,
		"/v1/sessions": `[{"initiator": "` + bad + `", "target": "iqn.a", "peer": "192.0.2.7:1", "transport": "iser"}]`,
		"/v1/refusals": `[{"initiator": "iqn.x", "address": "192.0.2.8", "reason": "wrong secret", "count": 3}]`,
	})
	resp := get(t, h, "GET", "/plain")
	text := body(t, resp)
	for _, want := range []string{"gw1", "process 77", "LUN 3 is failed", "iqn.a", "file/x", "4096", "12345", "iqn.empty", "no LUN", "192.0.2.7:1", "iser", "wrong secret", "&lt;script&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if strings.Contains(text, bad) || strings.Contains(text, "VERSION") || resp.Header().Get("Content-Security-Policy") != policy || resp.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v\n%s", resp.Header(), text)
	}
	if !strings.Contains(body(t, get(t, handler(t), "GET", "/plain")), "Nobody is logged in.") {
		t.Error("nothing is said of no sessions")
	}
	if resp := get(t, p.Handler(said{"/v1/sessions": "!it broke"}), "GET", "/plain"); resp.Code != 500 || !strings.Contains(body(t, resp), "it broke") {
		t.Error(resp.Code)
	}
}

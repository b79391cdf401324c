package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counting counts how often it is asked, and fails on request.
type counting struct {
	fixed
	asked *atomic.Int64
	broke *atomic.Bool
}

func (c counting) Status(context.Context) (*Status, error) {
	if c.broke.Load() {
		return nil, errors.New("no")
	}
	return &Status{Sessions: int(c.asked.Add(1))}, nil
}
func (counting) Subscribe(func(Event)) func() { return func() {} }

// sse reads one event with its id; comments are events without a name.
func sse(t *testing.T, lines *bufio.Scanner) (name, data, id string) {
	t.Helper()
	for lines.Scan() {
		switch key, value, _ := strings.Cut(lines.Text(), ": "); key {
		case "event":
			name = value
		case "data":
			data = value
		case "id":
			id = value
		case "":
			if lines.Text() == "" {
				return name, data, id
			}
		}
	}
	return "end", "", ""
}

// TestLiveDocuments: they come at once, at the interval, in order, and two readers
// cost the daemon what one does.
func TestLiveDocuments(t *testing.T) {
	var asked atomic.Int64
	var broke atomic.Bool
	s := httptest.NewServer(NewHandler(counting{asked: &asked, broke: &broke}, ReadOnly))
	defer s.Close()
	open := func() *bufio.Scanner {
		resp, err := http.Get(s.URL + "/v1/events?with=status,targets,status&every=1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
			t.Fatal(resp.Status, ct)
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxBody)
		if name, _, _ := sse(t, lines); name != "" {
			t.Fatal("the first is a comment, not", name)
		}
		return lines
	}
	a, b := open(), open()
	var at [2]int64
	for round := range 2 {
		for _, l := range []*bufio.Scanner{a, b} {
			for _, want := range []string{"status", "targets"} {
				name, data, id := sse(t, l)
				ms, err := strconv.ParseInt(id, 10, 64)
				if name != want || err != nil || !json.Valid([]byte(data)) {
					t.Fatal(round, name, data, id)
				}
				at[round] = ms
			}
		}
	}
	if at[1] <= at[0] {
		t.Error("the time stands still:", at)
	}
	if n := asked.Load(); n > 4 {
		t.Errorf("asked %d times for two readers and two rounds", n)
	}
	broke.Store(true) // a document that cannot be made ends the stream
	for {
		if name, _, _ := sse(t, a); name == "end" {
			return
		}
	}
}

// TestLiveIsFresh: documents are not made more often than they can be new.
func TestLiveIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		l := newLive(counting{asked: &asked, broke: new(atomic.Bool)})
		for range 10 {
			if _, err := l.get(t.Context(), "status"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(fresh / 5)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times in %v, want 2", n, 2*fresh)
		}
	})
}

func TestLiveWrong(t *testing.T) {
	h := NewHandler(fixed{}, ReadOnly)
	for _, query := range []string{"with=nothing", "every=0.5", "every=16", "every=x", "every=NaN", "every=-1", "with=status&every=1e99"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/events?"+query, nil))
		if w.Code != 422 || !strings.Contains(w.Body.String(), "error") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

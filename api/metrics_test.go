package api

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

// fixed is a daemon with one LUN.
type fixed struct{ Daemon }

func (fixed) Status(context.Context) (*Status, error) {
	return &Status{Version: `v"1\`, Started: time.Unix(1e9, 0)}, nil
}

func (fixed) Targets(context.Context) ([]Target, error) {
	counts := make([]uint64, 26)
	counts[3], counts[25] = 5, 1
	alua := &ALUA{Groups: []ALUAGroup{{PortalGroup: "lan", ID: 1, State: "standby", Preferred: true}}}
	return []Target{{Name: "iqn.a", LUNs: []LUN{{Number: 3, State: "online", Size: 1 << 20, ALUA: alua, Stats: Stats{
		Ops: map[string]uint64{"read": 6, "write": 0}, Read: 4096, Errors: map[string]uint64{"MEDIUM ERROR": 2},
		Latency: []Latency{{Op: "read", Stage: "total", Counts: counts, Nanoseconds: 40000}},
	}}}}}, nil
}

func (fixed) Sessions(context.Context) ([]Session, error) {
	counts := make([]uint64, 26)
	counts[2] = 3
	luns := []SessionLUN{{LUN: 0, Number: 3, Stats: Stats{
		Ops: map[string]uint64{"read": 3}, Read: 1536, Latency: []Latency{{Op: "read", Stage: "queue", Counts: counts, Nanoseconds: 9000}},
	}}}
	return []Session{{Initiator: "iqn.i", ISID: "1", Target: "iqn.a", Transport: "tcp", LUNs: luns}, {Transport: "tcp"}}, nil
}

func (fixed) Actors(context.Context) ([]Actor, error) {
	return []Actor{{Kind: "lun", Queued: 2}, {Kind: "lun", Queued: 1}}, nil
}

func (fixed) Logins(context.Context) (map[string]uint64, error) {
	return map[string]uint64{"0000": 4, "0202": 1}, nil
}

func (fixed) Totals(context.Context) (*Totals, error) {
	return &Totals{
		BufferLimit: 10, PDUs: map[PDUKind]uint64{{"SCSI Command", "in"}: 7, {"other", "in"}: 1},
		DigestErrors: map[string]uint64{"header": 0, "data": 2},
		RDMA: []RDMADevice{{
			Device: "rxe0", QueuePairs: 2, MemoryRegions: 3, Registered: 1 << 24, InUse: 4096, Completions: 9,
			Failed: map[string]uint64{"RNR retries exceeded": 1},
		}},
	}, nil
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? (\S+)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-z_]+) (counter|gauge|histogram)$`)
)

func scrape(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	NewHandler(fixed{}, ReadOnly).ServeHTTP(w, httptest.NewRequest("GET", "/metrics?nexuses=true", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatal(w.Code, w.Header())
	}
	return w.Body.String()
}

// TestMetricsFormat: every line is of the format, every sample of a family that
// was introduced, and no family is introduced twice.
func TestMetricsFormat(t *testing.T) {
	types := map[string]string{}
	for l := range strings.SplitSeq(strings.TrimSuffix(scrape(t), "\n"), "\n") {
		if strings.HasPrefix(l, "# HELP ") {
			continue
		}
		if m := typeLine.FindStringSubmatch(l); m != nil {
			if types[m[1]] != "" {
				t.Errorf("%s for the second time", m[1])
			}
			types[m[1]] = m[2]
			if m[2] == "counter" && !strings.HasSuffix(m[1], "_total") {
				t.Errorf("counter %s does not end in _total", m[1])
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("not a sample: %q", l)
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); types[base] == "histogram" {
				name = base
			}
		}
		if types[name] == "" {
			t.Errorf("%s was not introduced", name)
		}
		if _, err := strconv.ParseFloat(m[3], 64); err != nil {
			t.Error(err)
		}
	}
}

func TestMetricsValues(t *testing.T) {
	text := scrape(t)
	for _, want := range []string{
		`iserd_build_info{version="v\"1\\"} 1`,
		`iserd_lun_ops_total{target="iqn.a",lun="3",op="read"} 6`,
		`iserd_lun_bytes_total{target="iqn.a",lun="3",dir="read"} 4096`,
		`iserd_lun_check_conditions_total{target="iqn.a",lun="3",key="MEDIUM ERROR"} 2`,
		`iserd_lun_latency_seconds_bucket{target="iqn.a",lun="3",op="read",stage="total",le="4.096e-06"} 0`,
		`iserd_lun_latency_seconds_bucket{target="iqn.a",lun="3",op="read",stage="total",le="8.192e-06"} 5`,
		`iserd_lun_latency_seconds_bucket{target="iqn.a",lun="3",op="read",stage="total",le="+Inf"} 6`,
		`iserd_lun_latency_seconds_count{target="iqn.a",lun="3",op="read",stage="total"} 6`,
		`iserd_lun_latency_seconds_sum{target="iqn.a",lun="3",op="read",stage="total"} 4e-05`,
		`iserd_sessions{target="",transport="tcp"} 1`,
		`iserd_sessions{target="iqn.a",transport="tcp"} 1`,
		`iserd_login_total{result="0202"} 1`,
		`iserd_actor_mailbox_depth{kind="lun"} 2`,
		`iserd_pdu_total{opcode="SCSI Command",dir="in"} 7`,
		`iserd_nexus_ops_total{initiator="iqn.i",isid="1",target="iqn.a",lun="3",op="read"} 3`,
		`iserd_nexus_bytes_total{initiator="iqn.i",isid="1",target="iqn.a",lun="3",dir="read"} 1536`,
		`iserd_nexus_latency_seconds_count{initiator="iqn.i",isid="1",target="iqn.a",lun="3",op="read",stage="queue"} 3`,
		`iserd_digest_errors_total{digest="data"} 2`,
		`iserd_alua_state{target="iqn.a",lun="3",portal_group="lan",state="standby",preferred="true"} 1`,
		`iserd_rdma_queue_pairs{device="rxe0"} 2`,
		`iserd_rdma_buffer_bytes{device="rxe0",state="used"} 4096`,
		`iserd_rdma_failed_completions_total{device="rxe0",status="RNR retries exceeded"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestNexusesAreAskedFor: there are no labels that grow with initiators unless
// somebody wants them.
func TestNexusesAreAskedFor(t *testing.T) {
	for query, want := range map[string]int{"": 200, "?nexuses=false": 200, "?nexuses=1": 200, "?nexuses=x": 422} {
		w := httptest.NewRecorder()
		NewHandler(fixed{}, ReadOnly).ServeHTTP(w, httptest.NewRequest("GET", "/metrics"+query, nil))
		if has := strings.Contains(w.Body.String(), "iserd_nexus_"); w.Code != want || has != (query == "?nexuses=1") {
			t.Errorf("%q: %d, nexuses: %v", query, w.Code, has)
		}
	}
}

// TestMetricsByPromtool asks Prometheus itself.
func TestMetricsByPromtool(t *testing.T) {
	lab.NeedTools(t, "promtool")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range [][]string{
		{"check", "rules", "../contrib/prometheus/rules.yml"},
		{"test", "rules", "../contrib/prometheus/rules_test.yml"},
	} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestRulesNameMetrics: alarms are about metrics that there are, and each has its
// test.
func TestRulesNameMetrics(t *testing.T) {
	rules, err := os.ReadFile("../contrib/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../contrib/prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := scrape(t)
	for _, name := range regexp.MustCompile(`\biserd_[a-z_]+`).FindAllString(string(rules), -1) {
		if !strings.Contains(text, "# TYPE "+strings.TrimSuffix(name, "_bucket")+" ") {
			t.Errorf("an alarm is about %s, which does not exist", name)
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if strings.Count(string(tests), "alertname: "+m[1]) < 2 {
			t.Errorf("%s is not tested both ways", m[1])
		}
	}
}

func TestQuantile(t *testing.T) {
	counts := make([]uint64, 26)
	counts[1] = 100 // 1.024 to 2.048 µs
	s := Stats{Latency: []Latency{{Op: "read", Stage: "total", Counts: counts}}}
	if d := s.Quantile(0.5); d < 1024 || d > 2048 {
		t.Error(d)
	}
	if d := (&Stats{}).Quantile(0.99); d != 0 {
		t.Error(d)
	}
	d := s.Since(&s)
	if d.Quantile(0.5) != 0 || s.Latency[0].Counts[1] != 100 {
		t.Error("the difference changes what it is made of")
	}
}

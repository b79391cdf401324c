package ffp_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// Why a number is left out over iSER.
const (
	noR2T    = "no R2T and Data-Out over iSER: the target reads by RDMA (TestISERWriteRead, TestISERErrata)"
	noDataIn = "no Data-In over iSER: the target writes by RDMA, and the status is in a SCSI Response"
	noDigest = "no digests over iSER, RFC 7145 §6.1"
	noRoom   = "an initiator over iSER has receives for 128 bytes of data (rawsuite.TestServerISER/…/NOP)"
)

// tcpOnly are the numbers that are only about TCP, by the
// test, with the reason.
var tcpOnly = map[string]map[string]string{
	"TestLogin": {
		"9.1": noDigest, "9.2": noDigest, "9.3": noDigest,
		"14.1": "MaxRecvDataSegmentLength is not used over iSER, RFC 7145 §6",
	},
	"TestFullFeaturePhase": {
		"3.3": noR2T, "6.1": noDataIn, "8.1": noR2T, "8.2": noR2T, "8.3": noR2T, "9.1": noR2T, "10.1": noDataIn, "10.2": noDataIn,
		"11.1.1": noR2T, "11.1.2": noR2T, "11.2": noR2T, "11.3": noR2T, "11.4": noR2T,
		"12.1": noR2T, "12.2": noR2T, "12.3": noR2T, "12.4": noR2T,
		"15.1": noRoom, "16.1.3": noR2T, "16.1.5": noDataIn,
	},
	"TestCHAP": {},
}

// runISER runs a plan over iSER on software iWARP.
func runISER(t *testing.T, plan []test) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() {
		if err := prov.Close(); err != nil {
			t.Error(err)
		}
	})
	srv, addr := serverISER(t, prov, iserd.Limits{})
	name, _, _ := strings.Cut(t.Name(), "/")
	skip := tcpOnly[name]
	for _, tt := range plan {
		t.Run(tt.number+" "+tt.title, func(t *testing.T) {
			if why := skip[tt.number]; why != "" {
				t.Skip("only over TCP: " + why)
			}
			tt.run(&run{T: t, srv: srv, addr: addr, iser: prov})
		})
	}
}

// serverISER is server with a portal for iSER.
func serverISER(t *testing.T, prov verbs.Provider, limits iserd.Limits) (*iserd.Server, string) {
	t.Helper()
	srv := targets(t, limits)
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return srv, addr.String()
}

// another is a run on a server of its own.
func (x *run) another(limits iserd.Limits) *run {
	x.Helper()
	y := *x
	if x.iser != nil {
		y.srv, y.addr = serverISER(x.T, x.iser, limits)
	} else {
		y.srv, y.addr = server(x.T, limits)
	}
	return &y
}

// connect connects to the run's portal.
func (x *run) connect(ctx context.Context) (*initiator.Conn, error) {
	if x.iser == nil {
		return initiator.Dial(ctx, x.addr)
	}
	addr, err := netip.ParseAddrPort(x.addr)
	if err != nil {
		return nil, err
	}
	return rdma.Dial(ctx, x.iser, addr, rdma.Options{})
}

//go:build linux && cgo && (amd64 || arm64)

package native_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/iserd/iserd/iser/verbs"
)

// Our declarations are those of the real headers, and the constants of package
// verbs have the libraries' values, as they say.
func TestABI(t *testing.T) {
	need := func(ok bool, what string) {
		if ok {
			return
		}
		if os.Getenv("CI") != "" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	gcc, err := exec.LookPath("gcc")
	need(err == nil, "needs gcc")
	for _, header := range []string{"infiniband/verbs.h", "rdma/rdma_cma.h"} {
		_, err := os.Stat(filepath.Join("/usr/include", header))
		need(err == nil, "needs "+header+": the Debian packages libibverbs-dev and librdmacm-dev")
	}
	source, err := os.ReadFile("testdata/abi_check.c")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range constants() {
		source = fmt.Appendf(source, "VALUE(%d, %s);\n", value, name)
	}
	file := filepath.Join(t.TempDir(), "abi_check.c")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-fsyntax-only", "-I", ".", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func constants() map[string]int {
	return map[string]int{
		"IBV_ACCESS_LOCAL_WRITE":         int(verbs.AccessLocalWrite),
		"IBV_ACCESS_REMOTE_WRITE":        int(verbs.AccessRemoteWrite),
		"IBV_ACCESS_REMOTE_READ":         int(verbs.AccessRemoteRead),
		"IBV_ACCESS_MW_BIND":             int(verbs.AccessBind),
		"IBV_ACCESS_ON_DEMAND":           int(verbs.AccessOnDemand),
		"IBV_SEND_FENCE":                 int(verbs.SendFence),
		"IBV_SEND_SIGNALED":              int(verbs.SendSignaled),
		"IBV_SEND_SOLICITED":             int(verbs.SendSolicited),
		"IBV_SEND_INLINE":                int(verbs.SendInline),
		"IBV_WC_SUCCESS":                 int(verbs.WCSuccess),
		"IBV_WC_LOC_LEN_ERR":             int(verbs.WCLocalLength),
		"IBV_WC_LOC_QP_OP_ERR":           int(verbs.WCLocalQPOp),
		"IBV_WC_LOC_EEC_OP_ERR":          int(verbs.WCLocalEEC),
		"IBV_WC_LOC_PROT_ERR":            int(verbs.WCLocalProtection),
		"IBV_WC_WR_FLUSH_ERR":            int(verbs.WCFlushed),
		"IBV_WC_MW_BIND_ERR":             int(verbs.WCMWBind),
		"IBV_WC_BAD_RESP_ERR":            int(verbs.WCBadResponse),
		"IBV_WC_LOC_ACCESS_ERR":          int(verbs.WCLocalAccess),
		"IBV_WC_REM_INV_REQ_ERR":         int(verbs.WCRemoteInvalid),
		"IBV_WC_REM_ACCESS_ERR":          int(verbs.WCRemoteAccess),
		"IBV_WC_REM_OP_ERR":              int(verbs.WCRemoteOp),
		"IBV_WC_RETRY_EXC_ERR":           int(verbs.WCRetryExceeded),
		"IBV_WC_RNR_RETRY_EXC_ERR":       int(verbs.WCRNRExceeded),
		"IBV_WC_LOC_RDD_VIOL_ERR":        int(verbs.WCLocalRDD),
		"IBV_WC_REM_INV_RD_REQ_ERR":      int(verbs.WCRemoteInvalidRD),
		"IBV_WC_REM_ABORT_ERR":           int(verbs.WCRemoteAborted),
		"IBV_WC_INV_EECN_ERR":            int(verbs.WCInvalidEEC),
		"IBV_WC_INV_EEC_STATE_ERR":       int(verbs.WCInvalidEECState),
		"IBV_WC_FATAL_ERR":               int(verbs.WCFatal),
		"IBV_WC_RESP_TIMEOUT_ERR":        int(verbs.WCTimeout),
		"IBV_WC_GENERAL_ERR":             int(verbs.WCGeneral),
		"IBV_PORT_DOWN":                  int(verbs.PortDown),
		"IBV_PORT_INIT":                  int(verbs.PortInit),
		"IBV_PORT_ARMED":                 int(verbs.PortArmed),
		"IBV_PORT_ACTIVE":                int(verbs.PortActive),
		"IBV_PORT_ACTIVE_DEFER":          int(verbs.PortActiveDefer),
		"IBV_LINK_LAYER_UNSPECIFIED":     int(verbs.LinkUnspecified),
		"IBV_LINK_LAYER_INFINIBAND":      int(verbs.LinkInfiniBand),
		"IBV_LINK_LAYER_ETHERNET":        int(verbs.LinkEthernet),
		"IBV_EVENT_CQ_ERR":               int(verbs.DeviceCQError),
		"IBV_EVENT_QP_FATAL":             int(verbs.DeviceQPFatal),
		"IBV_EVENT_QP_REQ_ERR":           int(verbs.DeviceQPRequestError),
		"IBV_EVENT_QP_ACCESS_ERR":        int(verbs.DeviceQPAccessError),
		"IBV_EVENT_COMM_EST":             int(verbs.DeviceCommEst),
		"IBV_EVENT_SQ_DRAINED":           int(verbs.DeviceSQDrained),
		"IBV_EVENT_PATH_MIG":             int(verbs.DevicePathMigrated),
		"IBV_EVENT_PATH_MIG_ERR":         int(verbs.DevicePathMigError),
		"IBV_EVENT_DEVICE_FATAL":         int(verbs.DeviceFatal),
		"IBV_EVENT_PORT_ACTIVE":          int(verbs.DevicePortActive),
		"IBV_EVENT_PORT_ERR":             int(verbs.DevicePortDown),
		"IBV_EVENT_LID_CHANGE":           int(verbs.DeviceLIDChange),
		"IBV_EVENT_PKEY_CHANGE":          int(verbs.DevicePKeyChange),
		"IBV_EVENT_SM_CHANGE":            int(verbs.DeviceSMChange),
		"IBV_EVENT_CLIENT_REREGISTER":    int(verbs.DeviceClientReregister),
		"IBV_EVENT_GID_CHANGE":           int(verbs.DeviceGIDChange),
		"offsetof(struct ibv_sge, addr)": 0, // verbs.SGE: see TestSGE
	}
}

//go:build linux && cgo && (amd64 || arm64)

// The binary interface of libibverbs.so.1 and librdmacm.so.1 on 64-bit
// machines, as far as this package uses it. Pointers that Go writes are
// uint64_t, so that the garbage collector takes no notice of them. The
// assertions at the end are what the test compares with the real headers.

#ifndef ISERD_VERBS_ABI_H
#define ISERD_VERBS_ABI_H

#include <stddef.h>
#include <stdint.h>

struct vs_device; // struct ibv_device, see VS_DEVICE_*
struct vs_pd;

// struct ibv_context. ops is an array of functions, see enum vs_op.
struct vs_context {
	struct vs_device *device;
	void *ops[32];
	int cmd_fd;
	int async_fd;
	int num_comp_vectors;
	int pad;
	uint8_t mutex[40];
	void *abi_compat;
};

// Indexes in vs_context.ops.
enum vs_op {
	VS_OP_ALLOC_MW = 7,
	VS_OP_DEALLOC_MW = 9,
	VS_OP_POLL_CQ = 11,
	VS_OP_REQ_NOTIFY_CQ = 12,
	VS_OP_POST_SEND = 25,
	VS_OP_POST_RECV = 26,
};

// Offsets in struct ibv_device, and, for contexts whose abi_compat is all
// ones, before struct ibv_context in struct verbs_context.
enum {
	VS_DEVICE_TRANSPORT = 20,
	VS_DEVICE_NAME = 24,
	VS_DEVICE_NAME_MAX = 64,
	VS_DEVICE_DEV_NAME = 88,
	VS_EX_SIZE = -8,
	VS_EX_QUERY_DEVICE = -104,
};

struct vs_comp_channel {
	struct vs_context *context;
	int fd;
	int refcnt;
};

struct vs_cq {
	struct vs_context *context;
	struct vs_comp_channel *channel;
	void *cq_context;
	uint32_t handle;
	int cqe;
};

struct vs_mr {
	struct vs_context *context;
	struct vs_pd *pd;
	void *addr;
	size_t length;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

struct vs_mw {
	struct vs_context *context;
	struct vs_pd *pd;
	uint32_t rkey;
	uint32_t handle;
	int type;
};

struct vs_qp {
	struct vs_context *context;
	void *qp_context;
	struct vs_pd *pd;
	struct vs_cq *send_cq;
	struct vs_cq *recv_cq;
	void *srq;
	uint32_t handle;
	uint32_t qp_num;
};

struct vs_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

struct vs_recv_wr {
	uint64_t wr_id;
	uint64_t next;
	uint64_t sg_list;
	int32_t num_sge;
};

struct vs_send_wr {
	uint64_t wr_id;
	uint64_t next;
	uint64_t sg_list;
	int32_t num_sge;
	uint32_t opcode;
	uint32_t send_flags;
	uint32_t invalidate_rkey;
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t unused[7];
	uint64_t mw;
	uint32_t mw_rkey;
	uint64_t mw_mr;
	uint64_t mw_addr;
	uint64_t mw_length;
	uint32_t mw_access;
};

// enum ibv_wr_opcode
enum {
	VS_WR_RDMA_WRITE = 0,
	VS_WR_SEND = 2,
	VS_WR_RDMA_READ = 4,
	VS_WR_LOCAL_INV = 7,
	VS_WR_BIND_MW = 8,
	VS_WR_SEND_WITH_INV = 9,
};

struct vs_wc {
	uint64_t wr_id;
	uint32_t status;
	uint32_t opcode;
	uint32_t vendor_err;
	uint32_t byte_len;
	uint32_t invalidated_rkey;
	uint32_t qp_num;
	uint32_t src_qp;
	uint32_t wc_flags;
	uint16_t pkey_index;
	uint16_t slid;
	uint8_t sl;
	uint8_t dlid_path_bits;
};

// enum ibv_wc_opcode, enum ibv_wc_flags
enum {
	VS_WC_SEND = 0,
	VS_WC_RDMA_WRITE = 1,
	VS_WC_RDMA_READ = 2,
	VS_WC_BIND_MW = 5,
	VS_WC_LOCAL_INV = 6,
	VS_WC_RECV = 128,
	VS_WC_WITH_INV = 8,
	VS_WC_WITH_INV_RXE = 4, // the kernel's IB_WC_WITH_INVALIDATE
};

struct vs_qp_init_attr {
	void *qp_context;
	struct vs_cq *send_cq;
	struct vs_cq *recv_cq;
	void *srq;
	uint32_t max_send_wr;
	uint32_t max_recv_wr;
	uint32_t max_send_sge;
	uint32_t max_recv_sge;
	uint32_t max_inline_data;
	int qp_type;
	int sq_sig_all;
};

struct vs_qp_attr {
	int qp_state;
	uint8_t rest[140];
};

enum {
	VS_QPT_RC = 2,
	VS_QPS_ERR = 6,
	VS_QP_STATE = 1, // mask
	VS_MW_TYPE_2 = 2,
	VS_TRANSPORT_IB = 0,
	VS_TRANSPORT_IWARP = 1,
	VS_EVENT_COMM_EST = 4,
};

// struct ibv_device_attr, and the start of struct ibv_device_attr_ex.
struct vs_device_attr {
	char fw_ver[64];
	uint64_t node_guid; // big-endian
	uint64_t sys_image_guid;
	uint64_t max_mr_size;
	uint64_t page_size_cap;
	uint32_t vendor_id;
	uint32_t vendor_part_id;
	uint32_t hw_ver;
	int max_qp;
	int max_qp_wr;
	uint32_t device_cap_flags;
	int max_sge;
	int max_sge_rd;
	int max_cq;
	int max_cqe;
	int max_mr;
	int max_pd;
	int max_qp_rd_atom;
	int max_ee_rd_atom;
	int max_res_rd_atom;
	int max_qp_init_rd_atom;
	int max_ee_init_rd_atom;
	int atomic_cap;
	int max_ee;
	int max_rdd;
	int max_mw;
	int more[11];
	uint16_t max_pkeys;
	uint8_t local_ca_ack_delay;
	uint8_t phys_port_cnt;
	uint32_t end; // of struct ibv_device_attr
	uint32_t comp_mask;
	uint32_t pad;
	uint64_t odp_general_caps;
	uint32_t odp_rc_caps;
	uint32_t odp_uc_caps;
	uint32_t odp_ud_caps;
	uint32_t pad2;
};

// enum ibv_device_cap_flags, enum ibv_odp_transport_cap_bits
enum {
	VS_CAP_MEM_WINDOW = 1 << 17,
	VS_CAP_MEM_MGT_EXTENSIONS = 1 << 21,
	VS_CAP_MEM_WINDOW_TYPE_2A = 1 << 23,
	VS_CAP_MEM_WINDOW_TYPE_2B = 1 << 24,
	VS_ODP_SUPPORT = 1,
	VS_ODP_SEND_RECV_WRITE_READ = 15,
};

// The fields that IBVERBS_1.1 has in struct ibv_port_attr.
struct vs_port_attr {
	int state;
	int max_mtu;
	int active_mtu;
	int gid_tbl_len;
	uint32_t port_cap_flags;
	uint32_t max_msg_sz;
	uint32_t bad_pkey_cntr;
	uint32_t qkey_viol_cntr;
	uint16_t pkey_tbl_len;
	uint16_t lid;
	uint16_t sm_lid;
	uint8_t lmc;
	uint8_t max_vl_num;
	uint8_t sm_sl;
	uint8_t subnet_timeout;
	uint8_t init_type_reply;
	uint8_t active_width;
	uint8_t active_speed;
	uint8_t phys_state;
	uint8_t link_layer;
	uint8_t flags;
	uint16_t port_cap_flags2;
};

struct vs_async_event {
	union {
		struct vs_cq *cq;
		struct vs_qp *qp;
		int port_num;
	} element;
	int event_type;
};

struct vs_event_channel {
	int fd;
};

struct vs_cm_id {
	struct vs_context *verbs;
	struct vs_event_channel *channel;
	uint64_t context;
	struct vs_qp *qp;
	uint8_t src_addr[128]; // struct sockaddr_storage
	uint8_t dst_addr[128];
};

struct vs_conn_param {
	const void *private_data;
	uint8_t private_data_len;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint8_t flow_control;
	uint8_t retry_count;
	uint8_t rnr_retry_count;
	uint8_t srq;
	uint32_t qp_num;
};

struct vs_cm_event {
	struct vs_cm_id *id;
	struct vs_cm_id *listen_id;
	int event;
	int status;
	struct vs_conn_param conn;
	uint8_t rest[32];
};

// enum rdma_cm_event_type
enum {
	VS_CM_ADDR_RESOLVED = 0,
	VS_CM_ADDR_ERROR = 1,
	VS_CM_ROUTE_RESOLVED = 2,
	VS_CM_ROUTE_ERROR = 3,
	VS_CM_CONNECT_REQUEST = 4,
	VS_CM_CONNECT_RESPONSE = 5,
	VS_CM_CONNECT_ERROR = 6,
	VS_CM_UNREACHABLE = 7,
	VS_CM_REJECTED = 8,
	VS_CM_ESTABLISHED = 9,
	VS_CM_DISCONNECTED = 10,
	VS_CM_DEVICE_REMOVAL = 11,
	VS_CM_ADDR_CHANGE = 14,
	VS_CM_TIMEWAIT_EXIT = 15,
};

enum {
	VS_PS_TCP = 0x0106,
	VS_OPTION_ID = 0,
	VS_OPTION_ID_REUSEADDR = 1,
};

#define VS_SIZE(type, size) _Static_assert(sizeof(struct type) == size, #type)
#define VS_AT(type, field, offset) \
	_Static_assert(offsetof(struct type, field) == offset, #type "." #field)

VS_SIZE(vs_context, 328);
VS_AT(vs_context, ops, 8);
VS_AT(vs_context, async_fd, 268);
VS_AT(vs_context, abi_compat, 320);
VS_AT(vs_cq, cqe, 28);
VS_SIZE(vs_mr, 48);
VS_AT(vs_mr, lkey, 36);
VS_AT(vs_mr, rkey, 40);
VS_SIZE(vs_mw, 32);
VS_AT(vs_mw, rkey, 16);
VS_AT(vs_qp, qp_num, 52);
VS_SIZE(vs_sge, 16);
VS_SIZE(vs_recv_wr, 32);
VS_SIZE(vs_send_wr, 128);
VS_AT(vs_send_wr, invalidate_rkey, 36);
VS_AT(vs_send_wr, remote_addr, 40);
VS_AT(vs_send_wr, rkey, 48);
VS_AT(vs_send_wr, mw, 80);
VS_AT(vs_send_wr, mw_rkey, 88);
VS_AT(vs_send_wr, mw_mr, 96);
VS_AT(vs_send_wr, mw_access, 120);
VS_SIZE(vs_wc, 48);
VS_AT(vs_wc, qp_num, 28);
VS_AT(vs_wc, wc_flags, 36);
VS_SIZE(vs_qp_init_attr, 64);
VS_SIZE(vs_qp_attr, 144);
VS_SIZE(vs_device_attr, 264);
VS_AT(vs_device_attr, phys_port_cnt, 227);
VS_AT(vs_device_attr, comp_mask, 232);
VS_AT(vs_device_attr, odp_rc_caps, 248);
VS_SIZE(vs_port_attr, 52);
VS_SIZE(vs_async_event, 16);
VS_AT(vs_cm_id, src_addr, 32);
VS_AT(vs_cm_id, dst_addr, 160);
VS_SIZE(vs_conn_param, 24);
VS_SIZE(vs_cm_event, 80);
VS_AT(vs_cm_event, conn, 24);

#endif

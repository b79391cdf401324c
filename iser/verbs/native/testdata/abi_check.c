// Compares abi.h with the libraries' own headers. Compiled, not run, by
// TestABI, which appends the constants of package verbs.

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "abi.h"

#define SIZE(ours, theirs) _Static_assert(sizeof(struct ours) == sizeof(struct theirs), "size of " #theirs)
#define AT(ours, f1, theirs, f2) \
	_Static_assert(offsetof(struct ours, f1) == offsetof(struct theirs, f2), #theirs "." #f2 " offset"); \
	_Static_assert(sizeof(((struct ours *)0)->f1) == sizeof(((struct theirs *)0)->f2), #theirs "." #f2 " size")
#define SAME(ours, theirs, f) AT(ours, f, theirs, f)
#define VALUE(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #theirs)

SIZE(vs_context, ibv_context);
SAME(vs_context, ibv_context, device);
SAME(vs_context, ibv_context, async_fd);
SAME(vs_context, ibv_context, abi_compat);
_Static_assert(sizeof(((struct vs_context *)0)->ops) == sizeof(struct ibv_context_ops), "ops");
#define OP(index, f) \
	_Static_assert(offsetof(struct vs_context, ops) + 8 * index == offsetof(struct ibv_context, ops.f), "ops." #f)
OP(VS_OP_ALLOC_MW, alloc_mw);
OP(VS_OP_DEALLOC_MW, dealloc_mw);
OP(VS_OP_POLL_CQ, poll_cq);
OP(VS_OP_REQ_NOTIFY_CQ, req_notify_cq);
OP(VS_OP_POST_SEND, post_send);
OP(VS_OP_POST_RECV, post_recv);
VALUE(VS_DEVICE_TRANSPORT, offsetof(struct ibv_device, transport_type));
VALUE(VS_DEVICE_NAME, offsetof(struct ibv_device, name));
VALUE(VS_DEVICE_NAME_MAX, sizeof(((struct ibv_device *)0)->name));
VALUE(VS_DEVICE_DEV_NAME, offsetof(struct ibv_device, dev_name));
#define BEFORE(f) ((long)offsetof(struct verbs_context, f) - (long)offsetof(struct verbs_context, context))
VALUE(VS_EX_SIZE, BEFORE(sz));
VALUE(VS_EX_QUERY_DEVICE, BEFORE(query_device_ex));

SAME(vs_comp_channel, ibv_comp_channel, fd);
SIZE(vs_comp_channel, ibv_comp_channel);
SAME(vs_cq, ibv_cq, context);
SAME(vs_cq, ibv_cq, channel);
SAME(vs_cq, ibv_cq, cqe);
SIZE(vs_mr, ibv_mr);
SAME(vs_mr, ibv_mr, lkey);
SAME(vs_mr, ibv_mr, rkey);
SIZE(vs_mw, ibv_mw);
SAME(vs_mw, ibv_mw, context);
SAME(vs_mw, ibv_mw, rkey);
SAME(vs_qp, ibv_qp, context);
SAME(vs_qp, ibv_qp, qp_num);

SIZE(vs_sge, ibv_sge);
SAME(vs_sge, ibv_sge, addr);
SAME(vs_sge, ibv_sge, length);
SAME(vs_sge, ibv_sge, lkey);
SIZE(vs_recv_wr, ibv_recv_wr);
SAME(vs_recv_wr, ibv_recv_wr, wr_id);
SAME(vs_recv_wr, ibv_recv_wr, next);
SAME(vs_recv_wr, ibv_recv_wr, sg_list);
SAME(vs_recv_wr, ibv_recv_wr, num_sge);
SIZE(vs_send_wr, ibv_send_wr);
SAME(vs_send_wr, ibv_send_wr, wr_id);
SAME(vs_send_wr, ibv_send_wr, next);
SAME(vs_send_wr, ibv_send_wr, sg_list);
SAME(vs_send_wr, ibv_send_wr, num_sge);
SAME(vs_send_wr, ibv_send_wr, opcode);
SAME(vs_send_wr, ibv_send_wr, send_flags);
SAME(vs_send_wr, ibv_send_wr, invalidate_rkey);
AT(vs_send_wr, remote_addr, ibv_send_wr, wr.rdma.remote_addr);
AT(vs_send_wr, rkey, ibv_send_wr, wr.rdma.rkey);
AT(vs_send_wr, mw, ibv_send_wr, bind_mw.mw);
AT(vs_send_wr, mw_rkey, ibv_send_wr, bind_mw.rkey);
AT(vs_send_wr, mw_mr, ibv_send_wr, bind_mw.bind_info.mr);
AT(vs_send_wr, mw_addr, ibv_send_wr, bind_mw.bind_info.addr);
AT(vs_send_wr, mw_length, ibv_send_wr, bind_mw.bind_info.length);
AT(vs_send_wr, mw_access, ibv_send_wr, bind_mw.bind_info.mw_access_flags);
VALUE(VS_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE);
VALUE(VS_WR_SEND, IBV_WR_SEND);
VALUE(VS_WR_RDMA_READ, IBV_WR_RDMA_READ);
VALUE(VS_WR_LOCAL_INV, IBV_WR_LOCAL_INV);
VALUE(VS_WR_BIND_MW, IBV_WR_BIND_MW);
VALUE(VS_WR_SEND_WITH_INV, IBV_WR_SEND_WITH_INV);

SIZE(vs_wc, ibv_wc);
SAME(vs_wc, ibv_wc, wr_id);
SAME(vs_wc, ibv_wc, status);
SAME(vs_wc, ibv_wc, opcode);
SAME(vs_wc, ibv_wc, vendor_err);
SAME(vs_wc, ibv_wc, byte_len);
SAME(vs_wc, ibv_wc, invalidated_rkey);
SAME(vs_wc, ibv_wc, qp_num);
SAME(vs_wc, ibv_wc, wc_flags);
VALUE(VS_WC_SEND, IBV_WC_SEND);
VALUE(VS_WC_RDMA_WRITE, IBV_WC_RDMA_WRITE);
VALUE(VS_WC_RDMA_READ, IBV_WC_RDMA_READ);
VALUE(VS_WC_BIND_MW, IBV_WC_BIND_MW);
VALUE(VS_WC_LOCAL_INV, IBV_WC_LOCAL_INV);
VALUE(VS_WC_RECV, IBV_WC_RECV);
VALUE(VS_WC_WITH_INV, IBV_WC_WITH_INV);

SIZE(vs_qp_init_attr, ibv_qp_init_attr);
SAME(vs_qp_init_attr, ibv_qp_init_attr, qp_context);
SAME(vs_qp_init_attr, ibv_qp_init_attr, send_cq);
SAME(vs_qp_init_attr, ibv_qp_init_attr, recv_cq);
SAME(vs_qp_init_attr, ibv_qp_init_attr, srq);
AT(vs_qp_init_attr, max_send_wr, ibv_qp_init_attr, cap.max_send_wr);
AT(vs_qp_init_attr, max_recv_wr, ibv_qp_init_attr, cap.max_recv_wr);
AT(vs_qp_init_attr, max_send_sge, ibv_qp_init_attr, cap.max_send_sge);
AT(vs_qp_init_attr, max_recv_sge, ibv_qp_init_attr, cap.max_recv_sge);
AT(vs_qp_init_attr, max_inline_data, ibv_qp_init_attr, cap.max_inline_data);
SAME(vs_qp_init_attr, ibv_qp_init_attr, qp_type);
SAME(vs_qp_init_attr, ibv_qp_init_attr, sq_sig_all);
SIZE(vs_qp_attr, ibv_qp_attr);
SAME(vs_qp_attr, ibv_qp_attr, qp_state);
VALUE(VS_QPT_RC, IBV_QPT_RC);
VALUE(VS_QPS_ERR, IBV_QPS_ERR);
VALUE(VS_QP_STATE, IBV_QP_STATE);
VALUE(VS_MW_TYPE_2, IBV_MW_TYPE_2);
VALUE(VS_TRANSPORT_IB, IBV_TRANSPORT_IB);
VALUE(VS_TRANSPORT_IWARP, IBV_TRANSPORT_IWARP);
VALUE(VS_EVENT_COMM_EST, IBV_EVENT_COMM_EST);

_Static_assert(offsetof(struct vs_device_attr, comp_mask) == sizeof(struct ibv_device_attr), "ibv_device_attr");
SAME(vs_device_attr, ibv_device_attr, fw_ver);
SAME(vs_device_attr, ibv_device_attr, node_guid);
SAME(vs_device_attr, ibv_device_attr, max_mr_size);
SAME(vs_device_attr, ibv_device_attr, vendor_id);
SAME(vs_device_attr, ibv_device_attr, vendor_part_id);
SAME(vs_device_attr, ibv_device_attr, max_qp);
SAME(vs_device_attr, ibv_device_attr, max_qp_wr);
SAME(vs_device_attr, ibv_device_attr, device_cap_flags);
SAME(vs_device_attr, ibv_device_attr, max_sge);
SAME(vs_device_attr, ibv_device_attr, max_sge_rd);
SAME(vs_device_attr, ibv_device_attr, max_cq);
SAME(vs_device_attr, ibv_device_attr, max_cqe);
SAME(vs_device_attr, ibv_device_attr, max_mr);
SAME(vs_device_attr, ibv_device_attr, max_qp_rd_atom);
SAME(vs_device_attr, ibv_device_attr, max_qp_init_rd_atom);
SAME(vs_device_attr, ibv_device_attr, phys_port_cnt);
AT(vs_device_attr, odp_general_caps, ibv_device_attr_ex, odp_caps.general_caps);
AT(vs_device_attr, odp_rc_caps, ibv_device_attr_ex, odp_caps.per_transport_caps.rc_odp_caps);
VALUE(sizeof(struct vs_device_attr), offsetof(struct ibv_device_attr_ex, completion_timestamp_mask));
VALUE(VS_CAP_MEM_WINDOW, IBV_DEVICE_MEM_WINDOW);
VALUE(VS_CAP_MEM_MGT_EXTENSIONS, IBV_DEVICE_MEM_MGT_EXTENSIONS);
VALUE(VS_CAP_MEM_WINDOW_TYPE_2A, IBV_DEVICE_MEM_WINDOW_TYPE_2A);
VALUE(VS_CAP_MEM_WINDOW_TYPE_2B, IBV_DEVICE_MEM_WINDOW_TYPE_2B);
VALUE(VS_ODP_SUPPORT, IBV_ODP_SUPPORT);
VALUE(VS_ODP_SEND_RECV_WRITE_READ,
      IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ);

SIZE(vs_port_attr, ibv_port_attr);
SAME(vs_port_attr, ibv_port_attr, state);
SAME(vs_port_attr, ibv_port_attr, active_mtu);
SAME(vs_port_attr, ibv_port_attr, max_msg_sz);
SAME(vs_port_attr, ibv_port_attr, lid);
SAME(vs_port_attr, ibv_port_attr, link_layer);
SIZE(vs_async_event, ibv_async_event);
SAME(vs_async_event, ibv_async_event, element);
SAME(vs_async_event, ibv_async_event, event_type);

SIZE(vs_event_channel, rdma_event_channel);
SAME(vs_cm_id, rdma_cm_id, verbs);
SAME(vs_cm_id, rdma_cm_id, channel);
SAME(vs_cm_id, rdma_cm_id, context);
SAME(vs_cm_id, rdma_cm_id, qp);
AT(vs_cm_id, src_addr, rdma_cm_id, route.addr.src_storage);
AT(vs_cm_id, dst_addr, rdma_cm_id, route.addr.dst_storage);
SIZE(vs_conn_param, rdma_conn_param);
SAME(vs_conn_param, rdma_conn_param, private_data);
SAME(vs_conn_param, rdma_conn_param, private_data_len);
SAME(vs_conn_param, rdma_conn_param, responder_resources);
SAME(vs_conn_param, rdma_conn_param, initiator_depth);
SAME(vs_conn_param, rdma_conn_param, flow_control);
SAME(vs_conn_param, rdma_conn_param, retry_count);
SAME(vs_conn_param, rdma_conn_param, rnr_retry_count);
SIZE(vs_cm_event, rdma_cm_event);
SAME(vs_cm_event, rdma_cm_event, id);
SAME(vs_cm_event, rdma_cm_event, listen_id);
SAME(vs_cm_event, rdma_cm_event, event);
SAME(vs_cm_event, rdma_cm_event, status);
AT(vs_cm_event, conn, rdma_cm_event, param.conn);
VALUE(VS_CM_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_RESOLVED);
VALUE(VS_CM_ADDR_ERROR, RDMA_CM_EVENT_ADDR_ERROR);
VALUE(VS_CM_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_RESOLVED);
VALUE(VS_CM_ROUTE_ERROR, RDMA_CM_EVENT_ROUTE_ERROR);
VALUE(VS_CM_CONNECT_REQUEST, RDMA_CM_EVENT_CONNECT_REQUEST);
VALUE(VS_CM_CONNECT_RESPONSE, RDMA_CM_EVENT_CONNECT_RESPONSE);
VALUE(VS_CM_CONNECT_ERROR, RDMA_CM_EVENT_CONNECT_ERROR);
VALUE(VS_CM_UNREACHABLE, RDMA_CM_EVENT_UNREACHABLE);
VALUE(VS_CM_REJECTED, RDMA_CM_EVENT_REJECTED);
VALUE(VS_CM_ESTABLISHED, RDMA_CM_EVENT_ESTABLISHED);
VALUE(VS_CM_DISCONNECTED, RDMA_CM_EVENT_DISCONNECTED);
VALUE(VS_CM_DEVICE_REMOVAL, RDMA_CM_EVENT_DEVICE_REMOVAL);
VALUE(VS_CM_ADDR_CHANGE, RDMA_CM_EVENT_ADDR_CHANGE);
VALUE(VS_CM_TIMEWAIT_EXIT, RDMA_CM_EVENT_TIMEWAIT_EXIT);
VALUE(VS_PS_TCP, RDMA_PS_TCP);
VALUE(VS_OPTION_ID, RDMA_OPTION_ID);
VALUE(VS_OPTION_ID_REUSEADDR, RDMA_OPTION_ID_REUSEADDR);

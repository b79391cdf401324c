//go:build linux && cgo && (amd64 || arm64)

// The functions that Go calls: loading of the libraries, thin wrappers that
// turn their ways to fail into one (a negative errno), and the batched data
// path.

#ifndef ISERD_VERBS_SHIM_H
#define ISERD_VERBS_SHIM_H

#include "abi.h"

struct vs_lib;

// vs_load loads the libraries. On failure it returns NULL and says why in
// why, of size bytes.
struct vs_lib *vs_load(char *why, int size);

// Devices. Each reference that vs_devices puts into out is given back with
// vs_device_put. It returns how many there are, at most max.
int vs_devices(struct vs_lib *l, struct vs_context **out, int max);
int vs_device_put(struct vs_lib *l, struct vs_context *ctx);
void vs_device_let_go(struct vs_context *ctx);
const char *vs_device_name(struct vs_context *ctx);
const char *vs_device_uverbs(struct vs_context *ctx);
int vs_device_transport(struct vs_context *ctx);
int vs_query_device(struct vs_lib *l, struct vs_context *ctx, struct vs_device_attr *attr);
int vs_query_port(struct vs_lib *l, struct vs_context *ctx, int port, struct vs_port_attr *attr);

// An asynchronous event, copied and acknowledged.
struct vs_event {
	int type;
	int port;
	uint32_t qp_num;
	struct vs_cq *cq;
};
int vs_async_event(struct vs_lib *l, struct vs_context *ctx, struct vs_event *out);

int vs_alloc_pd(struct vs_lib *l, struct vs_context *ctx, struct vs_pd **out);
int vs_dealloc_pd(struct vs_lib *l, struct vs_pd *pd);
int vs_reg_mr(struct vs_lib *l, struct vs_pd *pd, void *addr, size_t length, int access, struct vs_mr **out);
int vs_dereg_mr(struct vs_lib *l, struct vs_mr *mr);
int vs_alloc_mw(struct vs_context *ctx, struct vs_pd *pd, struct vs_mw **out);
int vs_dealloc_mw(struct vs_mw *mw);

// Completion queues, each with a channel of its own, not blocking.
int vs_create_cq(struct vs_lib *l, struct vs_context *ctx, int cqe, struct vs_cq **out);
int vs_destroy_cq(struct vs_lib *l, struct vs_cq *cq);
// vs_arm takes the notification that came and asks for the next. A new queue has
// been asked for one.
int vs_arm(struct vs_lib *l, struct vs_cq *cq);
// What is called for each I/O has addresses as numbers, which Go does not look at:
// they are those of C's memory.
int vs_poll(uint64_t cq, uint64_t wc, int n);
// vs_wait is vs_poll which, when there is nothing, arms and polls again, sleeps
// until a notification, the eventfd wake, which it empties, or for ms milliseconds,
// and polls. It may return 0 early. Failures are errno, negative.
int vs_wait(uint64_t lib, uint64_t cq, uint64_t wc, int n, int wake, int ms);

// Queue pairs. Posting takes a linked list whose elements are in one array,
// and returns the number of the first that was refused in the lower half and
// errno in the upper, or 0.
int vs_qp_error(struct vs_lib *l, struct vs_qp *qp);
int64_t vs_post_send(uint64_t qp, uint64_t wr);
int64_t vs_post_recv(uint64_t qp, uint64_t wr);

// Connection management. An event channel does not block.
struct vs_cm {
	int kind;
	int status;
	uint64_t context;        // of the id
	uint64_t listen_context; // of a request's listener
	struct vs_cm_id *id;     // of a request: new
	int initiator_depth;
	int responder_resources;
	int rnr_retry_count;
	int retry_count;
	int private_len;
	uint8_t private_data[256];
};
int vs_channel(struct vs_lib *l, struct vs_event_channel **out);
void vs_channel_close(struct vs_lib *l, struct vs_event_channel *ch);
int vs_cm_event_get(struct vs_lib *l, struct vs_event_channel *ch, struct vs_cm *out);

int vs_id(struct vs_lib *l, struct vs_event_channel *ch, uint64_t context, struct vs_cm_id **out);
int vs_id_destroy(struct vs_lib *l, struct vs_cm_id *id);
int vs_id_migrate(struct vs_lib *l, struct vs_cm_id *id, struct vs_event_channel *ch);
int vs_bind_listen(struct vs_lib *l, struct vs_cm_id *id, void *addr, int backlog);
int vs_resolve_addr(struct vs_lib *l, struct vs_cm_id *id, void *src, void *dst, int ms);
int vs_resolve_route(struct vs_lib *l, struct vs_cm_id *id, int ms);
int vs_create_qp(struct vs_lib *l, struct vs_cm_id *id, struct vs_pd *pd, struct vs_qp_init_attr *attr);
int vs_destroy_qp(struct vs_lib *l, struct vs_cm_id *id);

// What vs_connect does with the id and its parameters.
enum vs_connect_how { VS_CONNECT, VS_ACCEPT };
int vs_connect(struct vs_lib *l, struct vs_cm_id *id, int how, const void *priv, int len,
	       int responder_resources, int initiator_depth, int retry, int rnr_retry);
int vs_reject(struct vs_lib *l, struct vs_cm_id *id, const void *priv, int len);
int vs_notify(struct vs_lib *l, struct vs_cm_id *id);
int vs_disconnect(struct vs_lib *l, struct vs_cm_id *id);

#endif

//go:build linux && cgo && (amd64 || arm64)

#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Every function of the libraries, with its symbol version: result, name,
// arguments.
#define VERBS(F) \
	F(int, ibv_query_device, (struct vs_context *, struct vs_device_attr *)) \
	F(int, ibv_query_port, (struct vs_context *, uint8_t, struct vs_port_attr *)) \
	F(int, ibv_get_async_event, (struct vs_context *, struct vs_async_event *)) \
	F(void, ibv_ack_async_event, (struct vs_async_event *)) \
	F(struct vs_pd *, ibv_alloc_pd, (struct vs_context *)) \
	F(int, ibv_dealloc_pd, (struct vs_pd *)) \
	F(struct vs_mr *, ibv_reg_mr, (struct vs_pd *, void *, size_t, int)) \
	F(int, ibv_dereg_mr, (struct vs_mr *)) \
	F(struct vs_cq *, ibv_create_cq, (struct vs_context *, int, void *, struct vs_comp_channel *, int)) \
	F(int, ibv_destroy_cq, (struct vs_cq *)) \
	F(int, ibv_get_cq_event, (struct vs_comp_channel *, struct vs_cq **, void **)) \
	F(void, ibv_ack_cq_events, (struct vs_cq *, unsigned)) \
	F(int, ibv_destroy_qp, (struct vs_qp *)) \
	F(int, ibv_modify_qp, (struct vs_qp *, struct vs_qp_attr *, int))
// The two that were there before version 1.1 and did not change.
#define VERBS10(F) \
	F(struct vs_comp_channel *, ibv_create_comp_channel, (struct vs_context *)) \
	F(int, ibv_destroy_comp_channel, (struct vs_comp_channel *))
#define RDMACM(F) \
	F(struct vs_context **, rdma_get_devices, (int *)) \
	F(void, rdma_free_devices, (struct vs_context **)) \
	F(struct vs_event_channel *, rdma_create_event_channel, (void)) \
	F(void, rdma_destroy_event_channel, (struct vs_event_channel *)) \
	F(int, rdma_get_cm_event, (struct vs_event_channel *, struct vs_cm_event **)) \
	F(int, rdma_ack_cm_event, (struct vs_cm_event *)) \
	F(int, rdma_create_id, (struct vs_event_channel *, struct vs_cm_id **, void *, int)) \
	F(int, rdma_destroy_id, (struct vs_cm_id *)) \
	F(int, rdma_migrate_id, (struct vs_cm_id *, struct vs_event_channel *)) \
	F(int, rdma_set_option, (struct vs_cm_id *, int, int, void *, size_t)) \
	F(int, rdma_bind_addr, (struct vs_cm_id *, void *)) \
	F(int, rdma_listen, (struct vs_cm_id *, int)) \
	F(int, rdma_resolve_addr, (struct vs_cm_id *, void *, void *, int)) \
	F(int, rdma_resolve_route, (struct vs_cm_id *, int)) \
	F(int, rdma_create_qp, (struct vs_cm_id *, struct vs_pd *, struct vs_qp_init_attr *)) \
	F(int, rdma_connect, (struct vs_cm_id *, struct vs_conn_param *)) \
	F(int, rdma_accept, (struct vs_cm_id *, struct vs_conn_param *)) \
	F(int, rdma_reject, (struct vs_cm_id *, const void *, uint8_t)) \
	F(int, rdma_notify, (struct vs_cm_id *, int)) \
	F(int, rdma_disconnect, (struct vs_cm_id *))

struct vs_lib {
#define FIELD(result, name, args) result(*name) args;
	VERBS(FIELD) VERBS10(FIELD) RDMACM(FIELD)
};

static void *symbol(void *lib, const char *name, const char *version)
{
#ifdef __GLIBC__
	return dlvsym(lib, name, version);
#else
	(void)version;
	return dlsym(lib, name);
#endif
}

// Before rdma-core 52, librdmacm keeps its device list in the order of the
// devices' addresses, as differences cut to 32 bits. When devices are further
// apart than 2 GiB the order is wrong, and a device that comes or goes takes
// others with it, for good. malloc gives each thread an arena of its own, far
// from the others: so one thread makes all calls that may look for devices.
struct lister {
	pthread_once_t once;
	int error; // of pthread_create
	pthread_mutex_t mutex;
	pthread_cond_t wake, done;
	struct job *jobs;
};

struct job {
	int (*run)(void *arg);
	void *arg;
	int result, done;
	struct job *next;
};

// The libraries' list is one for the process, and so is this.
static struct lister lister = {
	PTHREAD_ONCE_INIT, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL,
};

static void *list_thread(void *unused)
{
	struct job *j;

	pthread_mutex_lock(&lister.mutex);
	for (;;) {
		while (!(j = lister.jobs))
			pthread_cond_wait(&lister.wake, &lister.mutex);
		lister.jobs = j->next;
		pthread_mutex_unlock(&lister.mutex);
		j->result = j->run(j->arg);
		pthread_mutex_lock(&lister.mutex);
		j->done = 1;
		pthread_cond_broadcast(&lister.done);
	}
	return unused;
}

static void start_list_thread(void)
{
	sigset_t all, old;
	pthread_t t;

	sigfillset(&all); // signals are Go's
	pthread_sigmask(SIG_SETMASK, &all, &old);
	lister.error = pthread_create(&t, NULL, list_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!lister.error)
		pthread_detach(t);
}

// listing returns run(arg), which the thread of the lists runs.
static int listing(int (*run)(void *), void *arg)
{
	struct job j = {run, arg}, **last;

	pthread_once(&lister.once, start_list_thread);
	if (lister.error)
		return -lister.error;
	pthread_mutex_lock(&lister.mutex);
	for (last = &lister.jobs; *last; last = &(*last)->next)
		;
	*last = &j;
	pthread_cond_signal(&lister.wake);
	while (!j.done)
		pthread_cond_wait(&lister.done, &lister.mutex);
	pthread_mutex_unlock(&lister.mutex);
	return j.result;
}

struct vs_lib *vs_load(char *why, int size)
{
	void *ib = dlopen("libibverbs.so.1", RTLD_NOW);
	void *cm = ib ? dlopen("librdmacm.so.1", RTLD_NOW) : NULL;
	struct vs_lib *l;

	if (!ib || !cm) {
		snprintf(why, size, "%s", dlerror());
		goto failed;
	}
	l = calloc(1, sizeof *l);
	if (!l) {
		snprintf(why, size, "%s", strerror(ENOMEM));
		goto failed;
	}
#define LOAD(lib, name, version) \
	if (!(l->name = symbol(lib, #name, version))) { \
		snprintf(why, size, "%s: no symbol %s@%s", #lib, #name, version); \
		free(l); \
		goto failed; \
	}
#define LOAD_VERBS(result, name, args) LOAD(ib, name, "IBVERBS_1.1")
#define LOAD_VERBS10(result, name, args) LOAD(ib, name, "IBVERBS_1.0")
#define LOAD_CM(result, name, args) LOAD(cm, name, "RDMACM_1.0")
	VERBS(LOAD_VERBS)
	VERBS10(LOAD_VERBS10)
	RDMACM(LOAD_CM)
	return l;
failed:
	if (cm)
		dlclose(cm);
	if (ib)
		dlclose(ib);
	return NULL;
}

// failed makes the result of a function that returns -1, or NULL, and errno.
static int failed(void) { return errno ? -errno : -EIO; }

static int check(int ret) { return ret ? failed() : 0; }

// checknum: of a function that returns an errno.
static int checknum(int ret)
{
	if (ret == -1)
		return failed();
	return ret > 0 ? -ret : ret;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? failed() : 0;
}

// rdma_free_devices takes a list from malloc: a list of one gives back one.
int vs_device_put(struct vs_lib *l, struct vs_context *ctx)
{
	struct vs_context **one = calloc(2, sizeof *one);

	if (!one)
		return -ENOMEM;
	one[0] = ctx;
	l->rdma_free_devices(one);
	return 0;
}

// The kernel waits with the removal of some devices (soft-RoCE) until nobody
// has them open, and librdmacm never closes the last one. Closing the context
// would leave it with a pointer to nothing; other files under its descriptors
// do no harm: its calls fail.
void vs_device_let_go(struct vs_context *ctx)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup3(null, ctx->async_fd, O_CLOEXEC);
	dup3(null, ctx->cmd_fd, O_CLOEXEC);
	close(null);
}

struct devices {
	struct vs_lib *l;
	struct vs_context **out;
	int max;
};

static int devices(void *arg)
{
	struct devices *a = arg;
	int i, n = 0;
	struct vs_context **list;

	errno = 0;
	list = a->l->rdma_get_devices(&n);
	if (!list)
		return failed();
	for (i = 0; i < n; i++) {
		if (i < a->max)
			a->out[i] = list[i];
		else
			vs_device_put(a->l, list[i]);
	}
	free(list); // not rdma_free_devices: the references are out's now
	return n < a->max ? n : a->max;
}

int vs_devices(struct vs_lib *l, struct vs_context **out, int max)
{
	struct devices a = {l, out, max};

	return listing(devices, &a);
}

const char *vs_device_name(struct vs_context *ctx) { return (char *)ctx->device + VS_DEVICE_NAME; }

const char *vs_device_uverbs(struct vs_context *ctx) { return (char *)ctx->device + VS_DEVICE_DEV_NAME; }

int vs_device_transport(struct vs_context *ctx)
{
	return *(int *)((char *)ctx->device + VS_DEVICE_TRANSPORT);
}

// The extended query, when the context has it, tells about on-demand paging.
int vs_query_device(struct vs_lib *l, struct vs_context *ctx, struct vs_device_attr *attr)
{
	typedef int query_ex(struct vs_context *, const void *, struct vs_device_attr *, size_t);
	char *p = (char *)ctx;
	size_t need = sizeof *ctx - VS_EX_QUERY_DEVICE;
	query_ex *query;

	memset(attr, 0, sizeof *attr);
	if (ctx->abi_compat == (void *)-1 && *(size_t *)(p + VS_EX_SIZE) >= need) {
		query = *(query_ex **)(p + VS_EX_QUERY_DEVICE);
		if (query && query(ctx, NULL, attr, sizeof *attr) == 0)
			return 0;
		memset(attr, 0, sizeof *attr);
	}
	return checknum(l->ibv_query_device(ctx, attr));
}

int vs_query_port(struct vs_lib *l, struct vs_context *ctx, int port, struct vs_port_attr *attr)
{
	memset(attr, 0, sizeof *attr);
	return checknum(l->ibv_query_port(ctx, port, attr));
}

int vs_async_event(struct vs_lib *l, struct vs_context *ctx, struct vs_event *out)
{
	struct vs_async_event ev = {};

	errno = 0;
	if (l->ibv_get_async_event(ctx, &ev))
		return failed();
	memset(out, 0, sizeof *out);
	out->type = ev.event_type;
	switch (ev.event_type) {
	case 0: // CQ_ERR
		out->cq = ev.element.cq;
		break;
	case 1: case 2: case 3: case 4: case 5: case 6: case 7: case 16: // of a QP
		out->qp_num = ev.element.qp->qp_num;
		break;
	case 9: case 10: case 11: case 12: case 13: case 17: case 18: // of a port
		out->port = ev.element.port_num;
		break;
	}
	l->ibv_ack_async_event(&ev);
	return 0;
}

int vs_alloc_pd(struct vs_lib *l, struct vs_context *ctx, struct vs_pd **out)
{
	errno = 0;
	*out = l->ibv_alloc_pd(ctx);
	return *out ? 0 : failed();
}

int vs_dealloc_pd(struct vs_lib *l, struct vs_pd *pd) { return checknum(l->ibv_dealloc_pd(pd)); }

int vs_reg_mr(struct vs_lib *l, struct vs_pd *pd, void *addr, size_t length, int access, struct vs_mr **out)
{
	errno = 0;
	*out = l->ibv_reg_mr(pd, addr, length, access);
	return *out ? 0 : failed();
}

int vs_dereg_mr(struct vs_lib *l, struct vs_mr *mr) { return checknum(l->ibv_dereg_mr(mr)); }

int vs_alloc_mw(struct vs_context *ctx, struct vs_pd *pd, struct vs_mw **out)
{
	struct vs_mw *(*alloc)(struct vs_pd *, int) = ctx->ops[VS_OP_ALLOC_MW];

	if (!alloc)
		return -EOPNOTSUPP;
	errno = 0;
	*out = alloc(pd, VS_MW_TYPE_2);
	return *out ? 0 : failed();
}

int vs_dealloc_mw(struct vs_mw *mw)
{
	int (*dealloc)(struct vs_mw *) = mw->context->ops[VS_OP_DEALLOC_MW];

	return checknum(dealloc(mw));
}

static int notify(struct vs_cq *cq)
{
	int (*req)(struct vs_cq *, int) = cq->context->ops[VS_OP_REQ_NOTIFY_CQ];

	return checknum(req(cq, 0));
}

int vs_create_cq(struct vs_lib *l, struct vs_context *ctx, int cqe, struct vs_cq **out)
{
	struct vs_comp_channel *ch;
	int ret;

	errno = 0;
	ch = l->ibv_create_comp_channel(ctx);
	if (!ch)
		return failed();
	ret = nonblocking(ch->fd);
	if (ret == 0) {
		errno = 0;
		*out = l->ibv_create_cq(ctx, cqe, NULL, ch, 0);
		ret = *out ? 0 : failed();
	}
	if (ret == 0) {
		ret = notify(*out);
		if (ret)
			l->ibv_destroy_cq(*out);
	}
	if (ret)
		l->ibv_destroy_comp_channel(ch);
	return ret;
}

// drain takes the notifications that are there. Each must be acknowledged
// before the CQ can be destroyed.
static int drain(struct vs_lib *l, struct vs_cq *cq)
{
	struct vs_cq *which;
	void *context;
	unsigned n = 0;

	while (l->ibv_get_cq_event(cq->channel, &which, &context) == 0)
		n++;
	if (n)
		l->ibv_ack_cq_events(cq, n);
	return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : failed();
}

int vs_destroy_cq(struct vs_lib *l, struct vs_cq *cq)
{
	struct vs_comp_channel *ch = cq->channel;
	int ret;

	drain(l, cq);
	ret = checknum(l->ibv_destroy_cq(cq));
	if (ret == 0)
		ret = checknum(l->ibv_destroy_comp_channel(ch));
	return ret;
}

int vs_arm(struct vs_lib *l, struct vs_cq *cq)
{
	struct vs_cq *which;
	void *context;

	// One notification for each request: to look for a second is a system call
	// for nothing.
	if (l->ibv_get_cq_event(cq->channel, &which, &context))
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : failed();
	l->ibv_ack_cq_events(cq, 1);
	return notify(cq);
}

static void *at(uint64_t address) { return (void *)(uintptr_t)address; }

static int poll_cq(struct vs_cq *cq, struct vs_wc *wc, int n)
{
	int (*poll)(struct vs_cq *, int, struct vs_wc *) = cq->context->ops[VS_OP_POLL_CQ];
	int got = poll(cq, n, wc);

	return got < 0 ? -EIO : got;
}

int vs_poll(uint64_t cq, uint64_t wc, int n) { return poll_cq(at(cq), at(wc), n); }

int vs_wait(uint64_t lib, uint64_t queue, uint64_t out, int n, int wake, int ms)
{
	struct vs_cq *cq = at(queue);
	struct vs_wc *wc = at(out);
	struct pollfd fds[2] = {{.fd = cq->channel->fd, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
	uint64_t count;
	int got = poll_cq(cq, wc, n);

	if (got)
		return got;
	got = vs_arm(at(lib), cq);
	if (got)
		return got;
	got = poll_cq(cq, wc, n);
	if (got)
		return got;
	if (poll(fds, 2, ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[1].revents && read(wake, &count, sizeof count) < 0 && errno != EAGAIN)
		return -errno;
	return poll_cq(cq, wc, n);
}

int vs_qp_error(struct vs_lib *l, struct vs_qp *qp)
{
	struct vs_qp_attr attr = {.qp_state = VS_QPS_ERR};

	return checknum(l->ibv_modify_qp(qp, &attr, VS_QP_STATE));
}

static int64_t refused(int err, int64_t n)
{
	if (err < 0) // some drivers
		err = -err;
	return (int64_t)err << 32 | n;
}

int64_t vs_post_send(uint64_t queue, uint64_t list)
{
	struct vs_qp *qp = at(queue);
	struct vs_send_wr *wr = at(list);
	int (*post)(struct vs_qp *, struct vs_send_wr *, struct vs_send_wr **) =
		qp->context->ops[VS_OP_POST_SEND];
	struct vs_send_wr *bad = wr;
	int ret = post(qp, wr, &bad);

	return ret ? refused(ret, bad - wr) : 0;
}

int64_t vs_post_recv(uint64_t queue, uint64_t list)
{
	struct vs_qp *qp = at(queue);
	struct vs_recv_wr *wr = at(list);
	int (*post)(struct vs_qp *, struct vs_recv_wr *, struct vs_recv_wr **) =
		qp->context->ops[VS_OP_POST_RECV];
	struct vs_recv_wr *bad = wr;
	int ret = post(qp, wr, &bad);

	return ret ? refused(ret, bad - wr) : 0;
}

struct channel {
	struct vs_lib *l;
	struct vs_event_channel **out;
};

static int channel(void *arg)
{
	struct channel *a = arg;
	int ret;

	errno = 0;
	*a->out = a->l->rdma_create_event_channel();
	if (!*a->out)
		return failed();
	ret = nonblocking((*a->out)->fd);
	if (ret)
		a->l->rdma_destroy_event_channel(*a->out);
	return ret;
}

int vs_channel(struct vs_lib *l, struct vs_event_channel **out)
{
	struct channel a = {l, out};

	return listing(channel, &a);
}

void vs_channel_close(struct vs_lib *l, struct vs_event_channel *ch) { l->rdma_destroy_event_channel(ch); }

struct event_get {
	struct vs_lib *l;
	struct vs_event_channel *ch;
	struct vs_cm *out;
};

static int event_get(void *arg)
{
	struct event_get *a = arg;
	struct vs_cm *out = a->out;
	struct vs_cm_event *ev;

	errno = 0;
	if (a->l->rdma_get_cm_event(a->ch, &ev))
		return failed();
	out->kind = ev->event;
	// What the library has found itself is in errno.
	out->status = ev->status == -1 ? failed() : ev->status;
	out->id = ev->id;
	out->context = ev->id->context;
	out->listen_context = ev->listen_id ? ev->listen_id->context : 0;
	out->private_len = 0;
	switch (ev->event) {
	case VS_CM_CONNECT_REQUEST: case VS_CM_ESTABLISHED: case VS_CM_REJECTED: case VS_CM_DISCONNECTED:
		out->initiator_depth = ev->conn.initiator_depth;
		out->responder_resources = ev->conn.responder_resources;
		out->retry_count = ev->conn.retry_count;
		out->rnr_retry_count = ev->conn.rnr_retry_count;
		if (ev->conn.private_data) {
			out->private_len = ev->conn.private_data_len;
			memcpy(out->private_data, ev->conn.private_data, out->private_len);
		}
	}
	a->l->rdma_ack_cm_event(ev);
	return 0;
}

int vs_cm_event_get(struct vs_lib *l, struct vs_event_channel *ch, struct vs_cm *out)
{
	struct event_get a = {l, ch, out};

	return listing(event_get, &a);
}

struct new_id {
	struct vs_lib *l;
	struct vs_event_channel *ch;
	uint64_t context;
	struct vs_cm_id **out;
};

static int new_id(void *arg)
{
	struct new_id *a = arg;

	errno = 0;
	return check(a->l->rdma_create_id(a->ch, a->out, (void *)a->context, VS_PS_TCP));
}

int vs_id(struct vs_lib *l, struct vs_event_channel *ch, uint64_t context, struct vs_cm_id **out)
{
	struct new_id a = {l, ch, context, out};

	return listing(new_id, &a);
}

int vs_id_destroy(struct vs_lib *l, struct vs_cm_id *id)
{
	errno = 0;
	return check(l->rdma_destroy_id(id));
}

int vs_id_migrate(struct vs_lib *l, struct vs_cm_id *id, struct vs_event_channel *ch)
{
	errno = 0;
	return check(l->rdma_migrate_id(id, ch));
}

struct bind_listen {
	struct vs_lib *l;
	struct vs_cm_id *id;
	void *addr;
	int backlog;
};

static int bind_listen(void *arg)
{
	struct bind_listen *a = arg;
	int on = 1;

	errno = 0;
	// A new listener can follow one whose connections are still there.
	a->l->rdma_set_option(a->id, VS_OPTION_ID, VS_OPTION_ID_REUSEADDR, &on, sizeof on);
	if (a->l->rdma_bind_addr(a->id, a->addr) || a->l->rdma_listen(a->id, a->backlog))
		return failed();
	return 0;
}

int vs_bind_listen(struct vs_lib *l, struct vs_cm_id *id, void *addr, int backlog)
{
	struct bind_listen a = {l, id, addr, backlog};

	return listing(bind_listen, &a);
}

struct resolve {
	struct vs_lib *l;
	struct vs_cm_id *id;
	void *src, *dst;
	int ms;
};

static int resolve_addr(void *arg)
{
	struct resolve *a = arg;

	errno = 0;
	return check(a->l->rdma_resolve_addr(a->id, a->src, a->dst, a->ms));
}

int vs_resolve_addr(struct vs_lib *l, struct vs_cm_id *id, void *src, void *dst, int ms)
{
	struct resolve a = {l, id, src, dst, ms};

	return listing(resolve_addr, &a);
}

int vs_resolve_route(struct vs_lib *l, struct vs_cm_id *id, int ms)
{
	errno = 0;
	return check(l->rdma_resolve_route(id, ms));
}

int vs_create_qp(struct vs_lib *l, struct vs_cm_id *id, struct vs_pd *pd, struct vs_qp_init_attr *attr)
{
	errno = 0;
	return check(l->rdma_create_qp(id, pd, attr));
}

// rdma_destroy_qp does not tell whether the queue pair is gone.
int vs_destroy_qp(struct vs_lib *l, struct vs_cm_id *id)
{
	int ret = checknum(l->ibv_destroy_qp(id->qp));

	if (ret == 0)
		id->qp = NULL;
	return ret;
}

int vs_connect(struct vs_lib *l, struct vs_cm_id *id, int how, const void *priv, int len,
	       int responder_resources, int initiator_depth, int retry, int rnr_retry)
{
	struct vs_conn_param p = {
		.private_data = priv,
		.private_data_len = len,
		.responder_resources = responder_resources,
		.initiator_depth = initiator_depth,
		.flow_control = 1,
		.retry_count = retry,
		.rnr_retry_count = rnr_retry,
	};

	errno = 0;
	return check(how == VS_CONNECT ? l->rdma_connect(id, &p) : l->rdma_accept(id, &p));
}

int vs_reject(struct vs_lib *l, struct vs_cm_id *id, const void *priv, int len)
{
	errno = 0;
	return check(l->rdma_reject(id, priv, len));
}

int vs_notify(struct vs_lib *l, struct vs_cm_id *id)
{
	errno = 0;
	return check(l->rdma_notify(id, VS_EVENT_COMM_EST));
}

int vs_disconnect(struct vs_lib *l, struct vs_cm_id *id)
{
	errno = 0;
	return check(l->rdma_disconnect(id));
}

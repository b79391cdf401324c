// Loaded into user-mode Linux with LD_PRELOAD. Linux takes a process's
// extended registers (PTRACE_SETREGSET, NT_X86_XSTATE) only whole, and on a
// CPU with AMX they are 11,008 bytes. User-mode Linux 6.1 gives 2,696, which
// is all up to AVX-512 and PKRU: there its init dies of "ptrace set fp regs
// failed, errno = 14". Here what it gives is filled up to the size that the
// machine wants. What it does not know stays as new: AMX is off until a process
// asks Linux for it.
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum {
	xstate_bv = 512, // which components the area has: Intel SDM volume 1, 13.4.2
	first = 2,       // component after x87 and SSE, which are at the area's begin
};

// within is the mask of the components that lie in the first len bytes
// (CPUID leaf 0xd).
static uint64_t within(size_t len)
{
	uint64_t mask = (1 << first) - 1;
	for (int i = first; i < 63; i++) {
		unsigned size, offset, c, d;
		if (__get_cpuid_count(0xd, i, &size, &offset, &c, &d) && size && offset + size <= len)
			mask |= 1ull << i;
	}
	return mask;
}

long ptrace(enum __ptrace_request request, ...)
{
	static char area[1 << 16] __attribute__((aligned(64)));
	static long (*next)(enum __ptrace_request, ...);
	static size_t size; // of this machine's registers

	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);

	if (!next)
		next = dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (uintptr_t)addr != NT_X86_XSTATE)
		return next(request, pid, addr, data);

	const struct iovec *given = data;
	struct iovec whole = {area, sizeof area};
	if (!size) {
		if (next(PTRACE_GETREGSET, pid, addr, &whole))
			return -1;
		size = whole.iov_len; // the kernel sets it to what it has
	}
	if (given->iov_len >= size)
		return next(request, pid, addr, data);
	whole.iov_len = size;
	memset(area, 0, size);
	memcpy(area, given->iov_base, given->iov_len);
	static uint64_t known; // asked once: CPUID is slow in a virtual machine
	if (!known)
		known = within(given->iov_len);
	uint64_t has;
	memcpy(&has, area + xstate_bv, sizeof has);
	has &= known;
	memcpy(area + xstate_bv, &has, sizeof has);
	return next(request, pid, addr, &whole);
}

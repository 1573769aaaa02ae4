/* For scripts/with-netem-kernel: lets User-Mode Linux set the registers of its processes on processors with AMX.
 *
 * Linux takes the vector state of a traced process (NT_X86_XSTATE) as a whole or not at all, and how much that is, is the
 * processor's: User-Mode Linux 6.1 knows 2696 bytes of it, up to AVX-512 and protection keys, and dies of an error of which
 * it cannot make sense where AMX makes it 11008. What it leaves out is in its initial state, as the header of what it gives
 * says, so zeros stand in for it. Loaded before the C library (LD_PRELOAD), whose ptrace it wraps.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* More than any processor has. */
#define MOST (1 << 16)

static _Alignas(64) char whole[MOST];
/* Bytes of the whole state; 0 as long as nobody needed it. */
static size_t size;

typedef long (*ptrace_function)(enum __ptrace_request, pid_t, void *, void *);

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function next;
    va_list words;
    va_start(words, request);
    pid_t pid = va_arg(words, pid_t);
    void *address = va_arg(words, void *);
    void *data = va_arg(words, void *);
    va_end(words);
    if (!next)
        next = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
        return next(request, pid, address, data);

    struct iovec *given = data;
    if (!size) {
        long done = next(request, pid, address, data);
        if (done == 0 || errno != EFAULT)
            return done;
        struct iovec all = { whole, MOST };
        if (next(PTRACE_GETREGSET, pid, address, &all) != 0)
            return -1;
        size = all.iov_len;
        memset(whole, 0, MOST);
    }
    if (given->iov_len > size) {
        errno = EFAULT;
        return -1;
    }
    memcpy(whole, given->iov_base, given->iov_len);
    struct iovec all = { whole, size };
    return next(request, pid, address, &all);
}

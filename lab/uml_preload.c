/* What User-mode Linux 6.1 lacks, preloaded into linux.uml.
 *
 * ptrace: processors whose extended state is larger than it knows (AMX). ptrace(PTRACE_SETREGSET, NT_X86_XSTATE) takes only
 * the whole state (anything shorter is EFAULT), and linux.uml has a buffer for AVX-512 at most. The guest cannot use what
 * lies behind it (AMX needs a permission from the kernel that UML does not give), so the tail is set to what it is.
 *
 * execvp: a reboot is an exec of the same program, while helper processes of the old kernel may still hold disk and tap. It
 * becomes the end of the program; who started it starts it again (lab/vm.py).
 *
 * fsync: a power cut here is the end of these processes, which loses nothing of what they have written to a file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

typedef long (*ptrace_fn)(int, ...);

long ptrace(enum __ptrace_request request, ...) {
    static ptrace_fn real;
    static unsigned char whole[65536] __attribute__((aligned(64)));
    va_list args;
    va_start(args, request);
    pid_t pid = va_arg(args, pid_t);
    void *addr = va_arg(args, void *);
    void *data = va_arg(args, void *);
    va_end(args);
    if (!real)
        real = (ptrace_fn)dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE) {
        struct iovec *given = data;
        struct iovec full = {whole, sizeof whole};
        if (real(PTRACE_GETREGSET, pid, addr, &full) == 0 && full.iov_len > given->iov_len) {
            memcpy(whole, given->iov_base, given->iov_len);
            return real(request, pid, addr, &full);
        }
    }
    return real(request, pid, addr, data);
}

int execvp(const char *file, char *const argv[]) {
    (void)file;
    (void)argv;
    _exit(0);
}

int fsync(int fd) {
    (void)fd;
    return 0;
}

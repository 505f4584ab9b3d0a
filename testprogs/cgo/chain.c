// The C side of the cgo test program.
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "_cgo_export.h"

#define KEEP __attribute__((noinline))

KEEP long c_inner(int fd) {
    char byte;
    return read(fd, &byte, 1) + 1;
}

KEEP long c_middle(int fd) { return c_inner(fd) + 1; }

KEEP void c_outer(int fd) {
    volatile long got = c_middle(fd);
    (void)got;
}

KEEP void c_calls_go(uintptr_t depth) {
    volatile uintptr_t kept = depth;
    goCallback(depth);
    (void)kept;
}

static void *blocked_main(void *argument) {
    c_outer((int)(intptr_t)argument);
    return 0;
}

static void *caller_main(void *argument) {
    volatile int got = goThreadEntry((int)(intptr_t)argument);
    (void)got;
    return 0;
}

static int start(void *(*run)(void *), intptr_t argument) {
    pthread_t thread;
    return pthread_create(&thread, 0, run, (void *)argument);
}

// A thread that Go knows nothing of, blocked in C.
int c_thread_blocked(int fd) { return start(blocked_main, fd); }

// A thread of C that is parked in Go.
int c_thread_calls_go(void) { return start(caller_main, 77); }

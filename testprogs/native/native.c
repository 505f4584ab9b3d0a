// The C side of the native test program: chains of calls whose order is known.
// Compiled without frame pointers, as C code usually is.
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "_cgo_export.h"

#define KEEP __attribute__((noinline, noclone, noipa))

// Threads that are about to block for ever in read, and how many.
int native_sleepers[16];
int native_sleeping;

// After each call something is left to do, so that none is a jump.
KEEP long c_leaf(int fd) {
    char byte;
    int place = __atomic_fetch_add(&native_sleeping, 1, __ATOMIC_SEQ_CST);
    native_sleepers[place] = (int)syscall(SYS_gettid);
    return read(fd, &byte, 1) + 1;
}

static KEEP long c_branch(int fd) { return c_leaf(fd) + 2; }

KEEP long c_root(int fd) { return c_branch(fd) + 3; }

// A name as C++ has it: shape::area(int, double).
KEEP long shape_area(int fd, double) __asm__("_ZN5shape4areaEid");
long shape_area(int fd, double factor) { return c_leaf(fd) + (long)factor; }

KEEP long c_shape(int fd) { return shape_area(fd, 1.5) + 4; }

volatile int native_spinning = 1;
volatile int native_turning;

KEEP long c_spin(void) {
    volatile long turns = 0;
    while (native_spinning) native_turning = 1, turns++;
    return turns;
}

static KEEP long c_spin_branch(void) { return c_spin() + 2; }

KEEP long c_spin_root(void) { return c_spin_branch() + 3; }

KEEP long c_calls_inner(int fd) { return goBack(fd) + 1; }

KEEP long c_calls_go(int fd) { return c_calls_inner(fd) + 2; }

KEEP long c_parks(int fd) { return goParks(fd) + 1; }

// A frame whose size is only known when it runs: its table asks for rbp.
KEEP long c_dynamic(int fd) {
    volatile char room[fd + 64];
    room[fd] = 1;
    return c_leaf(fd) + room[fd];
}

static void *own_main(void *argument) {
    return (void *)(c_root((int)(intptr_t)argument) + 5);
}

static void *foreign_main(void *argument) {
    return (void *)((intptr_t)goForeign((int)(intptr_t)argument) + 5);
}

static int start(void *(*run)(void *), int fd) {
    pthread_t thread;
    return pthread_create(&thread, 0, run, (void *)(intptr_t)fd);
}

// A thread that Go knows nothing of.
int native_own_thread(int fd) { return start(own_main, fd); }

// A thread of C that parks in Go.
int native_foreign_thread(int fd) { return start(foreign_main, fd); }

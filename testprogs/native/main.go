// Native parks goroutines in C code and in Go code that C called, and says which
// frames there must be (frames.txt). Build it with a cgo kind.
//
//	native FOLDER sleep    every thread sleeps
//	native FOLDER spin     one goroutine runs in C
//	native FOLDER abort    one runs in C, and SIGABRT leaves a core
package main

/*
#cgo CFLAGS: -O2 -g
#cgo LDFLAGS: -lpthread
#include <stdint.h>

long c_root(int fd);
long c_shape(int fd);
long c_dynamic(int fd);
long c_spin_root(void);
long c_calls_go(int fd);
long c_parks(int fd);
int native_own_thread(int fd);
int native_foreign_thread(int fd);
extern int native_sleepers[16];
extern int native_sleeping;
extern volatile int native_turning;
*/
import "C"

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"example.com/testprogs/internal/raw"
	"example.com/testprogs/internal/ready"
)

//go:embed expect.toml
var expect string

var never = make(chan int)

func main() {
	if len(os.Args) < 3 {
		fail("usage: native FOLDER sleep|spin|abort")
	}
	mode := os.Args[2]
	runtime.LockOSThread()
	runtime.GOMAXPROCS(4)
	go sleeps(pipe())
	go sleepsInShape(pipe())
	go sleepsInDynamic(pipe())
	go callsBack(pipe())
	go parksBelow(pipe())
	if C.native_own_thread(C.int(pipe())) != 0 || C.native_foreign_thread(C.int(pipe())) != 0 {
		fail("cannot start a thread")
	}
	if mode != "sleep" {
		go spins()
		for C.native_turning == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	ready.WaitFor("main.parkOnForeignThread", "chan receive")
	ready.WaitFor("main.park", "chan receive")
	awaitSleepers(5)
	p := ready.Program{Expect: []string{expect}}
	if mode == "abort" {
		raw.SetDefault(syscall.SIGABRT)
		raw.Raise(syscall.SIGABRT)
	}
	p.Ready()
	p.Serve()
}

// awaitSleepers waits until so many threads are in the system call read.
func awaitSleepers(count int) {
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(time.Millisecond) {
		asleep := 0
		for i := 0; i < int(C.native_sleeping); i++ {
			tid := int(C.native_sleepers[i])
			text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
			if strings.HasPrefix(string(text), fmt.Sprintf("%d ", syscall.SYS_READ)) {
				asleep++
			}
		}
		if asleep == count {
			return
		}
	}
	fail("not all threads of C sleep")
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "native:", why)
	os.Exit(3)
}

// pipe is the reading end of a pipe that stays silent.
func pipe() int {
	fds := make([]int, 2)
	if err := syscall.Pipe(fds); err != nil {
		fail(err.Error())
	}
	return fds[0]
}

//go:noinline
func sleeps(fd int) { C.c_root(C.int(fd)) }

//go:noinline
func sleepsInShape(fd int) { C.c_shape(C.int(fd)) }

//go:noinline
func sleepsInDynamic(fd int) { C.c_dynamic(C.int(fd)) }

//go:noinline
func spins() { C.c_spin_root() }

// callsBack goes Go -> C -> Go -> C and sleeps there.
//
//go:noinline
func callsBack(fd int) { C.c_calls_go(C.int(fd)) }

//export goBack
func goBack(fd C.int) C.int {
	sleeps(int(fd))
	return fd
}

// parksBelow goes Go -> C -> Go and parks.
//
//go:noinline
func parksBelow(fd int) { C.c_parks(C.int(fd)) }

//export goParks
func goParks(fd C.int) C.int {
	park(int(fd))
	return fd
}

//go:noinline
func park(fd int) {
	<-never
	println(fd)
}

//export goForeign
func goForeign(fd C.int) C.int {
	parkOnForeignThread(int(fd))
	return fd
}

//go:noinline
func parkOnForeignThread(fd int) {
	<-never
	println(fd)
}

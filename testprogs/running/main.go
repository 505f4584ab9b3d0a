// Running has goroutines that run on threads while they are looked at: spinning
// in user code, in the vDSO, in a blocking system call.
package main

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/testprogs/internal/ready"
)

// rounds counts the loops of each spinner, so that main sees that all run. Plain
// stores in an endless loop would be optimized away.
var rounds [7]uint64

func main() {
	runtime.GOMAXPROCS(8)
	debug.SetGCPercent(-1)
	fds := make([]int, 2)
	if err := syscall.Pipe(fds); err != nil {
		panic(err)
	}
	go spinTight()
	go spinCalls(3)
	go spinLeaf(5)
	go spinDeep(30)
	go spinClock()
	go spinLocked()
	go spinClosure(2)
	go blockedRead(fds[0])
	for i := range rounds {
		for atomic.LoadUint64(&rounds[i]) < 2 {
			time.Sleep(time.Millisecond)
		}
	}
	ready.WaitFor("main.blockedRead", "syscall")
	p := ready.Program{}
	p.Ready()
	p.Serve()
}

//go:noinline
func spinTight() {
	for {
		atomic.AddUint64(&rounds[0], 1)
	}
}

//go:noinline
func spinCalls(n uint64) {
	for {
		atomic.AddUint64(&rounds[1], work(n, "text"))
	}
}

//go:noinline
func work(n uint64, s string) uint64 {
	var local [64]byte
	for i := range local {
		local[i] = byte(n) + s[i%len(s)]
	}
	return workLess(local[:]) & 1
}

//go:noinline
func workLess(b []byte) uint64 { return uint64(b[0]) | 1 }

// spinLeaf calls a function that has no frame.
//
//go:noinline
func spinLeaf(n uint64) {
	for {
		atomic.AddUint64(&rounds[2], leaf(n))
	}
}

//go:noinline
func leaf(n uint64) uint64 { return n | 1 }

// spinDeep spins with n frames below it.
//
//go:noinline
func spinDeep(n int) uint64 {
	if n > 0 {
		return spinDeep(n-1) + 1
	}
	for {
		atomic.AddUint64(&rounds[3], 1)
	}
}

// spinClock is in the vDSO most of the time.
//
//go:noinline
func spinClock() {
	for {
		if time.Now().IsZero() {
			return
		}
		atomic.AddUint64(&rounds[4], 1)
	}
}

//go:noinline
func spinLocked() {
	runtime.LockOSThread()
	for {
		atomic.AddUint64(&rounds[5], 1)
	}
}

// spinClosure spins in an inlined function, in a closure.
//
//go:noinline
func spinClosure(n uint64) {
	f := func() {
		for {
			add(&rounds[6], n)
		}
	}
	f()
}

func add(to *uint64, n uint64) { atomic.AddUint64(to, n) }

//go:noinline
func blockedRead(fd int) {
	buf := make([]byte, 8)
	n, err := syscall.Read(fd, buf)
	println(n, err)
}

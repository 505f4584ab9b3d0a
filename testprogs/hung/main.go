// Hung is a process that cannot help itself: a goroutine spins without calls, and
// another waits for it in vain. Set GODEBUG=asyncpreemptoff=1 in its environment.
//
//	hung FOLDER           one P: the spinner has it, nothing else ever runs
//	hung FOLDER world     two Ps: the other goroutine is stopping the world
//
// READY comes from the spinner itself, right before it spins.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"example.com/testprogs/internal/raw"
	"example.com/testprogs/internal/ready"
)

var (
	spinning uint32 // the spinner never calls anything again
	stopping uint32 // the stopper is about to stop the world
)

func main() {
	if !strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1") {
		os.Stderr.WriteString("hung: set GODEBUG=asyncpreemptoff=1\n")
		os.Exit(2)
	}
	debug.SetGCPercent(-1)
	stopper := wantsToStopTheWorld
	runtime.GOMAXPROCS(1)
	if len(os.Args) > 2 && os.Args[2] == "world" {
		runtime.GOMAXPROCS(2)
		stopper = stopsTheWorld
	}
	go stopper()
	go prepareSpin([]byte("READY " + strconv.Itoa(os.Getpid()) + "\n"))
	// The spinner takes care of the end of input: main can't return from here.
	syscall.Read(0, make([]byte, 16))
	select {}
}

// wantsToStopTheWorld is never given the P again.
//
//go:noinline
func wantsToStopTheWorld() {
	for atomic.LoadUint32(&spinning) == 0 {
		runtime.Gosched()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	os.Stderr.WriteString("hung: the world was stopped\n")
}

// stopsTheWorld waits for the spinner to stop.
//
//go:noinline
func stopsTheWorld() {
	for atomic.LoadUint32(&spinning) == 0 {
		runtime.Gosched()
	}
	atomic.StoreUint32(&stopping, 1)
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	os.Stderr.WriteString("hung: the world was stopped\n")
}

// prepareSpin spins when all others are where they should be.
//
//go:noinline
func prepareSpin(line []byte) {
	ready.WaitFor("main.main", "syscall")
	spin(line, runtime.GOMAXPROCS(0) > 1)
}

//go:noinline
func spin(line []byte, waitForStopper bool) uint64 {
	n := uint64(0)
	atomic.StoreUint32(&spinning, 1)
	for waitForStopper && atomic.LoadUint32(&stopping) == 0 {
		n++
	}
	raw.Write(1, line)
	for {
		n++
		if n&(1<<28-1) == 0 && raw.HungUp(0) {
			raw.Exit()
		}
	}
}

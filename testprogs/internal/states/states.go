// Package states brings goroutines into every state and shape of stack that a
// user program can reach, and leaves them there for good. expect.toml declares
// them; nothing in here ever runs again after Start and the program's Park.
package states

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
)

// Expect is the declared truth, for ready.Program.
//
//go:embed expect.toml
var Expect string

// forever is never closed and nobody sends on it.
var forever = make(chan int)

// park blocks for good and is small enough to be inlined.
func park() { <-forever }

// hold blocks for good in a frame of its own.
//
//go:noinline
func hold() { <-forever }

var sink interface{}

// use keeps values in use after a park, so that they are live there. The store
// never happens; it makes the values escape.
//
//go:noinline
func use(values ...interface{}) {
	if len(values) > 100 {
		sink = values
	}
}

// byRelease holds what files for later releases add.
var byRelease []func()

// Start starts all of them.
func Start() {
	// Fixed, so that the runtime does not adjust it later (since 1.25).
	runtime.GOMAXPROCS(4)
	startBlocking()
	startLocks()
	startTimers()
	startIO()
	startPanics()
	startShapes()
	startCalls()
	startGenerics()
	startRecursion()
	for _, start := range byRelease {
		start()
	}
	startFinalizer()
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "states:", err)
		os.Exit(3)
	}
}

// Crash parks the same goroutines as zoo and then dies, to leave a core and the
// runtime's text of the same moment. Set GOTRACEBACK=crash in its environment.
//
//	crash FOLDER quit     SIGQUIT to its own thread: the runtime prints all and aborts
//	crash FOLDER nil      a nil dereference
//	crash FOLDER fault    the same, but SIGSEGV does what the kernel does by default
//	crash FOLDER abort    SIGABRT by the kernel's default, right after stack.txt
package main

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"example.com/testprogs/internal/raw"
	"example.com/testprogs/internal/ready"
	"example.com/testprogs/internal/states"
)

//go:embed expect.toml
var expect string

func main() {
	die, known := map[string]func(){"quit": dieQuit, "nil": dieNil, "fault": dieFault, "abort": dieAbort}[mode()]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: crash FOLDER quit|nil|fault|abort")
		os.Exit(2)
	}
	// All of main is on one thread, so the thread that dies is the one with main.
	runtime.LockOSThread()
	states.Start()
	ready.Program{Expect: []string{expect, states.Expect}}.Park()
	die()
	fmt.Fprintln(os.Stderr, "crash: still alive")
	os.Exit(3)
}

func mode() string {
	if len(os.Args) < 3 {
		return ""
	}
	return os.Args[2]
}

//go:noinline
func dieQuit() {
	raw.Raise(syscall.SIGQUIT)
	// The runtime sends the signal on to all threads and this one aborts last.
	select {}
}

type order struct {
	buyer *order
	id    int
}

//go:noinline
func dieNil() {
	var o order
	o.buyer.id = 1
}

//go:noinline
func dieFault() {
	raw.SetDefault(syscall.SIGSEGV)
	dieNil()
}

//go:noinline
func dieAbort() {
	raw.SetDefault(syscall.SIGABRT)
	raw.Raise(syscall.SIGABRT)
}

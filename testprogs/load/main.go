// Load is a process of a chosen size and activity, for measuring what an
// inspector costs it.
//
//	load FOLDER [flags]
//	gap        on stdin: prints the ticker's worst gap as one line of JSON and resets it
//	stats      on stdin: prints what the goroutines did
//	stacks     on stdin: writes all stacks as the runtime does into FOLDER/stacks.txt,
//	           prints how long that took
//	address    on stdin: prints where the server of -serve listens
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"example.com/testprogs/internal/ready"
)

// options are the flags.
type options struct {
	parked   int
	active   float64
	period   time.Duration
	spawn    int
	gc       time.Duration
	pull     int
	handover int
	grow     int
	ticker   bool
	procs    int
	ballast  int
	blocked  int
	serve    bool
}

func main() {
	o := parse()
	procs := o.procs
	if procs == 0 {
		procs = runtime.GOMAXPROCS(0)
	}
	if o.ticker {
		procs++ // the ticker keeps one to itself
	}
	runtime.GOMAXPROCS(procs)
	debug.SetGCPercent(400)
	ballast := make([]byte, o.ballast<<20)
	for i := range ballast {
		ballast[i] = byte(i)
	}
	defer runtime.KeepAlive(ballast)
	active := int(float64(o.parked) * o.active / 100)
	startParked(o.parked - active)
	startActive(active, o.period)
	startHandover(o.handover)
	startGrowing(o.grow)
	startPull(o.pull)
	startSpawner(o.spawn)
	startGC(o.gc)
	if err := startBlocked(o.blocked); err != nil {
		fail(err)
	}
	if err := startServer(o.serve); err != nil {
		fail(err)
	}
	waitForArrivals()
	if o.ticker {
		startTicker()
	}
	p := ready.Program{
		Greeting: fmt.Sprintf("goroutines=%d", runtime.NumGoroutine()),
		Line:     answer,
	}
	p.Ready()
	p.Serve()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(3)
}

func parse() options {
	ready.Folder()
	var o options
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.IntVar(&o.parked, "n", 1000, "goroutines, parked at 8 places and depths")
	flags.Float64Var(&o.active, "active", 0, "percent of them that sleep and work in turn")
	flags.DurationVar(&o.period, "period", 100*time.Millisecond, "how long an active one sleeps")
	flags.IntVar(&o.spawn, "spawn", 0, "short-lived goroutines to start per second")
	flags.DurationVar(&o.gc, "gc", 0, "time from one forced collection to the next")
	flags.IntVar(&o.pull, "pull", 0, "iter.Pull generators (since Go 1.23)")
	flags.IntVar(&o.handover, "handover", 0, "pairs that hand a value over and over")
	flags.IntVar(&o.grow, "grow", 0, "goroutines whose stacks grow and shrink")
	flags.BoolVar(&o.ticker, "ticker", false, "a thread that ticks each millisecond and records its worst gap; it keeps a P")
	flags.IntVar(&o.ballast, "ballast", 0, "megabytes of heap besides")
	flags.IntVar(&o.blocked, "blocked", 0, "goroutines that each block a thread in a system call")
	flags.BoolVar(&o.serve, "serve", false, "answer lines on a TCP port")
	flags.IntVar(&o.procs, "procs", 0, "GOMAXPROCS, without the ticker's")
	// ExitOnError: Parse ends the process on a wrong flag.
	_ = flags.Parse(os.Args[2:])
	return o
}

// arrived counts goroutines right before they park, expected those that will.
var arrived, expected int64

// waitForArrivals returns when all have parked: after arriving, a goroutine has
// only the parking left, and the collection stops and scans each once.
func waitForArrivals() {
	for atomic.LoadInt64(&arrived) < atomic.LoadInt64(&expected) {
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
}

// done counts what was done since the start.
var done struct{ works, spawns, handovers, growths, pulls, collections uint64 }

func answer(line string) string {
	switch line {
	case "gap":
		return tickerReport()
	case "stacks":
		return ownStacks()
	case "address":
		return address
	case "stats":
		return fmt.Sprintf(`{"works":%d,"spawns":%d,"handovers":%d,"growths":%d,"pulls":%d,"collections":%d,"goroutines":%d}`,
			atomic.LoadUint64(&done.works), atomic.LoadUint64(&done.spawns), atomic.LoadUint64(&done.handovers),
			atomic.LoadUint64(&done.growths), atomic.LoadUint64(&done.pulls), atomic.LoadUint64(&done.collections),
			runtime.NumGoroutine())
	}
	return "unknown line: " + line
}

// Why parks goroutines in ways whose truth is known: what each waits for, who could
// wake it, who waits in a circle.
//
//	why FOLDER CASE...   runs these cases, or all
//	why FOLDER abort     runs all and dies, to leave a core
//	stop                 on stdin: see stopTheWorld
//
// When all are parked it prints one line for each goroutine of a case,
//
//	TRUTH goroutine=7 name=left waits=mutex objects=0xc000012345 wakers=8 deadlock=true
//
// and READY. Wakers are all who may be named, by number, and the words time and
// outside; deadlock says whether it is one of a circle.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"
	"time"

	"example.com/testprogs/internal/raw"
	"example.com/testprogs/internal/ready"
)

// cases by name. Each starts goroutines and returns when they are on their way.
var cases = map[string]func(*teller){}

func add(name string, start func(*teller)) { cases[name] = start }

func main() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(4)
	names := os.Args[2:]
	die := len(names) == 1 && names[0] == "abort"
	if len(names) == 0 || die {
		names = nil
		for name := range cases {
			if !alone[name] {
				names = append(names, name)
			}
		}
		sort.Strings(names)
	}
	t := &teller{}
	for _, name := range names {
		start, known := cases[name]
		if !known {
			fmt.Fprintln(os.Stderr, "why: no case", name)
			os.Exit(3)
		}
		t.name = name
		start(t)
	}
	t.settle()
	t.print()
	if die {
		// So that no register has what was printed.
		time.Sleep(time.Millisecond)
		raw.SetDefault(syscall.SIGABRT)
		raw.Raise(syscall.SIGABRT)
	}
	p := ready.Program{Greeting: fmt.Sprintf("cases=%d", len(names)), Line: func(string) string {
		stopTheWorld()
		return ""
	}}
	p.Ready()
	p.Serve()
}

// alone are the cases that are too large, or too noisy, to run among others.
var alone = map[string]bool{"ring300": true, "many": true, "spinner": true, "trylock": true}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "why:", err)
		os.Exit(3)
	}
}

// settle returns when each goroutine of a case is parked, or runs if it is to.
func (t *teller) settle() {
	begin := time.Now()
	last := ""
	for {
		states := headers(string(ready.Stack()))
		wrong := t.unsettled(states)
		text := fmt.Sprint(states)
		if wrong == "" && text == last {
			return
		}
		if time.Since(begin) > time.Minute {
			fmt.Fprintf(os.Stderr, "why: not parked: %s\n%s\n", wrong, ready.Stack())
			os.Exit(3)
		}
		last = text
		time.Sleep(20 * time.Millisecond)
	}
}

// headers is the state of each goroutine by number.
func headers(dump string) map[string]string {
	states := map[string]string{}
	for _, block := range strings.Split(dump, "\n\n") {
		line := strings.SplitN(block, "\n", 2)[0]
		parts := strings.SplitN(strings.TrimPrefix(line, "goroutine "), " ", 2)
		if len(parts) == 2 {
			// The time of the wait, if any, comes after a comma.
			states[parts[0]] = strings.SplitN(parts[1], ",", 2)[0]
		}
	}
	return states
}

func (t *teller) unsettled(states map[string]string) string {
	t.lock.Lock()
	defer t.lock.Unlock()
	if len(t.facts) != t.expected {
		return fmt.Sprintf("%d goroutines of %d have said what they do", len(t.facts), t.expected)
	}
	for _, f := range t.facts {
		state := states[f.id]
		busy := strings.HasPrefix(state, "[run")
		if state == "" || busy != (f.waits == "nothing") {
			return fmt.Sprintf("%s (goroutine %s) is %s", f.name, f.id, state)
		}
	}
	return ""
}

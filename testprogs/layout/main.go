// Layout is built by each Go release so that the layout tables can be read from its DWARF. The
// linker keeps the types that are reachable: this reaches channels, select, semaphores, timers and
// the poller (through os), and little else, so that building is quick.
package main

import (
	"os"
	"sync"
	"time"
)

func main() {
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	ready := make(chan int)
	timer := time.NewTimer(time.Hour)
	go func() {
		mu.Lock()
		defer mu.Unlock()
		cond.Broadcast()
		ready <- 1
	}()
	select {
	case <-ready:
	case <-timer.C:
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		os.Exit(1)
	}
	file.SetDeadline(time.Time{})
	file.Close()
}

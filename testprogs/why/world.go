package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
)

// stopTheWorld starts a goroutine that computes without an end and another that wants to
// stop the world. With GODEBUG=asyncpreemptoff=1 the world never stops, and nothing goes on
// but the first one: what it says, it says before.
func stopTheWorld() {
	spins, stops := make(chan string), make(chan string)
	var begin int32
	go func() {
		spins <- number()
		for atomic.LoadInt32(&begin) == 0 {
			runtime.Gosched()
		}
		for n := uint64(1); n != 0; n += 2 {
		}
	}()
	go func() {
		stops <- number()
		for atomic.LoadInt32(&begin) == 0 {
			runtime.Gosched()
		}
		var stats runtime.MemStats
		for {
			runtime.ReadMemStats(&stats)
		}
	}()
	fmt.Printf("STOPPING spins=%s stops=%s\n", <-spins, <-stops)
	atomic.StoreInt32(&begin, 1)
	select {}
}

//go:build go1.23

package main

import (
	"iter"
	"math/rand"
	"sync/atomic"
	"time"
)

// startPull starts n goroutines that pull values out of an iterator of their own.
func startPull(n int) {
	for i := 0; i < n; i++ {
		go pull()
	}
}

func pull() {
	next, stop := iter.Pull(naturals)
	defer stop()
	for {
		for i := 0; i < 100; i++ {
			next()
			atomic.AddUint64(&done.pulls, 1)
		}
		time.Sleep(time.Duration(1+rand.Intn(10)) * time.Millisecond)
	}
}

func naturals(yield func(int) bool) {
	for i := 0; yield(i); i++ {
		compute(3)
	}
}

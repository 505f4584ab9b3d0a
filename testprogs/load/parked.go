package main

import (
	"sync"
	"sync/atomic"
	"time"
)

var (
	never    = make(chan int)
	nobody   = make(chan string)
	shut     = make(chan struct{})
	lock     sync.Mutex
	work     sync.WaitGroup
	gate     = sync.NewCond(&sync.Mutex{})
	noReader = make(chan [4]int)
)

// startParked parks n goroutines, an eighth at each place.
func startParked(n int) {
	lock.Lock()
	work.Add(1)
	places := []func(){
		waitForValue, waitToSend, waitForAny, waitForLock,
		waitForGroup, waitForGate, waitLong, func() { waitDeep(10) },
	}
	atomic.AddInt64(&expected, int64(n))
	for i := 0; i < n; i++ {
		if i%80 == 79 {
			go waitDeep(200)
			continue
		}
		go places[i%len(places)]()
	}
}

func arrive() { atomic.AddInt64(&arrived, 1) }

func waitForValue() {
	arrive()
	<-never
}

func waitToSend() {
	arrive()
	noReader <- [4]int{1, 2, 3, 4}
}

func waitForAny() {
	arrive()
	select {
	case <-never:
	case s := <-nobody:
		println(s)
	case <-shut:
	}
}

func waitForLock() {
	arrive()
	lock.Lock()
	defer lock.Unlock()
}

func waitForGroup() {
	arrive()
	work.Wait()
}

func waitForGate() {
	gate.L.Lock()
	defer gate.L.Unlock()
	arrive()
	gate.Wait()
}

func waitLong() {
	arrive()
	time.Sleep(1000 * time.Hour)
}

//go:noinline
func waitDeep(n int) int {
	if n == 0 {
		arrive()
		return <-never
	}
	return waitDeep(n-1) + 1
}

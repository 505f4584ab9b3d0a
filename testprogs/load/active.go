package main

import (
	"fmt"
	"math/rand"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// startActive starts n goroutines that sleep for about the period and then work
// some frames deep.
func startActive(n int, period time.Duration) {
	for i := 0; i < n; i++ {
		go sleepAndWork(period, rand.Intn(40))
	}
}

func sleepAndWork(period time.Duration, depth int) {
	for {
		time.Sleep(period/2 + time.Duration(rand.Int63n(int64(period)+1)))
		compute(depth)
		atomic.AddUint64(&done.works, 1)
	}
}

//go:noinline
func compute(n int) int {
	if n <= 0 {
		sum := 0
		for i := 0; i < 1000; i++ {
			sum += i * i
		}
		return sum
	}
	return compute(n-1) + 1
}

// startSpawner starts so many goroutines per second, in portions each 10 ms.
func startSpawner(perSecond int) {
	if perSecond > 0 {
		go spawn(perSecond)
	}
}

func spawn(perSecond int) {
	begin := time.Now()
	for started := 0; ; time.Sleep(10 * time.Millisecond) {
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); started < due; started++ {
			go shortLife()
		}
	}
}

func shortLife() {
	time.Sleep(time.Duration(1+rand.Intn(50)) * time.Millisecond)
	compute(5)
	atomic.AddUint64(&done.spawns, 1)
}

func startGC(gap time.Duration) {
	if gap > 0 {
		go collect(gap)
	}
}

func collect(gap time.Duration) {
	for {
		time.Sleep(gap)
		runtime.GC()
		atomic.AddUint64(&done.collections, 1)
	}
}

func startHandover(pairs int) {
	for i := 0; i < pairs; i++ {
		c := make(chan int)
		go give(c)
		go take(c)
	}
}

func give(c chan<- int) {
	for i := 0; ; i++ {
		c <- i
	}
}

func take(c <-chan int) {
	for range c {
		atomic.AddUint64(&done.handovers, 1)
	}
}

// startGrowing starts goroutines that need a deep stack now and then; collections
// shrink it in between.
func startGrowing(n int) {
	for i := 0; i < n; i++ {
		go grow()
	}
}

func grow() {
	for {
		compute(1 + rand.Intn(5000))
		atomic.AddUint64(&done.growths, 1)
		time.Sleep(time.Duration(1+rand.Intn(20)) * time.Millisecond)
	}
}

// The ticker's counters.
var ticks, worstGap int64

func startTicker() { go tick() }

// tick sleeps in the kernel without telling the runtime, so that its gaps are
// those of a thread and not of the scheduler.
func tick() {
	runtime.LockOSThread()
	last := time.Now()
	for {
		pause := syscall.Timespec{Nsec: int64(time.Millisecond)}
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		now := time.Now()
		gap := int64(now.Sub(last))
		last = now
		for {
			worst := atomic.LoadInt64(&worstGap)
			if gap <= worst || atomic.CompareAndSwapInt64(&worstGap, worst, gap) {
				break
			}
		}
		atomic.AddInt64(&ticks, 1)
	}
}

func tickerReport() string {
	return fmt.Sprintf(`{"worst_gap_ns":%d,"ticks":%d}`,
		atomic.SwapInt64(&worstGap, 0), atomic.SwapInt64(&ticks, 0))
}

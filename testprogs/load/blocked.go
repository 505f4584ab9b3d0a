package main

import (
	"os"
	"sync/atomic"
	"syscall"
)

// startBlocked starts n goroutines that each block a thread in a read that never
// returns. The pipe stays out of the poller: the threads are what is wanted.
func startBlocked(n int) error {
	if n == 0 {
		return nil
	}
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	atomic.AddInt64(&expected, int64(n))
	for i := 0; i < n; i++ {
		go block(ends[0])
	}
	return nil
}

func block(fd int) {
	arrive()
	var b [1]byte
	for {
		// It ends with the program, or was interrupted and begins again.
		_, _ = syscall.Read(fd, b[:])
	}
}

// Crowd is a process in which many goroutines wait for one lock, for measuring what it
// costs to say so.
//
//	crowd FOLDER COUNT
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"example.com/testprogs/internal/ready"
)

// waiterShift is where the count of waiters begins in the state of a mutex.
const waiterShift = 3

type counter struct {
	lock sync.Mutex
	sum  int
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(3)
	}
	c := &counter{}
	held := make(chan bool)
	go c.hold(held)
	<-held
	for i := 0; i < count; i++ {
		go c.add()
	}
	state := (*int32)(unsafe.Pointer(&c.lock))
	for int(atomic.LoadInt32(state)>>waiterShift) != count {
		time.Sleep(time.Millisecond)
	}
	p := ready.Program{}
	p.Ready()
	p.Serve()
}

func (c *counter) hold(held chan bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	held <- true
	time.Sleep(1000 * time.Hour)
	c.sum++
}

func (c *counter) add() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.sum++
}

//go:build go1.25

package states

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func init() { byRelease = append(byRelease, startCleanup, startBubbles) }

// startCleanup keeps a cleanup goroutine in user code. Before 1.25 cleanups run
// on the finalizer goroutine, which is taken already.
func startCleanup() {
	running := make(chan bool, 1)
	makeCleanup(running)
	for {
		runtime.GC()
		select {
		case <-running:
			return
		default:
			runtime.Gosched()
		}
	}
}

//go:noinline
func makeCleanup(running chan bool) {
	r := &resource{name: "cleaned"}
	runtime.AddCleanup(r, cleanup, running)
}

func cleanup(running chan bool) {
	running <- true
	hold()
}

// startBubbles runs two tests that never end, each with a bubble.
func startBubbles() {
	testing.Init()
	match := func(pattern, name string) (bool, error) { return true, nil }
	tests := []testing.InternalTest{
		{Name: "Waits", F: bubbleWaits},
		{Name: "Other", F: bubbleOther},
	}
	go testing.Main(match, tests, nil, nil)
}

func bubbleWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		inside := make(chan int)
		var group sync.WaitGroup
		group.Add(1)
		go bubbleReceives(inside)
		go bubbleSends(make(chan string))
		go bubbleSelects(inside)
		go bubbleSelectsNothing()
		go bubbleSleeps()
		go bubbleTimer()
		go bubbleWaitGroup(&group)
		go bubbleCond()
		go bubbleNil()
		// Not durably blocked, so the time of the bubble stands still.
		go bubbleMutex()
		synctest.Wait()
	})
}

func bubbleOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) { bubbleOutside() })
}

// bubbleOutside waits for a channel from outside its bubble.
func bubbleOutside() { hold() }

func bubbleReceives(c chan int) { use(<-c) }

func bubbleSends(c chan string) { c <- "inside" }

func bubbleSelects(c chan int) {
	select {
	case v := <-c:
		use(v)
	case <-time.After(time.Hour):
	}
}

func bubbleSelectsNothing() { select {} }

func bubbleSleeps() { time.Sleep(3 * time.Hour) }

func bubbleTimer() { <-time.NewTimer(4 * time.Hour).C }

func bubbleWaitGroup(g *sync.WaitGroup) { g.Wait() }

func bubbleCond() {
	c := sync.NewCond(&sync.Mutex{})
	c.L.Lock()
	c.Wait()
}

func bubbleNil() { <-nothing }

func bubbleMutex() { acct.lock.Lock() }

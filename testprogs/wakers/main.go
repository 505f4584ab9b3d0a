// Wakers is a process full of waits: who waits for what, and whose code will end it. The
// truth is in expect.toml: `waker` is the function of the goroutines that will, or
// none. Traps are in it too: goroutines that touch the same lock and don't have it.
//
//	wakers FOLDER          parks
//	wakers FOLDER abort    parks and dies, to leave a core
package main

import (
	_ "embed"
	"os"
	"sync"
	"syscall"
	"time"

	"example.com/testprogs/internal/raw"
	"example.com/testprogs/internal/ready"
)

//go:embed expect.toml
var expect string

// long is how long those sleep who would go on some day.
const long = 100 * time.Hour

func main() {
	circles()
	holders()
	traps()
	groups()
	channels()
	ready.Program{Expect: []string{expect}}.Park()
	if len(os.Args) > 2 && os.Args[2] == "abort" {
		raw.SetDefault(syscall.SIGABRT)
		raw.Raise(syscall.SIGABRT)
	}
	ready.Program{}.Serve()
}

// meet lets goroutines take their first lock before any takes its second.
type meet struct{ group sync.WaitGroup }

func newMeet(n int) *meet {
	m := &meet{}
	m.group.Add(n)
	return m
}

func (m *meet) here() {
	m.group.Done()
	m.group.Wait()
}

func circles() {
	var a, b sync.Mutex
	both := newMeet(2)
	go abbaFirst(&a, &b, both)
	go abbaSecond(&a, &b, both)

	const seats = 5
	forks := make([]sync.Mutex, seats)
	all := newMeet(seats)
	for i := 0; i < seats; i++ {
		go philosopher(forks, i, all)
	}
	go lockTwice(&sync.Mutex{})
}

func abbaFirst(a, b *sync.Mutex, both *meet) {
	a.Lock()
	defer a.Unlock()
	both.here()
	b.Lock()
	b.Unlock()
}

func abbaSecond(a, b *sync.Mutex, both *meet) {
	b.Lock()
	both.here()
	a.Lock()
	a.Unlock()
	b.Unlock()
}

func philosopher(forks []sync.Mutex, seat int, all *meet) {
	left, right := &forks[seat], &forks[(seat+1)%len(forks)]
	left.Lock()
	all.here()
	right.Lock()
	right.Unlock()
	left.Unlock()
}

func lockTwice(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
	mu.Lock()
	mu.Unlock()
}

type account struct {
	name string
	mu   sync.Mutex
	rw   sync.RWMutex
	sum  int
}

func holders() {
	acc := &account{name: "x"}
	start(acc.lockHolder)
	for i := 0; i < 3; i++ {
		go acc.lockWaiter()
	}
	start(acc.readHolder)
	go acc.rwWriter()

	once := &sync.Once{}
	start(func(held func()) { onceRunner(once, held) })
	go onceWaiter(once)
}

// start runs f in a goroutine and returns when f says that it has what it wants.
func start(f func(held func())) {
	held := make(chan bool)
	go f(func() { held <- true })
	<-held
}

func (a *account) lockHolder(held func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held()
	time.Sleep(long)
	a.sum++
}

func (a *account) lockWaiter() {
	a.mu.Lock()
	a.sum++
	a.mu.Unlock()
}

func (a *account) readHolder(held func()) {
	a.rw.RLock()
	held()
	time.Sleep(long)
	a.rw.RUnlock()
}

func (a *account) rwWriter() {
	a.rw.Lock()
	a.sum++
	a.rw.Unlock()
}

func onceRunner(once *sync.Once, held func()) {
	once.Do(func() {
		held()
		time.Sleep(long)
	})
}

func onceWaiter(once *sync.Once) {
	once.Do(func() {})
}

func traps() {
	flagged := &sync.Mutex{}
	start(func(held func()) { flagHolder(flagged, held) })
	go flagFalse(flagged, len(expect) == 0)
	go flagWaiter(flagged)

	parked := &sync.Mutex{}
	gone := make(chan bool)
	go unlocksAndParks(parked, gone)
	<-gone
	start(func(held func()) { laterHolder(parked, held) })
	go laterWaiter(parked)

	cond := sync.NewCond(&sync.Mutex{})
	waits := make(chan bool)
	go condWaiter(cond, waits)
	<-waits
	cond.L.Lock() // the waiter has given it back by now
	cond.L.Unlock()
	start(func(held func()) { condHolder(cond, held) })
	go condLockWaiter(cond)
	go condSignaller(cond)
}

func flagHolder(mu *sync.Mutex, held func()) {
	mu.Lock()
	held()
	time.Sleep(long)
	mu.Unlock()
}

// flagFalse would unlock if it had locked.
func flagFalse(mu *sync.Mutex, locked bool) {
	time.Sleep(long)
	if locked {
		mu.Unlock()
	}
}

func flagWaiter(mu *sync.Mutex) {
	mu.Lock()
	mu.Unlock()
}

// unlocksAndParks has a pending Unlock, and has given the lock back for a while.
func unlocksAndParks(mu *sync.Mutex, gone chan bool) {
	mu.Lock()
	defer mu.Unlock()
	mu.Unlock()
	gone <- true
	time.Sleep(long)
	mu.Lock()
}

func laterHolder(mu *sync.Mutex, held func()) {
	mu.Lock()
	held()
	time.Sleep(long)
	mu.Unlock()
}

func laterWaiter(mu *sync.Mutex) {
	mu.Lock()
	mu.Unlock()
}

func condWaiter(cond *sync.Cond, waits chan bool) {
	cond.L.Lock()
	defer cond.L.Unlock()
	waits <- true
	cond.Wait()
}

func condHolder(cond *sync.Cond, held func()) {
	cond.L.Lock()
	held()
	time.Sleep(long)
	cond.L.Unlock()
}

func condLockWaiter(cond *sync.Cond) {
	cond.L.Lock()
	cond.L.Unlock()
}

func condSignaller(cond *sync.Cond) {
	time.Sleep(long)
	cond.Signal()
}

func groups() {
	group := &sync.WaitGroup{}
	group.Add(1)
	go groupWorker(group)
	go groupWaiter(group)

	missing := &sync.WaitGroup{}
	missing.Add(1)
	go missingWaiter(missing)
}

func groupWorker(group *sync.WaitGroup) {
	defer group.Done()
	time.Sleep(long)
}

func groupWaiter(group *sync.WaitGroup)   { group.Wait() }
func missingWaiter(group *sync.WaitGroup) { group.Wait() }

func channels() {
	values := make(chan int)
	go sleepingSender(values)
	go valueWaiter(values)

	done := make(chan struct{})
	go sleepingCloser(done)
	go doneWaiter(done)

	full := make(chan int, 2)
	full <- 1
	full <- 2
	go sleepingConsumer(full)
	go fullSender(full)

	go deadReceiver(make(chan int))
	go deadSelect(make(chan int), make(chan string))
}

func sleepingSender(values chan int) {
	time.Sleep(long)
	values <- 1
}

func valueWaiter(values chan int) { <-values }

func sleepingCloser(done chan struct{}) {
	defer close(done)
	time.Sleep(long)
}

func doneWaiter(done chan struct{}) { <-done }

func sleepingConsumer(full chan int) {
	time.Sleep(long)
	for v := range full {
		_ = v
	}
}

func fullSender(full chan int) { full <- 3 }

func deadReceiver(values chan int) { <-values }

func deadSelect(values chan int, words chan string) {
	select {
	case <-values:
	case words <- "x":
	}
}

package states

import (
	"runtime"
	"sync"
	"time"
)

// account is what the lock goroutines fight over.
type account struct {
	id    int
	lock  sync.Mutex
	table sync.RWMutex
	once  sync.Once
	work  sync.WaitGroup
	ready *sync.Cond
}

var acct = newAccount()

func newAccount() *account {
	a := &account{id: 42}
	a.ready = sync.NewCond(&sync.Mutex{})
	return a
}

// read is a table of which a reader never comes back; a writer waits for it.
var read sync.RWMutex

// written is a table whose writer never comes back.
var written sync.RWMutex

func startLocks() {
	locked := make(chan bool)
	go mutexHolder(acct, locked)
	go rwWriteHolder(locked)
	go rwReadHolder(locked)
	go onceFirst(locked)
	for i := 0; i < 4; i++ {
		<-locked
	}
	acct.work.Add(2)
	for i := 0; i < 3; i++ {
		go mutexWaiter(acct)
	}
	go rwReaderBehindWriter()
	go rwWriterBehindWriter()
	go rwWriterBehindReader()
	go rwReaderBehindPendingWriter()
	go onceSecond()
	go waitGroupWaiter(acct)
	go waitGroupWaiter(acct)
	go condWaiter(acct.ready)
	go condWaiter(acct.ready)
}

func mutexHolder(a *account, locked chan<- bool) {
	a.lock.Lock()
	defer a.lock.Unlock()
	locked <- true
	hold()
}

func mutexWaiter(a *account) {
	a.lock.Lock()
	defer a.lock.Unlock()
	use(a)
}

func rwWriteHolder(locked chan<- bool) {
	written.Lock()
	locked <- true
	hold()
	written.Unlock()
}

func rwReadHolder(locked chan<- bool) {
	read.RLock()
	locked <- true
	hold()
	read.RUnlock()
}

func rwReaderBehindWriter() {
	written.RLock()
	use(1)
	written.RUnlock()
}

func rwWriterBehindWriter() {
	written.Lock()
	use(1)
	written.Unlock()
}

func rwWriterBehindReader() {
	read.Lock()
	use(1)
	read.Unlock()
}

// rwReaderBehindPendingWriter could read, but a writer waits already.
func rwReaderBehindPendingWriter() {
	for read.TryRLock() {
		read.RUnlock()
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	read.RLock()
	use(1)
	read.RUnlock()
}

func onceFirst(locked chan<- bool) {
	acct.once.Do(func() {
		locked <- true
		hold()
	})
}

func onceSecond() { acct.once.Do(func() {}) }

func waitGroupWaiter(a *account) { a.work.Wait() }

func condWaiter(c *sync.Cond) {
	c.L.Lock()
	defer c.L.Unlock()
	for {
		c.Wait()
	}
}

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	add("trysleeper", trySleeper)
	add("closeonce", closeOnce)
	for name, start := range map[string]func(*teller){
		"tryspinner":   trySpinner,
		"trygosched":   tryGosched,
		"tryreader":    tryReader,
		"trywriter":    tryWriter,
		"casspinner":   casSpinner,
		"lockspinners": lockSpinners,
		"trycircle":    tryCircle,
	} {
		add(name, start)
		alone[name] = true
	}
}

// spinning says that a goroutine runs for ever.
func spinning(say func(fact), name string) { say(fact{name: name, waits: "nothing"}) }

// trySpinner tries for ever without a pause and never has the lock.
func trySpinner(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	t.start(func(say func(fact)) {
		spinning(say, "spinner")
		for !mu.TryLock() {
		}
		mu.Unlock()
	})
	waiter(t, mu)
}

// tryGosched lets others run between two tries.
func tryGosched(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	for i := 0; i < 3; i++ {
		name := string(rune('a' + i))
		t.start(func(say func(fact)) {
			spinning(say, name)
			for !mu.TryLock() {
				runtime.Gosched()
			}
			defer mu.Unlock()
			spins++
		})
	}
	waiter(t, mu)
}

// tryReader tries to read while a writer waits for a reader that has ended.
func tryReader(t *teller) {
	rw := &sync.RWMutex{}
	done := make(chan bool)
	go func() {
		rw.RLock()
		close(done)
	}()
	<-done
	t.start(func(say func(fact)) {
		say(fact{name: "writer", waits: "rwmutex", objects: on(rw)})
		rw.Lock()
		rw.Unlock()
	})
	awaitWriter(rw)
	for _, name := range []string{"one", "two"} {
		name := name
		t.start(func(say func(fact)) {
			spinning(say, name)
			for !rw.TryRLock() {
				if name == "two" {
					runtime.Gosched()
				}
			}
			rw.RUnlock()
		})
	}
}

// tryWriter tries to write what a writer that has ended has locked.
func tryWriter(t *teller) {
	rw := &sync.RWMutex{}
	done := make(chan bool)
	go func() {
		rw.Lock()
		close(done)
	}()
	<-done
	t.start(func(say func(fact)) {
		spinning(say, "spinner")
		for !rw.TryLock() {
		}
		rw.Unlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "reader", waits: "rwmutex", objects: on(rw)})
		rw.RLock()
		rw.RUnlock()
	})
}

// spinLock is made by hand; who does not want to spin sleeps until somebody unlocks.
type spinLock struct {
	word int32
	wake chan struct{}
}

func (l *spinLock) unlock() {
	atomic.StoreInt32(&l.word, 0)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// casSpinner: one has the lock, one spins, one sleeps. The spinner will wake the sleeper only if it
// comes to have the lock.
func casSpinner(t *teller) {
	l := &spinLock{wake: make(chan struct{})}
	t.first(func(say func(fact), begun func()) {
		atomic.StoreInt32(&l.word, 1)
		begun()
		hold(say, "holder")
		l.unlock()
	})
	t.start(func(say func(fact)) {
		spinning(say, "spinner")
		for !atomic.CompareAndSwapInt32(&l.word, 0, 1) {
		}
		l.unlock()
	})
	t.start(func(say func(fact)) {
		spinning(say, "polite")
		for !atomic.CompareAndSwapInt32(&l.word, 0, 1) {
			runtime.Gosched()
		}
		l.unlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "sleeper", waits: "channel", objects: on(l.wake), wakers: []string{"holder"}})
		<-l.wake
	})
}

// lockSpinners fight for a lock that is free; none of them has another one, which has leaked.
func lockSpinners(t *teller) {
	busy, leaked := &sync.Mutex{}, &sync.Mutex{}
	leak(leaked)
	for i := 0; i < 3; i++ {
		name, others := string("abc"[i]), []string{string("bca"[i]), string("cab"[i])}
		t.start(func(say func(fact)) {
			// Each may be met while it waits for another.
			say(fact{name: name, waits: "nothing", wakers: others})
			for never != nil {
				busy.Lock()
				if leaked.TryLock() {
					leaked.Unlock()
				}
				busy.Unlock()
			}
		})
	}
	waiter(t, leaked)
}

// tryCircle: two locks taken in opposite order, while a third goroutine tries one of them.
func tryCircle(t *teller) {
	s := &accounts{}
	var both sync.WaitGroup
	both.Add(2)
	t.start(func(say func(fact)) {
		s.a.Lock()
		both.Done()
		both.Wait()
		say(fact{name: "left", waits: "mutex", objects: on(&s.b), wakers: []string{"right"}, deadlock: true})
		s.b.Lock()
		s.b.Unlock()
		s.a.Unlock()
	})
	t.start(func(say func(fact)) {
		s.b.Lock()
		both.Done()
		both.Wait()
		say(fact{name: "right", waits: "mutex", objects: on(&s.a), wakers: []string{"left"}, deadlock: true})
		s.a.Lock()
		s.a.Unlock()
		s.b.Unlock()
	})
	both.Wait()
	t.start(func(say func(fact)) {
		spinning(say, "tries")
		for !s.a.TryLock() {
		}
		s.a.Unlock()
	})
}

//go:noinline
func tryLater(mu *sync.Mutex) bool {
	time.Sleep(1000 * time.Hour)
	return mu.TryLock()
}

// trySleeper is parked in the function that tries.
func trySleeper(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	t.start(func(say func(fact)) {
		say(fact{name: "sleeper", waits: "sleep", wakers: []string{byTime}})
		for !tryLater(mu) {
		}
		mu.Unlock()
	})
	waiter(t, mu)
}

// closeOnce: who comes second does not close.
func closeOnce(t *teller) {
	var closed int32
	end := make(chan bool)
	end2 := make(chan bool)
	atomic.StoreInt32(&closed, 1)
	t.start(func(say func(fact)) {
		hold(say, "second")
		if atomic.CompareAndSwapInt32(&closed, 0, 1) {
			close(end)
		}
		close(end2)
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "channel", objects: on(end)})
		<-end
	})
	t.start(func(say func(fact)) {
		say(fact{name: "other", waits: "channel", objects: on(end2), wakers: []string{"second"}})
		<-end2
	})
}

package main

import (
	"fmt"
	"sync"
	"time"
)

func init() {
	add("condtrap", condTrap)
	add("unlocktrap", unlockTrap)
	add("flagtrap", flagTrap)
	add("looptrap", loopTrap)
	add("handoverhand", handOverHand)
	add("trylock", tryLockTrap)
	add("rwtrap", readTrap)
}

// leak locks mu for a goroutine that ends: whoever is named as its holder is wrong.
func leak(mu *sync.Mutex) {
	done := make(chan bool)
	go func() {
		mu.Lock()
		close(done)
	}()
	<-done
}

func waiter(t *teller, mu *sync.Mutex) {
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu)})
		mu.Lock()
		mu.Unlock()
	})
}

// condTrap: who waits for a Cond has a deferred Unlock but not the lock.
func condTrap(t *teller) {
	mu := &sync.Mutex{}
	cond := sync.NewCond(mu)
	parked := make(chan bool)
	t.start(func(say func(fact)) {
		mu.Lock()
		defer mu.Unlock()
		say(fact{name: "cond", waits: "cond", objects: on(cond)})
		close(parked)
		cond.Wait()
	})
	<-parked
	leak(mu)
	waiter(t, mu)
}

// unlockTrap: it has unlocked for the time of its wait, under a deferred Unlock.
func unlockTrap(t *teller) {
	mu := &sync.Mutex{}
	t.first(func(say func(fact), begun func()) {
		mu.Lock()
		defer mu.Unlock()
		mu.Unlock()
		begun()
		hold(say, "bystander")
		mu.Lock()
	})
	leak(mu)
	waiter(t, mu)
}

// flagTrap: a flag says that there is nothing to unlock.
func flagTrap(t *teller) {
	mu := &sync.Mutex{}
	t.first(func(say func(fact), begun func()) {
		locked := false
		if number() == "never" {
			mu.Lock()
			locked = true
		}
		begun()
		hold(say, "bystander")
		if locked {
			mu.Unlock()
		}
	})
	leak(mu)
	waiter(t, mu)
}

// loopTrap: it locks and unlocks in each round, and waits outside of that.
func loopTrap(t *teller) {
	mu := &sync.Mutex{}
	rounds := 0
	t.first(func(say func(fact), begun func()) {
		for i := 0; i < 3; i++ {
			mu.Lock()
			rounds++
			mu.Unlock()
			if i == 1 {
				begun()
				hold(say, "bystander")
			}
		}
	})
	leak(mu)
	waiter(t, mu)
}

type node struct {
	lock sync.Mutex
	next *node
}

// handOverHand: of three nodes it has passed the first, and holds the second.
func handOverHand(t *teller) {
	third := &node{}
	second := &node{next: third}
	first := &node{next: second}
	t.first(func(say func(fact), begun func()) {
		at := first
		at.lock.Lock()
		at.next.lock.Lock()
		at.lock.Unlock()
		at = at.next
		begun()
		hold(say, "walker")
		at.lock.Unlock()
	})
	leak(&first.lock)
	waiter(t, &first.lock)
	t.start(func(say func(fact)) {
		say(fact{name: "behind", waits: "mutex", objects: on(&second.lock), wakers: []string{"walker"}})
		second.lock.Lock()
		second.lock.Unlock()
	})
}

// tryLockTrap: it tries for ever and never has the lock.
func tryLockTrap(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	t.start(func(say func(fact)) {
		say(fact{name: "spinner", waits: "sleep", wakers: []string{byTime}})
		for !mu.TryLock() {
			time.Sleep(1000 * time.Hour)
		}
		mu.Unlock()
	})
	waiter(t, mu)
}

// readTrap: a reader that has ended its reading is not what the writer waits for.
func readTrap(t *teller) {
	rw := &sync.RWMutex{}
	t.first(func(say func(fact), begun func()) {
		rw.RLock()
		rw.RUnlock()
		begun()
		hold(say, "bystander")
		rw.RLock()
		rw.RUnlock()
	})
	done := make(chan bool)
	go func() {
		rw.RLock()
		close(done)
	}()
	<-done
	t.start(func(say func(fact)) {
		say(fact{name: fmt.Sprint("writer"), waits: "rwmutex", objects: on(rw)})
		rw.Lock()
		rw.Unlock()
	})
}

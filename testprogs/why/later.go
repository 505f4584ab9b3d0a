package main

import (
	"context"
	"sync"
	"time"
)

func init() {
	add("afterunlock", afterUnlock)
	add("aftercircle", afterCircle)
	add("aftersend", afterSend)
	add("afterdone", afterDone)
	add("aftertrap", afterTrap)
	add("contextchild", contextChild)
}

const day = 24 * time.Hour

// afterUnlock: who locked it has ended; a timer will unlock it.
func afterUnlock(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	time.AfterFunc(day, mu.Unlock)
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu), wakers: []string{byTime}})
		mu.Lock()
		mu.Unlock()
	})
}

// afterCircle looks like two locks taken in opposite order, but a timer will release one of them.
func afterCircle(t *teller) {
	a, b := &sync.Mutex{}, &sync.Mutex{}
	var both sync.WaitGroup
	both.Add(2)
	t.start(func(say func(fact)) {
		a.Lock()
		time.AfterFunc(day, func() { a.Unlock() })
		both.Done()
		both.Wait()
		say(fact{name: "left", waits: "mutex", objects: on(b), wakers: []string{"right"}})
		b.Lock()
		b.Unlock()
	})
	t.start(func(say func(fact)) {
		b.Lock()
		both.Done()
		both.Wait()
		say(fact{name: "right", waits: "mutex", objects: on(a), wakers: []string{byTime}})
		a.Lock()
		a.Unlock()
		b.Unlock()
	})
	both.Wait()
}

// afterSend: a timer will send, another close.
func afterSend(t *teller) {
	values, end := make(chan int), make(chan bool)
	time.AfterFunc(day, func() { values <- 1 })
	time.AfterFunc(day, func() { close(end) })
	t.start(func(say func(fact)) {
		say(fact{name: "value", waits: "channel", objects: on(values), wakers: []string{byTime}})
		<-values
	})
	t.start(func(say func(fact)) {
		say(fact{name: "end", waits: "channel", objects: on(end), wakers: []string{byTime}})
		<-end
	})
}

func afterDone(t *teller) {
	wg := &sync.WaitGroup{}
	wg.Add(1)
	time.AfterFunc(day, wg.Done)
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "waitgroup", objects: on(wg), wakers: []string{byTime}})
		wg.Wait()
	})
}

// afterTrap: a timer that was stopped, and one that takes the lock before it releases it.
func afterTrap(t *teller) {
	mu := &sync.Mutex{}
	leak(mu)
	time.AfterFunc(day, mu.Unlock).Stop()
	time.AfterFunc(day, func() {
		mu.Lock()
		spins++
		mu.Unlock()
	})
	waiter(t, mu)
}

// contextChild waits for a context below one that has a deadline.
func contextChild(t *teller) {
	parent, stop := context.WithTimeout(context.Background(), day)
	child, cancel := context.WithCancel(parent)
	forgotten = append(forgotten, stop, cancel)
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "channel", objects: on(child.Done()), wakers: []string{byTime}})
		<-child.Done()
	})
}

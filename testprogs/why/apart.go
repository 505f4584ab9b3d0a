package main

import (
	"runtime"
	"time"
)

func init() {
	add("handshake", handshake)
	add("shakeglobal", shakeGlobal)
	add("shakekept", shakeKept)
	add("shakequeued", shakeQueued)
	add("shakefinalized", shakeFinalized)
	add("shakestuck", shakeStuckHolder)
}

// shake lets two goroutines each wait to receive before they send. It is a circle unless somebody else
// can get at one of the channels.
func shake(t *teller, ping, pong chan int, circle bool) {
	t.start(func(say func(fact)) {
		say(fact{name: "left", waits: "channel", objects: on(ping), wakers: []string{"right"}, deadlock: circle})
		<-ping
		pong <- 1
	})
	t.start(func(say func(fact)) {
		say(fact{name: "right", waits: "channel", objects: on(pong), wakers: []string{"left"}, deadlock: circle})
		<-pong
		ping <- 1
	})
}

// box keeps a channel where only memory shows it.
type box struct {
	name string
	to   interface{}
}

// handshake: nobody else has the channels; one waits behind the two.
func handshake(t *teller) {
	ping, pong := make(chan int), make(chan int)
	shake(t, ping, pong, true)
	t.start(func(say func(fact)) {
		say(fact{name: "behind", waits: "channel", objects: on(ping), wakers: []string{"right"}})
		<-ping
	})
}

var published = map[string]*box{}

// shakeGlobal: a global variable leads to one of the channels.
func shakeGlobal(t *teller) {
	ping, pong := make(chan int), make(chan int)
	published["pong"] = &box{"pong", pong}
	shake(t, ping, pong, false)
}

// shakeKept: a goroutine that sleeps has one in an object of the heap.
func shakeKept(t *teller) {
	ping, pong := make(chan int), make(chan int)
	shake(t, ping, pong, false)
	kept := &box{"ping", ping}
	t.start(func(say func(fact)) {
		say(fact{name: "sleeper", waits: "sleep", wakers: []string{byTime}})
		time.Sleep(time.Hour)
		runtime.KeepAlive(kept)
	})
}

// shakeQueued: one lies in the buffer of a channel whose reader sleeps.
func shakeQueued(t *teller) {
	ping, pong := make(chan int), make(chan int)
	shake(t, ping, pong, false)
	queue := make(chan *box, 4)
	queue <- &box{"ping", ping}
	t.start(func(say func(fact)) {
		say(fact{name: "sleeper", waits: "sleep", wakers: []string{byTime}})
		time.Sleep(time.Hour)
		for one := range queue {
			runtime.KeepAlive(one)
		}
	})
}

// shakeFinalized: a finalizer has one.
func shakeFinalized(t *teller) {
	ping, pong := make(chan int), make(chan int)
	shake(t, ping, pong, false)
	runtime.SetFinalizer(&box{"dropped", nil}, func(*box) { close(pong) })
}

// shakeStuckHolder: another has one, but waits for a third channel that nobody has.
func shakeStuckHolder(t *teller) {
	ping, pong := make(chan int), make(chan int)
	shake(t, ping, pong, true)
	kept := &box{"ping", ping}
	t.start(func(say func(fact)) {
		alone := make(chan int)
		say(fact{name: "holder", waits: "channel", objects: on(alone)})
		<-alone
		runtime.KeepAlive(kept)
	})
}

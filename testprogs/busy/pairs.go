package main

import "sync"

const (
	pairs  = 24
	movers = 6
)

// parcel has the channels of a pair that wait for each other: each would receive
// before it sends. They look like a deadlock, but for whoever has the parcel, which is
// handed on and on: from a stack to a queue, to a shelf, to another object, until one
// ends the pair's wait.
type parcel struct {
	moves      int
	ping, pong chan int
}

type post struct {
	queue chan *parcel
	lock  sync.Mutex
	shelf map[int]*parcel
}

func startPairs() {
	p := &post{queue: make(chan *parcel, pairs), shelf: map[int]*parcel{}}
	for i := 0; i < pairs; i++ {
		p.queue <- newPair()
	}
	for i := 0; i < movers; i++ {
		go p.move(i)
	}
}

func newPair() *parcel {
	ping, pong := make(chan int), make(chan int)
	go exchange(ping, pong)
	go exchange(pong, ping)
	return &parcel{ping: ping, pong: pong}
}

func exchange(from, to chan int) {
	if _, open := <-from; open {
		to <- 1
	}
}

func (p *post) move(number int) {
	for {
		one := <-p.queue
		pause()
		if one.moves > 20 {
			close(one.ping)
			close(one.pong)
			one = newPair()
		}
		// The old parcel is left empty.
		next := &parcel{one.moves + 1, one.ping, one.pong}
		one.ping, one.pong = nil, nil
		p.store(number, next)
		pause()
		p.queue <- p.take(number)
	}
}

func (p *post) store(number int, one *parcel) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.shelf[number] = one
}

func (p *post) take(number int) *parcel {
	p.lock.Lock()
	defer p.lock.Unlock()
	one := p.shelf[number]
	delete(p.shelf, number)
	return one
}

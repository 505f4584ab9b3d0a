package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func init() {
	add("deadreceiver", deadReceiver)
	add("fullbuffer", fullBuffer)
	add("deadselect", deadSelect)
	add("liveselect", liveSelect)
	add("nilchannels", nilChannels)
	add("cancel", forgottenCancel)
	add("errgroup", errGroup)
	add("pool", exhaustedPool)
	add("semaphore", channelSemaphore)
	add("singleflight", singleFlight)
	add("channels", channelOfChannels)
	add("reply", replyNeverComes)
	add("timers", timers)
	add("deadline", contextDeadline)
	add("notify", signalNotify)
	add("notifymany", notifyMany)
}

// awaitWriter returns when a writer waits for rw: TryRLock fails then.
func awaitWriter(rw *sync.RWMutex) {
	for rw.TryRLock() {
		rw.RUnlock()
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

// deadReceiver: the result of a worker is wanted by nobody.
func deadReceiver(t *teller) {
	results := make(chan int)
	t.start(func(say func(fact)) {
		say(fact{name: "worker", waits: "channel", objects: on(results)})
		results <- 42
	})
}

// fullBuffer: producers wait for a consumer that waits for something else.
func fullBuffer(t *teller) {
	jobs := make(chan string, 2)
	t.first(func(say func(fact), begun func()) {
		begun()
		for job := range jobs {
			if job == "first" {
				hold(say, "consumer")
			}
		}
	})
	jobs <- "first"
	for len(jobs) > 0 {
		runtime.Gosched()
	}
	jobs <- "second"
	jobs <- "third"
	for i := 0; i < 3; i++ {
		name := fmt.Sprint("producer", i)
		t.start(func(say func(fact)) {
			say(fact{name: name, waits: "channel", objects: on(jobs), wakers: []string{"consumer"}})
			jobs <- name
		})
	}
}

// deadSelect: no case can ever be.
func deadSelect(t *teller) {
	in, out := make(chan int), make(chan struct{})
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "select", objects: on(in, out)})
		select {
		case v := <-in:
			println(v)
		case out <- struct{}{}:
		}
	})
}

// liveSelect: one case has a partner that is stuck itself.
func liveSelect(t *teller) {
	data, quit := make(chan int), make(chan bool)
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "select", objects: on(data, quit), wakers: []string{"sender"}})
		select {
		case <-data:
		case <-quit:
		}
	})
	t.start(func(say func(fact)) {
		hold(say, "sender")
		data <- 1
	})
}

func nilChannels(t *teller) {
	var none chan int
	t.start(func(say func(fact)) {
		say(fact{name: "receiver", waits: "forever"})
		<-none
	})
	t.start(func(say func(fact)) {
		say(fact{name: "sender", waits: "forever"})
		none <- 1
	})
	t.start(func(say func(fact)) {
		say(fact{name: "empty", waits: "forever"})
		select {}
	})
	t.start(func(say func(fact)) {
		say(fact{name: "select", waits: "forever"})
		select {
		case <-none:
		case none <- 1:
		}
	})
}

var forgotten []context.CancelFunc

// forgottenCancel: nobody will call the cancel function.
func forgottenCancel(t *teller) {
	ctx, cancel := context.WithCancel(context.Background())
	forgotten = append(forgotten, cancel)
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "channel", objects: on(ctx.Done())})
		<-ctx.Done()
	})
}

// errGroup has the shape of golang.org/x/sync/errgroup: members end with Done.
func errGroup(t *teller) {
	type group struct {
		wg   sync.WaitGroup
		once sync.Once
		err  error
	}
	g := &group{}
	run := func(f func() error) {
		g.wg.Add(1)
		go func() {
			defer g.wg.Done()
			if err := f(); err != nil {
				g.once.Do(func() { g.err = err })
			}
		}()
	}
	t.expected++
	run(func() error {
		hold(func(said fact) { t.say("errgroup.", said) }, "member")
		return nil
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "waitgroup", objects: on(&g.wg), wakers: []string{"member"}})
		g.wg.Wait()
	})
}

type pool struct{ free chan int }

func (p *pool) get() int  { return <-p.free }
func (p *pool) put(v int) { p.free <- v }

// exhaustedPool: who has the only connection waits for something else, and will put it back.
func exhaustedPool(t *teller) {
	p := &pool{free: make(chan int, 1)}
	p.put(1)
	t.first(func(say func(fact), begun func()) {
		c := p.get()
		defer p.put(c)
		begun()
		hold(say, "user")
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "channel", objects: on(p.free), wakers: []string{"user"}})
		p.put(p.get())
	})
}

// channelSemaphore: the places are taken.
func channelSemaphore(t *teller) {
	places := make(chan struct{}, 1)
	t.first(func(say func(fact), begun func()) {
		places <- struct{}{}
		defer func() { <-places }()
		begun()
		hold(say, "inside")
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "channel", objects: on(places), wakers: []string{"inside"}})
		places <- struct{}{}
	})
}

// singleFlight has the shape of golang.org/x/sync/singleflight: the second caller waits for the first.
func singleFlight(t *teller) {
	type call struct {
		wg    sync.WaitGroup
		value int
	}
	type group struct {
		lock  sync.Mutex
		calls map[string]*call
	}
	g := &group{calls: map[string]*call{}}
	c := &call{}
	do := func(f func() int, joined func()) {
		g.lock.Lock()
		if other, ok := g.calls["key"]; ok {
			g.lock.Unlock()
			joined()
			other.wg.Wait()
			return
		}
		c.wg.Add(1)
		g.calls["key"] = c
		g.lock.Unlock()
		c.value = f()
		c.wg.Done()
		g.lock.Lock()
		delete(g.calls, "key")
		g.lock.Unlock()
	}
	t.first(func(say func(fact), begun func()) {
		do(func() int {
			begun()
			hold(say, "first")
			return 1
		}, func() {})
	})
	t.start(func(say func(fact)) {
		do(nil, func() {
			say(fact{name: "second", waits: "waitgroup", objects: on(&c.wg), wakers: []string{"first"}})
		})
	})
}

// channelOfChannels: a request carries the channel of the answer; nobody takes requests.
func channelOfChannels(t *teller) {
	requests := make(chan chan<- string)
	t.start(func(say func(fact)) {
		say(fact{name: "client", waits: "channel", objects: on(requests)})
		answer := make(chan string)
		requests <- answer
		<-answer
	})
}

// replyNeverComes: a server took the request and is stuck before it answers.
func replyNeverComes(t *teller) {
	requests := make(chan chan string)
	t.start(func(say func(fact)) {
		for answer := range requests {
			hold(say, "server")
			answer <- "ok"
		}
	})
	t.start(func(say func(fact)) {
		answer := make(chan string)
		requests <- answer
		say(fact{name: "client", waits: "channel", objects: on(answer), wakers: []string{"server"}})
		<-answer
	})
}

func timers(t *teller) {
	t.start(func(say func(fact)) {
		say(fact{name: "sleep", waits: "sleep", wakers: []string{byTime}})
		time.Sleep(time.Hour)
	})
	t.start(func(say func(fact)) {
		c := time.After(2 * time.Hour)
		say(fact{name: "after", waits: "timer", objects: on(c), wakers: []string{byTime}})
		<-c
	})
	t.start(func(say func(fact)) {
		ticker := time.NewTicker(3 * time.Hour)
		say(fact{name: "ticker", waits: "timer", objects: on(ticker.C), wakers: []string{byTime}})
		<-ticker.C
	})
	t.start(func(say func(fact)) {
		timer := time.NewTimer(4 * time.Hour)
		other := make(chan int)
		say(fact{name: "select", waits: "select", objects: on(timer.C, other), wakers: []string{byTime}})
		select {
		case <-timer.C:
		case <-other:
		}
	})
	t.start(func(say func(fact)) {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		say(fact{name: "stopped", waits: "channel", objects: on(timer.C)})
		<-timer.C
	})
}

// contextDeadline: a timer ends the context.
func contextDeadline(t *teller) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Hour)
	forgotten = append(forgotten, cancel)
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "channel", objects: on(ctx.Done()), wakers: []string{byTime}})
		<-ctx.Done()
	})
}

// signalNotify: a signal will wake it.
func signalNotify(t *teller) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	sayLoop(t)
	t.start(func(say func(fact)) {
		say(fact{name: "me", waits: "channel", objects: on(c), wakers: []string{outside, "loop"}})
		<-c
	})
}

// notifyMany: more channels than fit into a small map, and two that no signal is passed on to: one is given
// no more, the other never was.
func notifyMany(t *teller) {
	for i := 0; i < 40; i++ {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR2)
		name := fmt.Sprint("one", i)
		t.start(func(say func(fact)) {
			say(fact{name: name, waits: "channel", objects: on(c), wakers: []string{outside, "loop"}})
			<-c
		})
	}
	sayLoop(t)
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGUSR2)
	signal.Stop(stopped)
	for name, c := range map[string]chan os.Signal{"stopped": stopped, "unknown": make(chan os.Signal)} {
		name, c := name, c
		t.start(func(say func(fact)) {
			say(fact{name: name, waits: "channel", objects: on(c)})
			<-c
		})
	}
}

// sayLoop says what the goroutine of package os/signal does, as soon as it is there.
func sayLoop(t *teller) {
	t.expected++
	begin := time.Now()
	for goroutineIn("os/signal.loop") == "" {
		if time.Since(begin) > time.Minute {
			must(fmt.Errorf("no goroutine in os/signal.loop"))
		}
		time.Sleep(time.Millisecond)
	}
	t.say(t.name+".", fact{name: "loop", id: goroutineIn("os/signal.loop"), waits: "signal", wakers: []string{outside}})
}

// goroutineIn is the number of a goroutine with this function.
func goroutineIn(function string) string {
	buf := make([]byte, 1<<20)
	for _, block := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(block, "\n"+function+"(") {
			return strings.SplitN(strings.TrimPrefix(block, "goroutine "), " ", 2)[0]
		}
	}
	return ""
}

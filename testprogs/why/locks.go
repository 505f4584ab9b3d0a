package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"sync"
)

func init() {
	add("philosophers", philosophers)
	add("inversion", inversion)
	add("self", selfLock)
	add("recursiveread", recursiveRead)
	add("starvation", starvation)
	add("writers", writers)
	add("heldread", heldRead)
	add("leaked", leakedLock)
	add("kept", keptLock)
	add("keptread", keptRead)
	add("handed", handedLock)
	add("shards", shards)
	add("once", onceStuck)
	add("onceself", onceSelf)
	add("cond", condWithoutSignal)
	add("group", groupWithoutDone)
	add("groupmember", groupMember)
	add("behindio", lockBehindIO)
	add("behindquery", lockBehindQuery)
	add("ring300", ring)
	add("many", many)
	add("spinner", spinner)
}

type fork struct{ sync.Mutex }

// philosophers each hold their left fork and want the right one.
func philosophers(t *teller) {
	const seats = 5
	var forks [seats]*fork
	for i := range forks {
		forks[i] = &fork{}
	}
	var seated sync.WaitGroup
	seated.Add(seats)
	for i := 0; i < seats; i++ {
		i := i
		t.start(func(say func(fact)) {
			left, right := forks[i], forks[(i+1)%seats]
			left.Lock()
			seated.Done()
			seated.Wait()
			say(fact{name: fmt.Sprint("seat", i), waits: "mutex", objects: on(&right.Mutex),
				wakers: []string{fmt.Sprint("seat", (i+1)%seats)}, deadlock: true})
			right.Lock()
			right.Unlock()
			left.Unlock()
		})
	}
	seated.Wait()
}

type accounts struct {
	a, b sync.Mutex
	sum  int
}

// inversion: two goroutines take two locks in opposite order.
func inversion(t *teller) {
	s := &accounts{}
	var both sync.WaitGroup
	both.Add(2)
	t.start(func(say func(fact)) {
		s.a.Lock()
		defer s.a.Unlock()
		both.Done()
		both.Wait()
		say(fact{name: "left", waits: "mutex", objects: on(&s.b), wakers: []string{"right"}, deadlock: true})
		s.b.Lock()
		defer s.b.Unlock()
		s.sum++
	})
	t.start(func(say func(fact)) {
		s.b.Lock()
		both.Done()
		both.Wait()
		say(fact{name: "right", waits: "mutex", objects: on(&s.a), wakers: []string{"left"}, deadlock: true})
		s.a.Lock()
		s.sum--
		s.a.Unlock()
		s.b.Unlock()
	})
	both.Wait()
}

// selfLock locks what it has locked.
func selfLock(t *teller) {
	mu := &sync.Mutex{}
	t.start(func(say func(fact)) {
		mu.Lock()
		defer mu.Unlock()
		say(fact{name: "me", waits: "mutex", objects: on(mu), wakers: []string{"me"}, deadlock: true})
		mu.Lock()
		mu.Unlock()
	})
}

// recursiveRead: a reader reads again while a writer waits.
func recursiveRead(t *teller) {
	rw := &sync.RWMutex{}
	waits := make(chan bool)
	t.first(func(say func(fact), begun func()) {
		rw.RLock()
		defer rw.RUnlock()
		begun()
		<-waits
		awaitWriter(rw)
		say(fact{name: "reader", waits: "rwmutex", objects: on(rw), wakers: []string{"writer"}, deadlock: true})
		rw.RLock()
		rw.RUnlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "writer", waits: "rwmutex", objects: on(rw), wakers: []string{"reader"}, deadlock: true})
		close(waits)
		rw.Lock()
		rw.Unlock()
	})
}

// starvation: a reader never ends, a writer waits for it, readers wait for the writer.
func starvation(t *teller) {
	rw := &sync.RWMutex{}
	t.first(func(say func(fact), begun func()) {
		rw.RLock()
		begun()
		hold(say, "holder")
		rw.RUnlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "writer", waits: "rwmutex", objects: on(rw), wakers: []string{"holder"}})
		rw.Lock()
		rw.Unlock()
	})
	awaitWriter(rw)
	for i := 0; i < 3; i++ {
		name := fmt.Sprint("reader", i)
		t.start(func(say func(fact)) {
			say(fact{name: name, waits: "rwmutex", objects: on(rw), wakers: []string{"writer"}})
			rw.RLock()
			rw.RUnlock()
		})
	}
}

// writers: one writes for ever, one is next, one behind it.
func writers(t *teller) {
	rw := &sync.RWMutex{}
	t.first(func(say func(fact), begun func()) {
		rw.Lock()
		begun()
		hold(say, "holder")
		rw.Unlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "next", waits: "rwmutex", objects: on(rw), wakers: []string{"holder"}})
		rw.Lock()
		rw.Unlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "reader", waits: "rwmutex", objects: on(rw), wakers: []string{"holder"}})
		rw.RLock()
		rw.RUnlock()
	})
}

// heldRead: a writer waits for a reader, another writer for the first.
func heldRead(t *teller) {
	rw := &sync.RWMutex{}
	t.first(func(say func(fact), begun func()) {
		rw.RLock()
		begun()
		hold(say, "holder")
		rw.RUnlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "first", waits: "rwmutex", objects: on(rw), wakers: []string{"holder"}})
		rw.Lock()
		rw.Unlock()
	})
	awaitWriter(rw)
	t.start(func(say func(fact)) {
		say(fact{name: "second", waits: "rwmutex", objects: on(rw), wakers: []string{"first"}})
		rw.Lock()
		rw.Unlock()
	})
}

// leakedLock: who locked it has ended.
func leakedLock(t *teller) {
	mu := &sync.Mutex{}
	done := make(chan bool)
	go func() {
		mu.Lock()
		close(done)
	}()
	<-done
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu)})
		mu.Lock()
		mu.Unlock()
	})
}

type counter struct {
	lock sync.Mutex
	sum  int
}

// keptLock: who locked it is there still, and will never unlock it.
func keptLock(t *teller) {
	c := &counter{}
	held := make(chan bool)
	t.start(func(say func(fact)) {
		say(fact{name: "holder", waits: "channel", objects: on(never)})
		c.lock.Lock()
		close(held)
		<-never
		c.sum++
	})
	<-held
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(&c.lock), wakers: []string{"holder"}})
		c.lock.Lock()
		c.lock.Unlock()
	})
}

type table struct {
	lock sync.RWMutex
	rows map[string]int
}

// keptRead: a reader that will never end its reading.
func keptRead(t *teller) {
	c := &table{}
	held := make(chan bool)
	t.start(func(say func(fact)) {
		say(fact{name: "reader", waits: "channel", objects: on(never)})
		c.lock.RLock()
		close(held)
		<-never
		c.rows["a"]++
	})
	<-held
	t.start(func(say func(fact)) {
		say(fact{name: "writer", waits: "rwmutex", objects: on(&c.lock), wakers: []string{"reader"}})
		c.lock.Lock()
		c.lock.Unlock()
	})
}

// handedLock: who locked it lets a function release it that only its caller knows, and somebody who has
// ended locked it anew.
func handedLock(t *teller) {
	c := &counter{}
	t.first(func(say func(fact), begun func()) {
		c.release(c.lock.Unlock, func() {
			begun()
			hold(say, "bystander")
		})
	})
	leak(&c.lock)
	waiter(t, &c.lock)
}

//go:noinline
func (c *counter) release(unlock, then func()) {
	c.lock.Lock()
	unlock()
	then()
	c.sum++
}

type sharded struct{ all [16]counter }

// shards: who has one of several locks, chosen by a hash, has not the first, which leaked.
func shards(t *teller) {
	s := &sharded{}
	held := make(chan bool)
	t.start(func(say func(fact)) {
		say(fact{name: "holder", waits: "channel", objects: on(never)})
		s.use(0x75, held)
	})
	<-held
	leak(&s.all[0].lock)
	waiter(t, &s.all[0].lock)
	t.start(func(say func(fact)) {
		c := &s.all[5]
		say(fact{name: "behind", waits: "mutex", objects: on(&c.lock), wakers: []string{"holder"}})
		c.lock.Lock()
		c.lock.Unlock()
	})
}

//go:noinline
func (s *sharded) use(hash uint64, held chan bool) {
	c := &s.all[hash&15]
	c.lock.Lock()
	close(held)
	<-never
	c.lock.Unlock()
}

type lazy struct {
	once  sync.Once
	value int
}

// onceStuck: the function of a Once never ends.
func onceStuck(t *teller) {
	l := &lazy{}
	t.first(func(say func(fact), begun func()) {
		l.once.Do(func() {
			begun()
			hold(say, "first")
			l.value = 1
		})
	})
	t.start(func(say func(fact)) {
		say(fact{name: "second", waits: "once", objects: on(&l.once), wakers: []string{"first"}})
		l.once.Do(func() { l.value = 2 })
	})
}

// onceSelf: the function of a Once calls it again.
func onceSelf(t *teller) {
	l := &lazy{}
	t.start(func(say func(fact)) {
		l.once.Do(func() {
			say(fact{name: "me", waits: "once", objects: on(&l.once), wakers: []string{"me"}, deadlock: true})
			l.once.Do(func() { l.value++ })
		})
	})
}

type queue struct {
	lock  sync.Mutex
	cond  *sync.Cond
	items []int
}

func condWithoutSignal(t *teller) {
	q := &queue{}
	q.cond = sync.NewCond(&q.lock)
	for i := 0; i < 3; i++ {
		name := fmt.Sprint("taker", i)
		t.start(func(say func(fact)) {
			q.lock.Lock()
			defer q.lock.Unlock()
			said := false
			for len(q.items) == 0 {
				if !said {
					said = true
					say(fact{name: name, waits: "cond", objects: on(q.cond)})
				}
				q.cond.Wait()
			}
		})
	}
}

// groupWithoutDone: one Add too many.
func groupWithoutDone(t *teller) {
	wg := &sync.WaitGroup{}
	wg.Add(2)
	go wg.Done()
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "waitgroup", objects: on(wg)})
		wg.Wait()
	})
}

// groupMember: a member is stuck before its Done.
func groupMember(t *teller) {
	wg := &sync.WaitGroup{}
	wg.Add(1)
	t.start(func(say func(fact)) {
		defer wg.Done()
		hold(say, "member")
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "waitgroup", objects: on(wg), wakers: []string{"member"}})
		wg.Wait()
	})
}

// lockBehindIO: who has the lock reads from a pipe.
func lockBehindIO(t *teller) {
	mu := &sync.Mutex{}
	r, w, err := os.Pipe()
	must(err)
	t.first(func(say func(fact), begun func()) {
		mu.Lock()
		defer mu.Unlock()
		begun()
		say(fact{name: "reader", waits: "io", wakers: []string{outside}})
		_, err := r.Read(make([]byte, 1))
		must(err)
		w.Close()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu), wakers: []string{"reader"}})
		mu.Lock()
		mu.Unlock()
	})
}

// query asks and waits for the answer, deep in two libraries.
func query(conn net.Conn) (int, error) {
	if _, err := fmt.Fprintf(conn, "STOCK\n"); err != nil {
		return 0, err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return len(answer), err
}

// lockBehindQuery: who has the lock waits for an answer that does not come.
func lockBehindQuery(t *teller) {
	mu := &sync.Mutex{}
	conn, _ := connect()
	stock := map[string]int{}
	t.first(func(say func(fact), begun func()) {
		mu.Lock()
		defer mu.Unlock()
		begun()
		say(fact{name: "asker", waits: "io", wakers: []string{outside}})
		if n, err := query(conn); err == nil && n > 0 {
			stock["book"]--
		}
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu), wakers: []string{"asker"}})
		mu.Lock()
		mu.Unlock()
	})
}

// ring of 300 goroutines of one function, each holds one lock and wants the next.
func ring(t *teller) {
	const size = 300
	locks := make([]*sync.Mutex, size)
	for i := range locks {
		locks[i] = &sync.Mutex{}
	}
	var begun sync.WaitGroup
	begun.Add(size)
	for i := 0; i < size; i++ {
		i := i
		t.start(func(say func(fact)) {
			own, next := locks[i], locks[(i+1)%size]
			own.Lock()
			begun.Done()
			begun.Wait()
			say(fact{name: fmt.Sprint(i), waits: "mutex", objects: on(next),
				wakers: []string{fmt.Sprint((i + 1) % size)}, deadlock: true})
			next.Lock()
			next.Unlock()
			own.Unlock()
		})
	}
	begun.Wait()
}

// many wait for one lock.
func many(t *teller) {
	mu := &sync.Mutex{}
	t.first(func(say func(fact), begun func()) {
		mu.Lock()
		begun()
		hold(say, "holder")
		mu.Unlock()
	})
	for i := 0; i < 2000; i++ {
		name := fmt.Sprint(i)
		t.start(func(say func(fact)) {
			say(fact{name: name, waits: "mutex", objects: on(mu), wakers: []string{"holder"}})
			mu.Lock()
			mu.Unlock()
		})
	}
}

var spins uint64

// spinner: who has the lock computes for ever.
func spinner(t *teller) {
	mu := &sync.Mutex{}
	t.first(func(say func(fact), begun func()) {
		mu.Lock()
		begun()
		say(fact{name: "holder", waits: "nothing"})
		for {
			spins++
			if spins == 0 {
				break
			}
		}
		mu.Unlock()
	})
	t.start(func(say func(fact)) {
		say(fact{name: "waiter", waits: "mutex", objects: on(mu), wakers: []string{"holder"}})
		mu.Lock()
		mu.Unlock()
	})
}

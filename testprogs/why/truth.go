package main

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
)

// fact is what one goroutine says of itself before it parks.
type fact struct {
	name     string
	id       string
	waits    string
	objects  []interface{}
	wakers   []string
	deadlock bool
}

// teller collects the facts of all cases.
type teller struct {
	lock     sync.Mutex
	name     string
	expected int
	facts    []fact
}

// Words for wakers that are no goroutines.
const (
	byTime  = "time"
	outside = "outside"
)

// start runs f in a goroutine that will say one fact; names get the case's name in
// front. It returns when f calls the function it is given, or at once without wait.
func (t *teller) start(f func(say func(fact))) {
	t.expected++
	prefix := t.name + "."
	go f(func(said fact) { t.say(prefix, said) })
}

// first is start, and returns once the goroutine has called begun.
func (t *teller) first(f func(say func(fact), begun func())) {
	c := make(chan bool)
	t.start(func(say func(fact)) { f(say, func() { close(c) }) })
	<-c
}

func (t *teller) say(prefix string, said fact) {
	if said.id == "" {
		said.id = number()
	}
	said.name = prefix + said.name
	for i, waker := range said.wakers {
		if waker != byTime && waker != outside {
			said.wakers[i] = prefix + waker
		}
	}
	t.lock.Lock()
	t.facts = append(t.facts, said)
	t.lock.Unlock()
}

// number is that of the calling goroutine.
func number() string {
	buf := make([]byte, 64)
	text := string(buf[:runtime.Stack(buf, false)])
	return strings.SplitN(strings.TrimPrefix(text, "goroutine "), " ", 2)[0]
}

func (t *teller) print() {
	ids := map[string]string{byTime: byTime, outside: outside}
	for _, f := range t.facts {
		ids[f.name] = f.id
	}
	for _, f := range t.facts {
		var objects, wakers []string
		for _, object := range f.objects {
			objects = append(objects, fmt.Sprintf("%#x", reflect.ValueOf(object).Pointer()))
		}
		for _, waker := range f.wakers {
			id, known := ids[waker]
			if !known {
				must(fmt.Errorf("%s: no goroutine %s", f.name, waker))
			}
			wakers = append(wakers, id)
		}
		fmt.Printf("TRUTH goroutine=%s name=%s waits=%s objects=%s wakers=%s deadlock=%t\n", f.id, f.name,
			f.waits, strings.Join(objects, ","), strings.Join(wakers, ","), f.deadlock)
	}
	// From here on nobody has the objects but those who wait for them.
	t.facts = nil
}

// on makes the list of objects.
func on(objects ...interface{}) []interface{} { return objects }

// never is a channel that nobody sends on.
var never = make(chan int)

// hold says that the goroutine waits for something that never comes, and does.
//
//go:noinline
func hold(say func(fact), name string) {
	say(fact{name: name, waits: "channel", objects: on(never)})
	<-never
}

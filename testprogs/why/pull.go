//go:build go1.23

package main

import (
	"iter"
	"runtime"
	"strings"
)

func init() {
	add("pull", pull)
	add("pullnested", pullNested)
	add("pullstuck", pullStuck)
	add("pulllent", pullLent)
	add("pullfresh", pullFresh)
}

// pull: an iterator that is half done, and one that is stuck while its caller waits.
func pull(t *teller) {
	t.expected++
	say := func(said fact) { t.say("pull.", said) }
	t.first(func(sayCaller func(fact), begun func()) {
		next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
			say(fact{name: "half", waits: "coroutine", wakers: []string{"owner"}})
			for yield(1) {
			}
		}))
		defer stop()
		next()
		begun()
		hold(sayCaller, "owner")
	})
	t.expected++
	t.start(func(sayCaller func(fact)) {
		next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
			hold(say, "stuck")
			yield(1)
		}))
		defer stop()
		sayCaller(fact{name: "caller", waits: "coroutine", wakers: []string{"stuck"}})
		next()
	})
}

// pullNested: an iterator that is half done pulls from another one; each waits for the one outside of it.
func pullNested(t *teller) {
	t.expected += 2
	say := func(said fact) { t.say("pullnested.", said) }
	t.first(func(sayOwner func(fact), begun func()) {
		next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
			next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
				say(fact{name: "inner", waits: "coroutine", wakers: []string{"outer"}})
				for yield(1) {
				}
			}))
			defer stop()
			say(fact{name: "outer", waits: "coroutine", wakers: []string{"owner"}})
			for {
				value, ok := next()
				if !ok || !yield(value) {
					return
				}
			}
		}))
		defer stop()
		next()
		begun()
		hold(sayOwner, "owner")
	})
}

// pullStuck: an iterator waits for the one that it pulls from, which is stuck.
func pullStuck(t *teller) {
	t.expected += 2
	say := func(said fact) { t.say("pullstuck.", said) }
	t.start(func(sayOuter func(fact)) {
		next, stop := iter.Pull2(iter.Seq2[int, bool](func(yield func(int, bool) bool) {
			next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
				hold(say, "stuck")
				yield(1)
			}))
			defer stop()
			say(fact{name: "middle.caller", waits: "coroutine", wakers: []string{"stuck"}})
			next()
		}))
		defer stop()
		sayOuter(fact{name: "caller", waits: "coroutine", wakers: []string{"middle.caller"}})
		next()
	})
}

// pullLent: who made the iterator is done with it, another one goes on with it.
func pullLent(t *teller) {
	t.expected += 2
	say := func(said fact) { t.say("pulllent.", said) }
	t.first(func(sayMaker func(fact), begun func()) {
		next, _ := iter.Pull2(iter.Seq2[string, int](func(yield func(string, int) bool) {
			say(fact{name: "half", waits: "coroutine", wakers: []string{"borrower"}})
			for yield("", 1) {
			}
		}))
		next()
		go func() {
			hold(say, "borrower")
			for {
				if _, _, ok := next(); !ok {
					return
				}
			}
		}()
		begun()
		hold(sayMaker, "maker")
	})
	t.expected++
	t.first(func(sayMaker func(fact), begun func()) {
		next, _ := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
			say(fact{name: "abandoned", waits: "coroutine"})
			for yield(1) {
			}
		}))
		next()
		begun()
		hold(sayMaker, "forgetful")
	})
}

// pullFresh: nobody has pulled yet.
func pullFresh(t *teller) {
	t.expected++
	t.first(func(sayOwner func(fact), begun func()) {
		next, stop := iter.Pull(iter.Seq[int](func(yield func(int) bool) {
			yield(1)
		}))
		defer stop()
		t.say("pullfresh.", fact{name: "fresh", id: notBegun(), waits: "coroutine", wakers: []string{"owner"}})
		begun()
		hold(sayOwner, "owner")
		next()
	})
}

// notBegun is the number of the goroutine of an iterator that the caller has made and nobody has pulled from.
func notBegun() string {
	buf := make([]byte, 1<<20)
	own := " in goroutine " + number() + "\n"
	for _, block := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		lines := strings.SplitN(block, "\n", 3)
		if len(lines) > 2 && strings.HasPrefix(lines[1], "runtime.corostart(") && strings.Contains(lines[2], own) {
			return strings.SplitN(strings.TrimPrefix(block, "goroutine "), " ", 2)[0]
		}
	}
	return ""
}

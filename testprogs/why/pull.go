//go:build go1.23

package main

import "iter"

func init() {
	add("pull", pull)
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

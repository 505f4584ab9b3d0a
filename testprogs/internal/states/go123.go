//go:build go1.23

package states

import "iter"

func init() { byRelease = append(byRelease, startCoroutines) }

// startCoroutines leaves iterators half done.
func startCoroutines() {
	go pullsHalf(10)
	go pullsTwo()
	go pullsNothing()
	go pullsBlocked()
	go rangesOver([]string{"a", "b"})
}

func count(to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < to; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

func countPairs(to int) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for i := 0; i < to; i++ {
			if !yield(i, "pair") {
				return
			}
		}
	}
}

func blocks(yield func(int) bool) {
	hold()
	yield(1)
}

// pullsHalf leaves the iterator's goroutine waiting for the next call.
func pullsHalf(n int) {
	next, stop := iter.Pull(count(n))
	defer stop()
	next()
	next()
	hold()
}

func pullsTwo() {
	next, stop := iter.Pull2(countPairs(3))
	defer stop()
	next()
	hold()
}

// pullsNothing never starts the iterator.
func pullsNothing() {
	_, stop := iter.Pull(func(yield func(string) bool) { yield("never") })
	defer stop()
	hold()
}

// pullsBlocked waits for an iterator that is blocked itself.
func pullsBlocked() {
	next, stop := iter.Pull(blocks)
	defer stop()
	use(next())
}

func values(s []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range s {
			if !yield(v) {
				return
			}
		}
	}
}

// rangesOver parks in the body of a loop over a function, with a defer that belongs outside.
func rangesOver(s []string) {
	for v := range values(s) {
		defer use(v)
		for n := range count(5) {
			if n == 1 {
				hold()
			}
			use(n)
		}
	}
}

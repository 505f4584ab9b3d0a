package states

import (
	"context"
	"runtime"
	"runtime/pprof"
)

type big struct {
	words [40]uint64
	name  string
}

var (
	full       = make(chan string, 2)
	bigValues  = make(chan big)
	nothing    chan int
	left       = make(chan int)
	right      = make(chan string)
	done       = make(chan struct{})
	manyInputs [12]chan int
)

func startBlocking() {
	full <- "a"
	full <- "b"
	for i := range manyInputs {
		if i%4 != 3 { // every fourth stays nil
			manyInputs[i] = make(chan int, i%3)
		}
	}
	go chanReceive(forever)
	go chanReceiveOK()
	go chanRange()
	go chanSend()
	go chanSendFull()
	go chanSendBig(7)
	go nilReceive()
	go nilSend()
	go selectTwo(left, right)
	go selectReceiveOnly()
	go selectMany()
	go selectAllNil()
	go selectSends("x")
	go selectNothing()
	go lockedThread()
	go labelled()
	go startsFromInlined()
	go startsOther(3)
	go contextDone()
}

func chanReceive(c chan int) {
	v := <-c
	use(v)
}

func chanReceiveOK() {
	v, ok := <-forever
	use(v, ok)
}

func chanRange() {
	for v := range forever {
		use(v)
	}
}

func chanSend() { left <- 1 }

func chanSendFull() { full <- "c" }

func chanSendBig(n uint64) {
	v := big{name: "big"}
	v.words[n] = n
	bigValues <- v
}

func nilReceive() { <-nothing }

func nilSend() { nothing <- 1 }

// selectTwo has a send, a receive and a close to wait for.
func selectTwo(a chan int, b chan string) {
	select {
	case a <- 5:
		use("sent")
	case s := <-b:
		use(s)
	case <-done:
	}
}

// selectReceiveOnly waits with one case and a nil channel.
func selectReceiveOnly() {
	select {
	case v := <-forever:
		use(v)
	case <-nothing:
	}
}

func selectMany() {
	out := make(chan big)
	var v int
	select {
	case v = <-manyInputs[4]:
	case v = <-manyInputs[1]:
	case v = <-manyInputs[2]:
	case v = <-manyInputs[3]:
	case v = <-manyInputs[0]:
	case v = <-manyInputs[5]:
	case v = <-manyInputs[6]:
	case v = <-manyInputs[7]:
	case v = <-manyInputs[8]:
	case v = <-manyInputs[9]:
	case v = <-manyInputs[10]:
	case out <- big{}:
	case <-done:
	}
	use(v)
}

func selectAllNil() {
	select {
	case <-nothing:
	case nothing <- 1:
	}
}

func selectSends(s string) {
	select {
	case right2 <- s:
	case full <- s + s:
	}
}

var right2 = make(chan string)

func selectNothing() { select {} }

func lockedThread() {
	runtime.LockOSThread()
	hold()
}

// labelled has labels that need quoting, and a child that inherits them.
func labelled() {
	labels := pprof.Labels("handler", "/pay", "user", "a \"b\"\n\\c", "city", "Zürich ☃", "plain", "x_1.y/z")
	pprof.Do(context.Background(), labels, func(context.Context) {
		go labelledChild()
		hold()
	})
}

func labelledChild() { hold() }

func startsFromInlined() {
	spawn(func() { hold() })
	hold()
}

// spawn is inlined, so the creator is the caller's physical function.
func spawn(f func()) { go f() }

func startsOther(generation int) {
	if generation > 0 {
		go startsOther(generation - 1)
	}
	hold()
}

func contextDone() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	<-ctx.Done()
}

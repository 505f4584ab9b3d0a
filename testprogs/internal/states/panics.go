package states

import (
	"errors"
	"runtime"
	"unsafe"
)

type node struct {
	pad  [5000]byte
	next *node
	val  int
}

var (
	nilNode  *node
	nilMap   map[string]int
	nilFunc  func(int) int
	nilFace  fmtLike
	zero     int
	tooLarge = 9
)

type fmtLike interface{ Format(x, y int) string }

// startPanics parks each goroutine in a deferred call while it panics.
func startPanics() {
	go panicExplicit("boom")
	go panicError()
	go panicNil(nilNode)
	go panicNilFar(nilNode)
	go panicNilMap()
	go panicNilFunc()
	go panicNilInterface()
	go panicCallZero()
	go panicIndex([]int{1, 2, 3})
	go panicSlice("short")
	go panicDivide(100)
	go panicTypeAssert(3)
	go panicClose()
	go panicNested()
	go panicAgain()
	go panicDeep(12)
	go panicRecovered()
	go panicRecoveredThenGone()
	go exits()
	go exitsInPanic()
	go deferLoop()
}

func panicExplicit(text string) {
	defer func() { hold() }()
	panic(text)
}

func panicError() {
	defer hold()
	panic(errors.New("an error"))
}

func panicNil(n *node) {
	defer func() { hold() }()
	n.val = 1
}

// panicNilFar faults beyond the first page, so the compiler checks for nil.
func panicNilFar(n *node) int {
	defer func() { hold() }()
	return n.next.val
}

func panicNilMap() {
	defer hold()
	nilMap["a"] = 1
}

func panicNilFunc() {
	defer func() { park() }()
	use(nilFunc(3))
}

// panicCallZero calls a function value whose code is at address 0, so the fault
// is at pc 0 and the caller is found through the return address alone.
func panicCallZero() {
	defer func() { hold() }()
	code := new(uintptr)
	(*(*func())(unsafe.Pointer(&code)))()
}

func panicNilInterface() {
	defer hold()
	use(nilFace.Format(1, 2))
}

func panicIndex(s []int) {
	defer func() { hold() }()
	use(s[tooLarge])
}

func panicSlice(s string) {
	defer func() { hold() }()
	use(s[1:tooLarge])
}

func panicDivide(n int) {
	defer func() { hold() }()
	use(n / zero)
}

func panicTypeAssert(v interface{}) {
	defer func() { hold() }()
	use(v.(string))
}

func panicClose() {
	defer hold()
	c := make(chan int)
	close(c)
	close(c)
}

func panicNested() {
	defer func() {
		defer func() { hold() }()
		panic("second")
	}()
	panic("first")
}

func panicAgain() {
	defer func() { hold() }()
	defer func() {
		panic(recover())
	}()
	panic("once more")
}

// panicDeep panics far below the frame whose deferred call parks.
func panicDeep(n int) {
	defer func() { hold() }()
	descend(n)
}

//go:noinline
func descend(n int) int {
	if n == 0 {
		return nilNode.val
	}
	return descend(n-1) + 1
}

// panicRecovered parks after recover, with the fault still on the stack.
func panicRecovered() {
	defer func() {
		r := recover()
		hold()
		use(r)
	}()
	nilNode.val = 1
}

// panicRecoveredThenGone parks after the recovered frames have returned.
func panicRecoveredThenGone() {
	recovers()
	hold()
}

//go:noinline
func recovers() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	return errors.New(nilNode.next.next.text())
}

func (n *node) text() string { return string(rune(n.val)) }

func exits() {
	defer func() { hold() }()
	runtime.Goexit()
}

func exitsInPanic() {
	defer hold()
	defer func() {
		runtime.Goexit()
	}()
	panic("replaced by an exit")
}

// deferLoop has defers that are not open coded; the third parks.
func deferLoop() {
	for i := 0; i < 5; i++ {
		defer deferred(i)
	}
}

//go:noinline
func deferred(i int) {
	if i == 2 {
		hold()
	}
}

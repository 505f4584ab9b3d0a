package states

import (
	"bytes"
	"container/heap"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"
	"sync"
)

// base is embedded to get wrappers that the compiler makes.
type base struct{ n int }

//go:noinline
func (b *base) pointerMethod(x int) {
	hold()
	use(b, x)
}

//go:noinline
func (b base) valueMethod(s string) string {
	hold()
	return s + fmt.Sprint(b.n)
}

//go:noinline
func (b *base) startedPointer(x int) {
	hold()
	use(b, x)
}

//go:noinline
func (b base) startedValue(s string) string {
	hold()
	return s
}

type outer struct {
	name string
	*base
}

type valueOuter struct {
	pad [3]int
	base
}

type both interface {
	pointerMethod(x int)
	valueMethod(s string) string
}

type embeds struct{ both }

// startCalls parks goroutines below every way to call a function.
func startCalls() {
	b := &base{5}
	go b.startedPointer(1)
	go b.startedValue("direct")
	go callMethodValue(b)
	go callMethodExpression(b)
	go callPromoted(&outer{"o", b})
	go callPromotedValue(valueOuter{base: *b})
	go callThroughInterface(&outer{"o", b})
	go callThroughInterfaceValue(&valueOuter{base: *b})
	go callEmbeddedInterface(embeds{b})
	go callClosure(3)
	go callNestedClosures()
	go callClosureReturned(10)
	go callDeferredClosure()
	go callReflect(4)
	go callReflectMethod(b)
	go callMakeFunc()
	go callSort([]int{3, 1, 2})
	go callHeap()
	go callMapFunc("abc")
	go callFieldsFunc()
	go callOnce()
	go callSyncMap()
	go callStringer(b)
	go callCopy()
	go callPool()
	go inlineOuter(1)
	go inlineClosures()
	go inlineMethods(&outer{"i", b})
	go func() { hold() }()
	go func(n int, s string) {
		park()
		use(n, s)
	}(1, "argument")
}

func callMethodValue(b *base) {
	f := b.pointerMethod
	use(f)
	f(2)
}

func callMethodExpression(b *base) {
	f := (*base).valueMethod
	use(f)
	f(b, "expression")
}

func callPromoted(o *outer) {
	f := (*outer).valueMethod
	use(f)
	f(o, "promoted")
}

func callPromotedValue(v valueOuter) {
	f := valueOuter.valueMethod
	use(f)
	f(v, "promoted value")
}

//go:noinline
func asBoth(v both) both { return v }

func callThroughInterface(v both) { asBoth(v).pointerMethod(7) }

func callThroughInterfaceValue(v both) { use(asBoth(v).valueMethod("wrapped")) }

func callEmbeddedInterface(e embeds) { use(asBoth(e).valueMethod("embedded")) }

func callClosure(n int) {
	f := func(m int) int {
		hold()
		return n + m
	}
	use(f)
	use(f(4))
}

func callNestedClosures() {
	func() {
		func() {
			func() {
				hold()
			}()
			use(1)
		}()
		use(2)
	}()
	use(3)
}

//go:noinline
func counter(from int) func() int {
	return func() int {
		from++
		hold()
		return from
	}
}

func callClosureReturned(n int) { use(counter(n)()) }

func callDeferredClosure() {
	x := 3
	defer func(y int) {
		hold()
		use(x, y)
	}(x)
	x = 5
}

func reflected(n int, s string) bool {
	hold()
	return n > len(s)
}

func callReflect(n int) {
	args := []reflect.Value{reflect.ValueOf(n), reflect.ValueOf("reflect")}
	use(reflect.ValueOf(reflected).Call(args))
}

func callReflectMethod(b *base) {
	f := reflect.ValueOf(&Exported{b}).MethodByName("Method").Interface().(func(string) string)
	use(f("method"))
}

// Exported has a method that reflection can find.
type Exported struct{ b *base }

// Method parks.
func (e *Exported) Method(s string) string { return e.b.valueMethod(s) }

func callMakeFunc() {
	var f func(a int, b string) (string, error)
	made := reflect.MakeFunc(reflect.TypeOf(f), func(args []reflect.Value) []reflect.Value {
		hold()
		return args
	})
	f = made.Interface().(func(int, string) (string, error))
	s, err := f(1, "made")
	use(s, err)
}

func callSort(s []int) {
	sort.Slice(s, func(i, j int) bool {
		hold()
		return s[i] < s[j]
	})
}

type parkingHeap []int

func (h parkingHeap) Len() int            { return len(h) }
func (h parkingHeap) Swap(i, j int)       { h[i], h[j] = h[j], h[i] }
func (h *parkingHeap) Push(x interface{}) { *h = append(*h, x.(int)) }
func (h *parkingHeap) Pop() interface{}   { hold(); return nil }
func (h parkingHeap) Less(i, j int) bool {
	park()
	return h[i] < h[j]
}

func callHeap() {
	h := parkingHeap{3, 2, 1}
	heap.Init(&h)
}

func callMapFunc(s string) {
	use(strings.Map(func(r rune) rune {
		if r == 'b' {
			hold()
		}
		return r
	}, s))
}

func callFieldsFunc() {
	use(bytes.FieldsFunc([]byte("a b"), func(r rune) bool {
		hold()
		return r == ' '
	}))
}

func callOnce() {
	var once sync.Once
	once.Do(hold)
}

func callSyncMap() {
	var m sync.Map
	m.Store("key", 1)
	m.Range(func(k, v interface{}) bool {
		hold()
		return true
	})
}

type parkingStringer struct{ b *base }

func (p parkingStringer) String() string { return p.b.valueMethod("string") }

func callStringer(b *base) { use(fmt.Sprintf("%v and %d", parkingStringer{b}, 3)) }

type parkingReader struct{ id int }

func (r *parkingReader) Read(p []byte) (int, error) {
	hold()
	return len(p), nil
}

func callCopy() {
	var w bytes.Buffer
	n, err := io.Copy(&w, io.LimitReader(&parkingReader{1}, 10))
	use(n, err)
}

func callPool() {
	pool := sync.Pool{New: func() interface{} {
		hold()
		return 1
	}}
	use(pool.Get())
}

// The next are inlined into each other.
func inlineOuter(n int) {
	inlineA(n + 1)
	use(n)
}

func inlineA(n int) {
	inlineB(n+1, "b")
	use(n)
}

func inlineB(n int, s string) { inlineC(n, len(s)) }

func inlineC(a, b int) {
	if a > b {
		inlineD()
	}
}

func inlineD() { park() }

func inlineClosures() {
	f := func() { inlineD() }
	g := func() { f() }
	g()
	use(1)
}

func (o *outer) small() { o.base.smaller() }

func (b *base) smaller() { inlineC(b.n, 0) }

func inlineMethods(o *outer) {
	o.small()
	use(o)
}

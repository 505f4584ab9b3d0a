package states

import "unsafe"

type point struct{ x, y int32 }

type empty struct{}

type level1 struct {
	a int8
	b level2
}
type level2 struct {
	c string
	d level3
}
type level3 struct {
	e [2]int16
	f level4
}
type level4 struct {
	g bool
	h level5
}
type level5 struct {
	i float64
	j level6
}
type level6 struct {
	k int
	l struct{ m, n uint8 }
}

type shape interface {
	area(scale float64) float64
}

type square struct{ side float64 }

//go:noinline
func (s square) area(scale float64) float64 {
	hold()
	return s.side * s.side * scale
}

// startShapes parks goroutines below functions with all shapes of arguments.
func startShapes() {
	p := &point{1, 2}
	deep := level1{a: 1, b: level2{c: "c", d: level3{e: [2]int16{3, 4}, f: level4{g: true, h: level5{i: 5.5}}}}}
	go shapeInts(-1, -2, -3, -4, -5)
	go shapeUints(1, 2, 3, 4, 5, 6)
	go shapeFloats(1.5, -2.25, complex(1, 2), complex(3, 4))
	go shapeBools(true, false, 'x', 'é')
	go shapeStrings("hello", "", "längere Zeichenkette")
	go shapeSlices([]int{1, 2}, nil, make([]string, 1, 9))
	go shapePointers(p, unsafe.Pointer(p), 0xc0de, nil)
	go shapeInterfaces(p, 5, nil, errNothing, square{2})
	go shapeMaps(map[string]int{"a": 1}, make(chan int), forever, func() {})
	go shapeArrays([3]int{1, 2, 3}, [0]int{}, [1]string{"one"}, [2][2]int8{{1, 2}, {3, 4}})
	go shapeStructs(point{3, 4}, empty{}, struct{ a, b string }{"a", "b"}, struct{ p *point }{p})
	go shapeDeep(deep)
	go shapeDeepPointer(&deep, deep.b.d.f)
	go shapeMany(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	go shapeManyStrings("a", "b", "c", "d", "e", "f", "g")
	go shapeEmpties(empty{}, [0]int{}, struct{}{}, [2]empty{})
	go shapeVariadic("values", 1, "two", 3.0)
	go shapeVariadic("none")
	go shapeNamedResults(3)
	go shapeUnused(1, "two", []byte("three"), 4)
	go shapeBlank(1, 2, 3)
	go shapeStale(1, 2, "three", []int{4})
	go shapePressure(1, 2, 3, 4, 5, 6, 7, 8, 9)
	go shapeSpilled([]int{1, 2, 3, 4, 5}, 1, 2.5, "x")
	go shapeMixed(1, "two", point{3, 4}, true, 5, 6, [1]byte{7}, nil, 9)
	go shapeLarge([1000]byte{1})
	go shapeHugeFrame(3)
	go square{3}.area(2)
	go (&square{4}).area(2)
}

type nothingError struct{ code int }

func (e nothingError) Error() string { return "nothing" }

var errNothing error = nothingError{7}

//go:noinline
func shapeInts(a int8, b int16, c int32, d int64, e int) {
	hold()
	use(a, b, c, d, e)
}

//go:noinline
func shapeUints(a uint8, b uint16, c uint32, d uint64, e uint, f uintptr) {
	hold()
	use(a, b, c, d, e, f)
}

//go:noinline
func shapeFloats(a float32, b float64, c complex64, d complex128) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeBools(a, b bool, c byte, d rune) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeStrings(a, b, c string) {
	hold()
	use(a, b, c)
}

//go:noinline
func shapeSlices(a []int, b []point, c []string) {
	hold()
	use(a, b, c)
}

//go:noinline
func shapePointers(a *point, b unsafe.Pointer, c uintptr, d **point) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeInterfaces(a, b, c interface{}, d error, e shape) {
	hold()
	use(a, b, c, d, e)
}

//go:noinline
func shapeMaps(a map[string]int, b chan<- int, c <-chan int, d func()) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeArrays(a [3]int, b [0]int, c [1]string, d [2][2]int8) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeStructs(a point, b empty, c struct{ a, b string }, d struct{ p *point }) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeDeep(a level1) {
	hold()
	use(a)
}

//go:noinline
func shapeDeepPointer(a *level1, b level4) {
	hold()
	use(a, b)
}

//go:noinline
func shapeMany(a, b, c, d, e, f, g, h, i, j, k, l int) {
	hold()
	use(a, b, c, d, e, f, g, h, i, j, k, l)
}

//go:noinline
func shapeManyStrings(a, b, c, d, e, f, g string) {
	hold()
	use(a, b, c, d, e, f, g)
}

//go:noinline
func shapeEmpties(a empty, b [0]int, c struct{}, d [2]empty) {
	hold()
	use(a, b, c, d)
}

//go:noinline
func shapeVariadic(name string, values ...interface{}) {
	hold()
	use(name, values)
}

//go:noinline
func shapeNamedResults(n int) (text string, count int, err error) {
	count = n * 2
	hold()
	text = "done"
	return
}

//go:noinline
func shapeUnused(a int, b string, c []byte, d int) { hold() }

//go:noinline
func shapeBlank(_ int, b int8, _ int64) {
	hold()
	use(b)
}

// shapeStale has no use for its arguments any more when it parks.
//
//go:noinline
func shapeStale(a, b int, c string, d []int) {
	use(a, b, c, d)
	hold()
}

// shapePressure has more live values than registers.
//
//go:noinline
func shapePressure(a, b, c, d, e, f, g, h, i int) int {
	j, k, l, m := a+b, c*d, e-f, g^h
	n, o, p, q := a*c, b*d, e*g, f*i
	use(a, c)
	hold()
	return j + k*l - m ^ n + o*p - q + b + i
}

//go:noinline
func shapeSpilled(s []int, a int, f float64, t string) int {
	sum := 0
	for i, v := range s {
		sum += v * a
		if i == 3 {
			hold()
		}
	}
	use(f)
	return sum
}

//go:noinline
func shapeMixed(a int8, b string, c point, d bool, e int16, f uint64, g [1]byte, h interface{}, i int) {
	use(a, c)
	hold()
	use(b, d, e, f, g, h, i)
}

// shapeHugeFrame has a frame of 100 KB.
//
//go:noinline
func shapeHugeFrame(n int) byte {
	var local [100 << 10]byte
	local[n] = 1
	hold()
	return local[n*2]
}

//go:noinline
func shapeLarge(a [1000]byte) {
	hold()
	use(a)
}

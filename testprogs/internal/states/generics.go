package states

type number interface {
	~int | ~int64 | ~float64 | ~string
}

type celsius float64

type list[T any] struct {
	items []T
	next  *list[T]
}

type pair[K comparable, V any] struct {
	key K
	val V
}

type holder interface{ holdOn() }

// startGenerics parks goroutines below instantiated functions and methods.
func startGenerics() {
	go genericFunc(3)
	go genericFunc("text")
	go genericFunc(celsius(36.6))
	go genericTwo[string, pair[int, []byte]]("k", pair[int, []byte]{1, nil})
	go genericOuter(map[string]int{"a": 1})
	go (&list[int]{items: []int{1}}).eachStarted(func(int) { hold() })
	go (&list[pair[string, *point]]{items: make([]pair[string, *point], 2)}).eachStarted(genericHook[pair[string, *point]])
	go genericInterface(&pair[string, int]{"k", 5})
	go genericClosure([]float64{1, 2})
	go genericRecursive[int](4)
	go genericMethodValue(&list[string]{items: []string{"s"}})
	go genericInlined(5)
}

//go:noinline
func genericFunc[T number](v T) T {
	hold()
	return v + v
}

//go:noinline
func genericTwo[K comparable, V any](k K, v V) map[K]V {
	hold()
	return map[K]V{k: v}
}

//go:noinline
func genericOuter[M ~map[K]V, K comparable, V any](m M) {
	for k, v := range m {
		genericInner(pair[K, V]{k, v})
	}
}

//go:noinline
func genericInner[P any](p P) {
	hold()
	use(p)
}

//go:noinline
func (l *list[T]) each(f func(T)) {
	for _, item := range l.items {
		f(item)
	}
}

//go:noinline
func (l *list[T]) eachStarted(f func(T)) {
	for i := len(l.items) - 1; i >= 0; i-- {
		f(l.items[i])
	}
}

func genericHook[T any](v T) {
	hold()
	use(v)
}

//go:noinline
func (p *pair[K, V]) holdOn() {
	hold()
	use(p.key, p.val)
}

func genericInterface(h holder) { h.holdOn() }

//go:noinline
func genericClosure[T number](s []T) {
	f := func(a, b T) bool {
		hold()
		return a < b
	}
	use(f)
	f(s[0], s[1])
}

//go:noinline
func genericRecursive[T any](n int) {
	if n == 0 {
		hold()
		return
	}
	genericRecursive[T](n - 1)
	use(n)
}

func genericMethodValue(l *list[string]) {
	f := l.each
	use(f)
	f(func(s string) {
		hold()
		use(s)
	})
}

func genericSmall[T any](v T) T {
	park()
	return v
}

func genericInlined(n int) { use(genericSmall(genericSmall(n))) }

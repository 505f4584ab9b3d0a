//go:build go1.27

package states

func init() { byRelease = append(byRelease, startGenericMethods) }

// startGenericMethods parks below methods with type parameters of their own.
func startGenericMethods() {
	go callGenericMethod(&list[int]{items: []int{1}})
}

//go:noinline
func (l *list[T]) convert[U any](f func(T) U) []U {
	var out []U
	for _, item := range l.items {
		out = append(out, f(item))
	}
	return out
}

func callGenericMethod(l *list[int]) {
	use(l.convert(func(int) string {
		hold()
		return ""
	}))
}

package states

import "runtime"

type resource struct {
	name string
	data [64]byte
}

// startFinalizer keeps the runtime's finalizer goroutine in user code.
func startFinalizer() {
	running := make(chan bool, 1)
	makeGarbage(running)
	for {
		runtime.GC()
		select {
		case <-running:
			return
		default:
			runtime.Gosched()
		}
	}
}

//go:noinline
func makeGarbage(running chan bool) {
	r := &resource{name: "lost"}
	runtime.SetFinalizer(r, func(r *resource) { finalize(r, running) })
}

//go:noinline
func finalize(r *resource, running chan bool) {
	running <- true
	hold()
	use(r)
}

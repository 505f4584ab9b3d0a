// Zoo parks more than 200 goroutines in every state and shape of stack that a
// user program can reach, for comparing their text byte for byte.
package main

import (
	_ "embed"
	"io"
	"runtime/pprof"

	"example.com/testprogs/internal/ready"
	"example.com/testprogs/internal/states"
)

//go:embed expect.toml
var expect string

func main() {
	states.Start()
	go plain(1)
	p := ready.Program{
		Expect: []string{expect, states.Expect},
		Extra: map[string]func(io.Writer) error{
			"debug2.txt": func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 2) },
		},
	}
	p.Park()
	p.Serve()
}

var never = make(chan int)

// plain is in package main, as most code of users is.
//
//go:noinline
func plain(n int) {
	<-never
	println(n)
}

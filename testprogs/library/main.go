// Library is Go code inside a program of another language: park_all brings the
// goroutines of internal/states into place, says READY and never returns. Build
// it as c-shared or c-archive.
package main

import "C"

import (
	_ "embed"
	"os"

	"example.com/testprogs/internal/ready"
	"example.com/testprogs/internal/states"
)

//go:embed expect.toml
var expect string

var never = make(chan int)

func main() {}

//export park_all
func park_all(folder *C.char) {
	os.Args = []string{"library", C.GoString(folder)}
	// Not here: this goroutine is locked to a thread of C.
	go serve()
	<-never
}

func serve() {
	states.Start()
	p := ready.Program{Expect: []string{expect, states.Expect}}
	p.Park()
	p.Serve()
}

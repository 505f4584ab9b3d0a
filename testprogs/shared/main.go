// Shared is a library for a program that is not Go: host/host.c loads it and calls Run.
package main

import "C"

import (
	"fmt"
	"time"
)

//export Run
func Run() {
	for i := 0; i < 30; i++ {
		go func() { select {} }()
	}
	time.Sleep(10 * time.Millisecond)
	fmt.Println("READY")
	select {}
}

func main() {}

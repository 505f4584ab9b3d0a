//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func vforks() {
	fmt.Fprintln(os.Stderr, "hard: vfork is in C: build it with a cgo kind")
	os.Exit(2)
}

//go:build !go1.23

package main

import (
	"fmt"
	"os"
)

func startPull(n int) {
	if n > 0 {
		fmt.Fprintln(os.Stderr, "load: -pull needs Go 1.23")
		os.Exit(2)
	}
}

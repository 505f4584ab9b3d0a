// Plughost opens a plugin that starts goroutines, and parks: plughost FOLDER PLUGIN.
package main

import (
	"fmt"
	"os"
	"plugin"

	"example.com/testprogs/internal/ready"
)

func main() {
	expect, err := start(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "plughost:", err)
		os.Exit(3)
	}
	p := ready.Program{Expect: []string{expect}}
	p.Park()
	p.Serve()
}

func start(path string) (expect string, err error) {
	opened, err := plugin.Open(path)
	if err != nil {
		return "", err
	}
	text, err := opened.Lookup("Expect")
	if err != nil {
		return "", err
	}
	run, err := opened.Lookup("Start")
	if err != nil {
		return "", err
	}
	run.(func())()
	return *text.(*string), nil
}

// Plugged is a plugin: Start brings the goroutines of internal/states into place.
// All their code is in the plugin, the runtime is in the program that opens it.
package main

import "example.com/testprogs/internal/states"

// Expect declares the goroutines.
var Expect = states.Expect

// Start starts them.
func Start() { states.Start() }

func main() {}

package main

// What follows claims to be in a file whose name would clear a screen.

//line odd[2J‮.go:7

//go:noinline
func odd() { select {} }

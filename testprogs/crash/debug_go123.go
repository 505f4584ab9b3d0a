//go:build go1.23 && !go1.27

// The module says go 1.18 for the sake of old releases; these are the defaults of today's modules.

//go:debug asynctimerchan=0
package main

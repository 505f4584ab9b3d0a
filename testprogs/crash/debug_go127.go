//go:build go1.27

// The module says go 1.18 for the sake of old releases; these are the defaults of today's modules.

//go:debug tracebacklabels=1
package main

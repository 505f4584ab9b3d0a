package ready

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// expectation is one [[goroutine]] table of an expect.toml.
type expectation struct {
	function     string // a frame of the stack that no other goroutine has
	reason       string // the text in the header
	before       int    // minor release that changed the reason, or 0
	reasonBefore string // the reason in earlier releases
	count        int    // how many goroutines have this function
	since        int    // first minor release that has them
	locked       bool   // locked to its thread
}

// wants is the reason on this release.
func (e expectation) wants(minor int) string {
	if minor < e.before {
		return e.reasonBefore
	}
	return e.reason
}

// parse reads the small part of TOML that the expect files use.
func parse(text string) []expectation {
	var all []expectation
	inside := false
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[[goroutine]]"
			if inside {
				all = append(all, expectation{count: 1})
			}
			continue
		}
		eq := strings.Index(line, "=")
		if !inside || eq < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		all[len(all)-1].set(strings.TrimSpace(line[:eq]), strings.TrimSpace(line[eq+1:]))
	}
	minor := Minor()
	var now []expectation
	for _, e := range all {
		if minor >= e.since {
			now = append(now, e)
		}
	}
	return now
}

func (e *expectation) set(key, value string) {
	text := strings.Trim(value, `"`)
	switch key {
	case "function":
		e.function = text
	case "reason":
		e.reason = text
	case "before":
		e.before = minorOf(text)
	case "reason_before":
		e.reasonBefore = text
	case "since":
		e.since = minorOf(text)
	case "locked":
		e.locked = text == "true"
	case "count":
		n, err := strconv.Atoi(text)
		if err != nil {
			fail("expect.toml: count = %s", value)
		}
		e.count = n
	case "status", "waker", "frames": // for the tests only
	default:
		fail("expect.toml: unknown key %s", key)
	}
}

// Minor is the minor release of the runtime: 27 for go1.27.4.
func Minor() int { return minorOf(strings.TrimPrefix(runtime.Version(), "go")) }

func minorOf(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) > 1 {
		if n, err := strconv.Atoi(parts[1]); err == nil {
			return n
		}
	}
	fail("not a Go version: %s", version)
	return 0
}

// check compares a dump (without the caller's block) with what is declared;
// the empty text means equal. Every goroutine must be declared.
func check(expected []expectation, dump string) string {
	minor := Minor()
	seen := make([]int, len(expected))
	for _, block := range strings.Split(strings.TrimSpace(dump), "\n\n") {
		known := false
		for i, e := range expected {
			if strings.Contains(block, "\n"+e.function+"(") && hasState(block, e.wants(minor), e.locked) {
				seen[i]++
				known = true
			}
		}
		if !known {
			return "not declared: " + block
		}
	}
	for i, e := range expected {
		if seen[i] != e.count {
			return fmt.Sprintf("%s [%s]: %d, declared %d", e.function, e.wants(minor), seen[i], e.count)
		}
	}
	return ""
}

// hasState looks at the header: goroutine 5 [chan receive, locked to thread]:
func hasState(block, reason string, locked bool) bool {
	return hasReason(block, reason) && strings.Contains(header(block), "locked to thread") == locked
}

func hasReason(block, reason string) bool {
	state := header(block)
	if !strings.HasPrefix(state, reason) {
		return false
	}
	for _, next := range []string{"]", ",", " (durable)", " (scan)", " labels:"} {
		if strings.HasPrefix(state[len(reason):], next) {
			return true
		}
	}
	return false
}

// header is the first line of a block from the wait reason on.
func header(block string) string {
	line := strings.SplitN(block, "\n", 2)[0]
	return line[strings.Index(line, "[")+1:]
}

// Alive does small regular work and counts it, to show what an inspector does to it.
//
//	READY <pid> port=N    a TCP echo server on 127.0.0.1:N
//	stats                 on stdin: prints the counters as one line of JSON
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/testprogs/internal/ready"
)

const tick = 10 * time.Millisecond

// counters only grow, but for the gap, which starts anew after each report.
type counters struct {
	Ticks      uint64 `json:"ticks"`
	Echoes     uint64 `json:"echoes"`
	Bytes      uint64 `json:"bytes"`
	Signals    uint64 `json:"signals"`
	WorstGapNs int64  `json:"worst_gap_ns"`
}

var now counters

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "alive:", err)
		os.Exit(3)
	}
	signals := make(chan os.Signal, 1024)
	signal.Notify(signals, syscall.SIGUSR1)
	go countSignals(signals)
	go countTicks()
	go serve(listener)
	p := ready.Program{
		Greeting: fmt.Sprintf("port=%d", listener.Addr().(*net.TCPAddr).Port),
		Line:     answer,
	}
	p.Ready()
	p.Serve()
}

func answer(line string) string {
	if line != "stats" {
		return "unknown line: " + line
	}
	text, err := json.Marshal(counters{
		Ticks:      atomic.LoadUint64(&now.Ticks),
		Echoes:     atomic.LoadUint64(&now.Echoes),
		Bytes:      atomic.LoadUint64(&now.Bytes),
		Signals:    atomic.LoadUint64(&now.Signals),
		WorstGapNs: atomic.SwapInt64(&now.WorstGapNs, 0),
	})
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func countTicks() {
	last := time.Now()
	for range time.Tick(tick) {
		if gap := int64(time.Since(last)); gap > atomic.LoadInt64(&now.WorstGapNs) {
			atomic.StoreInt64(&now.WorstGapNs, gap)
		}
		last = time.Now()
		atomic.AddUint64(&now.Ticks, 1)
	}
}

func countSignals(signals <-chan os.Signal) {
	for range signals {
		atomic.AddUint64(&now.Signals, 1)
	}
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go echo(c)
	}
}

// echo answers each read with the same bytes.
func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			atomic.AddUint64(&now.Echoes, 1)
			atomic.AddUint64(&now.Bytes, uint64(n))
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				fmt.Fprintln(os.Stderr, "alive:", err)
			}
			return
		}
	}
}

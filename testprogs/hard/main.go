// Hard is a target that is hard to look into, in the way that its second argument names.
//
//	hard FOLDER orphan    the main thread ends, the others go on
//	hard FOLDER churn     a thousand threads a second begin and end
//	hard FOLDER names     names and labels made to upset a terminal
//	hard FOLDER exec      executes itself anew on a line on stdin
//	hard FOLDER private   is not dumpable
//	hard FOLDER vfork     a thread of C waits in vfork (with a cgo kind)
//	hard FOLDER http      an HTTP server: READY <pid> port=N
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"example.com/testprogs/internal/ready"
)

var modes = map[string]func(*ready.Program){
	"orphan":  orphan,
	"churn":   churn,
	"names":   names,
	"exec":    func(p *ready.Program) { p.Line = again },
	"private": private,
	"vfork":   func(*ready.Program) { go vforks() },
	"http":    serveHTTP,
}

func init() { runtime.LockOSThread() } // main is on the main thread

func main() {
	mode, known := modes[os.Args[len(os.Args)-1]]
	if !known || len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: hard FOLDER orphan|churn|names|exec|private|vfork|http")
		os.Exit(2)
	}
	go parked(make(chan int))
	ready.WaitFor("main.parked", "chan receive")
	var p ready.Program
	mode(&p)
	p.Ready()
	p.Serve()
}

//go:noinline
func parked(c chan int) { <-c }

// control calls prctl, which says something of the calling thread or process.
func control(option, value uintptr) {
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, option, value, 0); e != 0 {
		fmt.Fprintln(os.Stderr, "hard: prctl:", e)
		os.Exit(3)
	}
}

func orphan(p *ready.Program) {
	go func() {
		for !strings.Contains(mainState(), ") Z ") {
			time.Sleep(time.Millisecond)
		}
		p.Ready()
		p.Serve()
		os.Exit(0)
	}()
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func mainState() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid()))
	if err != nil {
		return ""
	}
	return string(stat)
}

// churn ends a thread with each goroutine that stays locked to it.
func churn(*ready.Program) {
	for i := 0; i < 4; i++ {
		go func() {
			for range time.Tick(4 * time.Millisecond) {
				go runtime.LockOSThread()
			}
		}()
	}
}

func names(*ready.Program) {
	labels := pprof.Labels("esc\x1b[31m", "red\x1b[2J\u202egreen\r\n\xff")
	done := make(chan bool)
	go pprof.Do(context.Background(), labels, func(context.Context) {
		runtime.LockOSThread()
		const setName = 15 // PR_SET_NAME
		name := []byte("t\x1b]0;x\x07\n\xfe\x00")
		control(setName, uintptr(unsafe.Pointer(&name[0])))
		done <- true
		odd()
	})
	<-done
}

func private(*ready.Program) {
	const setDumpable = 4 // PR_SET_DUMPABLE
	control(setDumpable, 0)
}

func again(string) string {
	err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return "cannot execute: " + err.Error()
}

func serveHTTP(p *ready.Program) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "hard:", err)
		os.Exit(3)
	}
	p.Greeting = fmt.Sprintf("port=%d", listener.Addr().(*net.TCPAddr).Port)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "served %s", r.URL.Path) })
	go http.Serve(listener, nil)
}

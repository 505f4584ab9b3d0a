// Package ready is the protocol between a test program and its test.
//
// Argument 1 of the program is an output folder. When the goroutines are as
// declared in the program's expect.toml, the program writes stack.txt (and
// more, see Program.Extra) there, prints "READY <pid>" and blocks in a read of
// stdin, so that it ends with its parent. From then on nothing changes.
// The line "dump NAME" on stdin writes a second stack to NAME and answers
// "DUMPED NAME".
package ready

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// Any process of the user may trace this one, where the Yama module would allow
// only a parent: a test starts the program and the inspector side by side.
func init() {
	const prSetPtracer, anyTracer = 0x59616d61, ^uintptr(0)
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetPtracer, anyTracer, 0)
}

// patience is how long the goroutines may take to park.
const patience = 60 * time.Second

// Program says how one test program gets ready and what it answers.
type Program struct {
	// Expect holds the texts of the expect.toml files that must hold.
	Expect []string
	// Extra writes more files next to stack.txt, by name.
	Extra map[string]func(io.Writer) error
	// Greeting follows "READY <pid>" on the same line.
	Greeting string
	// Line answers a line on stdin that is not "dump NAME".
	Line func(line string) string
}

// Folder is the output folder, argument 1.
func Folder() string {
	if len(os.Args) < 2 {
		fail("usage: %s FOLDER", os.Args[0])
	}
	return os.Args[1]
}

// Park waits until the goroutines are as declared, writes the dumps and
// prints READY.
func (p Program) Park() {
	debug.SetGCPercent(-1)
	expected := parse(strings.Join(p.Expect, "\n"))
	settle(expected)
	// One cycle more, so that the runtime records since when each one waits.
	runtime.GC()
	settle(expected)
	Write("stack.txt", func(w io.Writer) error {
		_, err := w.Write(Stack())
		return err
	})
	for name, write := range p.Extra {
		Write(name, write)
	}
	p.Ready()
}

// WaitFor waits until a goroutine with this function has this reason.
func WaitFor(function, reason string) {
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
		for _, block := range strings.Split(string(Stack()), "\n\n") {
			if strings.Contains(block, "\n"+function+"(") && hasReason(block, reason) {
				return
			}
		}
	}
	fail("%s did not come to [%s]", function, reason)
}

// Ready prints the READY line.
func (p Program) Ready() {
	line := fmt.Sprintf("READY %d", os.Getpid())
	if p.Greeting != "" {
		line += " " + p.Greeting
	}
	fmt.Println(line)
}

// Serve answers lines on stdin and ends the process at the end of input.
func (p Program) Serve() {
	var pending []byte
	buf := make([]byte, 256)
	for {
		n, err := os.Stdin.Read(buf)
		pending = append(pending, buf[:n]...)
		for {
			i := bytes.IndexByte(pending, '\n')
			if i < 0 {
				break
			}
			p.answer(strings.TrimSpace(string(pending[:i])))
			pending = pending[i+1:]
		}
		if err != nil {
			os.Exit(0)
		}
	}
}

func (p Program) answer(line string) {
	name := strings.TrimPrefix(line, "dump ")
	switch {
	case name != line:
		Write(name, func(w io.Writer) error {
			_, err := w.Write(Stack())
			return err
		})
		fmt.Println("DUMPED " + name)
	case p.Line != nil:
		fmt.Println(p.Line(line))
	}
}

// Stack is runtime.Stack of all goroutines, whole.
func Stack() []byte {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return buf[:n]
		}
	}
}

// Write makes one file in the output folder; the name appears when it is whole.
func Write(name string, write func(io.Writer) error) {
	path := filepath.Join(Folder(), name)
	f, err := os.Create(path + ".new")
	if err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		fail("cannot write %s: %v", path, err)
	}
}

// settle returns when the dump is as declared and stays the same.
func settle(expected []expectation) {
	begin := time.Now()
	var last []byte
	for {
		text := others(Stack())
		wrong := check(expected, string(text))
		if wrong == "" && bytes.Equal(text, last) {
			return
		}
		if time.Since(begin) > patience {
			if wrong == "" {
				wrong = "the stacks keep changing"
			}
			fail("not as declared: %s\n%s", wrong, text)
		}
		last = text
		time.Sleep(20 * time.Millisecond)
	}
}

// others is the dump without its first block, the goroutine that took it.
func others(dump []byte) []byte {
	if i := bytes.Index(dump, []byte("\n\n")); i >= 0 {
		return dump[i+2:]
	}
	return nil
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(3)
}

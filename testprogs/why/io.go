package main

import (
	"net"
	"os"
	"syscall"
	"time"
)

func init() {
	add("pipe", pipeRead)
	add("tcp", tcp)
	add("closewait", closeWait)
	add("fullsocket", fullSocket)
	add("tworeaders", twoReaders)
	add("unix", unixSocket)
	add("udp", udp)
	add("syscall", blockingCall)
}

func io(name string) fact { return fact{name: name, waits: "io", wakers: []string{outside}} }

// kept are connections that must not be collected and closed.
var kept []interface{}

func read(c interface{ Read([]byte) (int, error) }) {
	buf := make([]byte, 16)
	_, err := c.Read(buf)
	must(err)
}

func pipeRead(t *teller) {
	r, w, err := os.Pipe()
	must(err)
	kept = append(kept, w)
	t.start(func(say func(fact)) {
		say(io("reader"))
		read(r)
	})
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	kept = append(kept, l)
	return l
}

// connect returns both ends of a connection.
func connect() (net.Conn, net.Conn) {
	l := listen()
	client, err := net.Dial("tcp", l.Addr().String())
	must(err)
	server, err := l.Accept()
	must(err)
	kept = append(kept, client, server)
	return client, server
}

// tcp: a client without a timeout, one with a deadline, a server that accepts.
func tcp(t *teller) {
	plain, _ := connect()
	t.start(func(say func(fact)) {
		say(io("client"))
		read(plain)
	})
	timed, _ := connect()
	must(timed.SetReadDeadline(time.Now().Add(time.Hour)))
	t.start(func(say func(fact)) {
		f := io("deadline")
		f.wakers = append(f.wakers, byTime)
		say(f)
		read(timed)
	})
	l := listen()
	t.start(func(say func(fact)) {
		say(io("accept"))
		c, err := l.Accept()
		must(err)
		kept = append(kept, c)
	})
}

// closeWait: the other end has closed, this end waits to write more than fits.
func closeWait(t *teller) {
	client, server := connect()
	must(server.(*net.TCPConn).CloseWrite())
	t.start(func(say func(fact)) {
		say(io("writer"))
		_, err := client.Write(make([]byte, 64<<20))
		must(err)
	})
}

// fullSocket: nobody reads what is written.
func fullSocket(t *teller) {
	client, _ := connect()
	t.start(func(say func(fact)) {
		say(io("writer"))
		_, err := client.Write(make([]byte, 64<<20))
		must(err)
	})
}

// twoReaders: one waits for the poller, the other for the lock of the descriptor.
func twoReaders(t *teller) {
	client, _ := connect()
	t.first(func(say func(fact), begun func()) {
		say(io("first"))
		begun()
		read(client)
	})
	time.Sleep(50 * time.Millisecond)
	t.start(func(say func(fact)) {
		say(fact{name: "second", waits: "semaphore", wakers: []string{"first"}})
		read(client)
	})
}

func unixSocket(t *teller) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	f := os.NewFile(uintptr(fds[0]), "socket")
	c, err := net.FileConn(f)
	must(err)
	kept = append(kept, f, c)
	t.start(func(say func(fact)) {
		say(io("reader"))
		read(c)
	})
}

func udp(t *teller) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	t.start(func(say func(fact)) {
		say(io("reader"))
		_, _, err := c.ReadFrom(make([]byte, 16))
		must(err)
	})
}

// blockingCall: a read that the poller does not know of.
func blockingCall(t *teller) {
	var fds [2]int
	must(syscall.Pipe(fds[:]))
	t.start(func(say func(fact)) {
		say(fact{name: "reader", waits: "syscall", wakers: []string{outside}})
		_, err := syscall.Read(fds[0], make([]byte, 1))
		must(err)
	})
}

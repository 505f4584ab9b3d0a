package states

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// keep holds the ends that nobody reads or writes, so that none is collected.
var keep []interface{}

func startIO() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	client, server := tcpPair(listener)
	stuckClient, stuckServer := tcpPair(listener)
	keep = append(keep, listener, client, stuckServer)
	go accepts(listener)
	go tcpReads(server)
	go tcpWrites(stuckClient)

	unixListener, err := net.Listen("unix", fmt.Sprintf("@allgs-%d", os.Getpid()))
	must(err)
	keep = append(keep, unixListener)
	go unixAccepts(unixListener)

	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	go udpReads(packets)

	r, w, err := os.Pipe()
	must(err)
	keep = append(keep, w)
	go pipeReads(r)
	sharedR, sharedW, err := os.Pipe()
	must(err)
	keep = append(keep, sharedW)
	// The first has the lock of the descriptor and waits for data, the other waits for the lock.
	go sharedReads(sharedR)
	go sharedReads(sharedR)
	fullR, fullW, err := os.Pipe()
	must(err)
	keep = append(keep, fullR)
	go pipeWrites(fullW)

	near, far := net.Pipe()
	keep = append(keep, far)
	go memoryPipeReads(near)
	ior, iow := io.Pipe()
	keep = append(keep, iow)
	go ioPipeScans(ior)

	for i := 0; i < 2; i++ {
		fds := make([]int, 2)
		must(syscall.Pipe(fds))
		go rawReads(fds[0])
	}
	fds := make([]int, 2)
	must(syscall.Pipe(fds))
	go lockedRawReads(fds[0])

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	go waitsForSignal(signals)
}

// tcpPair is a connection with small buffers.
func tcpPair(l net.Listener) (client, server *net.TCPConn) {
	c, err := net.Dial("tcp", l.Addr().String())
	must(err)
	s, err := l.Accept()
	must(err)
	client, server = c.(*net.TCPConn), s.(*net.TCPConn)
	must(client.SetWriteBuffer(4096))
	must(server.SetReadBuffer(4096))
	return client, server
}

func accepts(l net.Listener) {
	c, err := l.Accept()
	use(c, err)
}

func unixAccepts(l net.Listener) {
	c, err := l.Accept()
	use(c, err)
}

func tcpReads(c *net.TCPConn) {
	must(c.SetReadDeadline(time.Now().Add(105 * time.Hour)))
	buf := make([]byte, 100)
	n, err := io.ReadFull(c, buf)
	use(n, err)
}

func tcpWrites(c net.Conn) {
	n, err := c.Write(make([]byte, 16<<20))
	use(n, err)
}

func udpReads(c net.PacketConn) {
	buf := make([]byte, 1500)
	n, from, err := c.ReadFrom(buf)
	use(n, from, err)
}

func pipeReads(f *os.File) {
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	use(n, err)
}

func sharedReads(f *os.File) {
	var buf [16]byte
	n, err := f.Read(buf[:])
	use(n, err)
}

func pipeWrites(f *os.File) {
	n, err := f.Write(make([]byte, 1<<20))
	use(n, err)
}

func memoryPipeReads(c net.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	use(line, err)
}

func ioPipeScans(r io.Reader) {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		use(scanner.Text())
	}
}

func rawReads(fd int) {
	buf := make([]byte, 8)
	n, err := syscall.Read(fd, buf)
	use(n, err)
}

func waitsForSignal(c <-chan os.Signal) {
	s := <-c
	use(s)
}

// lockedRawReads is in a system call on a thread of its own.
func lockedRawReads(fd int) {
	runtime.LockOSThread()
	rawReads(fd)
}

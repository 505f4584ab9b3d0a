package main

import (
	"bufio"
	"fmt"
	"net"
)

// address is where the server listens, or empty.
var address string

// startServer answers each line on each connection with the same line, after a
// little work.
func startServer(wanted bool) error {
	if !wanted {
		return nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address = listener.Addr().String()
	go accept(listener)
	return nil
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // the program ends
		}
		go answerLines(conn)
	}
}

func answerLines(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		compute(20)
		if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
			return
		}
	}
}

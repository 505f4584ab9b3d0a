// Service is an order service that got stuck, for demonstrations: a worker asks
// the database with the stock locked, the database never answers, the other
// workers wait for the stock. Besides, each order leaks a goroutine that wants to
// report to somebody who left.
package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"example.com/testprogs/internal/ready"
)

//go:embed expect.toml
var expect string

const (
	workers   = 24
	shipped   = 1000
	packers   = 8
	reportGap = 12 * time.Hour
)

type order struct {
	id       int
	customer string
}

type inventory struct {
	lock     sync.Mutex
	database net.Conn
	stock    map[string]int
}

type server struct {
	inventory *inventory
	orders    chan order
	parcels   chan order
	done      sync.WaitGroup
}

func main() {
	database, err := connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(3)
	}
	s := &server{
		inventory: &inventory{database: database, stock: map[string]int{"book": 3}},
		orders:    make(chan order),
		parcels:   make(chan order),
	}
	for i := 0; i < packers; i++ {
		go s.packParcels()
	}
	for i := 0; i < shipped; i++ {
		s.shipOrder(order{i, "earlier"})
	}
	s.done.Add(workers)
	for i := 0; i < workers; i++ {
		go s.handleOrders()
	}
	for i := 0; i < workers; i++ {
		s.orders <- order{shipped + i, "alice"}
	}
	go s.reportMetrics()
	go s.shutdown()
	p := ready.Program{Expect: []string{expect}}
	p.Park()
	p.Serve()
}

// connect opens a connection to a database that accepts and then says nothing.
func connect() (net.Conn, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	silent, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	go serveAdmin(listener, silent)
	return conn, nil
}

func serveAdmin(l net.Listener, silent net.Conn) {
	defer silent.Close()
	conn, err := l.Accept()
	fmt.Fprintln(os.Stderr, "unexpected connection:", conn, err)
}

func (s *server) handleOrders() {
	defer s.done.Done()
	for o := range s.orders {
		if s.inventory.reserve("book", o) {
			s.shipOrder(o)
		}
	}
}

// reserve takes one item. The query under the lock is the mistake.
func (inv *inventory) reserve(item string, o order) bool {
	inv.lock.Lock()
	defer inv.lock.Unlock()
	n, err := inv.queryStock(item)
	if err != nil || n == 0 {
		return false
	}
	inv.stock[item]--
	return true
}

func (inv *inventory) queryStock(item string) (int, error) {
	if _, err := fmt.Fprintf(inv.database, "STOCK %s\n", item); err != nil {
		return 0, err
	}
	answer, err := bufio.NewReader(inv.database).ReadString('\n')
	return len(answer), err
}

// shipOrder gives up on the notification, but its goroutine doesn't.
func (s *server) shipOrder(o order) {
	result := make(chan error)
	go notifyCustomer(o, result)
	select {
	case err := <-result:
		fmt.Fprintln(os.Stderr, err)
	default:
	}
}

func notifyCustomer(o order, result chan<- error) {
	result <- fmt.Errorf("order %d: no address of %s", o.id, o.customer)
}

func (s *server) packParcels() {
	for o := range s.parcels {
		fmt.Fprintln(os.Stderr, "packed", o.id)
	}
}

func (s *server) reportMetrics() {
	for range time.Tick(reportGap) {
		fmt.Fprintln(os.Stderr, "stock:", len(s.inventory.stock))
	}
}

func (s *server) shutdown() {
	s.done.Wait()
	fmt.Fprintln(os.Stderr, "all workers are done")
}

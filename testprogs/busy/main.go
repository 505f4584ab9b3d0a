// Busy is a healthy server under load: HTTP and its clients, a pool of workers, locks
// of all kinds, selects with timeouts, tickers, conditions, tries, pairs that only
// somebody else can help. Nothing in it is stuck, so whoever says so is wrong.
//
//	busy FOLDER
//	done   on stdin: prints how many requests were answered
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/testprogs/internal/ready"
)

const (
	workers = 6
	clients = 8
)

type job struct {
	key   int
	reply chan int
}

type server struct {
	jobs    chan job
	done    int64
	stock   sync.Mutex
	turn    sync.Mutex
	left    map[int]int
	cache   sync.RWMutex
	cached  map[int]int
	queue   *sync.Cond
	waiting []int
	once    sync.Once
	log     chan string
}

func main() {
	runtime.GOMAXPROCS(2)
	s := &server{
		jobs:   make(chan job),
		left:   map[int]int{},
		cached: map[int]int{},
		queue:  sync.NewCond(&sync.Mutex{}),
		log:    make(chan string, 16),
	}
	for i := 0; i < workers; i++ {
		go s.work()
	}
	go s.logger()
	go s.consume()
	for i := 0; i < 3; i++ {
		go s.takeTurns()
	}
	for i := 0; i < 2; i++ {
		go s.produce()
		go s.tick(time.Duration(i+1) * 3 * time.Millisecond)
		go s.tryer()
	}
	startPairs()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go http.Serve(listener, s)
	for i := 0; i < clients; i++ {
		go s.client("http://" + listener.Addr().String() + "/")
	}
	for atomic.LoadInt64(&s.done) < clients {
		time.Sleep(time.Millisecond)
	}
	p := ready.Program{Line: func(string) string { return fmt.Sprint(atomic.LoadInt64(&s.done)) }}
	p.Ready()
	p.Serve()
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "busy:", err)
		os.Exit(3)
	}
}

func pause() { time.Sleep(time.Duration(rand.Intn(2000)) * time.Microsecond) }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	s.once.Do(func() { time.Sleep(10 * time.Millisecond) })
	j := job{key: rand.Intn(50), reply: make(chan int)}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return
	}
	select {
	case v := <-j.reply:
		fmt.Fprintln(w, v, s.fan(v))
	case <-ctx.Done():
	}
	select {
	case s.log <- r.URL.Path:
	default:
	}
}

// work takes jobs as they come.
func (s *server) work() {
	for j := range s.jobs {
		j.reply <- s.lookup(j.key)
	}
}

func (s *server) lookup(key int) int {
	s.cache.RLock()
	v, ok := s.cached[key]
	s.cache.RUnlock()
	if ok && rand.Intn(3) > 0 {
		return v
	}
	s.stock.Lock()
	defer s.stock.Unlock()
	s.left[key]++
	if rand.Intn(4) == 0 {
		pause() // with the lock, so that others wait
	}
	s.cache.Lock()
	defer s.cache.Unlock()
	s.cached[key] = s.left[key]
	return s.left[key]
}

// fan waits for some short-lived helpers.
func (s *server) fan(n int) int {
	var wg sync.WaitGroup
	var sum int64
	for i := 0; i < 3; i++ {
		i := i
		wg.Add(1)
		go func() {
			defer wg.Done()
			if i == 0 {
				pause()
			}
			atomic.AddInt64(&sum, int64(n+i))
		}()
	}
	wg.Wait()
	return int(sum)
}

func (s *server) logger() {
	lines := 0
	for range s.log {
		lines++
	}
}

// takeTurns holds a lock for long, so that at any moment others wait for it.
func (s *server) takeTurns() {
	for {
		s.turn.Lock()
		time.Sleep(50 * time.Millisecond)
		s.turn.Unlock()
	}
}

func (s *server) produce() {
	for {
		pause()
		s.queue.L.Lock()
		s.waiting = append(s.waiting, 1)
		s.queue.L.Unlock()
		s.queue.Signal()
	}
}

func (s *server) consume() {
	for {
		s.queue.L.Lock()
		for len(s.waiting) == 0 {
			s.queue.Wait()
		}
		s.waiting = s.waiting[:0]
		s.queue.L.Unlock()
	}
}

func (s *server) tick(period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	quit := make(chan bool)
	for {
		select {
		case <-ticker.C:
			s.stock.Lock()
			delete(s.left, rand.Intn(50))
			s.stock.Unlock()
		case <-quit:
			return
		}
	}
}

func (s *server) tryer() {
	for {
		for !s.stock.TryLock() {
			runtime.Gosched()
		}
		s.left[0]++
		s.stock.Unlock()
		pause()
	}
}

func (s *server) client(url string) {
	client := &http.Client{Timeout: time.Minute}
	for {
		response, err := client.Get(url)
		must(err)
		_, err = io.Copy(io.Discard, response.Body)
		must(err)
		response.Body.Close()
		atomic.AddInt64(&s.done, 1)
		pause()
	}
}

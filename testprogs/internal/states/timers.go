package states

import (
	"context"
	"time"
)

func startTimers() {
	go sleeper(100 * time.Hour)
	go sleepsLonger()
	go timerAfter()
	go timerTicker()
	go selectTimeout()
	go contextTimeout()
	time.AfterFunc(200*time.Hour, func() { use("never") })
}

func sleeper(d time.Duration) { time.Sleep(d) }

func sleepsLonger() { time.Sleep(2000 * time.Hour) }

func timerAfter() { <-time.After(101 * time.Hour) }

func timerTicker() {
	t := time.NewTicker(102 * time.Hour)
	defer t.Stop()
	for range t.C {
		use(t)
	}
}

func selectTimeout() {
	timeout := time.NewTimer(103 * time.Hour)
	select {
	case <-timeout.C:
	case <-done:
	}
}

func contextTimeout() {
	ctx, cancel := context.WithTimeout(context.Background(), 104*time.Hour)
	defer cancel()
	select {
	case <-ctx.Done():
	case v := <-forever:
		use(v)
	}
}

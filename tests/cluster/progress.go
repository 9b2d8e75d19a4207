package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress prints one line for each step, with the seconds since the start.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, began: time.Now()} }

func (p *progress) step(format string, arguments ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "[%5.1fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// during repeats a line each minute while something long goes on: whoever
// watches, a person or a runner that ends what is silent, sees that it does.
func (p *progress) during(line string, work func() error) error {
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Minute):
				p.step("%s", line)
			}
		}
	})
	defer telling.Wait()
	defer close(done)
	return work()
}

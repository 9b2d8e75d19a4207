package main

import (
	"context"
	"fmt"
	"sync"
)

// step is one thing to do on the way up, once others are done. It gives a
// line to print, or none.
type step struct {
	name  string
	after []string
	run   func(context.Context) (string, error)
}

// runSteps runs each step as soon as those before it are done. The first that
// fails stops the rest.
func runSteps(ctx context.Context, log *progress, steps []step) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := map[string]chan struct{}{}
	for _, s := range steps {
		done[s.name] = make(chan struct{})
	}
	for _, s := range steps {
		for _, name := range s.after {
			if done[name] == nil {
				return fmt.Errorf("%s waits for %s, which is no step", s.name, name)
			}
		}
	}
	var running sync.WaitGroup
	for _, s := range steps {
		running.Go(func() {
			for _, name := range s.after {
				select {
				case <-done[name]:
				case <-ctx.Done():
					return
				}
			}
			line, err := s.run(ctx)
			if err != nil {
				cancel(err)
				return
			}
			if line != "" {
				log.step("%s", line)
			}
			close(done[s.name])
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

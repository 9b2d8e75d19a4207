package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// stopLimit is for a command that was told to stop, before it is killed.
const stopLimit = 10 * time.Second

// command is a program to run, and for how long at most: whatever it waits
// for, whoever waits for it gets an answer.
type command struct {
	argv  []string
	limit time.Duration
	dir   string
	env   []string // beside this program's own
	stdin io.Reader
}

// run gives what the program printed, which an error holds too.
func (c command) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	process := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	process.Dir, process.Stdin, process.Env = c.dir, c.stdin, append(os.Environ(), c.env...)
	// Asked first: go and apt-get clear up behind themselves.
	process.Cancel = func() error { return process.Process.Signal(unix.SIGTERM) }
	process.WaitDelay = stopLimit
	output, err := process.CombinedOutput()
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it was not done after %s, and was stopped", c.limit)
	}
	if err != nil {
		return output, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(output))
	}
	return output, nil
}

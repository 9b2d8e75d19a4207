package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startLimit  = 90 * time.Second // for one part to get healthy, on a machine that is busy
	reviveLimit = 5 * time.Second  // for a running one to get healthy by itself
	endLimit    = 30 * time.Second // for a killed process to be gone
	probeLimit  = 3 * time.Second  // for one answer; a stopped process gives none
)

func (c *Cluster) recordPath(name string) string { return c.path("parts", name+".json") }
func (c *Cluster) logPath(name string) string    { return c.path("logs", name+".log") }

func (c *Cluster) record(name string, process Process) error {
	data, err := json.Marshal(process)
	if err != nil {
		return err
	}
	return writeFile(c.recordPath(name), data)
}

// recorded gives the process that a part was last started as.
func (c *Cluster) recorded(name string) (Process, error) {
	var process Process
	err := readRecord(c.recordPath(name), &process)
	if err == nil && process.PID == 0 {
		err = fmt.Errorf("%w: %s names no process", errBroken, c.recordPath(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", name, errGone)
	}
	return process, err
}

// running gives the process of a part that has not ended.
func (c *Cluster) running(name string) (Process, error) {
	process, err := c.recorded(name)
	if err == nil && !process.alive() {
		err = fmt.Errorf("%s: %w", name, errGone)
	}
	return process, err
}

func (c *Cluster) openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(c.path("logs"), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(c.logPath(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// logTail is the end of a part's log, for the message that it failed.
func (c *Cluster) logTail(name string) string {
	data, err := os.ReadFile(c.logPath(name))
	if err != nil {
		return "it has no log"
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	lines = lines[max(0, len(lines)-20):]
	return fmt.Sprintf("the end of its log %s:\n%s", c.logPath(name), bytes.Join(lines, []byte("\n")))
}

// closeInherited keeps files that this command was given from the processes
// that it starts. They outlive it, and would hold a caller's lock or pipe.
func closeInherited() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep inherited files from what is started: %w", err)
	}
	return nil
}

// start starts a part inside the cluster, in a session of its own, so that it
// outlives this command and hears nothing of the terminal.
func (c *Cluster) start(init Process, p part) (Process, error) {
	log, err := c.openLog(p.name)
	if err != nil {
		return Process{}, err
	}
	defer log.Close()
	if err := closeInherited(); err != nil {
		return Process{}, err
	}
	command := exec.Command(p.argv[0], p.argv[1:]...)
	command.Dir = "/"
	command.Env = []string{"PATH=" + c.path("bin") + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := c.inside(init, command.Start); err != nil {
		return Process{}, fmt.Errorf("start %s: %w", p.name, err)
	}
	go command.Wait()
	process, err := identify(command.Process.Pid)
	if err != nil {
		return Process{}, failure{p.name, fmt.Errorf("ended at once; %s", c.logTail(p.name))}
	}
	return process, c.record(p.name, process)
}

// ensure leaves a healthy part alone and starts any other afresh. It tells
// whether it had to.
func (c *Cluster) ensure(ctx context.Context, init Process, p part) (started bool, err error) {
	if process, err := c.running(p.name); err == nil {
		err := until(ctx, reviveLimit, func(ctx context.Context) error { return c.probe(ctx, p) })
		if err == nil {
			return false, nil
		}
		if err := process.kill(endLimit); err != nil {
			return false, err
		}
	}
	process, err := c.start(init, p)
	if err != nil {
		return false, err
	}
	return true, c.awaitHealthy(ctx, p, process)
}

func (c *Cluster) awaitHealthy(ctx context.Context, p part, process Process) error {
	err := until(ctx, startLimit, func(ctx context.Context) error {
		if !process.alive() {
			return final{errGone}
		}
		return c.probe(ctx, p)
	})
	if err != nil {
		return failure{p.name, fmt.Errorf("did not get healthy: %w; %s", err, c.logTail(p.name))}
	}
	return nil
}

// failure is what keeps one part from being healthy, with the end of its log.
type failure struct {
	part  string
	cause error
}

func (f failure) Error() string { return f.part + " " + f.cause.Error() }
func (f failure) Unwrap() error { return f.cause }

// withEnded adds to the reason why `up` failed each part that was started and
// has ended since: what waits for it only says that time is up.
func (c *Cluster) withEnded(init Process, reason error) error {
	if !init.alive() {
		return errors.Join(reason, fmt.Errorf("init has ended, and all parts with it; %s", c.logTail("init")))
	}
	var told failure
	errors.As(reason, &told)
	all := []error{reason}
	for _, p := range c.parts() {
		process, err := c.recorded(p.name)
		started := err == nil && process.Boot == init.Boot && process.Start >= init.Start
		if started && !process.alive() && p.name != told.part {
			all = append(all, fmt.Errorf("%s has ended; %s", p.name, c.logTail(p.name)))
		}
	}
	return errors.Join(all...)
}

// final is an error that waiting does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// until tries again and again, and gives the last error when time is up.
func until(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil || errors.As(err, &final{}) {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("after %s: %w", limit, err)
			}
			return ctx.Err()
		case <-time.After(25 * time.Millisecond):
		}
	}
}

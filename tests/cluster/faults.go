package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func (c *Cluster) killCommand(arguments []string) error {
	flags := flag.NewFlagSet("kill", flag.ContinueOnError)
	signalName := flags.String("signal", "KILL", "")
	parts, err := parse(flags, arguments, "part")
	if err != nil {
		return err
	}
	signal, err := signalNamed(*signalName)
	if err != nil {
		return err
	}
	name, err := c.processName(parts[0])
	if err != nil {
		return err
	}
	process, err := c.running(name)
	if err != nil {
		return err
	}
	if signal == unix.SIGKILL {
		return process.kill(endLimit)
	}
	return process.signal(signal)
}

// processName is the name of a part, or of the first process.
func (c *Cluster) processName(name string) (string, error) {
	if name == "init" {
		return name, nil
	}
	p, err := c.part(name)
	return p.name, err
}

// signalNamed understands KILL, SIGKILL and 9.
func signalNamed(name string) (unix.Signal, error) {
	if number, err := strconv.Atoi(name); err == nil {
		return unix.Signal(number), nil
	}
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if signal := unix.SignalNum(upper); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("there is no signal %q", name)
}

func (c *Cluster) restartCommand(arguments []string) error {
	parts, err := parse(flag.NewFlagSet("restart", flag.ContinueOnError), arguments, "part")
	if err != nil {
		return err
	}
	p, err := c.part(parts[0])
	if err != nil {
		return err
	}
	release, err := lock(lockPath(c.Name), "with cluster "+c.Name)
	if err != nil {
		return err
	}
	defer release()
	init, err := c.running("init")
	if err != nil {
		return fmt.Errorf("cluster %s is not up: %w", c.Name, err)
	}
	if err := c.end(p.name); err != nil {
		return err
	}
	_, err = c.ensure(context.Background(), init, p)
	return err
}

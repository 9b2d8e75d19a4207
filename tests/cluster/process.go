package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process identifies one process for good. A pid alone is reused by the
// kernel, so it is kept together with the start time and the boot it counts
// from; a process that differs in any of them is somebody else's.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

var errGone = errors.New("the process has ended")

func identify(pid int) (Process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("pid %d: %w", pid, errGone)
	}
	start, err := startTime(stat)
	if err != nil {
		return Process{}, fmt.Errorf("pid %d: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("read the boot id: %w", err)
	}
	return Process{PID: pid, Start: start, Boot: string(bytes.TrimSpace(boot))}, nil
}

// describe names a process for a message, with the beginning of its command.
func describe(pid int) string {
	// It may be gone by now, and then has no command.
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(strings.Trim(string(line), "\x00"), "\x00")
	if words[0] == "" {
		return fmt.Sprintf("pid %d", pid)
	}
	words[0] = filepath.Base(words[0])
	return fmt.Sprintf("pid %d (%.80s)", pid, strings.Join(words, " "))
}

// startTime reads field 22 of /proc/PID/stat, and takes a zombie for gone:
// it holds nothing any more but its number.
func startTime(stat []byte) (uint64, error) {
	// The second field is the command in parentheses, which may hold anything.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("its stat file has no command")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("its stat file has %d fields after the command, not 20 or more", len(fields))
	}
	if state := fields[0]; state == "Z" || state == "X" {
		return 0, errGone
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// alive tells whether the very process that was identified still runs.
func (p Process) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p
}

// open gives a file descriptor of the process, which cannot come to mean
// another one when the pid is reused.
func (p Process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, errGone
	}
	if !p.alive() {
		_ = unix.Close(fd)
		return -1, errGone
	}
	return fd, nil
}

func (p Process) signal(signal unix.Signal) error {
	fd, err := p.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return fmt.Errorf("send %s to pid %d: %w", unix.SignalName(signal), p.PID, err)
	}
	return nil
}

// kill ends the process hard and returns when it has ended.
func (p Process) kill(limit time.Duration) error {
	fd, err := p.open()
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill pid %d: %w", p.PID, err)
	}
	return awaitEnd(fd, p.PID, limit)
}

// awaitEnd waits for a process to end; its descriptor then becomes readable.
func awaitEnd(fd, pid int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("pid %d has not ended after %s", pid, limit)
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for pid %d: %w", pid, err)
		}
		if ready > 0 {
			return nil
		}
	}
}

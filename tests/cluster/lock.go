package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockLimit   = time.Hour   // the holder may be an `up` that builds everything first
	chooseLimit = time.Minute // it writes some forty small files
	lockPause   = 50 * time.Millisecond
)

// lock takes the lock file, saying what it waits for when another holds it.
// The kernel gives it back when its holder dies, however it dies.
func lock(path, purpose string) (release func(), err error) {
	return acquire(path, purpose, lockLimit, func() (*os.File, error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	})
}

// lockDir takes a folder for a lock, which leaves no file behind.
func lockDir(path, purpose string) (release func(), err error) {
	return acquire(path, purpose, chooseLimit, func() (*os.File, error) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		return os.Open(path)
	})
}

func acquire(path, purpose string, limit time.Duration, open func() (*os.File, error)) (release func(), err error) {
	deadline := time.Now().Add(limit)
	told := false
	for {
		file, err := open()
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && hasName(file) {
			return func() { _ = file.Close() }, nil
		}
		holder := holderOf(file)
		_ = file.Close()
		switch {
		case err == nil:
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%s did not finish %s within %s: end it if it hangs, and try again (it holds %s)", holder, purpose, limit, path)
		case !told:
			fmt.Fprintf(os.Stderr, "waiting for %s to finish %s (it holds %s)\n", holder, purpose, path)
			told = true
		}
		time.Sleep(lockPause)
	}
}

// hasName tells whether a file is still the one that its path leads to. The
// former holder may have removed it: a lock on it would keep nobody out.
func hasName(file *os.File) bool {
	own, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(file.Name())
	return err == nil && os.SameFile(own, named)
}

// holderOf names the process that has the lock of a file, if the kernel tells.
func holderOf(file *os.File) string {
	const unknown = "another command"
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	place := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK ADVISORY WRITE 4711 fe:00:1033121 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != place {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return describe(pid)
		}
	}
	return unknown
}

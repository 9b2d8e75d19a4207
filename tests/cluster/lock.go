package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock takes the lock file, saying what it waits for when another holds it.
// The kernel gives it back when its holder dies, however it dies.
func lock(path, purpose string) (release func(), err error) {
	return acquire(path, purpose, func() (*os.File, error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	})
}

// lockDir takes a folder for a lock, which leaves no file behind.
func lockDir(path, purpose string) (release func(), err error) {
	return acquire(path, purpose, func() (*os.File, error) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		return os.Open(path)
	})
}

func acquire(path, purpose string, open func() (*os.File, error)) (release func(), err error) {
	for {
		file, err := open()
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			fmt.Fprintf(os.Stderr, "waiting for another command to finish %s (it holds %s)\n", purpose, path)
			err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The holder may have removed the file while this one waited: a lock on
		// a file that has no name any more keeps nobody out.
		if held, err := file.Stat(); err == nil {
			if named, err := os.Stat(path); err == nil && os.SameFile(held, named) {
				return func() { _ = file.Close() }, nil
			}
		}
		_ = file.Close()
	}
}

package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInotifyInstancesThatAreUsedUpAreTold(t *testing.T) {
	// This process alone gets no more of them.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: inotifyOfControlPlane, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err := checkInotify(ControlPlane)
	if err == nil || !strings.Contains(err.Error(), "max_user_instances") {
		t.Errorf("got %v", err)
	}
}

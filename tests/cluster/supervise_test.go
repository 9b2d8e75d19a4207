package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPartThatEndedAfterItWasHealthyIsNamedWithItsLog(t *testing.T) {
	c := newTestCluster(t, ControlPlane)
	_, init := startSleep(t)
	for _, name := range []string{"etcd", "apiserver", "controller-manager"} {
		_, process := startSleep(t)
		if err := c.record(name, process); err != nil {
			t.Fatal(err)
		}
		write(t, c.logPath(name), "the last words of "+name)
		if name != "apiserver" {
			if err := process.kill(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	// One that this first process has not started is not missed.
	if err := c.record("scheduler", Process{PID: 1, Start: 0, Boot: init.Boot}); err != nil {
		t.Fatal(err)
	}
	slow := errors.New("no node is ready")
	err := c.withEnded(init, failure{"controller-manager", slow})
	if !errors.Is(err, slow) || !strings.Contains(err.Error(), "the last words of etcd") {
		t.Errorf("got %v, want %q and the last words of etcd", err, slow)
	}
	for _, part := range []string{"apiserver", "controller-manager", "scheduler"} {
		if strings.Contains(err.Error(), part+" has ended") {
			t.Errorf("%s is named in\n%v", part, err)
		}
	}
	if err := init.kill(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	err = c.withEnded(init, slow)
	if !strings.Contains(err.Error(), "init has ended") || strings.Contains(err.Error(), "etcd has ended") {
		t.Errorf("got %v, want that the first process has ended, with which all others did", err)
	}
}

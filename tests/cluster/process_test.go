package main

import (
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStartTimeIsFoundBehindAnyCommandName(t *testing.T) {
	const fields = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 200"
	for _, command := range []string{"etcd", "a b", "a) S 1 (b", "("} {
		start, err := startTime([]byte("42 (" + command + ")" + fields))
		if err != nil || start != 777 {
			t.Errorf("command %q: got %d, %v; want 777", command, start, err)
		}
	}
}

func TestZombieCountsAsEnded(t *testing.T) {
	_, err := startTime([]byte("42 (etcd) Z 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 0 0"))
	if !errors.Is(err, errGone) {
		t.Errorf("got %v, want %v", err, errGone)
	}
}

func TestStatFileThatIsCutShortIsAnError(t *testing.T) {
	for _, stat := range []string{"", "42 (etcd", "42 (etcd) S 1 1"} {
		if _, err := startTime([]byte(stat)); err == nil || errors.Is(err, errGone) {
			t.Errorf("%q: got %v, want an error that is not %v", stat, err, errGone)
		}
	}
}

func startSleep(t *testing.T) (*exec.Cmd, Process) {
	t.Helper()
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	process, err := identify(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return command, process
}

func TestKillReturnsWhenTheProcessHasEnded(t *testing.T) {
	_, process := startSleep(t)
	if !process.alive() {
		t.Fatal("it is not alive before")
	}
	if err := process.kill(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if process.alive() {
		t.Error("it is alive after")
	}
	if err := process.kill(time.Second); err != nil {
		t.Errorf("to kill it again is an error: %v", err)
	}
}

func TestStrangerWithTheSamePidIsLeftAlone(t *testing.T) {
	_, process := startSleep(t)
	for name, former := range map[string]Process{
		"started at another time": {process.PID, process.Start - 1, process.Boot},
		"of another boot":         {process.PID, process.Start, "another"},
	} {
		if former.alive() {
			t.Errorf("a process %s counts as alive", name)
		}
		if err := former.kill(time.Second); err != nil {
			t.Errorf("a process %s: %v", name, err)
		}
		if err := former.signal(unix.SIGTERM); !errors.Is(err, errGone) {
			t.Errorf("a process %s: got %v, want %v", name, err, errGone)
		}
	}
	if !process.alive() {
		t.Error("the stranger was killed")
	}
}

func TestWaitingForTheEndHasALimit(t *testing.T) {
	_, process := startSleep(t)
	fd, err := process.open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if awaitEnd(fd, process.PID, 10*time.Millisecond) == nil {
		t.Error("a process that runs on counts as ended")
	}
}

package main

import (
	"strings"
	"testing"
	"time"
)

func TestCommandIsStoppedWhenItsTimeIsUp(t *testing.T) {
	began := time.Now()
	_, err := command{argv: []string{"sh", "-c", "echo asked; exec sleep 60"}, limit: 2 * time.Second}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not done after 2s") || !strings.Contains(err.Error(), "asked") {
		t.Errorf("got %v, want that it was not done after 2s, and what it said", err)
	}
	if took := time.Since(began); took > stopLimit {
		t.Errorf("it took %s", took)
	}
}

func TestCommandSeesWhatItIsGiven(t *testing.T) {
	dir := t.TempDir()
	output, err := command{
		argv: []string{"sh", "-c", "pwd; echo $GIVEN; cat"}, limit: time.Minute,
		dir: dir, env: []string{"GIVEN=value"}, stdin: strings.NewReader("text"),
	}.run(t.Context())
	if want := dir + "\nvalue\ntext"; err != nil || string(output) != want {
		t.Errorf("got %q, %v; want %q", output, err, want)
	}
}

func TestFailedCommandTellsWhatItPrinted(t *testing.T) {
	_, err := command{argv: []string{"sh", "-c", "echo no room >&2; exit 3"}, limit: time.Minute}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v", err)
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestStepRunsAfterAllThatItWaitsFor(t *testing.T) {
	var mu sync.Mutex
	var order []string
	note := func(name string, after ...string) step {
		return step{name, after, func(context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return "", nil
		}}
	}
	err := runSteps(t.Context(), newProgress(io.Discard), []step{
		note("kubelet", "apiserver", "containerd"), note("apiserver", "etcd"), note("containerd"), note("etcd"),
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int { return slices.Index(order, name) }
	if len(order) != 4 || at("kubelet") != 3 || at("etcd") > at("apiserver") {
		t.Errorf("they ran in the order %v", order)
	}
}

func TestFailedStepStopsTheOthersAndIsNamed(t *testing.T) {
	broken := errors.New("no room")
	err := runSteps(t.Context(), newProgress(io.Discard), []step{
		{"etcd", nil, func(context.Context) (string, error) { return "", broken }},
		{"apiserver", []string{"etcd"}, func(context.Context) (string, error) {
			t.Error("a step ran though the one before it failed")
			return "", nil
		}},
		{"containerd", nil, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}},
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestStepThatWaitsForNoStepIsRefused(t *testing.T) {
	err := runSteps(t.Context(), newProgress(io.Discard), []step{
		{"apiserver", []string{"etdc"}, func(context.Context) (string, error) { return "", nil }},
	})
	if err == nil {
		t.Error("it was accepted")
	}
}

func TestWaitingEndsWithTheLastErrorWhenTimeIsUp(t *testing.T) {
	refused := errors.New("connection refused")
	err := until(t.Context(), 60*time.Millisecond, func(context.Context) error { return refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
}

func TestWaitingEndsAtOnceWhenTheProcessIsGone(t *testing.T) {
	tries := 0
	err := until(t.Context(), time.Minute, func(context.Context) error {
		tries++
		return final{errGone}
	})
	if !errors.Is(err, errGone) || tries != 1 {
		t.Errorf("got %v after %d tries, want %v after one", err, tries, errGone)
	}
}

// The graph of every mode is closed: each part waits for things that are there.
func TestStepsOfEveryModeFindWhatTheyWaitFor(t *testing.T) {
	for _, mode := range []Mode{Full, ControlPlane, Scale} {
		c := &Cluster{Name: "test", Mode: mode, Dir: t.TempDir(), Ports: map[string]int{}}
		names := map[string]bool{}
		var waits []string
		for _, p := range c.parts() {
			names[p.name] = true
			waits = append(waits, p.after...)
		}
		for _, s := range c.finishingSteps(Process{}) {
			names[s.name] = true
			waits = append(waits, s.after...)
		}
		for _, name := range waits {
			if !names[name] {
				t.Errorf("mode %s: something waits for %s", mode, name)
			}
		}
	}
}

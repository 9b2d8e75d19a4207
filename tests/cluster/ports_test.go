package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

func TestPortThatIsTakenIsNamedWithWhoHasIt(t *testing.T) {
	c := newTestCluster(t, ControlPlane)
	if err := c.checkPorts(); err != nil {
		t.Errorf("all are free: got %v", err)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", c.Ports["apiserver"]))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = c.checkPorts()
	for _, want := range []string{c.at("apiserver"), "apiserver", fmt.Sprintf("pid %d", os.Getpid())} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	own, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.record("apiserver", own); err != nil {
		t.Fatal(err)
	}
	if err := c.checkPorts(); err != nil {
		t.Errorf("the part itself has it: got %v", err)
	}
}

func TestPortsOfANodeAreItsOwn(t *testing.T) {
	c := newTestCluster(t, Full)
	// A port of the machine as well, as far as the addresses tell.
	c.Address = "127.0.0.1"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c.Ports["coredns"] = listener.Addr().(*net.TCPAddr).Port
	if err := c.checkPorts(); err != nil {
		t.Errorf("got %v", err)
	}
}

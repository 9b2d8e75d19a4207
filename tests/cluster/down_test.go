package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a command leaves that was cut short, or a disk that was full.
var brokenRecords = map[string]string{"empty": "", "cut short": `{"name": "test", "mo`, "of nothing": "{}"}

func TestDownClearsAClusterWhoseRecordIsBroken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a cluster is taken away by root")
	}
	for kind, record := range brokenRecords {
		c := newTestCluster(t, ControlPlane)
		write(t, c.path("cluster.json"), record)
		if _, err := load(c.Name); !errors.Is(err, errBroken) {
			t.Errorf("%s: got %v, want %v", kind, err, errBroken)
		}
		if err := down(c.Name); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder is left", kind)
		}
	}
}

func TestDownEndsTheFirstProcessThoughItsRecordIsBroken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a cluster is taken away by root")
	}
	for kind, record := range brokenRecords {
		c := newTestCluster(t, ControlPlane)
		init := startLogged(t, c)
		write(t, c.path("cluster.json"), "")
		write(t, c.recordPath("init"), record)
		if err := down(c.Name); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if init.alive() {
			t.Errorf("%s: the first process is left", kind)
		}
	}
}

func TestNodeOfABrokenRecordIsKnownByItsConfiguration(t *testing.T) {
	c := newTestCluster(t, Full)
	c.Slot = 3
	if err := c.writeConfig(); err != nil {
		t.Fatal(err)
	}
	found, err := remains(c.Name)
	if err != nil {
		t.Fatal(err)
	}
	if found.Mode != Full || found.Slot != 3 || found.Dir != c.Dir {
		t.Errorf("got %+v, want mode %s and slot 3 in %s", found, Full, c.Dir)
	}
	successor := &Cluster{Name: "successor", Mode: Full, Slot: 3, Dir: filepath.Join(stateRoot(), "successor")}
	if err := successor.save(); err != nil {
		t.Fatal(err)
	}
	if found, err := remains(c.Name); err != nil || found.Mode == Full {
		t.Errorf("got %+v, %v, though slot 3 went to another cluster", found, err)
	}
}

// startLogged starts a process whose output is the log of the first process.
func startLogged(t *testing.T, c *Cluster) Process {
	t.Helper()
	log, err := c.openLog("init")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command("sleep", "60")
	command.Stdout = log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	process, err := identify(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestDownOfAllFindsWhatASoakTestLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a cluster is taken away by root")
	}
	t.Setenv("CACHEDSERVICE_STATE", filepath.Join(t.TempDir(), "clusters"))
	root := stateRoot()
	// Its lock has a name as the folder of a soak test.
	own := &Cluster{Name: "soak", Mode: ControlPlane, Dir: filepath.Join(root, "soak")}
	write(t, lockPath(own.Name), "")
	t.Setenv("CACHEDSERVICE_STATE", filepath.Join(root, soakPrefix+"123"))
	left := &Cluster{Name: "soak", Mode: ControlPlane, Dir: filepath.Join(stateRoot(), "soak")}
	if err := errors.Join(own.save(), left.save()); err != nil {
		t.Fatal(err)
	}
	init := startLogged(t, left)
	if err := left.record("init", init); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CACHEDSERVICE_STATE", root)
	if err := downAll(); err != nil {
		t.Fatal(err)
	}
	if init.alive() {
		t.Error("its first process is left")
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of all clusters is left")
	}
}

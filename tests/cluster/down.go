package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// down takes a cluster away, whole or half made.
func down(name string) error {
	if err := checkPrivileges(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(stateRoot(), name)); err != nil {
		fmt.Printf("there is no cluster %s\n", name)
		return nil
	}
	release, err := lock(lockPath(name), "with cluster "+name)
	if err != nil {
		return err
	}
	defer release()
	c, err := load(name)
	switch {
	case errors.Is(err, errNoCluster):
		// `up` was killed before it had anything to start.
		c, err = &Cluster{Name: name, Dir: filepath.Join(stateRoot(), name)}, nil
	case errors.Is(err, errBroken):
		c, err = remains(name)
	}
	if err != nil {
		return err
	}
	if err := c.remove(); err != nil {
		return fmt.Errorf("cluster %s is not all gone: %w", name, err)
	}
	fmt.Printf("cluster %s is gone\n", name)
	return nil
}

// remains is what can be told of a cluster whose record is broken: whether it
// has a node, and which addresses, as the configuration of its kubelet says.
func remains(name string) (*Cluster, error) {
	c := &Cluster{Name: name, Dir: filepath.Join(stateRoot(), name)}
	kubelet, err := os.ReadFile(c.config("kubelet.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	others, err := otherClusters(name)
	if err != nil {
		return nil, err
	}
	for slot := range slots {
		// A new cluster may have them by now, as nobody could read that they are taken.
		if !slotTaken(others, slot) && bytes.Contains(kubelet, []byte("cgroupRoot: "+networkOf(slot).cgroup()+"\n")) {
			c.Mode, c.Slot = Full, slot
		}
	}
	return c, nil
}

func (c *Cluster) remove() error {
	// With the first process end all others, their mounts and their network;
	// the kernel lets it go only after the last of them.
	err := c.end("init")
	if errors.Is(err, errBroken) {
		err = c.endByLog("init")
	}
	if err != nil {
		return err
	}
	if c.Mode == Full && c.rival() == "" {
		if err := c.removeCgroups(endLimit); err != nil {
			return err
		}
		if err := c.Net().disconnect(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return err
	}
	if err := os.Remove(lockPath(c.Name)); err != nil {
		return err
	}
	// Gone with its last cluster; another one may still be in it.
	_ = os.Remove(stateRoot())
	return nil
}

// endByLog ends a part whose record is broken: no other process has its log
// for an output.
func (c *Cluster) endByLog(name string) error {
	log, err := os.Stat(c.logPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	outputs, err := filepath.Glob("/proc/[0-9]*/fd/1")
	if err != nil {
		return err
	}
	for _, path := range outputs {
		// Processes come and go meanwhile.
		output, err := os.Stat(path)
		if err != nil || !os.SameFile(output, log) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			return err
		}
		process, err := identify(pid)
		if err == nil {
			err = process.kill(endLimit)
		}
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	return nil
}

// soakPrefix begins the names of the folders below that of all clusters where
// soak tests keep theirs. The dot keeps such a folder from being a cluster.
const soakPrefix = "soak."

// downAll takes away every cluster, and those that soak tests left which were
// cut short.
func downAll() error {
	root := stateRoot()
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), soakPrefix) {
			failed = append(failed, downAllIn(filepath.Join(root, entry.Name())))
		}
	}
	return errors.Join(append(failed, downAllIn(root))...)
}

func downAllIn(root string) error {
	if err := os.Setenv("CACHEDSERVICE_STATE", root); err != nil {
		return err
	}
	names, err := clusterNames()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, down(name))
	}
	// There may have been none in it.
	_ = os.Remove(root)
	return errors.Join(failed...)
}

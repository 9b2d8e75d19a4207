package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	if errors.Is(err, errNoCluster) {
		// `up` was killed before it had anything to start.
		c, err = &Cluster{Name: name, Dir: filepath.Join(stateRoot(), name)}, nil
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

func (c *Cluster) remove() error {
	// With the first process end all others, their mounts and their network;
	// the kernel lets it go only after the last of them.
	if err := c.end("init"); err != nil {
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

func downAll() error {
	names, err := clusterNames()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, down(name))
	}
	return errors.Join(failed...)
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CgroupRoot is the cgroup that all pods lie below, in every hierarchy. Like
// the cable, it is the only one of its name on the machine.
func (c *Cluster) CgroupRoot() string { return c.Net().cgroup() }

func (n network) cgroup() string { return "/" + n.link }

type hierarchy struct {
	path        string
	unified     bool     // version 2
	controllers []string // of version 1; version 2 has a file of them
}

// cgroupHierarchies reads the mounted hierarchies: one for each controller
// with version 1, a single one with version 2, both side by side when hybrid.
func cgroupHierarchies(mountinfo []byte) []hierarchy {
	var found []hierarchy
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		h := hierarchy{path: fields[4], unified: kind[0] == "cgroup2"}
		if !h.unified {
			h.controllers = strings.Split(kind[2], ",")
		}
		found = append(found, h)
	}
	return found
}

func mountedHierarchies() ([]hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return cgroupHierarchies(mountinfo), nil
}

// checkCgroups names the controllers that pods cannot do without and that
// this machine does not offer.
func checkCgroups() error {
	hierarchies, err := mountedHierarchies()
	if err != nil {
		return err
	}
	var offered, missing []string
	for _, h := range hierarchies {
		if !h.unified {
			offered = append(offered, h.controllers...)
			continue
		}
		controllers, err := os.ReadFile(filepath.Join(h.path, "cgroup.controllers"))
		if err != nil {
			return err
		}
		offered = append(offered, strings.Fields(string(controllers))...)
	}
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(offered, controller) {
			missing = append(missing, controller)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no cgroup hierarchy below /sys/fs/cgroup has %s: mount one that has", strings.Join(missing, ", "))
	}
	return nil
}

func (c *Cluster) setUpCgroups() error {
	hierarchies, err := mountedHierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if h.unified {
			if err := delegateControllers(h.path); err != nil {
				return err
			}
		}
		own := filepath.Join(h.path, c.CgroupRoot())
		if err := os.MkdirAll(own, 0o755); err != nil {
			return fmt.Errorf("make the cgroup of the pods: %w", err)
		}
		if slices.Contains(h.controllers, "cpuset") {
			// A new set of version 1 is empty, and nothing can run in it.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(h.path, file))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(own, file), value, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// delegateControllers lets the groups below the root of a version 2 hierarchy
// use each controller that it has.
func delegateControllers(root string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
			return fmt.Errorf("hand on the cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

// removeCgroups removes what the pods left. A group can be removed a moment
// after its last process has ended, not at once.
func (c *Cluster) removeCgroups(limit time.Duration) error {
	hierarchies, err := mountedHierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for _, h := range hierarchies {
		own := filepath.Join(h.path, c.CgroupRoot())
		for {
			err := removeTree(own)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove the cgroup of the pods: %w", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes the folders of a cgroup, the innermost first; its files
// are the kernel's and go with them.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

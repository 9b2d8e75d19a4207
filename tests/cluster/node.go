package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// privateDirs are the folders that the node has to itself: its parts keep
// their state in the usual places, and the machine's own are not touched.
var privateDirs = []string{"/run", "/var/lib", "/var/log"}

// sysctls are the kernel settings that a kubelet insists on, with the values
// it wants to find. It is shown files of its own: they are the machine's.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// initCommand is the hidden command by which this program becomes the first
// process of a cluster.
const initCommand = "init"

// startInit starts the cluster's first process, in namespaces of its own.
// When it ends, however it ends, the kernel ends every process started below
// it and takes their mounts and their network away. So nothing can be left
// behind, not even by a command that was killed between any two of its steps.
func (c *Cluster) startInit() (Process, error) {
	self, err := os.Executable()
	if err != nil {
		return Process{}, err
	}
	log, err := c.openLog("init")
	if err != nil {
		return Process{}, err
	}
	defer log.Close()
	goAhead, permit, err := os.Pipe()
	if err != nil {
		return Process{}, err
	}
	defer goAhead.Close()
	defer permit.Close()
	answer, report, err := os.Pipe()
	if err != nil {
		return Process{}, err
	}
	defer answer.Close()
	defer report.Close()

	if err := closeInherited(); err != nil {
		return Process{}, err
	}
	command := exec.Command(self, initCommand, c.Name)
	command.Dir = "/"
	command.Stdin, command.Stdout, command.Stderr = goAhead, log, log
	command.ExtraFiles = []*os.File{report}
	command.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID}
	if c.Mode == Full {
		command.SysProcAttr.Cloneflags |= unix.CLONE_NEWNS | unix.CLONE_NEWNET
	}
	if err := command.Start(); err != nil {
		return Process{}, fmt.Errorf("start the first process in namespaces of its own: %w", err)
	}
	go command.Wait()
	process, err := identify(command.Process.Pid)
	if err != nil {
		return Process{}, err
	}
	if err := c.record("init", process); err != nil {
		return Process{}, err
	}
	// Only now may it begin: a first process that is not on record would be
	// found by nobody. If this command dies here, the pipe closes and it ends.
	if _, err := permit.Write([]byte{1}); err != nil {
		return Process{}, fmt.Errorf("the first process ended before it began; its log is %s", c.logPath("init"))
	}
	_ = report.Close()
	_ = answer.SetReadDeadline(time.Now().Add(30 * time.Second))
	// It closes the pipe when it is ready, and when it dies.
	if said, err := io.ReadAll(answer); err != nil || len(said) == 0 {
		return Process{}, fmt.Errorf("the first process could not set up the cluster's namespaces; %s", c.logTail("init"))
	}
	return process, nil
}

// runInit is the first process: it sets up what the others are to find, and
// then only buries the dead.
func runInit(name string) error {
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("whoever started this ended first: %w", err)
	}
	c, err := load(name)
	if err != nil {
		return err
	}
	if c.Mode == Full {
		if err := errors.Join(c.setUpMounts(), c.Net().setUpInside(), c.setUpCgroups()); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	report := os.NewFile(3, "report")
	if _, err := report.WriteString("ready"); err != nil {
		return err
	}
	_ = report.Close()
	for range ended {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	return nil
}

// setUpMounts gives the node its own view of the file system. No mount in it
// is seen by the machine.
func (c *Cluster) setUpMounts() error {
	// Cut off from the machine first; shared again among the node's own
	// namespaces, as volumes with mount propagation ask for.
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("set the propagation of mounts: %w", err)
		}
	}
	for _, dir := range privateDirs {
		own := c.nodePath(dir)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(own, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the node's own %s: %w", dir, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount the node's own /proc: %w", err)
	}
	for name, value := range sysctls {
		own := c.path("sysctl", strings.ReplaceAll(name, "/", "."))
		if err := writeFile(own, []byte(value+"\n")); err != nil {
			return err
		}
		if err := unix.Mount(own, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the node's own sysctl %s: %w", name, err)
		}
	}
	return nil
}

// nodePath is where the machine finds a file that the node has below one of
// its private folders.
func (c *Cluster) nodePath(path string) string { return c.path("node", path) }

// inside runs a function on a thread that has joined the namespaces of the
// cluster's first process; a process that it starts is born there.
func (c *Cluster) inside(init Process, run func() error) error {
	kinds := []string{"pid"}
	if c.Mode == Full {
		kinds = append(kinds, "net", "mnt")
	}
	join := func() error {
		var namespaces []*os.File
		for _, kind := range kinds {
			file, err := os.Open(filepath.Join("/proc", fmt.Sprint(init.PID), "ns", kind))
			if err != nil {
				return fmt.Errorf("the cluster's first process: %w", errGone)
			}
			defer file.Close()
			namespaces = append(namespaces, file)
		}
		if !init.alive() {
			return fmt.Errorf("the cluster's first process: %w", errGone)
		}
		// A thread that shares its root folder with others cannot change mounts.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		for i, kind := range kinds {
			if err := unix.Setns(int(namespaces[i].Fd()), 0); err != nil {
				return fmt.Errorf("join the %s namespace of pid %d: %w", kind, init.PID, err)
			}
		}
		return run()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread belongs to the cluster now, and ends here.
		runtime.LockOSThread()
		result <- join()
	}()
	return <-result
}

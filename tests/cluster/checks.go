package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// debianPackages are the programs that come from the distribution.
var debianPackages = []struct{ file, name string }{
	{"ip", "iproute2"},
	{"iptables", "iptables"},
	{"conntrack", "conntrack"},
	{"nft", "nftables"},
	{"runc", "runc"},
	{cniPlugins + "/bridge", "containernetworking-plugins"},
	{"buildah", "buildah"},
	{"cc", "gcc"}, // Rust links with it
	{"/usr/include/stdio.h", "libc6-dev"},
}

const (
	gigabyte = 1 << 30
	aptLimit = 15 * time.Minute // of which it waits five for another to finish

	// How many instances of inotify the parts of a cluster open: the API server and the
	// controller manager six each, kubelet and containerd a dozen and more with their pods.
	inotifyOfControlPlane = 12
	inotifyOfNode         = 36
)

func checkPrivileges() error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster is started by root, who alone can make its namespaces: run this with sudo")
	}
	return nil
}

// checkNeeds looks for all that a start needs, installs what it can, and
// names everything that is missing at once. A new cluster is nil.
func checkNeeds(log *progress, wanted request, tools *toolchain, c *Cluster) error {
	problems := []error{
		checkDisk(stateRoot(), gigabyte, "CACHEDSERVICE_STATE"),
		tools.checkNeeds(neededBy(wanted.mode, wanted.older)),
	}
	if c != nil {
		problems = append(problems, c.checkPorts())
	} else {
		// The parts of one that is there hold theirs.
		problems = append(problems, checkInotify(wanted.mode))
	}
	if wanted.mode == Full {
		problems = append(problems,
			checkImageCompilers(tools.repository()),
			checkPackages(log),
			checkKernel(),
			checkStateFileSystem(),
			checkAddresses())
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("this machine is not ready for a cluster:\n%w", err)
	}
	return nil
}

// checkNeeds looks for what those of the programs need that are not built yet.
func (t *toolchain) checkNeeds(names []string) error {
	if len(t.missing(names)) == 0 {
		return nil
	}
	return errors.Join(t.checkGo(), checkDisk(t.dir, 8*gigabyte, "CACHEDSERVICE_CACHE"))
}

func checkDisk(dir string, needed uint64, variable string) error {
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := stat.Bavail * uint64(stat.Bsize); free < needed {
		return fmt.Errorf("%s has %.1f GB left and %d GB are needed: make room, or point %s to another disk",
			dir, float64(free)/gigabyte, needed/gigabyte, variable)
	}
	return nil
}

// checkInotify sees whether the instances can be had that a cluster needs: without them
// its parts do not start, or start and see no change of a file, and say so in their logs alone.
func checkInotify(mode Mode) error {
	needed := inotifyOfControlPlane
	if mode == Full {
		needed += inotifyOfNode
	}
	for range needed {
		instance, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return fmt.Errorf("%d more instances of inotify are needed, and there are not as many (%w): "+
				"end a cluster that is not used, or raise sysctl fs.inotify.max_user_instances, or the limit of open files (ulimit -n)", needed, err)
		}
		defer func() { _ = unix.Close(instance) }()
	}
	return nil
}

func checkPackages(log *progress) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("these are missing, by their Debian names: %s; install them with this system's package tool", list)
	}
	log.step("installing %s", list)
	for _, arguments := range [][]string{
		{"update", "--quiet"},
		append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, missing...),
	} {
		argv := append([]string{"apt-get", "-oDPkg::Lock::Timeout=300"}, arguments...)
		_, err := command{argv: argv, limit: aptLimit, env: []string{"DEBIAN_FRONTEND=noninteractive"}}.run(context.Background())
		if err != nil {
			return fmt.Errorf("apt-get %s: %w", arguments[0], err)
		}
	}
	if still := missingPackages(); len(still) > 0 {
		return fmt.Errorf("apt-get installed %s, and yet these are not found: %s", list, strings.Join(still, " "))
	}
	return nil
}

func missingPackages() []string {
	var missing []string
	for _, p := range debianPackages {
		if !isInstalled(p.file) {
			missing = append(missing, p.name)
		}
	}
	return missing
}

// isInstalled looks in the folders for root's programs too, which are not on
// the PATH of every shell.
func isInstalled(file string) bool {
	if filepath.IsAbs(file) {
		_, err := os.Stat(file)
		return err == nil
	}
	return slices.ContainsFunc([]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, file))
		return err == nil
	})
}

func checkKernel() error {
	var problems []error
	for _, kind := range []string{"mnt", "net", "pid"} {
		if _, err := os.Stat("/proc/self/ns/" + kind); err != nil {
			problems = append(problems, fmt.Errorf("the kernel has no %s namespaces", kind))
		}
	}
	loadModules("overlay", "br_netfilter", "veth")
	fileSystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !bytes.Contains(fileSystems, []byte("\toverlay\n")) {
		problems = append(problems, errors.New("the kernel has no overlay file system: load the module overlay"))
	}
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		problems = append(problems, errors.New("the kernel does not filter bridges: load the module br_netfilter"))
	}
	return errors.Join(append(problems, checkCgroups())...)
}

// loadModules asks for modules that the kernel may have built in; whether it
// now has what they bring is looked at elsewhere.
func loadModules(names ...string) {
	for _, name := range names {
		_, _ = command{argv: []string{"modprobe", "--quiet", name}, limit: time.Minute}.run(context.Background())
	}
}

func checkStateFileSystem() error {
	var stat unix.Statfs_t
	if err := unix.Statfs(stateRoot(), &stat); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", stateRoot(), err)
	}
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s is on an overlay, and images cannot be laid over one: set CACHEDSERVICE_STATE to a folder on a disk", stateRoot())
	}
	return nil
}

func checkAddresses() error {
	taken, err := foreignInterface()
	if err == nil && taken != "" {
		err = fmt.Errorf("the interface %s uses addresses of %s, which the cluster takes its own from", taken, testRange)
	}
	return err
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// program is a binary built from the module in tools/, whose go.mod and
// go.sum pin every version.
type program struct {
	name  string
	pkg   string
	flags []string
	links []string // further names, by which the binary picks what to be
	data  []string // files that it reads
	cold  string   // how long the first build takes on two cores; less behind one that shares its modules
}

const (
	kubernetesVersion = "v1.37.2"
	kubernetesProgram = "kubernetes"
	kwokModule        = "sigs.k8s.io/kwok"
	kwokStagesFile    = "kwok-stages.yaml"

	// buildLimit is for one program: the largest takes 7 minutes on two cores
	// that have nothing else to do, once its modules are fetched.
	buildLimit = 40 * time.Minute
)

var programs = []program{
	{name: kubernetesProgram, pkg: "./kubernetes", flags: kubernetesFlags(kubernetesVersion), links: []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet",
	}, cold: "about 7 minutes"},
	{name: "containerd", pkg: "github.com/containerd/containerd/v2/cmd/containerd", flags: containerdFlags, cold: "a minute"},
	{name: "containerd-shim-runc-v2", pkg: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", flags: containerdFlags, cold: "seconds"},
	{name: "ctr", pkg: "github.com/containerd/containerd/v2/cmd/ctr", flags: containerdFlags, cold: "seconds"},
	{name: "coredns", pkg: "./coredns", cold: "at most 90 seconds"},
	{name: "network-policies", pkg: "./network-policies", cold: "at most a minute"},
	{name: "metrics-server", pkg: "sigs.k8s.io/metrics-server/cmd/metrics-server", cold: "at most 2 minutes"},
	{name: "helm", pkg: "helm.sh/helm/v4/cmd/helm", cold: "at most 2 minutes"},
	{name: "kwok", pkg: kwokModule + "/cmd/kwok", data: []string{kwokStagesFile}, cold: "at most a minute"},
	{name: "pause", pkg: "./pause", cold: "a second"},
}

// olderKubernetes are the control planes of minor versions before that of
// kubernetesVersion. Each has a go.mod of its own beside the usual one.
var olderKubernetes = map[string]program{
	"1.31": older("v1.31.14"),
}

func older(version string) program {
	name := kubernetesProgram + "-" + minorOf(version)
	return program{
		name: name, pkg: "./kubernetes",
		flags: append(kubernetesFlags(version), "-modfile="+name+".mod", "-tags=control_plane"),
		links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"},
		cold:  "about 5 minutes",
	}
}

// minorOf gives 1.37 of v1.37.2.
func minorOf(version string) string {
	number := strings.Split(strings.TrimPrefix(version, "v"), ".")
	return number[0] + "." + number[1]
}

// Storage drivers that need C libraries or are of no use on one machine.
var containerdFlags = []string{"-tags=no_btrfs,no_zfs,no_devmapper"}

func kubernetesFlags(version string) []string {
	major, minor, _ := strings.Cut(minorOf(version), ".")
	const variable = "-X k8s.io/component-base/version."
	return []string{"-ldflags=-s -w " +
		variable + "gitVersion=" + version + " " +
		variable + "gitMajor=" + major + " " +
		variable + "gitMinor=" + minor}
}

// neededBy names the programs that a mode runs, with an older Kubernetes if
// one is named. Helm goes with a node, where charts are installed.
func neededBy(mode Mode, older string) []string {
	switch mode {
	case ControlPlane:
		if older != "" {
			return []string{olderKubernetes[older].name}
		}
		return []string{kubernetesProgram}
	case Scale:
		return []string{kubernetesProgram, "kwok"}
	default:
		return []string{kubernetesProgram, "containerd", "containerd-shim-runc-v2", "ctr", "coredns", "metrics-server", "network-policies", "helm", "pause"}
	}
}

func find(name string) (program, bool) {
	for _, p := range olderKubernetes {
		if p.name == name {
			return p, true
		}
	}
	at := slices.IndexFunc(programs, func(p program) bool { return p.name == name || slices.Contains(p.links, name) })
	if at < 0 {
		return program{}, false
	}
	return programs[at], true
}

// toolchain is the cache of built programs, for one state of the sources.
type toolchain struct {
	source string // the module
	dir    string // what was built from it
}

func newToolchain() (*toolchain, error) {
	source, cache := os.Getenv("CLUSTER_SOURCE"), os.Getenv("CACHEDSERVICE_CACHE")
	if source == "" || cache == "" {
		return nil, errors.New("this program is started by the `cluster` script beside its sources")
	}
	t := &toolchain{source: filepath.Join(source, "tools")}
	key, err := t.key()
	if err != nil {
		return nil, err
	}
	t.dir = filepath.Join(cache, "tools", key)
	return t, nil
}

// key changes with every source, version and flag that a program is built of.
func (t *toolchain) key() (string, error) {
	hash := sha256.New()
	err := filepath.WalkDir(t.source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(t.source, path)
		fmt.Fprintf(hash, "%s %d\n", name, len(data))
		hash.Write(data)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read the sources of the tools: %w", err)
	}
	for _, p := range programs {
		fmt.Fprintln(hash, p.name, p.pkg, p.flags, p.links)
	}
	for _, version := range slices.Sorted(maps.Keys(olderKubernetes)) {
		fmt.Fprintln(hash, olderKubernetes[version])
	}
	return fmt.Sprintf("%x", hash.Sum(nil))[:16], nil
}

// repository is the folder of the whole project.
func (t *toolchain) repository() string { return filepath.Join(t.source, "..", "..", "..") }

func (t *toolchain) path(name string) string { return filepath.Join(t.dir, name) }

func (t *toolchain) missing(names []string) []program {
	var missing []program
	for _, name := range names {
		if p, known := find(name); known {
			if _, err := os.Stat(t.path(p.name)); err != nil {
				missing = append(missing, p)
			}
		}
	}
	return missing
}

// build makes the named programs if they are not there yet.
func (t *toolchain) build(log *progress, names ...string) error {
	if len(t.missing(names)) == 0 {
		return nil
	}
	if err := t.checkNeeds(names); err != nil {
		return err
	}
	release, err := lock(t.dir+".lock", "building")
	if err != nil {
		return err
	}
	defer release()
	missing := t.missing(names)
	for i, p := range missing {
		log.step("building %s, %d of %d (%s the first time)", p.name, i+1, len(missing), p.cold)
		err := log.during("still building "+p.name, func() error { return t.buildOne(p) })
		if err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
		log.step("built %s", p.name)
	}
	return nil
}

func (t *toolchain) buildOne(p program) error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return err
	}
	for _, link := range p.links {
		if named, _ := find(link); named.name != p.name {
			continue // it means the newest version's
		}
		if err := os.Symlink(p.name, t.path(link)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	flags := p.flags
	if !slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "-ldflags") }) {
		flags = append(slices.Clip(flags), "-ldflags=-s -w")
	}
	draft := t.path("." + p.name)
	arguments := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", draft}, flags...)
	if _, err := t.golang(append(arguments, p.pkg)...); err != nil {
		return err
	}
	if p.name == "kwok" {
		// The build has fetched the module; before it there may be none to read.
		if err := t.copyStages(); err != nil {
			return err
		}
	}
	return os.Rename(draft, t.path(p.name))
}

// copyStages takes from kwok's own module how its nodes and pods come to life.
func (t *toolchain) copyStages() error {
	dir, err := t.golang("list", "-m", "-f", "{{.Dir}}", kwokModule)
	if err != nil {
		return err
	}
	var stages [][]byte
	for _, name := range []string{
		"node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
		"pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete",
	} {
		stage, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "kustomize", "stage", name+".yaml"))
		if err != nil {
			return err
		}
		stages = append(stages, stage)
	}
	return writeFile(t.path(kwokStagesFile), bytes.Join(stages, []byte("---\n")))
}

func (t *toolchain) golang(arguments ...string) ([]byte, error) {
	return command{
		argv: append([]string{"go"}, arguments...), limit: buildLimit,
		dir: t.source, env: []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"},
	}.run(context.Background())
}

// link puts the programs into a folder, so that a cluster goes on with what
// it was started from, whatever happens to the cache.
func (t *toolchain) link(dir string, names ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		p, _ := find(name)
		for _, file := range append([]string{p.name}, p.data...) {
			if err := linkOrCopy(t.path(file), filepath.Join(dir, file)); err != nil {
				return err
			}
		}
		for _, link := range p.links {
			if err := os.Symlink(p.name, filepath.Join(dir, link)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

func linkOrCopy(from, to string) error {
	if err := os.Link(from, to); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	draft := to + ".new"
	if err := os.WriteFile(draft, data, 0o700); err != nil {
		return err
	}
	return os.Rename(draft, to)
}

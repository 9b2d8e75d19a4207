//go:build soak

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These start real clusters, as root. `-short` runs each a little, for every
// test run; without it they go through every part and ten rounds.

const soakName = "soak"

var seed = flag.Uint64("seed", 1, "picks the moments at which `up` is killed")

// soak is a folder of clusters of its own, beside those in use.
type soak struct {
	*testing.T
	state    string
	networks map[network]bool // those that its clusters had
	before   machine
	given    *os.File // what the tool has open from its caller
}

func newSoak(t *testing.T) *soak {
	if os.Geteuid() != 0 {
		t.Skip("a cluster is started by root")
	}
	if err := makeStateRoot(); err != nil {
		t.Fatal(err)
	}
	// Below that of all clusters: `cluster down --all` finds it there, should
	// this test be killed before its end.
	state, err := os.MkdirTemp(stateRoot(), soakPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CACHEDSERVICE_STATE", state)
	t.Setenv("CLUSTER_NAME", soakName)
	given, err := os.Create(filepath.Join(t.TempDir(), "given"))
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{T: t, state: state, networks: map[network]bool{}, given: given}
	s.before = s.observe()
	t.Cleanup(func() {
		s.cluster("down", "--all")
		_ = os.RemoveAll(state)
		_ = os.Remove(filepath.Dir(state))
	})
	return s
}

func (s *soak) command(ctx context.Context, arguments ...string) (*exec.Cmd, *bytes.Buffer) {
	command := exec.CommandContext(ctx, "./cluster", arguments...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.ExtraFiles = []*os.File{s.given}
	return command, &output
}

// cluster runs the tool, and fails the test when it fails.
func (s *soak) cluster(arguments ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	command, output := s.command(ctx, arguments...)
	if err := command.Run(); err != nil {
		s.Fatalf("cluster %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return output.String()
}

func (s *soak) up(arguments ...string) {
	s.Helper()
	began := time.Now()
	s.cluster(append([]string{"up", "--name", soakName}, arguments...)...)
	s.Logf("up took %.1f s", time.Since(began).Seconds())
	s.nothingIsHeld()
}

// nothingIsHeld looks for parts that hold open what whoever started them had.
func (s *soak) nothingIsHeld() {
	s.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		s.Fatal(err)
	}
	for _, file := range files {
		// Processes and their files come and go meanwhile.
		if target, err := os.Readlink(file); err == nil && target == s.given.Name() && !strings.HasPrefix(file, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			s.Errorf("%s is still open as %s", target, file)
		}
	}
}

func (s *soak) down() {
	s.Helper()
	// `up` may have been killed before there was any.
	if c, err := load(soakName); err == nil && c.Mode == Full {
		s.networks[c.Net()] = true
	}
	began := time.Now()
	s.cluster("down")
	s.Logf("down took %.1f s", time.Since(began).Seconds())
	s.nothingIsLeft()
}

// nothingIsLeft compares the machine with what it was before the first start.
func (s *soak) nothingIsLeft() {
	s.Helper()
	after := s.observe()
	for name, was := range s.before {
		if is := after[name]; is != was {
			s.Errorf("%s was\n%s\nand is\n%s", name, was, is)
		}
	}
	if _, err := os.Stat(stateRoot()); err == nil {
		s.Errorf("the state folder is left")
	}
}

// machine is what a cluster could leave behind, by kind.
type machine map[string]string

func (s *soak) observe() machine {
	s.Helper()
	ours := []string{s.state}
	networks := s.ownNetworks()
	for _, n := range networks {
		ours = append(ours, n.cgroup())
	}
	read := func(path string) string {
		data, _ := os.ReadFile(path)
		return string(data)
	}
	seen := machine{}
	var processes, mounts, cgroups []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.Fatal(err)
	}
	for _, entry := range entries {
		exe, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		text := exe + " " + read(filepath.Join("/proc", entry.Name(), "cmdline")) + read(filepath.Join("/proc", entry.Name(), "cgroup"))
		if contains(text, ours) && entry.Name() != fmt.Sprint(os.Getpid()) {
			processes = append(processes, entry.Name()+" "+exe)
		}
	}
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		if contains(line, ours) {
			mounts = append(mounts, line)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && contains(path, ours) {
			cgroups = append(cgroups, path)
		}
		return nil
	})
	seen["processes"] = strings.Join(processes, "\n")
	seen["mounts"] = strings.Join(mounts, "\n")
	seen["cgroups"] = strings.Join(cgroups, "\n")
	seen["cables"] = ""
	for _, n := range networks {
		if n.connected() {
			seen["cables"] += n.link + " "
		}
	}
	seen["firewall rules"] = firewallRules()
	for name := range sysctls {
		seen["sysctl "+name] = read("/proc/sys/" + name)
	}
	seen["sysctl net/ipv4/ip_forward"] = read("/proc/sys/net/ipv4/ip_forward")
	for _, dir := range []string{
		"/etc/cni", "/opt/cni", "/opt/containerd", "/run/containerd", "/run/netns", "/run/nri", "/usr/libexec/kubernetes",
		"/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
	} {
		_, err := os.Stat(dir)
		seen["folder "+dir] = fmt.Sprint(err == nil)
	}
	return seen
}

// ownNetworks leaves out those that another cluster, which is none of this
// test's, has taken since.
func (s *soak) ownNetworks() []network {
	var own []network
	for n := range s.networks {
		if owner := n.owner(); owner == "" || strings.HasPrefix(owner, s.state+"/") {
			own = append(own, n)
		}
	}
	return own
}

func contains(text string, any []string) bool {
	return slices.ContainsFunc(any, func(part string) bool { return strings.Contains(text, part) })
}

// firewallRules lists the machine's rules without their counters.
func firewallRules() string {
	output, err := exec.Command("iptables-save").Output()
	if err != nil {
		// The package comes with the first `up`; before it there are no rules.
		return ""
	}
	var rules []string
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
			rules = append(rules, line)
		}
	}
	// The rules for NetworkPolicies are a table of their own, which the list above leaves out.
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		return strings.Join(rules, "")
	}
	for line := range strings.Lines(string(tables)) {
		if strings.Contains(line, "network-policies") {
			rules = append(rules, line)
		}
	}
	return strings.Join(rules, "")
}

// podRuns shows that the cluster does what it is for: a pod gets an address
// and runs, the API server reaches it through the kubelet, and the addresses
// and names of Services answer.
func (s *soak) podRuns() {
	s.Helper()
	name := fmt.Sprintf("pause-%d", time.Now().UnixNano())
	s.cluster("kubectl", "run", name, "--image", pauseImage, "--image-pull-policy=IfNotPresent", "--restart=Always")
	s.cluster("kubectl", "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
	s.cluster("kubectl", "logs", name)
	s.namesAreKnown()
}

// namesAreKnown asks the cluster's DNS by the address of its Service.
func (s *soak) namesAreKnown() {
	s.Helper()
	c, err := load(soakName)
	if err != nil {
		s.Fatal(err)
	}
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, net.JoinHostPort(c.Net().DNS, "53"))
	}}
	var addresses []string
	err = until(s.Context(), 30*time.Second, func(ctx context.Context) (err error) {
		addresses, err = resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		return err
	})
	if err != nil || !slices.Equal(addresses, []string{c.Net().FirstService}) {
		s.Errorf("the API server's name gives %v, %v; want %s", addresses, err, c.Net().FirstService)
	}
	var unknown *net.DNSError
	if _, err := resolver.LookupHost(s.Context(), "somewhere.else.example."); !errors.As(err, &unknown) || !unknown.IsNotFound {
		s.Errorf("a name outside of the cluster: got %v, want not found", err)
	}
}

// partNames lists all that can be killed.
func partNames(mode Mode) []string {
	names := []string{"init"}
	for _, p := range (&Cluster{Mode: mode, Ports: map[string]int{}}).parts() {
		names = append(names, p.name)
	}
	return names
}

func TestUpAndDownWorkAgainAndAgain(t *testing.T) {
	s := newSoak(t)
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		s.up()
		s.podRuns()
		s.down()
	}
}

func TestUpMendsAClusterWhosePartWasKilled(t *testing.T) {
	s := newSoak(t)
	s.up()
	names := partNames(Full)
	if testing.Short() {
		names = []string{"containerd"}
	}
	for _, name := range names {
		t.Logf("kill %s", name)
		s.podRuns()
		s.cluster("kill", name)
		s.up()
		s.podRuns()
		s.cluster("kubectl", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
		s.cluster("kubectl", "delete", "pods", "--all", "--grace-period=1")
	}
	s.down()
}

func TestUpMendsAClusterWhosePartHangs(t *testing.T) {
	s := newSoak(t)
	s.up("--mode", "control-plane")
	s.cluster("kill", "etcd", "--signal", "STOP")
	s.up("--mode", "control-plane")
	s.cluster("kubectl", "get", "--raw", "/readyz")
	s.down()
}

func TestUpLetsACordonedNodeTakePodsAgain(t *testing.T) {
	s := newSoak(t)
	s.up()
	s.cluster("kubectl", "cordon", "node-1")
	s.up()
	s.podRuns()
	s.down()
}

func TestDownLeavesNothingAfterAPartWasKilled(t *testing.T) {
	names := partNames(Full)
	if testing.Short() {
		names = []string{"init"}
	}
	s := newSoak(t)
	for _, name := range names {
		t.Logf("kill %s", name)
		s.up()
		s.podRuns()
		s.cluster("kill", name)
		s.down()
	}
}

// The kernel takes a network away some time after its last process; until
// then, the cable to it looks as good as new.
func TestNodeIsReachedThroughACableOfItsOwnAfterItWasKilled(t *testing.T) {
	s := newSoak(t)
	s.up()
	c, err := load(soakName)
	if err != nil {
		t.Fatal(err)
	}
	init, err := c.running("init")
	if err != nil {
		t.Fatal(err)
	}
	// As long as this is open, the former network stays.
	former, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", init.PID))
	if err != nil {
		t.Fatal(err)
	}
	defer former.Close()
	s.cluster("kill", "init")
	if !c.Net().connected() {
		t.Fatal("the cable to the former network is gone, which this test is about")
	}
	s.up()
	s.podRuns()
	s.down()
}

func TestAddressesThatWentToAnotherClusterAreLeftToIt(t *testing.T) {
	s := newSoak(t)
	s.up()
	c, err := load(soakName)
	if err != nil {
		t.Fatal(err)
	}
	s.cluster("kill", "init")
	err = until(t.Context(), endLimit, func(context.Context) error {
		if c.Net().connected() {
			return errors.New("the cable is still there")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	link := c.Net().link
	if err := errors.Join(ip("link add "+link+" type veth peer name soak-peer"), ip("link set "+link+" alias", "/another/cluster")); err != nil {
		t.Fatal(err)
	}
	defer ip("link delete " + link)
	command, output := s.command(t.Context(), "up", "--name", soakName)
	if err := command.Run(); err == nil || !strings.Contains(output.String(), "/another/cluster") {
		t.Errorf("up gave %v and says\n%s", err, output)
	}
	s.cluster("down")
	if !c.Net().connected() {
		t.Error("down took the cable of the other cluster away")
	}
}

func TestDownLeavesNothingAfterUpWasKilled(t *testing.T) {
	s := newSoak(t)
	s.up()
	s.down()
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	moments := rand.New(rand.NewPCG(*seed, 0))
	for range rounds {
		after := time.Duration(moments.IntN(5000)) * time.Millisecond
		t.Logf("kill up after %s", after)
		ctx, cancel := context.WithTimeout(context.Background(), after)
		command, _ := s.command(ctx, "up", "--name", soakName)
		_ = command.Run()
		cancel()
		s.down()
	}
}

func TestTwoUpsAtOnceMakeOneCluster(t *testing.T) {
	s := newSoak(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	first, firstOutput := s.command(ctx, "up", "--mode", "control-plane", "--name", soakName)
	second, secondOutput := s.command(ctx, "up", "--mode", "control-plane", "--name", soakName)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if err := second.Run(); err != nil {
		t.Errorf("%v\n%s", err, secondOutput)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("%v\n%s", err, firstOutput)
	}
	s.cluster("kubectl", "get", "namespaces")
	s.down()
}

func TestClustersOfEveryModeStandSideBySide(t *testing.T) {
	s := newSoak(t)
	s.up("--audit")
	s.cluster("up", "--mode", "control-plane")
	s.cluster("up", "--mode", "scale", "--nodes", "5")
	for _, name := range []string{soakName, "control-plane", "scale"} {
		var status struct{ Healthy bool }
		if err := json.Unmarshal([]byte(s.cluster("status", "--name", name, "-o", "json")), &status); err != nil || !status.Healthy {
			t.Errorf("cluster %s: healthy is %v, %v", name, status.Healthy, err)
		}
	}
	s.podRuns()
	err := until(t.Context(), time.Minute, func(ctx context.Context) error {
		command, output := s.command(ctx, "kubectl", "top", "pods", "--no-headers")
		if err := command.Run(); err != nil || !strings.Contains(output.String(), "pause-") {
			return fmt.Errorf("no figures of pods: %v: %s", err, output)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	s.cluster("kubectl", "--name", "scale", "--", "create", "deployment", "web", "--image=none", "--replicas=50")
	s.cluster("kubectl", "--name", "scale", "--", "rollout", "status", "deployment/web", "--timeout=60s")
	s.cluster("kubectl", "create", "namespace", "seen")
	audit, err := os.ReadFile(strings.TrimSpace(s.cluster("audit-log")))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(audit, []byte(`"requestURI":"/api/v1/namespaces?`)) || bytes.Contains(audit, []byte(`"stage":"RequestReceived"`)) {
		t.Error("the audit log does not hold each request once, when it is over")
	}
	s.cluster("down", "--all")
	s.nothingIsLeft()
}

func TestExitCodeAndInputOfKubectlAreItsOwn(t *testing.T) {
	s := newSoak(t)
	s.up("--mode", "control-plane")
	command, output := s.command(t.Context(), "kubectl", "apply", "--filename=-")
	command.Stdin = strings.NewReader(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "piped"}}`)
	if err := command.Run(); err != nil || !strings.Contains(output.String(), "namespace/piped") {
		t.Errorf("got %v, %s", err, output)
	}
	command, output = s.command(t.Context(), "kubectl", "diff", "--filename=-")
	command.Stdin = strings.NewReader(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}`)
	// It says 1 where there is a difference, and more than 1 where it failed.
	if err := command.Run(); err == nil || command.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, %s", err, output)
	}
	s.down()
}

func TestPartComesBackHealthyFromARestart(t *testing.T) {
	s := newSoak(t)
	s.up("--mode", "control-plane")
	c, err := load(soakName)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"apiserver", "etcd", "kube-controller-manager"} {
		former, err := c.running(strings.TrimPrefix(name, "kube-"))
		if err != nil {
			t.Fatal(err)
		}
		s.cluster("restart", name)
		if former.alive() {
			t.Errorf("%s is the process that it was", name)
		}
		if err := former.signal(unix.SIGTERM); err == nil {
			t.Errorf("the former %s takes signals", name)
		}
		s.cluster("status")
	}
	s.down()
}

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestNoTwoNetworksShareAnAddress(t *testing.T) {
	whole := netip.MustParsePrefix(testRange)
	var taken []netip.Prefix
	for slot := range slots {
		n := networkOf(slot)
		ranges := []netip.Prefix{
			netip.MustParsePrefix(n.Pods), netip.MustParsePrefix(n.Services),
			netip.MustParsePrefix(n.machineEnd + "/30").Masked(),
		}
		for _, prefix := range ranges {
			if !whole.Contains(prefix.Addr()) || prefix != prefix.Masked() {
				t.Errorf("slot %d: %s is not a range within %s", slot, prefix, whole)
			}
			for _, other := range taken {
				if prefix.Overlaps(other) {
					t.Errorf("slot %d: %s overlaps %s", slot, prefix, other)
				}
			}
			taken = append(taken, prefix)
		}
		for address, within := range map[string]netip.Prefix{
			n.Node: ranges[0], n.FirstService: ranges[1], n.DNS: ranges[1], n.nodeEnd: ranges[2],
		} {
			if !within.Contains(netip.MustParseAddr(address)) {
				t.Errorf("slot %d: %s is not within %s", slot, address, within)
			}
		}
	}
}

func TestPortsOfOtherClustersAndPortsInUseAreNotChosen(t *testing.T) {
	first, err := freePorts("127.0.0.1", []string{"a", "b"}, nil, "folder")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", (&Cluster{Address: "127.0.0.1", Ports: first}).at("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	second, err := freePorts("127.0.0.1", []string{"a"}, []int{first["b"]}, "folder")
	if err != nil {
		t.Fatal(err)
	}
	if second["a"] == first["a"] || second["a"] == first["b"] {
		t.Errorf("chose %d, while %d is in use and %d belongs to another", second["a"], first["a"], first["b"])
	}
}

// Of a cluster that is kept in another folder, nothing tells which ports it
// has while its parts are down.
func TestClustersOfDifferentFoldersChooseDifferentPorts(t *testing.T) {
	ports := map[int]string{}
	for _, folder := range []string{"one", "two"} {
		t.Setenv("CACHEDSERVICE_STATE", filepath.Join("/nowhere", folder))
		c, err := newCluster("test", Scale)
		if err != nil {
			t.Fatal(err)
		}
		for name, port := range c.Ports {
			if other := ports[port]; other != "" {
				t.Errorf("%s chose %d for %s, which is %s", folder, port, name, other)
			}
			ports[port] = name + " of " + folder
		}
	}
}

func TestOnlyNamesThatFitEverywhereAreAccepted(t *testing.T) {
	for name, valid := range map[string]bool{
		"full": true, "a": true, "test-1": true, strings.Repeat("a", 32): true,
		"": false, "-a": false, "a-": false, "A": false, "a/b": false, "..": false, strings.Repeat("a", 33): false,
	} {
		if validName.MatchString(name) != valid {
			t.Errorf("%q: valid is %v", name, !valid)
		}
	}
}

func TestSecondHolderOfALockWaitsForTheFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := lock(path, "testing")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		second, err := lock(path, "testing")
		if err == nil {
			second()
		}
		got <- err
	}()
	select {
	case <-got:
		t.Fatal("two hold it at once")
	case <-time.After(50 * time.Millisecond):
	}
	// As `down` does: whoever waited must not end up with a file without a name.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the second holds a lock that nobody can see")
	}
}

func TestWaitingForALockHasALimitAndNamesTheHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := lock(path, "testing")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = acquire(path, "testing", 3*lockPause, func() (*os.File, error) { return os.Open(path) })
	if holder := fmt.Sprintf("pid %d (%s", os.Getpid(), filepath.Base(os.Args[0])); err == nil || !strings.Contains(err.Error(), holder) {
		t.Errorf("got %v, want that %s…) holds it", err, holder)
	}
}

func newTestCluster(t *testing.T, mode Mode) *Cluster {
	t.Helper()
	t.Setenv("CACHEDSERVICE_STATE", filepath.Join(t.TempDir(), "clusters"))
	c, err := newCluster("test", mode)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.writePKI(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryModeRendersItsFiles(t *testing.T) {
	for _, mode := range []Mode{Full, ControlPlane, Scale} {
		c := newTestCluster(t, mode)
		c.Nodes = 3
		if err := c.writeConfig(); err != nil {
			t.Errorf("mode %s: %v", mode, err)
		}
		if mode == ControlPlane {
			continue
		}
		manifest, err := c.render(string(mode) + ".yaml")
		if err != nil {
			t.Fatalf("mode %s: %v", mode, err)
		}
		if bytes.Contains(manifest, []byte("<no value>")) {
			t.Errorf("mode %s: a value is missing in\n%s", mode, manifest)
		}
		if mode == Scale && bytes.Count(manifest, []byte("kind: Node\n")) != 3 {
			t.Errorf("three fake nodes became\n%s", manifest)
		}
	}
}

func TestServerCertificateHoldsUnderEveryNameOfTheAPI(t *testing.T) {
	c := newTestCluster(t, Full)
	data, err := os.ReadFile(c.certPath("server"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := c.trust()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		c.Net().Node, c.Net().FirstService, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "metrics-server.kube-system.svc",
	} {
		if _, err := certificate.Verify(x509.VerifyOptions{DNSName: name, Roots: trusted}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClusterIsFoundAgainAsItWasSaved(t *testing.T) {
	c := newTestCluster(t, Scale)
	if _, err := load(c.Name); !errors.Is(err, errNoCluster) {
		t.Fatalf("before it was saved: got %v, want %v", err, errNoCluster)
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	found, err := load(c.Name)
	if err != nil {
		t.Fatal(err)
	}
	if found.at("apiserver") != c.at("apiserver") || found.Mode != Scale || found.Dir != c.Dir {
		t.Errorf("saved %+v, found %+v", c, found)
	}
}

func TestHierarchiesOfBothVersionsAreTold(t *testing.T) {
	found := cgroupHierarchies([]byte(`23 1 254:0 / / rw - ext4 /dev/vda rw
33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`))
	want := []hierarchy{
		{"/sys/fs/cgroup/cpuset", false, []string{"rw", "cpuset"}},
		{"/sys/fs/cgroup/cpu,cpuacct", false, []string{"rw", "cpu", "cpuacct"}},
		{"/sys/fs/cgroup/unified", true, nil},
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
}

func TestNodeIsReadyWhenItSaysSoAndTakesPods(t *testing.T) {
	node := func(spec, ready string) string {
		return `{"items": [{"metadata": {"name": "node-1"}, "spec": {` + spec + `},
			"status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "` + ready + `"}]}}]}`
	}
	for name, test := range map[string]struct {
		list  string
		ready bool
	}{
		"ready":          {node("", "True"), true},
		"cordoned":       {node(`"unschedulable": true`, "True"), false},
		"not ready":      {node("", "False"), false},
		"still tainted":  {node(`"taints": [{"key": "node.kubernetes.io/not-ready"}]`, "True"), false},
		"not registered": {`{"items": []}`, false},
	} {
		if err := readyAmong([]byte(test.list), []string{"node-1"}); (err == nil) != test.ready {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestArgumentsOfACommandAreLeftAsTheyAre(t *testing.T) {
	t.Setenv("CLUSTER_NAME", "")
	for _, test := range []struct{ arguments, name, rest string }{
		{"get pods", "", "get pods"},
		{"--name x get pods", "x", "get pods"},
		{"--name=x -- --name y", "x", "--name y"},
		{"-- get pods -- ls", "", "get pods -- ls"},
		{"exec web -- ls --name z", "", "exec web -- ls --name z"},
	} {
		name, rest, err := takeName(strings.Fields(test.arguments))
		if err != nil || name != test.name || strings.Join(rest, " ") != test.rest {
			t.Errorf("%q: got %q %q, %v", test.arguments, name, rest, err)
		}
	}
	t.Setenv("CLUSTER_NAME", "y")
	if name, _, _ := takeName(nil); name != "y" {
		t.Errorf("CLUSTER_NAME=y gives %q", name)
	}
}

func TestFlagsMayStandBehindWhatTheyBelongTo(t *testing.T) {
	for _, line := range []string{"etcd --signal STOP", "--signal STOP etcd", "--signal=STOP etcd", "etcd -signal=STOP"} {
		flags := flag.NewFlagSet("kill", flag.ContinueOnError)
		signal := flags.String("signal", "KILL", "")
		values, err := parse(flags, strings.Fields(line), "part")
		if err != nil || *signal != "STOP" || values[0] != "etcd" {
			t.Errorf("%q: got %v --signal %s, %v", line, values, *signal, err)
		}
	}
	for _, line := range []string{"", "etcd apiserver", "etcd --sig STOP"} {
		if _, err := parse(flag.NewFlagSet("kill", flag.ContinueOnError), strings.Fields(line), "part"); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
}

func TestSignalsHaveNamesAndNumbers(t *testing.T) {
	for _, name := range []string{"STOP", "sigstop", "SIGSTOP", "19"} {
		if signal, err := signalNamed(name); err != nil || signal != 19 {
			t.Errorf("%s: got %d, %v", name, signal, err)
		}
	}
	if _, err := signalNamed("SIGNONE"); err == nil {
		t.Error("SIGNONE is accepted")
	}
}

func TestImageArchiveNamesWhatItHolds(t *testing.T) {
	archive, err := imageArchive("example/pause:1", "pause", []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string][]byte{}
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if entries[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(entries["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest[0].RepoTags[0] != "example/pause:1" || entries[manifest[0].Config] == nil || entries[manifest[0].Layers[0]] == nil {
		t.Errorf("the manifest %s does not fit the files", entries["manifest.json"])
	}
}

func TestBuildIsFoundAgainUntilASourceChanges(t *testing.T) {
	source := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tools := &toolchain{source: source}
	key := func() string {
		key, err := tools.key()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	write("go.sum", "a")
	first := key()
	if key() != first {
		t.Error("the key changes by itself")
	}
	write("go.sum", "b")
	second := key()
	write("main.go", "a")
	if second == first || key() == second {
		t.Error("the key stays though a source changed")
	}
}

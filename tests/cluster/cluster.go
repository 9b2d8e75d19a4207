package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mode says how much of a cluster is started.
type Mode string

const (
	Full         Mode = "full"          // a real node that runs pods
	ControlPlane Mode = "control-plane" // the API and its controllers, no node
	Scale        Mode = "scale"         // the API, its controllers, and nodes played by kwok
)

func (m Mode) known() bool { return m == Full || m == ControlPlane || m == Scale }

// Cluster is what `up` settled about one cluster. It is kept as cluster.json
// in the cluster's folder, and every later command starts from there.
type Cluster struct {
	Name    string         `json:"name"`
	Mode    Mode           `json:"mode"`
	Address string         `json:"address"` // all parts listen here
	Ports   map[string]int `json:"ports"`
	Audit   bool           `json:"audit"`
	Nodes   int            `json:"nodes"`           // fake ones
	Slot    int            `json:"slot"`            // which addresses a node has
	Older   string         `json:"older,omitempty"` // the minor version of Kubernetes, when it is not the newest
	Dir     string         `json:"-"`
}

var (
	errNoCluster = errors.New("no such cluster")
	errBroken    = errors.New("the file is broken")
)

// Names become part of file names, cgroups and host names.
var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// stateRoot holds one folder for each cluster. It is not below /run, /var/lib
// or /var/log, which the node sees its own version of.
func stateRoot() string {
	if root := os.Getenv("CACHEDSERVICE_STATE"); root != "" {
		return filepath.Clean(root)
	}
	return "/var/tmp/cachedservice-clusters"
}

func lockPath(name string) string { return filepath.Join(stateRoot(), name+".lock") }

// load reads the cluster of that name, or says errNoCluster or errBroken.
func load(name string) (*Cluster, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("%q cannot be the name of a cluster: use at most 32 lower-case letters, digits and dashes", name)
	}
	c := &Cluster{Dir: filepath.Join(stateRoot(), name)}
	err := readRecord(c.path("cluster.json"), c)
	if err == nil && (c.Name != name || !c.Mode.known()) {
		err = fmt.Errorf("%w: %s is not of a cluster %s", errBroken, c.path("cluster.json"), name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s (start it with `cluster up --name %s`)", errNoCluster, name, name)
	case errors.Is(err, errBroken):
		return nil, fmt.Errorf("%w (`cluster down --name %s` clears it away)", err, name)
	case err != nil:
		return nil, err
	}
	return c, nil
}

// readRecord reads a file that save or record wrote, or says errBroken.
func readRecord(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w: %s: %w", errBroken, path, err)
	}
	return nil
}

// clusterNames lists every cluster that has a folder, whole or half made.
func clusterNames() ([]string, error) {
	entries, err := os.ReadDir(stateRoot())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && validName.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func (c *Cluster) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.path("cluster.json"), data)
}

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

func (c *Cluster) kubeconfig(user string) string { return c.path("kubeconfig", user) }

func (c *Cluster) auditLog() string { return c.path("audit.log") }

// at gives the address of a port in the form host:port.
func (c *Cluster) at(port string) string {
	return net.JoinHostPort(c.Address, strconv.Itoa(c.Ports[port]))
}

// NodeName is the name of the real node.
func (c *Cluster) NodeName() string { return "node-1" }

// newCluster settles addresses and ports. A cluster with a node has a network
// of its own, where each part has its usual port; the others share the
// machine's loopback with everything else and take what is free.
func newCluster(name string, mode Mode) (*Cluster, error) {
	c := &Cluster{Name: name, Mode: mode, Dir: filepath.Join(stateRoot(), name)}
	others, err := otherClusters(name)
	if err != nil {
		return nil, err
	}
	if mode == Full {
		if c.Slot, err = freeSlot(others); err != nil {
			return nil, err
		}
		c.Address = c.Net().Node
		c.Ports = map[string]int{
			"etcd": 2379, "etcd-peer": 2380, "apiserver": 6443, "controller-manager": 10257, "scheduler": 10259,
			"kubelet": 10250, "kubelet-health": 10248, "proxy-health": 10256, "proxy-metrics": 10249,
			"metrics-server": 4443, "coredns": 5353, "coredns-ready": 8181, "network-policies": 8182,
		}
		return c, nil
	}
	names := []string{"etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler"}
	if mode == Scale {
		names = append(names, "kwok")
	}
	// A port looks free while the part of another cluster that has it is down.
	var taken []int
	for _, other := range others {
		taken = slices.AppendSeq(taken, maps.Values(other.Ports))
	}
	c.Address = "127.0.0.1"
	c.Ports, err = freePorts(c.Address, names, taken, c.Dir)
	return c, err
}

// otherClusters loads each cluster but one.
func otherClusters(name string) ([]*Cluster, error) {
	names, err := clusterNames()
	if err != nil {
		return nil, err
	}
	var others []*Cluster
	for _, other := range names {
		if other == name {
			continue
		}
		// One that is only half made has nothing yet.
		if c, err := load(other); err == nil {
			others = append(others, c)
		}
	}
	return others, nil
}

// freeSlot finds addresses that no other cluster has.
func freeSlot(others []*Cluster) (int, error) {
	for slot := range slots {
		// The cable shows a cluster that is kept in another folder.
		if !slotTaken(others, slot) && !networkOf(slot).connected() {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%d clusters with a node are there, and no more fit into %s: take one down", slots, testRange)
}

func slotTaken(others []*Cluster, slot int) bool {
	return slices.ContainsFunc(others, func(c *Cluster) bool { return c.Mode == Full && c.Slot == slot })
}

// freePorts finds a port for each name. They lie below the range from which
// the kernel numbers outgoing connections: a client that retries a port in
// that range while its server restarts may be given the very port it calls,
// connect to itself, and keep the server out. The search begins at a place that
// follows from the cluster's folder: those in other folders choose at the same
// time, or have parts that are down, and their ports look free.
func freePorts(address string, names []string, taken []int, folder string) (map[string]int, error) {
	const first, count = 21000, 9000
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, folder)
	begin := int(hash.Sum32() % count)
	ports := map[string]int{}
	for i := 0; i < count && len(ports) < len(names); i++ {
		port := first + (begin+i)%count
		if slices.Contains(taken, port) {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = listener.Close()
		ports[names[len(ports)]] = port
	}
	if len(ports) < len(names) {
		return nil, fmt.Errorf("no %d free ports between %d and %d on %s: stop what listens there", len(names), first, first+count, address)
	}
	return ports, nil
}

// makeStateRoot makes the folder of all clusters. Its place may be writable
// by everybody, so one that somebody else put there is refused.
func makeStateRoot() error {
	root := stateRoot()
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Lstat(root, &stat); err != nil {
		return fmt.Errorf("look at %s: %w", root, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR || int(stat.Uid) != os.Getuid() || stat.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that only this user can write to: remove it, or set CACHEDSERVICE_STATE", root)
	}
	for _, hidden := range privateDirs {
		if root == hidden || strings.HasPrefix(root, hidden+"/") {
			return fmt.Errorf("CACHEDSERVICE_STATE cannot lie below %s, which the node sees its own version of", hidden)
		}
	}
	return nil
}

// writeFile writes a file that is there whole or not at all.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	draft := path + ".new"
	if err := writeThrough(draft, data); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

// writeThrough returns when the file is on the disk. A machine that stops just
// after a file got its name would show it empty otherwise.
func writeThrough(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

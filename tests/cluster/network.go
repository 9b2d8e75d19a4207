package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// network holds the addresses of one cluster with a node. All come from
// 198.18.0.0/15, the range set aside for tests, so that none can clash with a
// network that the machine is on.
type network struct {
	Pods, Services string
	Node           string // the node itself, and each part that listens
	FirstService   string // the API server as pods call it
	DNS            string
	// The cable between the machine and the node.
	link                string
	machineEnd, nodeEnd string
}

const (
	testRange  = "198.18.0.0/15"
	slots      = 8 // clusters with a node that fit into the range
	linkPrefix = "cachedservice"
	nodeLink   = "uplink"
	bridge     = "cni0"

	// ipLimit is for the kernel, which does one such command after another for
	// the whole machine.
	ipLimit = 30 * time.Second
)

// networkOf gives the addresses of a slot. The first has the lower half of
// the range, for tests with many pods; the others share the upper half, of
// which the first eighth is for cables.
func networkOf(slot int) network {
	pods, services, size := "198.18.0", "198.18.128", 17
	if slot > 0 {
		pods, services, size = fmt.Sprintf("198.19.%d", 32*slot), fmt.Sprintf("198.19.%d", 32*slot+16), 20
	}
	return network{
		Pods:         fmt.Sprintf("%s.0/%d", pods, size),
		Services:     fmt.Sprintf("%s.0/%d", services, size),
		Node:         pods + ".1",
		FirstService: services + ".1",
		DNS:          services + ".10",
		link:         fmt.Sprintf("%s%d", linkPrefix, slot),
		machineEnd:   fmt.Sprintf("198.19.0.%d", 4*slot+1),
		nodeEnd:      fmt.Sprintf("198.19.0.%d", 4*slot+2),
	}
}

// Net gives the addresses of the cluster.
func (c *Cluster) Net() network { return networkOf(c.Slot) }

// setUpInside runs inside the node. It makes no default route: what a pod
// sends beyond the cluster and the machine is refused at once.
func (n network) setUpInside() error {
	_, size, _ := strings.Cut(n.Pods, "/")
	for _, command := range []string{
		"link set lo up",
		// A bridge takes the lowest address of its ports, and pods would lose the
		// gateway whenever it changes; a set one stays.
		"link add " + bridge + " address 02:c5:00:00:00:01 type bridge",
		"address add " + n.Node + "/" + size + " dev " + bridge,
		"link set " + bridge + " up",
		// Service addresses are on no network: they are rewritten on their way
		// out, and need a way out to begin with.
		"route add " + n.Services + " dev " + bridge,
	} {
		if err := ip(command); err != nil {
			return err
		}
	}
	for _, setting := range []string{
		"ipv4/ip_forward",
		// Replies between two pods pass the bridge alone; without this they miss
		// the rules that turn a pod's address back into the Service's.
		"bridge/bridge-nf-call-iptables",
	} {
		if err := os.WriteFile("/proc/sys/net/"+setting, []byte("1"), 0); err != nil {
			return fmt.Errorf("set net/%s: %w", setting, err)
		}
	}
	return nil
}

// connected tells whether the cable between the machine and the node is there.
func (n network) connected() bool {
	_, err := net.InterfaceByName(n.link)
	return err == nil
}

// connectNode lays the cable between the machine and the node.
func (c *Cluster) connectNode(init Process) error {
	n := c.Net()
	if n.owner() == c.Dir {
		return nil
	}
	if err := c.freeCable(); err != nil {
		return err
	}
	if err := ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", n.link, nodeLink, init.PID)); err != nil {
		return err
	}
	err := errors.Join(
		c.inside(init, func() error {
			return errors.Join(ip("address add "+n.nodeEnd+"/30 dev "+nodeLink), ip("link set "+nodeLink+" up"))
		}),
		ip("address add "+n.machineEnd+"/30 dev "+n.link),
		ip("link set "+n.link+" up"),
		ip("route add "+n.Pods+" via "+n.nodeEnd),
		ip("route add "+n.Services+" via "+n.nodeEnd))
	if err != nil {
		return err
	}
	// Last, as it says that the cable is whole.
	return ip("link set "+n.link+" alias", c.Dir)
}

// owner is the folder of the cluster that the cable belongs to. It is empty
// when there is no cable, or one that was only half laid.
func (n network) owner() string {
	alias, err := os.ReadFile(filepath.Join("/sys/class/net", n.link, "ifalias"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(alias))
}

// rival is the folder of the cluster that took this one's addresses while it
// was down, if one did: only those in the same folder keep clear of each other.
func (c *Cluster) rival() string {
	if owner := c.Net().owner(); owner != c.Dir {
		return owner
	}
	return ""
}

// freeCable takes away a cable that leads to no node of this cluster: to one
// that has ended, or that was only half laid.
func (c *Cluster) freeCable() error {
	if rival := c.rival(); rival != "" {
		return fmt.Errorf("its addresses went to the cluster in %s while it was down: take that one down, or this one with `cluster down --name %s` and start it anew", rival, c.Name)
	}
	return c.Net().disconnect()
}

// disconnect takes the cable away; its routes and its other end go with it.
func (n network) disconnect() error {
	if !n.connected() {
		return nil
	}
	// The kernel takes it away by itself once the node's network is gone.
	if err := ip("link delete " + n.link); err != nil && n.connected() {
		return err
	}
	return nil
}

// ip runs the program of that name with the words of a text, and with more
// arguments as they are.
func ip(words string, more ...string) error {
	argv := append([]string{"ip"}, append(strings.Fields(words), more...)...)
	if _, err := (command{argv: argv, limit: ipLimit}).run(context.Background()); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// foreignInterface names an interface with an address of the test range that
// no cluster made.
func foreignInterface() (string, error) {
	_, ours, err := net.ParseCIDR(testRange)
	if err != nil {
		return "", err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, linkPrefix) {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return "", err
		}
		for _, address := range addresses {
			if own, ok := address.(*net.IPNet); ok && ours.Contains(own.IP) {
				return i.Name, nil
			}
		}
	}
	return "", nil
}
